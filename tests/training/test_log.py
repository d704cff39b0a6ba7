"""The log of a run as `robust-zoo plot` reads it again: whole, cut, changed."""

import json
import shlex
import subprocess

import pytest
from matplotlib.figure import Figure
from verbs import run_to

from robust_zoo.errors import UsageError
from robust_zoo.training.log import RunLog, read_log

STEP = {"kind": "step", "step": 1, "loss": 1.0}
EPOCH = {"kind": "epoch", "step": 1, "epoch": 1, "clean": 50.0, "single_step": 40.0, "pgd10": 30.0}


def write(run, *lines, end="\n"):
    """A log of entries and of texts."""
    run.mkdir(exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (run / "log.jsonl").write_text("\n".join(texts) + end)


def test_what_a_run_wrote_is_read(tmp_path):
    log = RunLog(tmp_path)
    for step, loss in enumerate((2.0, float("nan"), float("inf"))):
        log.add("step", step, loss=loss, lr=0.1)
    log.add("epoch", 2, epoch=1, clean=50, single_step=40.0, pgd10=0.0, threat="l2 eps 0.5")
    log.close()
    assert str([e["loss"] for e in read_log(tmp_path, "step")]) == "[2.0, nan, inf]"
    assert [e["epoch"] for e in read_log(tmp_path, "epoch")] == [1]


@pytest.mark.parametrize("cut", ["", "{", '{"kind": "step", "st', '{"kind": "step", "step": 2, "loss": 0.', "\0\0\0"])
def test_a_last_line_that_was_cut_is_left_out(tmp_path, cut):
    write(tmp_path, STEP, EPOCH, cut, end="")
    assert (read_log(tmp_path, "step"), read_log(tmp_path, "epoch")) == ([STEP], [EPOCH])
    assert (tmp_path / run_to("plot", tmp_path).stdout.strip()).stat().st_size > 10_000


def test_a_last_line_that_lacks_its_end_alone_counts(tmp_path):
    write(tmp_path, STEP, {**STEP, "step": 2}, end="")
    assert [e["step"] for e in read_log(tmp_path, "step")] == [1, 2]


BROKEN = [
    "", "{", "null", "3", "[1]", '"x"', "\0", "{}", {"step": 1}, {**STEP, "kind": "stop"}, {**STEP, "kind": ["step"]},
    {"kind": "step", "step": 1}, {"kind": "step", "loss": 1.0},
    *({**STEP, "loss": v} for v in (None, "1", True, [], {})),
    *({**STEP, "step": v} for v in (None, "1", True, 1.5, float("nan"))),
    *({k: v for k, v in EPOCH.items() if k != name} for name in ("epoch", "clean", "single_step", "pgd10")),
    *({**EPOCH, "clean": v} for v in (None, "50", [50], {}, -1, 101, float("nan"))), {**EPOCH, "epoch": "a"},
    '{"kind": "step", "step": 1, "loss": 1, "loss": 2}', f'{{"kind": "step", "step": {"9" * 30}, "loss": 1}}',
    '{"kind": ' + "[" * 9999,
]  # fmt: skip


@pytest.mark.parametrize("line", BROKEN, ids=lambda line: json.dumps(line)[:50])
def test_a_line_that_is_no_entry_is_named(tmp_path, line):
    """Its number is in the error, and the command that the error gives takes that line out and no other."""
    write(tmp_path, STEP, line, EPOCH)
    for kind in ("step", "epoch"):
        with pytest.raises(UsageError, match="cannot read the log") as raised:
            read_log(tmp_path, kind)
    assert raised.value.actual.startswith("line 2: ")
    subprocess.run(shlex.split(raised.value.next.partition(":")[2]), check=True)
    assert (read_log(tmp_path, "step"), read_log(tmp_path, "epoch")) == ([STEP], [EPOCH])


def test_plot_says_which_line_of_which_run(tmp_path):
    write(tmp_path / "a", STEP)
    write(tmp_path / "b", STEP, {"kind": "step", "step": 2})
    error = run_to("plot", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "x.png", code=2).stderr
    assert "line 2: step without loss" in error and str(tmp_path / "b") in error
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("content", ["", "\0", "{", '{"kind"'])
def test_nothing_to_plot_yet(tmp_path, content):
    (tmp_path / "log.jsonl").write_text(content)
    assert "nothing to plot yet" in run_to("plot", tmp_path, code=2).stderr


@pytest.mark.parametrize(("name", "shown"), [("$\\frac{$", r"\$\frac{\$"), ("_a", " _a"), ("a\x1bb", r"a\x1bb")])
def test_a_runs_name_is_text_in_a_picture(tmp_path, monkeypatch, name, shown):
    """matplotlib takes $ for mathematics, which this is not, and leaves out of a legend what begins with _."""
    labels, save = [], Figure.savefig

    def saving(self, *args, **options):
        save(self, *args, **options)
        labels.extend(self.axes[0].get_legend_handles_labels()[1])

    monkeypatch.setattr(Figure, "savefig", saving)
    write(tmp_path / name, STEP, {**EPOCH, "threat": "$\\frac{$"})
    run_to("plot", tmp_path / name, "-o", tmp_path / "a.png")
    assert labels == [shown]
