"""The ledger: killed, shared out or done twice it is the same; what does not add up is refused; rows come from it."""

import csv
import json
import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from verbs import run_to as run
from zygote import ROOT

from robust_zoo import create_model, pixel_model
from robust_zoo.counts import Count
from robust_zoo.errors import UsageError, VerificationFailed
from robust_zoo.registry.lookup import get, list_models
from robust_zoo.threat import NORMS, ThreatModel
from robust_zoo.training.attacks.pgd import pgd_until_wrong
from robust_zoo.training.attacks.suites import suite
from robust_zoo.training.data.cifar10_sample import cifar10_sample
from robust_zoo.training.data.dataset import Images, spread
from robust_zoo.training.evaluation import engine, entries, fates, ledger, report
from robust_zoo.training.evaluation.tables import read_tables

ROBUST, STANDARD = "resnet18_x0_25_cifar10_l2_eps0_5", "resnet18_x0_25_cifar10_l2_eps0"
ATTACK = "pgd-4x2"  # short, and with random starts
ARGUMENTS = ["--attack", ATTACK, "--norm", "l2", "--eps", "0.5", "--n", "60", "--batch-size", "10", "--no-checks"]


def evaluate(ledger_dir, *more, code=0):
    return run("evaluate", ROBUST, *ARGUMENTS, "--out", ledger_dir, *more, code=code)


STRENGTH = ["fgsm", "pgd-20", "apgd-ce", "autoattack"]


def test_strength_rises_along_the_order_the_field_expects():
    """clean >= FGSM >= PGD-20 >= APGD >= AutoAttack on the same images, of every bundled model in both norms."""
    found = {}
    for e in entries.read_ledger(ROOT / "results"):
        if e["norm"]:
            found.setdefault((e["model"], e["data_sha256"], e["norm"], e["eps"]), {})[e["attack"]] = e
    whole = {key: by_attack for key, by_attack in found.items() if {*STRENGTH[:3]} <= {*by_attack}}
    assert {(name, norm) for name, _, norm, _ in whole} == {(m, n) for m in list_models(bundled=True) for n in NORMS}
    for key, by_attack in whole.items():
        of = [by_attack[attack] for attack in STRENGTH if attack in by_attack]
        counts = [of[0]["clean_correct"], *(entry["robust_correct"] for entry in of)]
        assert counts == sorted(counts, reverse=True), key


def test_every_bundled_model_was_attacked_by_autoattack_at_its_own_radius():
    known = {
        (e["model"], e["norm"], e["eps"]) for e in entries.read_ledger(ROOT / "results") if e["attack"] == STRENGTH[3]
    }
    assert {(row.name, row.norm, row.eps) for row in map(get, list_models(bundled=True)) if row.eps} <= known


def without_times(ledger_dir):
    """Every file of a ledger but for when and how long."""
    found = {}
    for file in sorted(ledger_dir.rglob("*")):
        if file.suffix == ".json":
            entry = json.loads(file.read_text())
            found[file.name] = {k: v for k, v in entry.items() if k not in ledger.TIMES}
        elif file.is_file():
            found[file.name] = file.read_bytes()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    ledger_dir = tmp_path_factory.mktemp("whole")
    evaluate(ledger_dir)
    return ledger_dir


def test_an_entry_says_what_it_is_of(whole):
    (entry,) = entries.read_ledger(whole)
    row = get(ROBUST)
    assert {
        "model",
        "weights_sha256",
        "dataset",
        "data_sha256",
        "n",
        "attack",
        "norm",
        "eps",
        "clean_accuracy",
        "robust_accuracy",
        "seed",
        "code",
        "device",
        "seconds",
        "flags",
    } <= set(entry)
    assert (entry["model"], entry["weights_sha256"], entry["n"]) == (ROBUST, row.sha256, 60)
    assert (entry["attack"], entry["norm"], entry["eps"]) == (ATTACK, "l2", 0.5)
    assert entry["settings"]["stages"] == [{"attack": ATTACK, "steps": 4, "restarts": 2}]
    assert 0 < entry["robust_correct"] < entry["clean_correct"] < 60
    assert entry["robust_interval_95"] == list(Count(entry["robust_correct"], 60).interval)
    assert entry["broken_by"] == {ATTACK: entry["clean_correct"] - entry["robust_correct"]}
    assert not (whole / "parts" / "x").exists() and not list((whole / "parts").iterdir())


def test_an_entry_of_the_old_layout_is_read_and_not_computed_again(whole, tmp_path):
    """Until 0.1 entries lay flat, and `broken_by` was called `fell` and `fell_to`."""
    (file,) = whole.rglob("*.json")
    entry = json.loads(file.read_text())
    flat = tmp_path / f"{file.parent.name}__{file.name}"
    old = {**entry, "fell_to": entry["broken_by"]}
    del old["broken_by"]
    flat.write_text(json.dumps(old))
    with np.load(file.with_suffix(".npz")) as stored:
        np.savez(flat.with_suffix(".npz"), labels=stored["labels"], fell=stored["broken_by"])
    assert entries.read_ledger(tmp_path) == [entry]
    evaluate(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.json")] == [flat.name]


def test_clean_entries_say_how_long_they_took(tmp_path):
    run("evaluate", ROBUST, "--attack", "none", "--n", 200, "--out", tmp_path)
    (entry,) = entries.read_ledger(tmp_path)
    assert entry["seconds"] > 0 and entry["broken_by"] == {}


def test_the_table_of_results_is_generated():
    assert (ROOT / "results" / "README.md").read_text() == report.readme(
        entries.read_ledger(ROOT / "results"), read_tables(ROOT / "results")
    ), "make results"


def test_an_entry_that_exists_is_not_computed_again(whole):
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*.json")}
    started = time.monotonic()
    assert ATTACK in evaluate(whole).stdout
    assert time.monotonic() - started < 10 and {p: p.stat().st_mtime_ns for p in whole.rglob("*.json")} == before


KILLS = [
    ("write", 1), ("write", -1), ("fsync", 2), ("replace", -1), ("directory", 2),  # four of the five batches are stored
    ("replace", 3), ("replace", -1),  # the fates of all images are; the entry is not
]  # fmt: skip


def test_a_kill_inside_any_write_changes_nothing(zygote, whole, tmp_path):
    ledger_dir, output = tmp_path / "ledger", tmp_path / "output.txt"
    arguments = ["evaluate", ROBUST, *ARGUMENTS, "--out", ledger_dir]
    for kill in KILLS:
        assert zygote.wait(zygote.start(arguments, output, die_at=kill)) == -signal.SIGKILL, output.read_text()
    assert not list(ledger_dir.rglob("*.json"))
    assert zygote.wait(zygote.start(arguments, output, die_at=("directory", -2))) == -signal.SIGKILL
    assert list(ledger_dir.rglob("*.json")) and list(ledger_dir.glob("parts/*/*.npz"))  # which are left, and go
    assert zygote.wait(zygote.start(arguments, output)) == 0
    assert without_times(ledger_dir) == without_times(whole)


def test_five_kills_at_random_moments_change_nothing(zygote, whole, tmp_path):
    rng, ledger_dir = random.Random(0), tmp_path / "ledger"
    arguments = ["evaluate", ROBUST, *ARGUMENTS, "--out", ledger_dir]
    for _ in range(5):
        pid = zygote.start(arguments, tmp_path / "output.txt")
        time.sleep(0.1 + rng.random())
        os.kill(pid, signal.SIGKILL)
        zygote.wait(pid)
    assert zygote.wait(zygote.start(arguments, tmp_path / "output.txt")) == 0
    assert without_times(ledger_dir) == without_times(whole)


def test_shards_join_to_the_same_file(whole, tmp_path, monkeypatch):
    """Chunks of 20 images in place of 1,000, so that there are three to share out."""
    monkeypatch.setattr(fates, "CHUNK", 20)
    together, apart = tmp_path / "together", tmp_path / "apart"
    evaluate(together)
    first = evaluate(apart, "--shard", "1/2")
    assert "complete when all 2 are" in first.stderr and not list(apart.glob("*.json"))
    evaluate(apart, "--shard", "0/2")
    assert without_times(apart) == without_times(together) and len(without_times(apart)) == 2
    assert set(without_times(together)) != set(without_times(whole))  # chunks decide random numbers: another key


def test_a_table_is_the_same_by_two_processes_and_after_kills(zygote, tmp_path):
    """568 images in three parts: a kill before the first is stored, one after it, and the same with the second."""
    corrupted = ["evaluate", ROBUST, "--attack", "corruptions", "--n", "8", "--out"]
    output, killed = tmp_path / "output.txt", [*corrupted, tmp_path / "killed"]
    run(*corrupted, tmp_path / "alone")
    for _ in range(2):
        assert zygote.wait(zygote.start(killed, output, die_at=("replace", 1))) == -signal.SIGKILL, output.read_text()
        assert zygote.wait(zygote.start(killed, output, die_at=("replace", -1))) == -signal.SIGKILL
    assert len(list(tmp_path.glob("killed/parts/*/*.npz"))) == 2 and not list(tmp_path.glob("killed/*/*/*.json"))
    for command in (killed, [*corrupted, tmp_path / "two", "--jobs", "2"]):
        assert zygote.wait(zygote.start(command, output)) == 0, output.read_text()
    alone = without_times(tmp_path / "alone")
    assert len(alone) == 2 and without_times(tmp_path / "killed") == alone == without_times(tmp_path / "two")


def test_another_seed_is_another_entry(whole, tmp_path):
    keys = {
        entries.EntryKey(ROBUST, "w", "d", "s", attack, get(ROBUST).threat, batch_size=size, seed=seed).stem
        for attack in ("apgd-ce", "apgd-t") for size in (20, 25) for seed in (0, 1)
    }  # fmt: skip
    assert len(keys) == 8


CHANGES = [
    ("robust_correct", lambda v: v + 1), ("robust_accuracy", lambda v: 99.0), ("n", lambda v: 61),
    ("n", lambda v: True), ("n", float), ("clean_correct", str), ("clean_interval_95", lambda v: [0.0, 100.0]),
    ("robust_interval_95", lambda v: v[:1]), ("settings", lambda v: {**v, "seed": 5}), ("settings", lambda v: []),
    ("settings_sha256", lambda v: "0" * 64), ("model", lambda v: STANDARD), ("model", lambda v: "../../etc"),
    ("weights_sha256", lambda v: "0" * 64), ("data_sha256", lambda v: v.upper()), ("dataset", lambda v: "cifar10 test"),
    ("attack", lambda v: "autoattack"), ("attack", lambda v: "no-attack"), ("attack", lambda v: "none"),
    ("norm", lambda v: "linf"), ("norm", lambda v: None), ("norm", lambda v: "l7"), ("eps", lambda v: 0.25),
    ("eps", lambda v: "0.5"), ("eps", lambda v: None), ("batch_size", lambda v: 25), ("seed", lambda v: 1),
    ("flags", lambda v: ["no-such-check"]), ("flags", lambda v: "none"), ("flags", lambda v: [1]),
    ("broken_by", lambda v: {ATTACK: v[ATTACK] + 1}), ("broken_by", lambda v: {"fgsm": v[ATTACK]}),
    ("seconds", lambda v: -1), ("seconds", lambda v: "1"), ("finished", lambda v: "yesterday"), ("code", lambda v: 1),
    ("device", lambda v: None), ("more", lambda v: 1), ("precision", lambda v: "tf32"), ("precision", lambda v: [v]),
]  # fmt: skip


def copied(whole, folder):
    """The entry of `whole` in a folder of its own."""
    (file,) = whole.rglob("*.json")
    copy = folder / file.parent.name / file.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".json", ".npz"):
        copy.with_suffix(suffix).write_bytes(file.with_suffix(suffix).read_bytes())
    return copy


def refused(folder):
    with pytest.raises(VerificationFailed, match="not a sound ledger entry") as error:
        entries.read_ledger(folder)
    assert "not a sound ledger entry" in run("report", folder, code=1).stderr
    return error.value.actual


@pytest.mark.parametrize(("field", "change"), CHANGES)
def test_a_changed_field_is_refused(whole, tmp_path, field, change):
    file = copied(whole, tmp_path)
    entry = json.loads(file.read_text())
    assert len(entries.read_ledger(tmp_path)) == 1
    file.write_text(json.dumps(entry | {field: change(entry.get(field))}))
    assert refused(tmp_path)


def test_every_field_is_needed(whole, tmp_path):
    file = copied(whole, tmp_path)
    entry = json.loads(file.read_text())
    for field in entry.keys() - {"precision"}:  # which older entries do not have: test_precision
        file.write_text(json.dumps({name: value for name, value in entry.items() if name != field}))
        with pytest.raises(VerificationFailed) as error:
            entries.read_ledger(tmp_path)
        assert error.value.actual == f"no {field}"


def test_an_entry_under_anothers_name_is_refused(whole, tmp_path):
    file = copied(whole, tmp_path)
    (tmp_path / STANDARD).mkdir()
    for suffix in (".json", ".npz"):
        file.with_suffix(suffix).rename((tmp_path / STANDARD / file.name).with_suffix(suffix))
    assert STANDARD in refused(tmp_path) and ROBUST in refused(tmp_path)


def test_images_fates_that_are_not_the_entrys_are_refused(whole, tmp_path):
    file = copied(whole, tmp_path).with_suffix(".npz")
    with np.load(file) as stored:
        labels, fates = stored["labels"], stored["broken_by"]
    for changed in (
        (labels, np.where(np.arange(60) == np.flatnonzero(fates == 0)[0], -1, fates).astype(np.int8)),
        (labels[:-1], fates),
        (labels.astype(float), fates),
        (labels, np.where(fates == 0, 1, fates).astype(np.int8)),
        (labels[:0], fates[:0]),
    ):
        np.savez(file, labels=changed[0], broken_by=changed[1])
        assert refused(tmp_path)
    file.unlink()
    assert refused(tmp_path)


def test_parts_of_other_images_do_not_become_an_entry(whole, tmp_path, monkeypatch):
    """What a killed evaluation left is compared with the images before it is gone on with."""
    monkeypatch.setattr(fates, "CHUNK", 20)
    evaluate(tmp_path, "--shard", "0/2")
    part = sorted(tmp_path.rglob("parts/*/*.npz"))[0]
    chunk = engine.read_chunk(part)
    chunk.labels[0] += 1
    engine.write_chunk(part, chunk)
    said = evaluate(tmp_path, code=1).stderr
    assert "the fates of these 20 images" in said and "next:" in said and not list(tmp_path.rglob("*.json"))
    part.unlink()
    evaluate(tmp_path)
    assert len(entries.read_ledger(tmp_path)) == 1


def test_report_is_a_table_a_csv_and_a_picture(whole, tmp_path):
    (entry,) = entries.read_ledger(whole)
    result = run("report", whole, "--csv", tmp_path / "a.csv", "--plot", tmp_path / "a.png")
    assert f"| {entry['robust_accuracy']:.2f} % (" in result.stdout and "not checked" in result.stdout
    (values,) = csv.DictReader((tmp_path / "a.csv").read_text().splitlines())
    assert float(values["robust_accuracy"]) == entry["robust_accuracy"] and values["eps"] == "0.5"
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "empty").mkdir()
    assert "has no entries" in run("report", tmp_path / "empty", code=2).stderr
    with pytest.raises(UsageError, match="not fit for a row"):
        report.rows_json([entry])


def test_who_is_overtaken_by_another_reads_what_that_one_wrote(tmp_path):
    """The same figure twice at a time: the first to end takes the parts away, in the midst of the second's work."""
    data, threat = (
        Images(torch.zeros((5, 3, 2, 2), dtype=torch.uint8), torch.zeros(5, dtype=torch.int64)),
        get(ROBUST).threat,
    )
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    key = entries.EntryKey("m", "0" * 64, "d", data.sha256, "fgsm", threat, batch_size=2)
    evaluation = engine.Evaluation(model.eval(), threat, suite("fgsm"), 2)
    others = []

    def overtake(progress):
        if progress.stage == "fgsm" and not others:
            others.append(None)
            others[:] = [ledger.complete(tmp_path, key, evaluation, data)]

    entry = ledger.complete(tmp_path, key, evaluation, data, report=overtake)
    assert [entry] == others == entries.read_ledger(tmp_path)


def test_no_one_is_told_to_delete_a_file_that_may_be_theirs(tmp_path):
    (tmp_path / "package.json").write_text("{}")
    said = run("report", tmp_path, code=1).stderr
    assert (
        "package.json is not a sound ledger entry" in said and "move it elsewhere" in said and "delete it" not in said
    )


def test_two_things_of_one_name_are_told_apart(whole, tmp_path, monkeypatch):
    """Two trainings of one's own have one name, as have two files of images; a seed is said in no name at all."""
    (first,) = entries.read_ledger(whole)
    weights, images, seed = (
        first | changed for changed in ({"weights_sha256": "c" * 64}, {"data_sha256": "d" * 64}, {"seed": 7})
    )
    plain = report.markdown([first])
    assert "weights" not in plain and "images" not in plain and "seed" not in plain
    for other, here, there in (
        (weights, f"{ROBUST}, weights {first['weights_sha256'][:8]} |", f"{ROBUST}, weights cccccccc |"),
        (images, f", images {first['data_sha256'][:8]} (n = 60)", ", images dddddddd (n = 60)"),
        (seed, f"| {ATTACK}, seed 0, l2", f"| {ATTACK}, seed 7, l2"),
    ):
        one, two = report.markdown([first, other]).splitlines()[2:]
        assert here in one and there in two and there not in one
        rows = [*csv.DictReader(report.as_csv([first, other]).splitlines())]
        assert rows[0].items() != rows[1].items()
        labels = []
        monkeypatch.setattr(report, "curve", lambda axes, points, name, *_, labels=labels, **__: labels.append(name))
        report.plot([first, other], tmp_path / "a.png")
        drawn = [name for name in labels if not name.endswith(", clean")]
        assert len({*drawn}) == (1 if other is images else 2) and len(drawn) == 2  # two panels, or two lines of one


def test_the_counts_are_those_of_the_attack(whole):
    """The per-image results against the attack itself on the same images, without engine, chunks or folding."""
    (file,) = whole.rglob("*.npz")
    with np.load(file) as stored:
        broken_by = stored["broken_by"]
    data = spread(cifar10_sample(), 60)
    images, labels = data.images.float() / 255, data.labels
    model = pixel_model(create_model(ROBUST)).eval()
    right = (model(images).argmax(1) == labels).numpy()
    assert np.array_equal(broken_by != engine.WRONG, right)
    rows = np.flatnonzero(right)
    for start in range(0, len(rows), 10):
        batch = torch.from_numpy(rows[start : start + 10])
        found = pgd_until_wrong(model, images[batch], labels[batch], get(ROBUST).threat, steps=4, restarts=2)
        robust = (model(found).argmax(1) == labels[batch]).numpy()
        assert np.array_equal(broken_by[batch.numpy()] == engine.ROBUST, robust)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate", ROBUST, "--attack", "autoatack"], "--attack autoattack"),
        (["evaluate", ROBUST, "--norm", "l2"], "--norm and --eps go together"),
        (
            ["evaluate", ROBUST, "-a", "corruptions", "--eps", "1"],
            f"next:     robust-zoo evaluate {ROBUST} --attack corr",
        ),
        (["evaluate", ROBUST, "-d", "cifar10-c", "--norm", "l2"], "cifar10-c has no threat model"),
        (["evaluate", ROBUST, STANDARD, "--attack", "fgsm", "--n", "2"], "was trained for no radius"),
        (["evaluate", ROBUST, "resnet18_l2_eps3", "-a", "none"], "no images given"),
        (["evaluate", ROBUST, "--launcher", "slurm", "-d", "cifar11"], "--dataset cifar10"),
        (["evaluate", ROBUST, "--launcher", "slurm", "-d", "cifar10"], "--dataset cifar10 needs --data"),
        (["evaluate", ROBUST, "--launcher", "slurm", "-d", "imagenet", "--data", "x"], "does not know the classes"),
        (["evaluate", ROBUST, "--launcher", "slurm", "-d", "cifar10-c", "-a", "fgsm"], "images as they are"),
        (["evaluate", ROBUST, "--seed", str(1 << 32)], "not in the range"),
        (["evaluate", ROBUST, "--shard", "2/2"], "is not i/k"),
        (["evaluate", "resnet18_l2_eps3"], "no images given"),
        (["evaluate", ROBUST, "--norm", "linf", "--eps", "4"], "4/255"),
    ],
)
def test_bad_calls_say_what_to_do(tmp_path, arguments, said):
    more = ["--out", tmp_path / "ledger"]
    assert said in run(*arguments, *more, code=2).stderr
    assert not list(tmp_path.rglob("*.*"))  # nothing was measured yet


def test_the_docs_say_what_the_ledger_says():
    """All that was attacked on the whole test set; and under AutoAttack with the weaker attacks on the same images."""
    lines = (ROOT / "docs" / "measured.md").read_text(encoding="utf-8").splitlines()
    known = [entry for entry in entries.read_ledger(ROOT / "results") if entry["norm"]]
    suites: dict[tuple, int] = {}
    for entry in known:
        if entry["attack"] == STRENGTH[-1]:
            key = (entry["model"], entry["norm"], entry["eps"])
            suites[key] = max(entry["n"], suites.get(key, 0))
    compared = 0
    for entry in known:
        whole = entry["n"] == 10_000
        if whole or suites.get((entry["model"], entry["norm"], entry["eps"])) == entry["n"]:
            label = {"l2": "L2", "linf": "Linf"}[entry["norm"]]
            under = f"{label} eps {ThreatModel(entry['norm'], entry['eps']).radius}"
            rows = [line for line in lines if line.startswith(f"| `{entry['model']}` |") and f"| {under} " in line]
            (row,) = [line for line in rows if (line.count("%") == 2) == whole]
            cells = [key.strip() for key in row.split("|")]
            place = 4 if whole else 4 + STRENGTH.index(entry["attack"])
            assert cells[place] == f"{entry['robust_accuracy']:.2f} %"
            assert cells[2] == f"{entry['clean_accuracy']:.2f} %" if whole else cells[3] == f"{entry['n']:,}"
            compared += 1
    said = sum(line.count("%") for line in lines if line.startswith("| `") and line.split("|")[3].strip()[:1].isdigit())
    assert compared == 8 + said and len(suites) > 10
