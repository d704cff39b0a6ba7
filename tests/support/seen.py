"""What a reader of a picture must be able to do, asked of a drawn matplotlib figure."""

from itertools import combinations

from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from robust_zoo.training.figures.style import DPI

SMALLEST = 9  # pixels of a font that is read, at half the picture's size
NORMS = ("L2", "Linf")


def keep(monkeypatch):
    """The figures that are saved from now on, laid out as they would be; no file is written."""
    found = []

    def saving(self, *args, **options):
        self.draw_without_rendering()
        found.append(self)

    monkeypatch.setattr(Figure, "savefig", saving)
    return found


def look(line):
    dashes = line._unscaled_dash_pattern if line.get_linestyle() != "None" else None
    return to_hex(line.get_color()), line.get_linestyle(), dashes, line.get_marker()


def data_lines(axes):
    """(label, line) of figures: with intervals or without, but not the caps of intervals."""
    return [(line.get_label(), line) for line in axes.lines if not line.get_label().startswith("_")] + [
        (bars.get_label(), bars.lines[0]) for bars in axes.containers
    ]


def title_of(axes):
    """Titles stand on the left."""
    return axes.get_title(loc="left")


def faults(figure):
    """What is wrong with a figure, in words: too small, outside, covered, without words, or alike."""
    renderer = figure.canvas.get_renderer()
    said = [
        f"small: {text.get_text()}"
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_fontsize() * DPI / 72 / 2 < SMALLEST
    ]
    drawn, (width, height) = figure.get_tightbbox(renderer), figure.get_size_inches()
    if min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) < -0.01:
        said.append(f"outside: {drawn} of {width} x {height}")
    visible = [axes for axes in figure.axes if axes.get_visible()]
    boxes = [axes.get_tightbbox(renderer) for axes in visible]
    boxes += [artist.get_window_extent(renderer) for artist in (*figure.legends, figure._suptitle) if artist]
    said += [f"covered: {a}, {b}" for a, b in combinations(boxes, 2) if a.padded(-1).overlaps(b.padded(-1))]
    if len(figure.legends) != 1:
        said.append(f"legends: {len(figure.legends)}")
    for axes in visible:
        words = {"title": title_of(axes), "xlabel": axes.get_xlabel(), "ylabel": axes.get_ylabel()}
        said += [f"no {name}" for name, text in words.items() if not text.strip()]
        ticks = [text.get_text() for text in axes.get_xticklabels()]
        if sum(word in axes.get_xlabel() for word in NORMS) > 1 or any(
            word in tick for word in NORMS for tick in ticks
        ):
            said.append(f"norms share an axis: {axes.get_xlabel()} {ticks}")
        lines = {name: look(line)[:3] for name, line in data_lines(axes) if look(line)[1] != "None"}
        if len({*lines.values()}) < len(lines):
            said.append(f"lines alike: {[*lines]}")
    return said


def explained(figure):
    """The colours and the dashes that the legend explains."""
    handles = [h for legend in figure.legends for h in legend.get_lines() if isinstance(h, Line2D)]
    return {look(h)[0] for h in handles}, {look(h)[2] for h in handles}
