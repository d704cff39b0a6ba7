"""How figures look: for those who see no red or no green, at half the size, without a word outside the picture."""

import json
import re
import shutil
from functools import cache
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from seen import data_lines, explained, faults, keep, look, title_of

from robust_zoo.charts import drawing
from robust_zoo.counts import Count
from robust_zoo.errors import UsageError
from robust_zoo.threat import ThreatModel
from robust_zoo.training.evaluation import report as ledger_report
from robust_zoo.training.evaluation.entries import read_ledger
from robust_zoo.training.figures import style
from robust_zoo.training.figures.curves import log_ticks, plot
from robust_zoo.training.transfer import cells, plots
from robust_zoo.training.transfer.cells import Model
from robust_zoo.training.transfer.report import Figure as Found
from studies.class_split import class_split

HOME = Path(__file__).parents[2]

# --- colours -------------------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, table 1, severity 1.0: on linear RGB.
SIGHT = {
    "all colours": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]])


def linear(colours):
    """(N, 3) in [0, 1], linear sRGB (IEC 61966-2-1)."""
    c = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """(N, 3) CIELAB under D65."""
    t = rgb @ XYZ.T / XYZ.sum(1)
    f = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def nearest(colours, sight):
    """The smallest CIE 1976 difference of two of the colours, as someone sees them."""
    seen = lab(np.clip(linear(colours) @ np.transpose(SIGHT[sight]), 0, 1))
    return min(np.linalg.norm(a - b) for a, b in combinations(seen, 2))


def contrast(colours, ground="#ffffff"):
    """WCAG 2.2."""
    mine, its = (linear(some) @ XYZ[1] + 0.05 for some in (colours, [ground]))
    return np.maximum(mine, its) / np.minimum(mine, its)


def palette(name):
    """(colours, their ground): of figures here, and of the charts in pages and cards."""
    if name == "figures":
        return style.COLOURS, "#ffffff"
    values = dict(re.findall(r"--chart-(\w+):(#\w+)", {"light": drawing._LIGHT, "dark": drawing._DARK}[name]))
    return [values[str(i)] for i in range(drawing.SHADES)], values["paper"].replace("#fff", "#ffffff")


PALETTES = ["figures", "light", "dark"]


def test_the_measure_of_colours():
    """Known differences: black and white are 100 apart; red and green of one lightness come close without red cones."""
    assert nearest(["#000000", "#ffffff"], "all colours") == pytest.approx(100, abs=0.1)
    assert contrast(["#000000", "#ffffff", "#767676"]) == pytest.approx([21, 1, 4.54], abs=0.02)
    tab10 = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b"]
    assert nearest(tab10, "all colours") > 38 > 8 > nearest(tab10, "deuteranopia")


@pytest.mark.parametrize("name", PALETTES)
@pytest.mark.parametrize("sight", SIGHT)
def test_colours_are_told_apart(sight, name):
    assert nearest(palette(name)[0], sight) > 20


@pytest.mark.parametrize("name", PALETTES)
def test_colours_stand_out_from_the_page(name):
    assert min(contrast(*palette(name))) >= 3


def test_no_two_of_many_lines_look_alike():
    one_fact = [style.look(i) for i in range(60)]
    assert len({(how["color"], str(how["linestyle"])) for how in one_fact}) == 60
    two_facts = [style.look(i, kind) for i in range(6) for kind in range(8)]
    assert len({(how["color"], str(how["linestyle"])) for how in two_facts}) == 48
    assert len({(style.look(i, 0)["color"], style.look(i, 0)["marker"]) for i in range(42)}) == 42


# --- every picture -------------------------------------------------------------------------------------------


def run_of(folder, eps, epochs=12, alarm=None):
    folder.mkdir()
    lines = [{"kind": "step", "step": s, "loss": 2.5 / (1 + s / 9)} for s in range(1, 40)]
    for e in range(1, epochs + 1):
        clean = {"clean": 30.0 + e, "single_step": 20.0 + e, "pgd10": 15.0 + e, "n": 512, "threat": f"l2 eps {eps}"}
        if not eps:
            clean |= {"single_step": 30.0 + e, "pgd10": 30.0 + e}
        lines.append({"kind": "epoch", "step": e, "epoch": e, **clean} | ({"alarm": "x"} if e == alarm else {}))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def found(architecture, norm, eps, value, *, dataset="digits", clean=80.0, error=None, seeds=1, protocol="linear"):
    model = Model(f"{architecture}_{norm}_{eps}", architecture, norm, eps, clean, 45.0 + len(architecture))
    interval = (value - 1.0, value + 2.0)
    return Found(model, dataset, protocol, "top-1", value, error, interval, seeds, 500, None, "")


LADDER = [("l2", 0.0), ("l2", 0.5), ("l2", 3.0), ("linf", 4 / 255), ("linf", 8 / 255)]


def ladders(*architectures, **fields):
    return [
        found(a, norm, eps, 60.0 + 5 * i + j, clean=80.0 - i, **fields)
        for j, a in enumerate(architectures)
        for i, (norm, eps) in enumerate(LADDER)
    ]


def draw_one_run(tmp_path):
    plot([run_of(tmp_path / "one", 0.5, alarm=3)], tmp_path / "a.png")


def draw_runs(tmp_path):
    plot([run_of(tmp_path / f"run{eps}", eps) for eps in (0, 0.5, 1)], tmp_path / "a.png")


def draw_report(tmp_path):
    model = "resnet18_x0_25_cifar10_l2_eps0_5"
    shutil.copytree(HOME / "results" / model, tmp_path / "r" / model)
    ledger_report.plot(read_ledger(tmp_path / "r"), tmp_path / "a.png")


def draw_one_architecture(tmp_path):
    plots.draw_all(ladders("resnet18"), tmp_path / "a.png")


def draw_many_architectures(tmp_path):
    names = [f"wide_resnet50_{i}" for i in range(7)]
    settings = ", ".join(f"setting{i} {i}e-4" for i in range(14))
    plots.draw_all(ladders(*names, protocol=f"finetune ({settings})"), tmp_path / "a.png")


def draw_recommend(tmp_path):
    some = ladders("resnet18_x0_25")
    plots.draw("Linear probes on your images", some, tmp_path / "a.png", plots.ladders(some))


def draw_class_split(tmp_path):
    class_split.draw(cells.read_lines(HOME / "studies/class_split/cells.jsonl"), tmp_path / "a.png")


DRAWINGS = [draw_one_run, draw_runs, draw_report, draw_one_architecture, draw_many_architectures, draw_recommend,
            draw_class_split]  # fmt: skip


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Figures by what draws them, each drawn once."""

    @cache
    def figure(draw):
        with pytest.MonkeyPatch.context() as patch:
            figures = keep(patch)
            draw(tmp_path_factory.mktemp("drawn"))
        (only,) = figures
        return only

    return figure


@pytest.mark.parametrize("draw", DRAWINGS)
def test_a_picture_can_be_read(draw, drawn):
    """Half its size, any word, any line: in the picture, explained, and no other line's look."""
    figure = drawn(draw)
    assert faults(figure) == []
    colours, dashes = explained(figure)
    named = [line for axes in figure.axes for name, line in data_lines(axes) if name != "one"]  # of whom the title is
    assert named and {look(line)[0] for line in named} <= colours
    assert {look(line)[2] for line in named if look(line)[1] != "None"} <= dashes


def test_the_measure_of_pictures(tmp_path, monkeypatch):
    """Every fault that is looked for is found where it is planted."""
    figures = keep(monkeypatch)
    with style.picture(tmp_path / "a.png", 6, 4) as canvas:
        axes = canvas.subplots()
        for name in "ab":
            axes.plot([0, 1], [0, 1], label=name, color="red")
        axes.text(0, 0.5, "tiny", fontsize=7)
        axes.set_xticks([0, 1], ["L2 0", "Linf 8"])
        axes.text(2, 0.5, "far away")
        canvas.legend(loc="center")
    said = {fault.partition(":")[0] for fault in faults(figures[0])}
    assert said == {
        "small",
        "outside",
        "covered",
        "no title",
        "no xlabel",
        "no ylabel",
        "lines alike",
        "norms share an axis",
    }


def test_one_axis_a_norm(drawn):
    l2, linf, source = drawn(draw_one_architecture).axes
    assert (l2.get_xlabel(), linf.get_xlabel()) == (
        "L2 radius the source was trained for", "Linf radius the source was trained for, in 1/255"
    )  # fmt: skip
    ticks = [[text.get_text() for text in axes.get_xticklabels()] for axes in (l2, linf)]
    assert ticks == [["0", "0.5", "3"], ["0", "4", "8"]]
    heights = [[*line.get_ydata()] for axes in (l2, linf) for _, line in data_lines(axes)]
    assert heights == [[60.0, 65.0, 70.0], [60.0, 75.0, 80.0]]  # the standard model begins both
    assert l2.get_ylim() == linf.get_ylim() == source.get_ylim()


def test_a_gain_is_drawn_beside_another_gain(drawn):
    one, many = drawn(draw_one_architecture), drawn(draw_many_architectures)
    gain = "digits: gain of the best robust model over the standard one"
    assert gain not in [title_of(axes) for axes in one.axes] and title_of(many.axes[-1]) == gain
    dots = {name: [*line.get_ydata()] for name, line in data_lines(many.axes[-1])}
    assert dots == {f"wide_resnet50_{i}": [20.0] for i in range(7)}


def test_bars_are_the_intervals_and_said_to_be(tmp_path, monkeypatch):
    figures = keep(monkeypatch)
    plots.draw_all([found("resnet18", "l2", 0.5, 70.0)], tmp_path / "a.png")
    plots.draw_all([found("resnet18", "l2", 0.5, 70.0, error=0.5, seeds=3)], tmp_path / "a.png")
    for figure, ends, words in zip(
        figures,
        ((69.0, 72.0), (69.5, 70.5)),
        ("95 % interval of 500 images", "standard error over 3 seeds"),
        strict=True,
    ):
        (bars,) = figure.axes[0].collections
        assert tuple(bars.get_segments()[0][:, 1]) == ends and words in figure._suptitle.get_text()


def test_bars_of_a_training_are_the_intervals_of_its_images(drawn):
    clean = drawn(draw_one_run).axes[1].collections[0].get_paths()[0].vertices
    low, high = Count(round(31 * 512 / 100), 512).interval
    assert sorted({y for x, y in clean if x == 1}) == pytest.approx([low, high])


def test_a_report_draws_what_its_entries_say(tmp_path, monkeypatch):
    figures = keep(monkeypatch)
    common = {"model": "m", "clean_accuracy": 90.0, "clean_interval_95": [89, 91], "robust_interval_95": [1.0, 60.0]}
    entries = [
        common | {"dataset": d, "attack": a, "norm": norm, "eps": eps, "robust_accuracy": value}
        for d in ("sample", "test")
        for a, norm, eps, value in (("apgd", "l2", 0.5, 50.0), ("pgd", "l2", 0.5, 55.0), ("pgd", "linf", 8 / 255, 20.0))
    ]
    ledger_report.plot(entries, tmp_path / "a.png")
    drawn = {
        (title_of(axes), name): [*zip(*line.get_data(), strict=True)]
        for axes in figures[0].axes
        for name, line in data_lines(axes)
        if "clean" not in name
    }
    l2, linf = [(0.0, 90.0), (0.5, 50.0)], [(0.0, 90.0), (8.0, 20.0)]
    per_data = {"L2 attacks": {"m, apgd": l2, "m, pgd": [(0.0, 90.0), (0.5, 55.0)]}, "Linf attacks": {"m, pgd": linf}}
    assert drawn == {
        (f"{d}: {title}", name): points
        for d in ("sample", "test")
        for title, lines in per_data.items()
        for name, points in lines.items()
    }


# --- files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", style.FORMATS)
def test_the_same_figures_make_the_same_file(tmp_path, monkeypatch, ending):
    """On another day, whatever the user's matplotlibrc says."""

    def file(name):
        with style.picture(tmp_path / f"{name}{ending}", 2, 2) as canvas:
            style.curve(canvas.subplots(), [style.Point(0, 1, 0, 2), style.Point(1, 2, 1, 3)], "a", style.look(0))
            style.legend(canvas, {"a": style.look(0)})
        return (tmp_path / f"{name}{ending}").read_bytes()

    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    first = file("a")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "99999999")
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red"}):
        assert file("b") == first and mpl.rcParams["font.size"] == 30


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.17, 2.6, [0.2, 0.5, 1, 2]), (0.8, 2.4, [0.8, 1, 1.5, 2]), (1e-4, 10, [1e-4, 1e-3, 1e-2, 0.1, 1, 10]),
     (1.32, 1.58, [1.4, 1.5])],
)  # fmt: skip
def test_ticks_of_a_loss_are_round_numbers(low, high, ticks):
    assert log_ticks(low, high) == pytest.approx(ticks)


def test_an_axis_says_its_norm_and_unit():
    assert style.radius("l2", "of the attack") == "L2 radius of the attack"
    assert style.radius("linf", "of the attack") == "Linf radius of the attack, in 1/255"
    with pytest.raises((KeyError, UsageError)):
        style.radius("l3", "of the attack")
    assert ThreatModel("linf", 8 / 255).eps * 255 == 8
