"""`robust-zoo train`, `recipe` and `plot`, torchrun and submitit, as a user starts them."""

import json
import os
import signal
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import EXPORTED, NAME, RECIPE, command, losses, status, until, weights_sha256, write_data
from safetensors.torch import load_file, save_file
from verbs import run
from zygote import ROOT

from robust_zoo import pixel_model
from robust_zoo.architectures.build import build
from robust_zoo.errors import UsageError
from robust_zoo.registry.lookup import get
from robust_zoo.threat import ThreatModel, parse_eps
from robust_zoo.training import cost
from robust_zoo.training.attacks.accuracy import pgd_accuracy
from robust_zoo.training.data.dataset import load_npz
from robust_zoo.training.distributed import ALONE
from robust_zoo.training.jobs.slurm import TrainingJob, submit
from robust_zoo.training.machine import NUMBERS
from robust_zoo.training.recipes import recipe_for
from robust_zoo.training.run import Machine, settings_of, untrained
from robust_zoo.weights.exported import exported

ONE_EPOCH = RECIPE.replace("epochs = 3", "epochs = 1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one epoch, made by the command in this process."""
    folder = tmp_path_factory.mktemp("trained")
    result = run(*command(folder, folder / "run", recipe=ONE_EPOCH))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(folder / "run" / EXPORTED)
    return folder


def test_what_was_exported_is_what_was_measured(trained):
    """The file, loaded as any user would load it, has the accuracy its row says."""
    out = trained / "run"
    (row,) = tomllib.loads((out / "row.toml").read_text())["checkpoint"]
    model = build("resnet10_x0_25_s2", num_classes=10)
    model.load_state_dict(load_file(out / row["file"]))
    model.to(memory_format=torch.channels_last)  # as it was measured: a barely trained model has images on the fence
    data = load_npz(trained / "data.npz", "test")
    for m in row["measured"]:
        threat = ThreatModel(m["norm"], parse_eps(m["eps"], m["norm"])) if m["attack"] == "pgd-20" else get(NAME).threat
        found = pgd_accuracy(pixel_model(model), data, threat, steps=20 if m["attack"] == "pgd-20" else 0)
        assert (found.correct, found.n) == (m["correct"], m["n"]), m
    assert [m["attack"] for m in row["measured"]] == ["none"] + 5 * ["pgd-20"]
    assert row["collection"] == "custom_cifar10"  # not one of ours: the recipe was changed


def test_ones_own_model_is_evaluated_and_transferred_by_its_file(trained, tmp_path):
    """The file is enough: it says its architecture, threat model, preprocessing and figures itself."""
    file = trained / "run" / EXPORTED
    (row,) = tomllib.loads((trained / "run" / "row.toml").read_text())["checkpoint"]
    own = exported(file)
    assert (own.name, own.architecture, own.sha256) == (row["name"], row["architecture"], row["sha256"])
    assert own.network.parameters == sum(p.numel() for p in build(own.architecture, num_classes=10).parameters())
    result = run("evaluate", file, "-a", "none", "-d", "cifar10", "--data", trained / "data.npz", "--json",
                 "--out", tmp_path / "ledger")  # fmt: skip
    (entry,) = json.loads(result.stdout)
    assert (entry["weights_sha256"], entry["n"]) == (own.sha256, 10)
    measured = row["measured"][0]
    assert abs(entry["clean_accuracy"] - 100 * measured["correct"] / measured["n"]) <= 10  # one image on the fence
    (tmp_path / "one.toml").write_text("train_size = 2\n")
    pictures = tmp_path / "pictures"
    with np.load(trained / "data.npz") as data:
        for i, (pixels, label) in enumerate(zip(data["x_train"], data["y_train"], strict=True)):
            (pictures / f"class{label}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(pictures / f"class{label}" / f"{i}.png")
    result = run("transfer", file, "--data", pictures, "--settings", tmp_path / "one.toml", "--out", tmp_path / "cells",
                 "--cache", tmp_path / "cache")  # fmt: skip
    assert result.exit_code == 0 and f"| {own.name} |" in result.stdout


def test_a_file_of_others_is_not_taken_for_ones_own(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "theirs.safetensors")
    result = run("evaluate", tmp_path / "theirs.safetensors", "-a", "none")
    assert result.exit_code == 2 and "robust-zoo convert" in result.stderr


def test_the_recipe_of_an_exported_file_is_the_closed_loop(trained):
    """A second training from the first one's file alone: the same losses, the same weights, without the .toml."""
    out = trained / "again"
    arguments = command(trained, out)
    arguments[arguments.index("--recipe") + 1] = trained / "run" / EXPORTED
    assert run(*arguments).exit_code == 0
    assert losses(out) == losses(trained / "run")
    assert weights_sha256(out) == weights_sha256(trained / "run")


def test_a_finished_run_is_not_run_again(trained):
    before = (trained / "run" / "log.jsonl").read_bytes()
    assert run(*command(trained, trained / "run", recipe=ONE_EPOCH)).exit_code == 0
    assert (trained / "run" / "log.jsonl").read_bytes() == before


def test_plot_draws_the_curves(trained, tmp_path):
    result = run("plot", trained / "run")
    assert result.exit_code == 0 and result.stdout.strip() == str(trained / "run" / "curves.png")
    picture = np.asarray(Image.open(trained / "run" / "curves.png").convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20 and picture.shape[1] > 1000
    assert run("plot", trained / "run", trained / "run", "-o", tmp_path / "both.png").exit_code == 0
    (tmp_path / "empty").mkdir()
    result = run("plot", tmp_path / "empty")
    assert result.exit_code == 2 and "is not a run" in result.stderr


def test_recipe_shows_every_field_and_what_to_expect():
    row = get("resnet50_linf_eps4")
    shown = run("recipe", "resnet50_linf_eps4.0.ckpt").stdout
    for words in ("batch_size         512", "linf eps 4/255", "63.86 % (reported by Salman", recipe_for(row).sha256):
        assert words in shown
    values = json.loads(run("recipe", row.name, "--json").stdout)
    assert values["recipe"]["epochs"] == 90 and values["passes"] == 9 and values["sha256"] == recipe_for(row).sha256
    assert "measured here" in run("recipe", NAME).stdout


def test_dry_run_tells_the_cost(monkeypatch):
    monkeypatch.setattr(cost, "_TRIAL_SECONDS", 0.0)
    result = run("train", NAME, "--dry-run", "--device", "cpu", "--precision", "fp32")
    assert result.exit_code == 0
    assert "599,040 images x 9 passes x 0.0701 GFLOP = 3.78e+14 FLOP" in result.stdout
    assert "hours (" in result.stdout and "images/s on cpu)" in result.stdout


def test_dry_run_times_what_a_pass_has_of_a_batch_and_refuses_what_is_no_training(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "_TRIAL_SECONDS", 0.0)
    sizes, recipe = [], tmp_path / "r.toml"
    made = cost.make_step

    def spy(model, recipe, *_, **kwargs):
        step = made(model, recipe, *_, **kwargs)
        return lambda images, labels: sizes.append(len(images) // recipe.accumulation) or step(images, labels)

    monkeypatch.setattr(cost, "make_step", spy)
    recipe.write_text('architecture = "resnet10_x0_25_s2"\naccumulation = 64\n')  # of 128: parts of two images
    assert run("train", NAME, "--dry-run", "--device", "cpu", "--recipe", recipe).exit_code == 0 and set(sizes) == {2}
    recipe.write_text("batch_size = 50001\n")
    result = run("train", NAME, "--dry-run", "--device", "cpu", "--recipe", recipe)
    assert result.exit_code == 2 and "less than one batch" in result.stderr and "0 hours" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train", NAME], 2, "--data and --out missing"),
        (["train", NAME, "--data", "x.npz"], 2, "--out missing"),
        (["train", "resnet18_x0_25_cifar10_l2_eps7", "--dry-run"], 4, "closest: "),
        (["train", NAME, "--data", "{tmp}/none.npz", "--out", "{tmp}/run"], 2, "cannot read train images"),
        (
            ["train", NAME, "--data", "{tmp}/none", "--out", "{tmp}/run", "--device", "cuda:99"],
            2,
            "no device 'cuda:99'",
        ),
        (
            ["train", NAME, "--data", "d", "--out", "{tmp}/run", "--launcher", "slurm", "--slurm", "gpus"],
            2,
            "KEY=VALUE",
        ),
        (["train", NAME, "--data", "x.npz", "--out", __file__], 2, "is a file"),
        (["plot", __file__], 2, "is a file"),
        (["plot", "{tmp}/none"], 2, "is not a run"),
        (["train", "resnet5_l2_eps3", "--data", "d", "--out", "{tmp}/run", "--launcher", "slurm"], 4, "closest: "),
        (["train", "resnet18_l2_eps3", "--data", "{tmp}/d.npz", "--out", "{tmp}/run"], 2, "is for image files"),
        (["recipe", "resnet5_l2_eps3"], 4, "closest: "),
    ],
)
def test_bad_calls_say_what_to_do(tmp_path, arguments, code, said):
    result = run(*[a.replace("{tmp}", str(tmp_path)) for a in arguments])
    assert result.exit_code == code and said in result.stderr, result.stderr


def test_labels_beyond_the_networks_classes_are_refused(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "d.npz", x_train=images, y_train=np.arange(200), x_test=images, y_test=np.arange(200))
    result = run("train", NAME, "--data", tmp_path / "d.npz", "--out", tmp_path / "run")
    assert result.exit_code == 2 and "labels up to 199" in result.stderr


def test_a_job_is_submitted_and_runs_where_it_lands(tmp_path, monkeypatch):
    """submitit's local executor in place of a cluster: the same pickled job, in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    data = write_data(tmp_path / "data.npz")
    (tmp_path / "r.toml").write_text(RECIPE.replace("epochs = 3", "epochs = 6"))
    machine = Machine(device="cpu", precision="fp32", log_steps=1, progress=False)
    job = TrainingJob(NAME, str(data), tmp_path / "run", tmp_path / "r.toml", machine)
    submitted = submit(job, {"timeout_min": 60}, cluster="local")
    until(lambda: (tmp_path / "run" / "log.jsonl").exists() and losses(tmp_path / "run"), 120)
    os.kill(status(tmp_path / "run")["pid"], signal.SIGUSR2)  # what Slurm sends ahead of a preemption
    until(lambda: status(tmp_path / "run")["state"] == "stopped", 120)
    assert status(tmp_path / "run")["reason"] == "SIGUSR2"
    assert Path(submitted.result()) == tmp_path / "run" / EXPORTED  # requeued, and gone on to the end
    submitted._process.wait()
    assert status(tmp_path / "run")["state"] == "finished"
    assert [step for step, _ in losses(tmp_path / "run")] == list(range(1, 31))
    for parameters in ({"no_such_parameter": 1}, {"timeout_min": "x"}):
        with pytest.raises(UsageError, match="refuses these parameters"):
            submit(job, parameters, cluster="local")


def test_random_state_of_the_caller_is_not_needed():
    """Two equal builds, whatever was drawn before: weights depend on the recipe's seed alone."""
    torch.manual_seed(1)
    first, _ = untrained(get(NAME), recipe_for(get(NAME)), ALONE, "fp32")
    torch.manual_seed(2)
    second, _ = untrained(get(NAME), recipe_for(get(NAME)), ALONE, "fp32")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_tf32_is_for_cuda_and_is_another_run_than_fp32(tmp_path):
    result = run(*command(tmp_path, tmp_path / "run", "--precision", "tf32"))
    assert result.exit_code == 2 and "--precision tf32 on cpu" in result.stderr
    names = ["fp32", "tf32", "bf16", "fp64"]
    machines = [Machine(precision=name) for name in names]
    assert (
        [settings_of(m, m.precision == "bf16").numbers for m in machines] == names == sorted(NUMBERS, key=names.index)
    )
