"""`robust-zoo transfer`, its report, and `recommend`, as users start them; cells that last."""

import json
import math
import os
import pickle
import signal
import tomllib
from collections import Counter
from dataclasses import asdict, fields, replace

import pytest
import torch
from PIL import Image
from verbs import run, run_to

from robust_zoo import files
from robust_zoo.errors import StorageError, UsageError, VerificationFailed
from robust_zoo.registry.lookup import get
from robust_zoo.threat import ThreatModel
from robust_zoo.training.data.cifar10_sample import cifar10_classes, cifar10_sample
from robust_zoo.training.data.dataset import spread
from robust_zoo.training.transfer import cells, datasets, report
from robust_zoo.training.transfer import sweep as sweep_module
from robust_zoo.training.transfer.datasets import load_datasets
from robust_zoo.training.transfer.protocols.finetune import Finetune
from robust_zoo.training.transfer.protocols.linear import Linear
from robust_zoo.training.transfer.protocols.salman2020 import MODES, Salman2020
from robust_zoo.training.transfer.protocols.table import PROTOCOLS, load_settings, settings_for
from robust_zoo.training.transfer.protocols.work import Workspace
from robust_zoo.training.transfer.recommend import cross_validated, fold_of, recommend, table
from robust_zoo.training.transfer.reported import published
from robust_zoo.training.transfer.sample_suite import cifar10_half, digits
from robust_zoo.training.transfer.sweep import TransferPlan, submit_all, transfer
from robust_zoo.training.transfer.task import Outcome

STANDARD, ROBUST = "resnet18_x0_25_cifar10_l2_eps0", "resnet18_x0_25_cifar10_l2_eps0_5"


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The sample suite with two models."""
    folder = tmp_path_factory.mktemp("swept")
    workspace = Workspace(folder / "cells", folder / "cache" / "features", progress=False)
    plan = TransferPlan("linear", Linear(train_size=20), seeds=(0, 1))
    return folder, plan, transfer([STANDARD, ROBUST], (digits, cifar10_half), plan, workspace)


def settled(entries):
    return [cells.settled(entry) for entry in entries]


def test_the_papers_claim_shows_on_digits(swept):
    """Salman et al. 2020 at the smallest scale: the model that is worse at home is better away."""
    found = {(f.dataset, f.model.name): f for f in report.figures(swept[2])}
    assert found["digits", ROBUST].value > found["digits", STANDARD].value + 4
    assert found["cifar10-sample", STANDARD].value > found["cifar10-sample", ROBUST].value + 4
    assert all(f.seeds == 2 and f.error is not None for f in found.values())


def test_existing_cells_are_read_and_missing_ones_filled(swept):
    folder, plan, entries = swept
    files = sorted((folder / "cells").glob("*.json"))
    kept = {file: file.stat().st_mtime_ns for file in files[1:]}
    files[0].unlink()
    again = transfer(
        [STANDARD, ROBUST], (digits, cifar10_half), plan, Workspace(folder / "cells", folder / "cache" / "features")
    )
    assert settled(again) == settled(entries)
    assert kept == {file: file.stat().st_mtime_ns for file in files[1:]} and files[0].exists()


def sweep(folder, where, *more):
    """The arguments of a sweep of four cells."""
    return ["transfer", STANDARD, ROBUST, "--data", folder, "--seeds", 2, "--out", where / "cells",
            "--cache-dir", where / "cache", *more]  # fmt: skip


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory):
    """Its cells, made by one command that nothing disturbs."""
    where = tmp_path_factory.mktemp("alone")
    run_to(*sweep(folder, where))
    found = settled(cells.read_cells(where / "cells"))
    assert len(found) == 4
    return found


def test_two_sweeps_at_once_and_many_jobs_give_the_same_cells(zygote, folder, alone, tmp_path):
    """Two commands on one directory, from an empty cache; and one with two processes."""
    together, jobs = tmp_path / "together", tmp_path / "jobs"
    commands = [sweep(folder, together), sweep(folder, together), sweep(folder, jobs, "--jobs", 2)]
    output = tmp_path / "output.txt"
    assert [zygote.wait(pid) for pid in [zygote.start(c, output) for c in commands]] == [0] * 3, output.read_text()
    for where in (together, jobs):
        assert settled(cells.read_cells(where / "cells")) == alone
        assert len(list((where / "cells").iterdir())) == 4  # nothing half-written is left
        assert list((where / "cache").rglob("*.npy")) and not list((where / "cache").rglob(".*"))


def test_a_killed_sweep_goes_on(zygote, folder, alone, tmp_path):
    """Killed when the second cell has its name, and when the fourth is about to."""
    output = tmp_path / "output.txt"
    for kill, left in ((("directory", 2), 2), (("fsync", 2), 3)):
        pid = zygote.start(sweep(folder, tmp_path), output, die_at=kill)
        assert zygote.wait(pid) == -signal.SIGKILL, output.read_text()
        assert len(list((tmp_path / "cells").glob("*.json"))) == left
    assert zygote.wait(zygote.start(sweep(folder, tmp_path), output)) == 0
    assert "**" in output.read_text() and settled(cells.read_cells(tmp_path / "cells")) == alone


CELL_CHANGES = [
    ("correct", 1), ("correct", True), ("accuracy", 99.9), ("seed", 7), ("settings", {}), ("n", 0), ("n", "250"),
    ("interval_95", [0, 100]), ("model", STANDARD + "x"), ("dataset", "cifar10"), ("data_sha256", "0" * 64),
    ("weights_sha256", "x"), ("protocol", "finetune"), ("metric", "top-5"), ("classes", 0), ("note", 1),
    ("mean_per_class", 101), ("mean_per_class", float("nan")), ("chosen", []), ("tried", [1]), ("details", []),
    ("details", {"robust": {"norm": "l2", "eps": 0.5, "attack": "pgd-20", "correct": 5, "n": 9}}),
    ("details", {"robust": {"correct": 9, "n": 5}}), ("checkpoint", {}), ("seconds", None), ("finished", ""),
    ("code", ""), ("more", 1),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), CELL_CHANGES)
def test_a_changed_cell_is_refused(swept, tmp_path, field, value):
    file = sorted((swept[0] / "cells").glob("*.json"))[0]
    entry = json.loads(file.read_text())
    (tmp_path / file.name).write_text(json.dumps(entry | {field: value}))
    with pytest.raises(VerificationFailed, match="not a sound cell"):
        cells.read_cells(tmp_path)


def test_a_changed_checkpoint_of_a_cell_is_refused(swept, tmp_path):
    file = sorted((swept[0] / "cells").glob("*.json"))[0]
    entry = json.loads(file.read_text())

    def read(**changes):
        other = entry | {"checkpoint": entry["checkpoint"] | changes}
        (tmp_path / file.name).write_text(json.dumps(other))
        return cells.read_cells(tmp_path), [other]

    unmeasured, written = read(clean_accuracy=None)  # as a file of one's own is until it is measured; nothing else is
    assert unmeasured == written
    wrong = [{name: None} for name in entry["checkpoint"] if name != "clean_accuracy"]
    wrong += [{"clean_accuracy": value} for value in (float("nan"), float("inf"), 101, -1, True, "", "null", [])]
    for changes in (*wrong, {"norm": "l7"}, {"name": "l7"}, {"more": 1}):
        with pytest.raises(VerificationFailed, match="not a sound cell"):
            read(**changes)


def test_a_cell_under_anothers_name_is_refused(swept, tmp_path):
    one, other = sorted((swept[0] / "cells").glob("*.json"))[:2]
    (tmp_path / other.name).write_bytes(one.read_bytes())
    with pytest.raises(VerificationFailed, match="not a sound cell") as error:
        cells.read_cells(tmp_path)
    assert one.stem in error.value.actual and other.stem in error.value.actual


def test_the_report(swept, tmp_path):
    result = run("transfer", "report", swept[0] / "cells", "--csv", tmp_path / "t.csv", "--plot", tmp_path / "t.png")
    assert result.exit_code == 0
    (bold,) = (line for line in result.stdout.splitlines() if "**" in line and "| digits" in line)
    assert ROBUST in bold and "±" in bold
    header, *rows = (tmp_path / "t.csv").read_text().splitlines()
    assert len(rows) == 4 and header.startswith("dataset,model,architecture,norm,eps")
    with Image.open(tmp_path / "t.png") as drawn:
        assert drawn.size[0] > 1000
    as_json = run("transfer", "report", swept[0] / "cells", "--json")
    assert settled(json.loads(as_json.stdout)) == settled(cells.read_cells(swept[0] / "cells"))


def test_protocols_are_never_in_one_table(swept, tmp_path, few_penalties):
    folder, _, entries = swept
    other = TransferPlan("linear", Linear(solver="sgd", train_size=20, bn="adapt"))
    more = transfer([ROBUST], (digits,), other, Workspace(tmp_path, folder / "cache" / "features", progress=False))
    text = report.markdown(entries + more)
    assert text.count("### ") == 2 and "bn adapt" in text
    below = text[text.index("bn adapt") :].split("### ")[0]
    assert below.count("| digits |") == 1


def few():
    """Sixty of the sample's test images, to be attacked."""
    target = cifar10_half()
    return replace(target, test=spread(target.test, 60))


def test_robustness_after_transfer_is_a_column(swept, tmp_path, few_penalties):
    folder = swept[0]
    plan = TransferPlan("linear", Linear(train_size=20), ThreatModel("l2", 0.5))
    workspace = Workspace(tmp_path, folder / "cache" / "features", progress=False)
    found = {f.model.name: f for f in report.figures(transfer([STANDARD, ROBUST], (few,), plan, workspace))}
    assert found[ROBUST].robust > found[STANDARD].robust + 20  # a head on robust features inherits robustness
    assert "PGD-20" in report.markdown(cells.read_cells(tmp_path))


def photos(folder, classes=("cat", "dog")):
    """Twelve images of two classes."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (32, 32), (200 * number, 9 * i, 90)).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("a\nb|c\u202e", "a\\nb|c\\u202e"),
        (os.fsdecode(b"p\xff"), "p\\udcff"),
        ("\u732b" * 60, "\u732b" * 60),
        ("pets", "pets (unchecked)"),
        ("mine", "mine"),
    ],
    ids=["not printable", "no text", "long", "a dataset's", "usual"],
)
def test_a_folder_of_any_name_gives_a_cell_that_is_read_again(tmp_path, few_penalties, name, called):
    """Of 180 bytes too; and not one of the dataset that it is called as, whose published figures stand in reports.
    Named in several ways, it is one cell, not several seeds."""
    folder, out = photos(tmp_path / name), ("--out", tmp_path / "cells", "--cache-dir", tmp_path / "cache")
    shown = run_to("transfer", ROBUST, "-d", folder, "-d", folder, "-d", f"{folder}/", *out)
    [entry] = cells.read_cells(tmp_path / "cells")
    assert entry["dataset"] == called
    assert shown.stdout == run_to("transfer", "report", tmp_path / "cells").stdout and " | 1 | " in shown.stdout


def test_a_place_that_cannot_be_is_said_before_the_work(tmp_path, few_penalties):
    (tmp_path / "file").write_text("mine")
    out = ("--out", tmp_path / "file", "--cache-dir", tmp_path / "cache")
    said = run_to("transfer", ROBUST, "-d", photos(tmp_path / "mine"), *out, code=5).stderr
    assert "cannot write file" in said and "another place" in said and not list(tmp_path.rglob("*.npy"))


def test_what_is_no_cell_is_not_to_be_deleted_blindly(tmp_path):
    (tmp_path / "package.json").write_text('{"name": "x"}')
    assert "name the --out of a robust-zoo transfer" in run_to("transfer", "report", tmp_path, code=1).stderr
    assert "move it elsewhere" in run_to("report", tmp_path, code=1).stderr


def test_a_kept_model_of_classes_that_are_no_text_is_read_again(tmp_path, few_penalties):
    folder = photos(tmp_path / "mine", classes=(os.fsdecode(b"\xff"), "dog"))
    out = ("--out", tmp_path / "cells", "--cache-dir", tmp_path / "cache")
    run_to("transfer", ROBUST, "-d", folder, "--keep", *out)
    [file] = (tmp_path / "cells").glob("*/model.safetensors")
    assert "\\udcff" in run_to("predict", folder, "--model", file, "--json").stdout


def test_jobs_of_a_cluster_are_pickled(swept, tmp_path, monkeypatch):
    """What arrives there does the same work: the same entries."""
    folder, plan, entries = swept
    workspace = Workspace(tmp_path / "cells", folder / "cache" / "features")
    monkeypatch.setattr(sweep_module, "submit", lambda job, *how: pickle.loads(pickle.dumps(job))())
    assert submit_all([ROBUST], (digits,), plan, workspace, {"timeout_min": 5}) == [[ROBUST] * 2]
    expected = [e for e in settled(entries) if (e["model"], e["dataset"]) == (ROBUST, "digits")]
    assert settled(cells.read_cells(tmp_path / "cells")) == expected


@pytest.mark.peers  # by default submitit is tried by test_train_cli
def test_as_jobs_of_a_cluster(swept, tmp_path):
    """submitit's local executor."""
    pytest.importorskip("submitit")
    folder, plan, _ = swept
    workspace = Workspace(tmp_path / "cells", folder / "cache" / "features")
    jobs = submit_all([ROBUST], (digits,), plan, workspace, {"timeout_min": 5}, cluster="local")
    assert [job.result() for job in jobs] == [[ROBUST] * 2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve CIFAR-10 images of each of four classes, as a user's folder."""
    root = tmp_path_factory.mktemp("images") / "mine"
    data = cifar10_sample(12)
    for i, (pixels, label) in enumerate(zip(data.images, data.labels.tolist(), strict=True)):
        if label < 4:
            (root / cifar10_classes()[label]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(root / cifar10_classes()[label] / f"{i}.png")
    return root


def test_what_each_quirk_changes(folder, tmp_path, monkeypatch):
    """A folder of images under salman2020, with and without its quirks: the report's differences are the cells'."""
    opened, open_it = [], datasets.folder_target
    monkeypatch.setattr(datasets, "folder_target", lambda path, workers: opened.append(path) or open_it(path, workers))
    (tmp_path / "short.toml").write_text("epochs = 2\nbatch_size = 16\nlr = 0.1\n")
    result = run("transfer", ROBUST, "--data", folder, "--protocol", "salman2020", "--quirks",
                 "--settings", tmp_path / "short.toml", "--out", tmp_path / "cells")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    table = result.stdout[result.stdout.index("### what each quirk") :]
    found = {e["settings"].get("moving_bn"): e["accuracy"] for e in cells.read_cells(tmp_path / "cells")
             if e["settings"]["target_statistics"] and e["settings"]["choose_on_test"]}  # fmt: skip
    (line,) = (line for line in table.splitlines() if "| moving_bn |" in line)
    assert f"| {found[True]:.1f} % | {found[False]:.1f} % | {found[True] - found[False]:+.1f} | 1 |" in line
    assert table.count("| fixed-feature |") == 3 and "extra_outputs |" not in table
    assert opened == [folder]  # once, though the note and each of the sweeps needs it
    assert run("transfer", ROBUST, "--data", folder, "--quirks").exit_code == 2


def test_recommend(folder, tmp_path, few_penalties):
    arguments = ["recommend", folder, "-a", "resnet18_x0_25", "--workers", 0, "--cache", tmp_path]
    result = run(*arguments, "--plot", tmp_path / "eps.png")
    assert result.exit_code == 0, result.stderr
    first = result.stdout.splitlines()[1].split()
    assert first[:2] == ["1", STANDARD]  # these are the classes that it was trained on
    assert f'robust_zoo.create_model("{STANDARD}", num_classes=4)' in result.stdout
    assert (tmp_path / "eps.png").stat().st_size > 10_000
    ranking = json.loads(run(*arguments, "--json").stdout)
    assert [r["accuracy"] for r in ranking] == sorted((r["accuracy"] for r in ranking), reverse=True)
    assert len(ranking) == 8 and ranking[0]["n"] == 48 and ranking[0]["tied_with_best"]


def test_a_probe_never_saw_the_image_it_is_asked_about():
    """Labels without any relation to the features: a probe that had seen them would know them all."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    x = torch.randn(200, 400, generator=generator)
    fold = fold_of(labels, 5, 0)
    assert torch.bincount(fold).tolist() == [40] * 5 and torch.bincount(fold[labels == 1]).tolist() == [20] * 5
    assert 0.35 < cross_validated(x, labels, fold).float().mean() < 0.65


def test_a_budget_leaves_images_out_evenly(tmp_path, few_penalties):
    data = cifar10_sample(40)
    (advice,) = recommend(data, [ROBUST], cache=tmp_path, budget=1e-6)
    assert advice.n == 50  # no less than the folds need
    (advice,) = recommend(data, [ROBUST], cache=tmp_path, budget=60)
    assert advice.n == 400


def test_the_table_names_the_folds_that_were_made(tmp_path, few_penalties):
    assert "3-fold cross-validation" in table(recommend(cifar10_sample(3), [ROBUST], cache=tmp_path, folds=3), 10)


def test_a_full_disk_under_a_cell_says_how_to_go_on(swept, tmp_path, monkeypatch):
    entry = cells.read_cells(swept[0] / "cells")[0]
    cell = cells.Cell(**{name: entry[name] for name in cells.Cell.__dataclass_fields__})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    outcome = Outcome(entry["correct"], entry["n"], entry["mean_per_class"])
    with pytest.raises(StorageError, match="cannot write") as raised:
        cells.fill(tmp_path, cell, get(entry["model"]), digits(), lambda: outcome)
    assert "same command again" in raised.value.next and "training" not in str(raised.value)
    assert not list(tmp_path.iterdir())


ERRORS = [
    (["transfer"], "what is to be transferred"),
    (["transfer", ROBUST], "--dataset, or --suite sample"),
    (["transfer", ROBUST, "--data", "pet"], "unknown dataset 'pet'"),
    (["transfer", ROBUST, "--data", "pets"], "Oxford-IIIT Pet is not under"),
    (["transfer", ROBUST, "--data", "pets", "--protocol", "linaer"], "--protocol linear"),
    (["transfer", ROBUST, "--suite", "sample", "--norm", "l2"], "--norm and --eps go together"),
    (["transfer", ROBUST, "--suite", "sample", "-d", "pets"], "--suite without --dataset"),
    (["transfer", ROBUST, "--suite", "sample", "--quirks", "--launcher", "slurm"], "--quirks and --launcher slurm"),
    (["transfer", ROBUST, "-d", "pets", "--norm", "l2", "--eps", "-1"], "--eps 0.5 on the command line"),
    (["transfer", "report"], "Missing argument 'FOLDER'"),
    (["transfer", "report", "nowhere"], "nowhere has no cells"),
    (["recommend", "nowhere"], "not a dataset of images"),
    (["recommend", ".", "-a", "resnet19"], "unknown architecture 'resnet19'"),
]


@pytest.mark.parametrize("arguments, said", ERRORS, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_errors_say_what_to_do(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code in (2, 4) and said in result.stderr


def test_settings_of_a_file(tmp_path):
    assert settings_for("linear", {"views": 2}) == Linear(views=2)
    for values, said in [
        ({"view": 2}, "closest: views"),
        ({"views": "2"}, "a whole number"),
        ({"views": 0}, "a whole number >= 1"),
        ({"shrink": 1}, "from 2 to 4,096"),  # torch refuses to make an image of one pixel
        ({"shrink": 200_000}, "from 2 to 4,096"),
    ]:
        with pytest.raises(UsageError) as error:
            settings_for("linear", values)
        assert said in str(error.value)
    (tmp_path / "grid.toml").write_text("lrs = [1, 0.5]\nweight_decays = [0.0]\ntrain_size = 20\nlabel_smoothing = 0\n")
    assert load_settings("finetune", tmp_path / "grid.toml") == Finetune(
        lrs=(1.0, 0.5), weight_decays=(0.0,), train_size=20
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_setting_is_shown_and_has_a_rule(protocol):
    """The file that shows them is one that can be read; no value is taken that no transfer can be run with."""
    text = run("transfer", "settings", protocol).stdout
    kind = PROTOCOLS[protocol].settings
    assert settings_for(protocol, tomllib.loads(text)) == kind()
    unset = {field.name for field in fields(kind) if f"\n# {field.name}: not set\n" in text}
    assert {field.name for field in fields(kind)} == unset | set(tomllib.loads(text))
    for field in fields(kind):
        if isinstance(field.default, bool):
            nonsense = [0, "true"]
        elif isinstance(field.default, str):
            nonsense = ["nonsense", "", 1]
        elif isinstance(field.default, tuple):
            nonsense = [[], [-1.0], [math.nan], ["0.1"], [True], 0.1]
        else:
            nonsense = [-1, -0.5, math.nan, math.inf, "1", True, [1]]
        for value in nonsense:
            with pytest.raises(UsageError, match=f"{protocol} cannot have {field.name} = "):
                settings_for(protocol, {field.name: value})


def test_too_few_images_are_said(tmp_path):
    with pytest.raises(UsageError, match="too few images"):
        recommend(cifar10_sample(4), [ROBUST], cache=tmp_path)


def test_every_published_figure_is_a_cell():
    """The 96 winners and the reproduction's tables, each with a checkpoint, a dataset and settings that run."""
    found = published()
    theirs = [p for p in found if p.source.startswith("Salman")]
    assert len(theirs) == 96 and len(found) == 216
    assert {p.dataset.name for p in theirs} == {*load_datasets()} and {p.settings.mode for p in theirs} == {*MODES}
    assert Counter(p.lr for p in theirs) == {0.01: 61, 0.001: 35}
    assert sum(p.checkpoint.eps > 0 for p in theirs) == 74
    assert all((p.settings.epochs, p.settings.batch_size, p.settings.step) == (150, 64, 50) for p in theirs)
    (cell,) = (p for p in theirs if (p.dataset.name, p.checkpoint.architecture, p.settings.mode)
               == ("cifar10", "resnet18", "fixed-feature"))  # fmt: skip
    assert (cell.checkpoint.name, cell.accuracy) == ("resnet18_l2_eps3", pytest.approx(91.64, abs=0.005))


def test_published_figures_stand_beside_ours():
    """Only where the very cell exists: the same checkpoint, dataset and mode."""
    base = {
        "model": "resnet18_l2_eps3", "dataset": "cifar10", "data_sha256": "x", "protocol": "salman2020", "seed": 0,
        "settings": asdict(Salman2020()), "weights_sha256": "y",
        "checkpoint": asdict(cells.Model.of(get("resnet18_l2_eps3"))),
        "metric": "top-1", "n": 100, "correct": 90, "accuracy": 90.0,
        "mean_per_class": 90.0, "details": {}, "note": "",
    }  # fmt: skip
    text = report.markdown([base])
    assert "91.64 %" in text and "90.97 %" in text and "-0.97" in text
    wide = {"model": "resnet18_l2_eps0_03", "checkpoint": asdict(cells.Model.of(get("resnet18_l2_eps0_03")))}
    for other in (wide, {"dataset": "digits"}, {"protocol": "linear", "settings": {}}):
        assert "Salman" not in report.markdown([base | other])
