"""`robust-zoo plan`: speeds that were measured, hours, packing, what is done, and the jobs that do the rest."""

import itertools
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import tomllib
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import until
from verbs import run, run_to

from robust_zoo import get, list_models
from robust_zoo.cli import evaluate
from robust_zoo.errors import UsageError, ZooError
from robust_zoo.training.cost import cost, forward_flops
from robust_zoo.training.data.dataset import Images
from robust_zoo.training.jobs import slurm
from robust_zoo.training.jobs.slurm import CommandJob, submit_array
from robust_zoo.training.plan.found import look
from robust_zoo.training.plan.kinds import KINDS, Places
from robust_zoo.training.plan.plan import make_plan, pack
from robust_zoo.training.plan.rates import Step, error, load_rates, speed
from robust_zoo.training.plan.script import commands_of, parameters
from robust_zoo.training.recipes import recipe_for
from robust_zoo.training.run import plan_training
from robust_zoo.training.transfer.cells import Cell, fill, images_sha256
from robust_zoo.training.transfer.protocols.salman2020 import Salman2020
from robust_zoo.training.transfer.task import Outcome, Target
from robust_zoo.weights.safetensors_file import write_safetensors

ROOT = Path(__file__).parents[2]
OURS = "resnet18_x0_25_cifar10_l2_eps0_5"
ADVERSARIAL, STANDARD = "resnet50_l2_eps3", "resnet50_l2_eps0"
# Training and test images of the paper's table 2, once more.
IMAGES = {
    "aircraft": (6667, 3333), "birds": (47386, 2443), "caltech101": (3030, 5647), "caltech256": (15420, 15187),
    "cifar10": (50000, 10000), "cifar100": (50000, 10000), "dtd": (3760, 1880), "flowers": (2040, 6149),
    "food": (75750, 25250), "pets": (3680, 3669), "stanford_cars": (8144, 8041), "SUN397": (19850, 19850),
}  # fmt: skip


def plan_of(*names, kinds=("train",), folder=Path("nowhere"), results=None, own=False, cards=1):
    checkpoints = [get(name) for name in names]
    found = look(checkpoints, folder, results or folder, own=own)
    return make_plan(checkpoints, kinds, found, load_rates(), "h200", cards)


# --- speeds ---


def test_every_speed_stands_in_the_raw_figures():
    """Nothing is called measured that a benchmark did not print: setting, batch, attack, images/s and memory."""
    rates = load_rates().rates
    assert len(rates) == 11
    for rate in rates:
        lines = [json.loads(line) for line in (ROOT / rate.source).read_text().splitlines()]
        machine = lines[0]
        assert (machine["torch"], machine["date"]) == (rate.torch, str(rate.date))
        assert machine["card"] == load_rates().cards[rate.card].title
        found = [
            line["images_per_second"]
            for line in lines
            if line.get("part") == "step" and line["name"] == rate.how and line["architecture"] == rate.architecture
            and (line["size"], line["batch"], line["peak_gb"]) == (rate.px, rate.batch, rate.peak_gb)
            and bool(line["eps"]) == bool(rate.attack_steps)
        ]  # fmt: skip
        assert found == [rate.images_per_second], rate.label
        part = rate.command.split()[-1]
        assert f"\n    {part}) step" in (ROOT / "benchmarks/gpu/run.sh").read_text()


def test_an_evaluation_is_reckoned_in_the_precision_that_it_runs_in():
    default = next(p.default for p in evaluate.command.params if p.name == "precision")
    assert KINDS["evaluate"].step(get("resnet50_l2_eps3"), 8e9).precision == default == "fp32"


def test_a_speed_is_measured_or_reckoned_from_the_closest():
    rates = [rate for rate in load_rates().rates if rate.precision == "bf16"]
    forward = {rate: {"resnet18": 4e9, "resnet50": 8e9, "wide_resnet50_2": 24e9}[rate.architecture] for rate in rates}
    measured = speed(Step("resnet50", 224, 512, 3, "bf16", 9 * 8e9), rates, forward)
    assert measured.measured and (measured.rate.batch, measured.rate.images_per_second) == (256, 1551.5)
    assert speed(Step("resnet50", 224, 64, 3, "bf16", 9 * 8e9), rates, forward).rate.batch == 128
    wider = speed(Step("wide_resnet50_4", 224, 512, 3, "bf16", 9 * 75e9), rates, forward)
    assert not wider.measured and wider.rate.architecture == "wide_resnet50_2" and "reckoned by FLOPs" in wider.whence
    assert wider.flops_per_second == 1093.5 * 9 * 24e9
    # the same network without an attack, at another size, or in no training: reckoned too
    for other in (Step("resnet18", 224, 512, 0, "bf16", 12e9), Step("resnet18", 32, 512, 3, "bf16", 1e9),
                  Step("resnet50", 224, 64, None, "bf16", 24e9)):  # fmt: skip
        assert not speed(other, rates, forward).measured
    # wide_resnet50_2 by resnet50, at the closest batch: 8/24 of 1473.4 images/s, where 1093.5 were measured
    assert error(rates, forward) == pytest.approx(1093.5 / (1473.4 * 8 / 24))
    assert error([rate for rate in rates if rate.architecture == "resnet50"], forward) is None


# --- hours ---


def test_hours_by_hand():
    """90 epochs of 2,502 batches of 512 at the speeds that were measured, and nothing besides."""
    images = 90 * (1_281_167 // 512) * 512
    tasks = plan_of(ADVERSARIAL, STANDARD).tasks
    assert [task.work.images for task in tasks] == [images, images]
    assert [task.hours for task in tasks] == pytest.approx([images / 1551.5 / 3600, images / 4710.7 / 3600])
    assert [task.images_per_second for task in tasks] == pytest.approx([1551.5, 4710.7])
    for task in tasks:  # what robust-zoo train --dry-run says
        assert task.flops == cost(*plan_training(task.checkpoint.name)).flops
    assert tasks[0].peak_gb == pytest.approx(12.22 * 512 / 256)
    assert tasks[0].disk_gb == pytest.approx(5 * 4 * 25.557032e6 / 1e9)


def test_transfers_by_hand():
    """Of each dataset, 150 times its images: a pass to look at one, three to train all layers on it."""
    checkpoint = get(ADVERSARIAL)
    kinds = ("fixed-feature", "full-network", "linear", "evaluate")
    fixed, full, linear, evaluate = plan_of(ADVERSARIAL, kinds=kinds).tasks
    train, test = (sum(column) for column in zip(*IMAGES.values(), strict=True))
    assert set(fixed.left) == set(full.left) == {*IMAGES} and fixed.done == 0
    assert (fixed.work.images, fixed.work.passes) == (150 * (train + test), 150 * (train + test))
    assert (full.work.images, full.work.passes) == (150 * (train + test), 150 * (3 * train + test))
    assert (linear.work.passes, evaluate.work.passes) == (train + test, 50_000)
    for task in (fixed, full, linear, evaluate):
        r = task.speed.rate
        per_pass = r.images_per_second * r.passes * forward_flops(get(f"{r.architecture}_l2_eps0"))
        assert task.hours == pytest.approx(task.work.passes * forward_flops(checkpoint) / per_pass / 3600)
        assert not task.speed.measured and task.peak_gb is None and task.disk_gb == 0


def test_packing_against_all_ways_there_are():
    """Within Graham's bound of the best of all assignments, and what a queue of cards does, card by card."""
    rng = random.Random(0)
    for _ in range(60):
        cards, hours = rng.randint(1, 3), [rng.randint(1, 20) for _ in range(rng.randint(1, 6))]
        best = min(
            max(sum(h for h, c in zip(hours, way, strict=True) if c == card) for card in range(cards))
            for way in itertools.product(range(cards), repeat=len(hours))
        )
        loads = pack(hours, cards)
        assert best <= max(loads) <= best * (4 / 3 - 1 / (3 * cards)) + 1e-9
        assert sum(loads) == sum(hours) and len(loads) == cards
    assert sorted(pack([7, 6, 5, 4, 3], 2)) == [11, 14]  # by hand: 7+4+3 and 6+5
    assert pack([], 3) == [0, 0, 0]


def test_the_wall_clock_is_that_of_the_longest_card():
    names = [ADVERSARIAL, STANDARD, "resnet18_l2_eps3"]
    one, three = plan_of(*names), plan_of(*names, cards=3)
    assert one.wall_hours == pytest.approx(one.hours) and three.wall_hours == one.tasks[0].hours
    assert [task.checkpoint.name for task in one.ready] == [ADVERSARIAL, "resnet18_l2_eps3", STANDARD]


# --- what is done ---


def export(folder, name, recipe_sha256=None):
    """A file as `train` leaves it, but for its tensors."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    header = {"name": name, "recipe_sha256": recipe_sha256 or recipe_for(get(name)).sha256}
    return write_safetensors(folder / name / f"{name}.safetensors", {"x": torch.zeros(2)}, header)


def cell(folder, name, dataset, settings, weights):
    """A cell of a transfer, as `transfer` writes it."""
    images = Images(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
    target = Target(dataset, ("a", "b"), images, None, images)
    values = json.loads(json.dumps(vars(settings)))
    of = Cell(name, weights, dataset, images_sha256(target), "salman2020", values, 0)
    fill(folder, of, get(name), target, lambda: Outcome(1, 2, 50.0))


def left(plan):
    return {(task.kind, task.checkpoint.name): task.left for task in plan.tasks}


def test_what_is_done_is_left_out_and_nothing_else(tmp_path):
    runs, results = tmp_path / "runs", tmp_path / "results"
    export(runs, ADVERSARIAL)
    export(runs, STANDARD, "0" * 64)  # by another recipe
    other = "resnet18_l2_eps3"
    sha256 = export(results, other)
    cell(runs / "transfer", ADVERSARIAL, "pets", Salman2020("full-network"), "1" * 64)
    cell(results / "anywhere", ADVERSARIAL, "dtd", Salman2020("full-network", lr=0.001), "1" * 64)  # other settings
    cell(runs / "transfer", other, "pets", Salman2020(), sha256)  # of the run's own weights, not the published ones
    names, kinds = (ADVERSARIAL, STANDARD, other), ("train", "fixed-feature", "full-network")
    plan = plan_of(*names, kinds=kinds, folder=runs, results=results)
    expected = {(kind, name): tuple(IMAGES) for kind in kinds[1:] for name in names}
    expected |= {("train", ADVERSARIAL): (), ("train", STANDARD): ("run",), ("train", other): ()}
    expected["full-network", ADVERSARIAL] = tuple(name for name in IMAGES if name != "pets")
    assert {key: set(value) for key, value in left(plan).items()} == {k: set(v) for k, v in expected.items()}
    commands = commands_of(plan, Places("/imagenet", Path("/datasets"), runs, results))
    assert sum(command[0] == "train" for command in commands) == 1 and len(commands) == 7
    (full,) = [c for c in commands if c[1] == ADVERSARIAL and str(runs / "full-network.toml") in c]
    assert "pets" not in full and full.count("--dataset") == 11
    own = plan_of(*names, kinds=kinds, folder=runs, results=results, own=True)
    assert "pets" not in left(own)["fixed-feature", other] and "pets" in left(own)["full-network", ADVERSARIAL]
    assert [task.checkpoint.name for task in own.tasks if task.waits] == [STANDARD] * 2
    assert own.wall_hours == pytest.approx(own.hours)  # on one card nothing is gained by waiting
    started = {command[1] for command in commands_of(own, Places("/i", Path("/d"), runs, results))}
    assert started == {STANDARD, *(str(f / n / f"{n}.safetensors") for f, n in ((runs, ADVERSARIAL), (results, other)))}


def test_what_was_measured_counts_for_its_weights(tmp_path):
    """The bundled model's own entries in results/; the same entries are none of a run's own weights."""
    kinds = ("train", "evaluate")
    plan = plan_of(OURS, "resnet18_x0_25_cifar10_linf_eps8", kinds=kinds, folder=tmp_path, results=ROOT / "results")
    assert left(plan)["evaluate", OURS] == () and left(plan)["train", OURS] == ("run",)
    cell(tmp_path, OURS, "pets", Salman2020(), get(OURS).sha256)
    cell(tmp_path, OURS, "dtd", Salman2020(), "1" * 64)  # of other weights, and theirs are known
    (transfers,) = plan_of(OURS, kinds=("fixed-feature",), folder=tmp_path).tasks
    assert {*IMAGES} - {*transfers.left} == {"pets"} and transfers.done == 1
    export(tmp_path, OURS)
    own = plan_of(OURS, kinds=kinds, folder=tmp_path, results=ROOT / "results", own=True)
    assert left(own) == {("train", OURS): (), ("evaluate", OURS): ("clean",)}
    assert plan_of(OURS, kinds=("evaluate",), folder=tmp_path).hours > 0


# --- jobs ---

STUB = """#!/bin/bash
printf '%s\\n' "$@" >"$HERE/arguments"
trap 'echo warned >>"$HERE/arguments"; exit 75' USR1
for i in $(seq ${WAIT:-0}); do touch "$HERE/began"; sleep 0.02; done
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A script of one training and two kinds of transfers, and a PATH on which the commands are stubs.

    Paths are given as seen from a folder in which no task begins.
    """
    for name in ("images net", "sets", "bin"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    for name, text in {"robust-zoo": STUB, "scontrol": '#!/bin/bash\necho "$@" >"$HERE/requeued"\n'}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    run_to("plan", STANDARD, "-w", "train", "-w", "full-network", "-w", "evaluate", "--data", "images net",
           "--root", "sets", "--out", "runs", "--results", "results", "--cards", 4,
           "--script", tmp_path / "paper.sh", "--slurm", "slurm_partition=gpu", "--slurm", "mem_gb=64")  # fmt: skip
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "HERE": str(tmp_path)}
    return tmp_path, environment


def start(folder, environment, index, **more):
    environment = environment | {"SLURM_ARRAY_TASK_ID": str(index)} | more
    with (folder / "errors").open("w") as errors:
        return subprocess.Popen(["bash", folder / "paper.sh"], env=environment, stderr=errors, cwd="/")


def test_the_script_is_bash_and_runs_each_task(written):
    folder, environment = written
    subprocess.run(["bash", "-n", folder / "paper.sh"], check=True)
    text = (folder / "paper.sh").read_text()
    for line in ("--array=0-2%4", "--partition=gpu", "--mem=64G", "--requeue", "--signal=B:USR1@300", "--time=1440"):
        assert f"#SBATCH {line}\n" in text
    assert text.index("\nset -u") > text.rindex("#SBATCH")  # sbatch reads none after the first command
    runs, data = folder / "runs", str(folder / "images net")
    transfers = ["transfer", STANDARD, "--protocol", "salman2020", "--settings", str(runs / "full-network.toml")]
    transfers += [word for name in IMAGES for word in ("--dataset", name)]
    transfers += ["--root", str(folder / "sets"), "--out", str(runs / "transfer"), "--workers", "4"]
    expected = [
        ["train", STANDARD, "--data", data, "--out", str(runs / STANDARD), "--workers", "4"],
        transfers,
        ["evaluate", STANDARD, "-d", "imagenet", "--data", data, "-a", "none", "--out", str(folder / "results")],
    ]
    assert tomllib.loads((runs / "full-network.toml").read_text()) == {"mode": "full-network"}
    for index, arguments in enumerate(expected):
        assert start(folder, environment, index).wait() == 0
        assert (folder / "arguments").read_text().splitlines() == arguments
    assert not (folder / "requeued").exists()


def test_a_task_that_is_warned_saves_and_is_requeued(written):
    folder, environment = written
    task = start(folder, environment, 0, WAIT="500", SLURM_JOB_ID="77")
    until((folder / "began").exists)
    task.send_signal(signal.SIGUSR1)
    assert task.wait() == 75 and (folder / "arguments").read_text().endswith("warned\n")
    assert (folder / "requeued").read_text() == "requeue 77\n"


def test_the_script_says_what_is_not_there(written):
    folder, environment = written
    assert start(folder, environment, 3).wait() == 2 and "no task 3" in (folder / "errors").read_text()
    (folder / "images net").rmdir()
    assert start(folder, environment, 0).wait() == 2
    assert (folder / "errors").read_text() == f"nothing at {folder / 'images net'}\n"
    assert not (folder / "arguments").exists()


def test_an_array_runs_the_commands_of_the_plan(tmp_path, monkeypatch):
    """submitit's debug cluster in place of Slurm, and a program that notes what it was told."""
    pytest.importorskip("submitit")
    plan, places = plan_of(ADVERSARIAL, STANDARD, folder=tmp_path), Places("/imagenet", runs=tmp_path)
    noting = (sys.executable, "-c", "import sys; open(sys.argv[2] + '.txt', 'w').write(repr(sys.argv[1:]))")
    commands = commands_of(plan, places)
    jobs = [CommandJob(tuple(command), noting) for command in commands]
    monkeypatch.chdir(tmp_path)
    found = parameters(plan, places, {"slurm_partition": "gpu"})
    for job in submit_array(jobs, "plan", tmp_path / "slurm", found, cluster="debug"):
        job.submission().result()
    for command in commands:
        assert (tmp_path / f"{command[1]}.txt").read_text() == repr(command)


def test_a_job_that_is_warned_is_requeued_after_it_has_saved(tmp_path, monkeypatch):
    """submitit's handler is called when the command has ended, and not for a command that failed by itself."""
    code = "import signal, sys, time; signal.signal(signal.SIGUSR2, lambda *_: (open('saved', 'w'), sys.exit(75)));"
    code += "open('began', 'w'); [time.sleep(0.01) for _ in range(1000)]"
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda *_: heard.append((tmp_path / "saved").exists()))
    monkeypatch.chdir(tmp_path)

    def warn():
        until((tmp_path / "began").exists)
        os.kill(os.getpid(), signal.SIGUSR2)

    try:
        threading.Thread(target=warn).start()
        with pytest.raises(ZooError, match="ended with 75"):
            CommandJob((), (sys.executable, "-c", code))()
        assert heard == [True]
        with pytest.raises(ZooError, match="ended with 75"):
            CommandJob((), (sys.executable, "-c", "raise SystemExit(75)"))()
        assert heard == [True]
    finally:
        signal.signal(signal.SIGUSR2, before)


@pytest.mark.peers  # by default the command is a stub
def test_a_planned_evaluation_end_to_end(tmp_path, monkeypatch):
    """submitit's local executor runs what was planned; planned again, nothing is left."""
    pytest.importorskip("submitit")
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    np.savez("d.npz", x_train=images, y_train=np.arange(4), x_test=images, y_test=np.arange(4))
    plan = plan_of(OURS, kinds=("evaluate",), folder=tmp_path / "runs", results=tmp_path / "results")
    places = Places(str(tmp_path / "d.npz"), runs=tmp_path / "runs", results=tmp_path / "results")
    jobs = [CommandJob(tuple(command)) for command in commands_of(plan, places)]
    for job in submit_array(jobs, "plan", tmp_path / "slurm", {"timeout_min": 5}, cluster="local"):
        job.result()
    again = plan_of(OURS, kinds=("evaluate",), folder=tmp_path / "runs", results=tmp_path / "results")
    assert not again.ready


# --- the verb ---


def test_the_whole_paper(tmp_path, monkeypatch):
    """67 trainings, 67 accuracies and 67 x 12 x 2 transfers; JSON, table and price say the same."""
    monkeypatch.chdir(tmp_path)
    plan = json.loads(run_to("plan", "--json", "--cards", 8).stdout)
    tasks = plan["tasks"]
    count = {kind: sum(len(t["left"]) for t in tasks if t["kind"] == kind) for kind in {t["kind"] for t in tasks}}
    assert count == {"train": 67, "evaluate": 67, "fixed-feature": 67 * 12, "full-network": 67 * 12}
    assert {t["checkpoint"] for t in tasks} == {*list_models(collection="salman2020")} and len(tasks) == 4 * 67
    assert plan["card_hours"] == pytest.approx(sum(t["hours"] for t in tasks), rel=1e-4)
    assert plan["card_hours"] / 8 <= plan["wall_hours"] <= plan["card_hours"] / 8 + max(t["hours"] for t in tasks)
    hours = {kind: sum(t["hours"] for t in tasks if t["kind"] == kind) for kind in count}
    known = sum(t["hours"] for t in tasks if t["measured"])
    said = (
        f"All of it is {plan['card_hours']:,.0f} hours of one H200, {hours['train']:,.0f} of them for the trainings; "
    )
    assert f"{said}{known:,.0f} are at measured speeds" in (ROOT / "docs/training.md").read_text()
    measured = {t["architecture"] for t in tasks if t["measured"]}
    assert measured == {"resnet18", "resnet50", "wide_resnet50_2"} and all(
        t["kind"] == "train" and t["from"].startswith("measured") for t in tasks if t["measured"]
    )
    shown = run_to("plan", "--cards", 8, "--card", "h200", "--price", 2).stdout
    assert f"{plan['card_hours']:,.1f}, {2 * plan['card_hours']:,.0f} at 2 an hour" in shown
    assert f"{plan['wall_hours']:,.1f} hours on 8 x NVIDIA H200" in shown and "off by 2.1 x at most" in shown
    assert "reckoned by FLOPs from wide_resnet50_2" in shown and "it fits" in shown


def test_cards_of_ones_own(tmp_path):
    """A file of --rates stands beside the package's; what it lacks is reckoned, in whatever precision it has."""
    row = (
        '{ architecture = "resnet18", px = 224, batch = 64, attack_steps = 3, precision = "bf16", '
        'images_per_second = 100, peak_gb = 2.0, how = "train --dry-run", command = "robust-zoo train" }'
    )
    text = f'[card.mine]\ntitle = "Mine"\nmemory_gb = 8\n[[measured]]\ncard = "mine"\ntorch = "2.12"\n' \
        f"date = 2026-11-27\nsource = 'mine'\nrates = [{row}]\n"  # fmt: skip
    (tmp_path / "mine.toml").write_text(text)
    arguments = ("plan", "resnet18_l2_eps3", "--rates", tmp_path / "mine.toml", "--card", "mine", "--out", tmp_path)
    (training, evaluation) = json.loads(run_to(*arguments, "-w", "train", "-w", "evaluate", "--json").stdout)["tasks"]
    assert training["hours"] == pytest.approx(90 * 2502 * 512 / 100 / 3600, abs=1e-3) and training["measured"]
    assert evaluation["hours"] == pytest.approx(50_000 / 900 / 3600, abs=1e-3) and not evaluation["measured"]
    assert "does not fit" in run_to(*arguments).stdout  # 2 GB at 64 images are 16 at 512
    for part, broken in [
        ("images_per_second = 100", "images_per_second = 0"), ("images_per_second = 100", 'images_per_second = "x"'),
        ("batch = 64, ", ""), ("[card.mine]", "[card.other]"), ("date = 2026-11-27", 'date = "today"'),
        ('precision = "bf16"', 'precision = "int4"'), ("rates = [", "rates = [1, "), ("memory_gb = 8", "memory = 8"),
    ]:  # fmt: skip
        (tmp_path / "mine.toml").write_text(text.replace(part, broken))
        result = run(*arguments)
        assert result.exit_code == 2 and "cannot read rates" in result.stderr, broken
    with pytest.raises(UsageError, match="nothing was measured"):
        speed(Step("resnet18", 224, 64, 3, "bf16", 1e9), [], {})


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--card", "h20"], 2, "closest: h200"),
        (["--work", "trian"], 2, "closest: train"),
        (["resnet50_l2_eps33"], 4, "closest"),
        ([STANDARD, "--collection", "salman2002"], 2, "closest: salman2020"),
        ([STANDARD, "--collection", "liu2023"], 2, "no checkpoint is like that"),
        (["vit_giant_patch14_336_wang2024_linf_eps4"], 2, "recipe"),
        (["--rates", "none.toml"], 2, "cannot read rates from none.toml"),
        ([STANDARD, "--work", "train", "--script", "x.sh"], 2, "--data missing"),
        ([STANDARD, "--work", "linear", "--script", "x.sh"], 2, "--root missing"),
        ([STANDARD, "--work", "train", "--data", "d", "--script", "none/x.sh"], 5, "no such directory"),
        ([STANDARD, "-w", "train", "--data", "d", "--launcher", "slurm", "--slurm", "gpus_per_node=8"], 2, "one card"),
        ([STANDARD, "-w", "train", "--data", "d", "--launcher", "slurm"], 2, "no such file"),
        ([STANDARD, "-w", "train", "--data", ".", "--launcher", "slurm"], 2, "Slurm"),
        ([STANDARD, "-w", "evaluate", "--own", "--data", ".", "--script", "x.sh"], 2, "nothing to submit"),
    ],
)
def test_bad_calls_say_what_to_do(tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    result = run("plan", *arguments)
    assert result.exit_code == code and said in result.stderr and "next:" in result.stderr, result.stderr
    assert not (tmp_path / "x.sh").exists()


def test_the_array_is_submitted_in_the_order_of_the_script(tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(slurm, "_executor", lambda *how: Recorder(how, sent))
    monkeypatch.chdir(tmp_path)
    run_to("plan", ADVERSARIAL, STANDARD, "-w", "train", "-w", "fixed-feature", "--data", tmp_path, "--root", tmp_path,
           "--cards", 3, "--launcher", "slurm", "--slurm", "slurm_qos=low", "--script", "x.sh")  # fmt: skip
    (_, folder, values, cluster), *jobs = sent
    assert (folder, cluster, values["slurm_array_parallelism"], values["slurm_qos"]) == (
        Path("runs/slurm"),
        "slurm",
        3,
        "low",
    )
    cases = [line for line in (tmp_path / "x.sh").read_text().splitlines() if ") set -- " in line]
    assert [shlex.split(line.partition(" set -- ")[2].removesuffix(" ;;")) for line in cases] == [
        [*j.arguments] for j in jobs
    ]
    assert len(jobs) == 4


class Recorder:
    """In place of submitit's executor."""

    def __init__(self, how, sent):
        self.sent = sent
        sent.append(how)

    def batch(self):
        return nullcontext()

    def submit(self, job):
        self.sent.append(job)
        return type("Job", (), {"job_id": str(len(self.sent))})
