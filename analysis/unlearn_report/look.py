"""What all pictures share: colours and lines, axes, and how panels become a file, or one picture each for a page.

Colours are Okabe and Ito's, told apart with any colour vision; dashes, markers and hatches tell the same in grey."""
import io
import textwrap
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator
from PIL import Image  # comes with matplotlib

from .effects import MEANING

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (6, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (9, 2)))
MARKERS = "os^vDPX"
SIGNED = LinearSegmentedColormap.from_list("signed", ["#08306B", "#2F79B5", "#F7F7F7", "#F2A35E", "#C04A00"])  # negative is darker in grey
GROUP_LINE = {"embed": ("#E69F00", (0, (1, 1))), "shallow": ("#56B4E9", "-"), "middle": ("#009E73", (0, (5, 1.5))),
              "deep": ("#CC79A7", (0, (5, 1.5, 1, 1.5))), "lm": ("#D55E00", (0, (3, 1, 1, 1, 1, 1)))}
DECADES = 3  # shown of an axis whose values differ by more than these
CLOSER = 8  # a smaller range of y is shown where the rest of the values is so many times smaller
SIGN = "G-effect (nat²)\n← raises · lowers the risk →"
WIDTH, HEIGHT = 4.4, 2.9  # of a panel, inches; a page shows one in 26 em, a phone over its whole width


@dataclass
class Panel:
    """draw(axes) draws it, its title included."""
    draw: Callable
    width: float = WIDTH
    height: float = HEIGHT


@dataclass
class Picture:
    """Panels under one title, row by row; the caption says how to read them; legend: (handle, label) of all panels."""
    name: str
    title: str
    caption: str
    panels: list
    columns: int = 2
    legend: list = field(default_factory=list)


@contextmanager
def strictly():
    """A picture that matplotlib or numpy is not sure of is a fault here; a letter that its font has not is drawn as a box. What
    libraries say of each other's ages, as a matplotlib that is older than its pyparsing, is none."""
    with warnings.catch_warnings():
        for doubt in (UserWarning, RuntimeWarning):
            warnings.simplefilter("error", doubt)
        warnings.filterwarnings("ignore", "Glyph .* missing|Matplotlib currently does not support|.*deprecat")
        yield


def as_text(text):
    """A name or a question with its dollars, between which matplotlib would read a formula."""
    return text.replace("$", r"\$")


# -------------------------------------------------------------------------------------------------------------- lines
def nth_line(k):
    """Colour, dash and marker of the k-th risk, objective or run: no two of 343 have the same; of 49 not in grey either."""
    again, more = k // 7, k // 49
    return {"color": COLOURS[k % 7], "linestyle": DASHES[(k + again) % 7], "marker": MARKERS[(k + 2 * again + more) % 7]}


def group_line(name):
    colour, dash = GROUP_LINE[name]
    return {"color": colour, "linestyle": dash}


TOTAL = {"color": "black", "linestyle": "-", "linewidth": 2.2, "alpha": 0.75}


def group_legend(groups):
    """Of the curves by groups of layers and their total."""
    return [(Line2D([], [], **TOTAL), "total")] + \
        [(Line2D([], [], linewidth=1.8, **group_line(g)), f"{g} ({MEANING[g]})") for g in groups]


def nth_legend(names):
    return [(Line2D([], [], linewidth=1.8, markersize=5, **nth_line(k)), name) for k, name in enumerate(names)]


def line(axes, x, y, **style):
    """A curve, with at most a dozen markers; a lone point has one always."""
    if len(x) < 3:
        style = style | {"marker": style.get("marker") or "o"}
    axes.plot(x, y, **({"linewidth": 1.7, "markersize": 4.5, "markevery": max(1, len(x) // 12)} | style))


def dress(axes, title, xlabel=None, ylabel=None):
    axes.set_title(as_text(title), fontsize=9.5, loc="left")
    axes.tick_params(labelsize=8)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if xlabel:
        axes.set_xlabel(as_text(xlabel), fontsize=8.5)
    if xlabel == "step":
        axes.margins(x=0.02)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if ylabel:
        axes.set_ylabel(as_text(ylabel), fontsize=8.5)


# --------------------------------------------------------------------------------------------------------------- axes
def finite(curves):
    values = np.concatenate([np.ravel(c) for c in curves]) if len(curves) else np.array([])
    return values[np.isfinite(values)]


def limits(values, margin=0.05):
    """Of an axis that shows zero and all values."""
    low, high = min(0, values.min(initial=0)), max(0, values.max(initial=0))
    room = margin * ((high - low) or 1)
    return low - room, high + room


def ranges(curves):
    """Upper bounds of |y| worth a panel each, the largest first: after it those that show what it flattens."""
    sizes = np.abs(finite(curves))
    sizes = sizes[sizes > 0]
    bounds = [sizes.max(initial=0)]
    while len(bounds) < 3:
        below = sizes[sizes < bounds[-1] / CLOSER]
        if len(below) < max(3, 0.3 * len(sizes)):
            break
        bounds.append(below.max())
    return bounds


def signed_axis(axes, curves):
    """The y axis of effects: zero line, all curves in it; symmetric-logarithmic where the largest value would flatten the rest."""
    axes.axhline(0, color="0.35", linewidth=0.8, zorder=1)
    values = finite(curves)
    sizes = np.abs(values[values != 0])
    if len(sizes) and sizes.max() >= 30 * np.median(sizes):
        top = int(np.ceil(np.log10(sizes.max())))
        powers = 10.0 ** np.arange(top - DECADES, top + 1)
        axes.set_yscale("symlog", linthresh=powers[0], linscale=0.5)
        axes.yaxis.set_minor_locator(NullLocator())
        low, high = min(values.min(), 0), max(values.max(), 0)
        axes.set_ylim(1.5 * low or -0.3 * powers[0], 1.5 * high or 0.3 * powers[0])
        axes.set_yticks([-p for p in powers[::-1] if p <= -1.5 * low] + [0.0] + [p for p in powers if p <= 1.5 * high])
    else:
        axes.set_ylim(*limits(values))


def wanted(axes, meant):
    """Marks the half of an effects panel that unlearning wants: below zero for what must be forgotten, above for what must stay."""
    if not meant:
        return
    low, high = axes.get_ylim()
    a, b = (low, 0) if meant == "forget" else (0, high)
    axes.axhspan(a, b, color="0.94", linewidth=0, zorder=0)
    axes.set_ylim(low, high)
    zero = axes.transLimits.transform(axes.transScale.transform((axes.get_xlim()[0], 0)))[1]
    if (zero if meant == "forget" else 1 - zero) < 0.2:
        return  # the word would lie on the curves
    axes.annotate("wanted", (0.99, 0.02 if meant == "forget" else 0.98), xycoords="axes fraction", ha="right",
                  va="bottom" if meant == "forget" else "top", fontsize=7.5, color="0.45")


# --------------------------------------------------------------------------------------------------------------- maps
def log_colours(values):
    """Of signed values, the same size either way, logarithmic over the largest decades."""
    most = np.abs(finite([values])).max(initial=0) or 1
    return SymLogNorm(most / 10 ** DECADES, vmin=-most, vmax=most)


def signed_map(axes, x, y, values, norm, label=None):
    """Cells [y][x] between the edges x and y in the colours of their values; those above zero have a +, for a copy in grey."""
    shown = axes.pcolormesh(x, y, np.ma.masked_invalid(values), cmap=SIGNED, norm=norm, rasterized=True)
    above = np.argwhere(np.nan_to_num(values) > norm.vmax / 10 ** DECADES)
    across, up = (x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2
    axes.plot(across[above[:, 1]], up[above[:, 0]], linestyle="", marker="+", color="0.25", markeredgewidth=0.6,
              markersize=np.clip(130 / len(across), 1.5, 4))
    axes.grid(False)
    bar = axes.figure.colorbar(shown, ax=axes, pad=0.02)
    if isinstance(norm, SymLogNorm):
        powers = 10.0 ** np.arange(np.ceil(np.log10(3 * norm.linthresh)), np.floor(np.log10(norm.vmax)) + 1)
        bar.set_ticks([*-powers[::-1], 0, *powers])
        bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=7)
    if label:
        bar.set_label(label, fontsize=8)


def layer_ticks(axes, names):
    every = max(1, -(-len(names) // 18))
    axes.set_yticks(range(0, len(names), every), [as_text(n.removeprefix("model.")) for n in names[::every]], fontsize=7)


def map_height(names):
    return max(2.4, min(4.5, 1 + 0.17 * len(names)))


def step_edges(steps):
    """Between the steps, and as far beyond both ends."""
    steps = np.asarray(steps, float)
    first, last = (steps[1] - steps[0], steps[-1] - steps[-2]) if len(steps) > 1 else (1, 1)
    return np.concatenate([[steps[0] - first / 2], (steps[1:] + steps[:-1]) / 2, [steps[-1] + last / 2]])


# ---------------------------------------------------------------------------------------------------------- to files
def columns_of(n):
    """Panels side by side of n that have no order in two directions."""
    return {4: 2}.get(n, min(n, 3))


def compose(picture):
    """One matplotlib figure of all panels, with title, legend and caption, as a file shows it."""
    columns = min(picture.columns, len(picture.panels))
    rows = [picture.panels[i:i + columns] for i in range(0, len(picture.panels), columns)]
    widths, heights = [max(r[c].width for r in rows if c < len(r)) for c in range(columns)], [max(p.height for p in r) for r in rows]
    width = max(sum(widths), 6.4)
    caption = textwrap.fill(picture.caption, int(16 * width))
    per_row = max(1, int(width / (0.75 + 0.075 * max((len(label) for _, label in picture.legend), default=1))))
    above = 0.35 + 0.2 * -(-len(picture.legend) // per_row)
    figure = Figure(figsize=(width, sum(heights) + above + 0.15 * (caption.count("\n") + 2)), layout="constrained")
    grid = figure.add_gridspec(len(rows), columns, width_ratios=widths, height_ratios=heights)
    for r, row in enumerate(rows):
        for c, panel in enumerate(row):
            panel.draw(figure.add_subplot(grid[r, c]))
    if picture.legend:  # its title is the picture's: matplotlib would write both into the same place
        handles, labels = zip(*picture.legend)
        figure.legend(handles, [as_text(x) for x in labels], loc="outside upper left", ncols=min(per_row, len(picture.legend)), frameon=False,
                      fontsize=8.5, title=as_text(picture.title), title_fontsize=11.5, alignment="left")
    else:
        figure.suptitle(as_text(picture.title), fontsize=11.5, x=0.01, ha="left")
    figure.supxlabel(as_text(caption), fontsize=8, color="0.3", x=0.01, ha="left")
    return figure


def alone(panel):
    figure = Figure(figsize=(panel.width, panel.height), layout="constrained")
    panel.draw(figure.add_subplot())
    return figure


def legend_entry(handle, label):
    """One entry of a legend by itself."""
    figure = Figure(figsize=(0.62 + 0.075 * len(label), 0.19))
    figure.legend([handle], [as_text(label)], loc="center left", frameon=False, fontsize=8.5, borderpad=0, borderaxespad=0)
    return figure


def few_colours(image):
    """An image of up to 256 colours: the most frequent ones, of those that look alike one, so that lines and areas keep their own."""
    pixels = np.asarray(image).astype(np.int32)
    packed, place, count = np.unique(pixels @ (1 << 16, 1 << 8, 1), return_inverse=True, return_counts=True)
    colours = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], 1).astype(np.float32)
    order = np.argsort(-count, kind="stable")
    _, first = np.unique((colours[order] // 8) @ (1024, 32, 1), return_index=True)
    chosen = colours[order[np.sort(first)[:256]]]
    nearest = ((chosen**2).sum(1) - 2 * colours @ chosen.T).argmin(1)
    out = Image.fromarray(nearest.astype(np.uint8)[place].reshape(pixels.shape[:2]), "P")
    out.putpalette(chosen.astype(np.uint8).tobytes())
    return out


def png(figure, dpi):
    """The bytes of a PNG of 256 colours: enough here, and a third of the size."""
    raw, out = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, dpi=dpi)
    raw.seek(0)
    few_colours(Image.open(raw).convert("RGB")).save(out, "PNG", optimize=True)
    return out.getvalue()


def save(picture, path):
    figure = compose(picture)
    if str(path).lower().endswith(".png"):
        Path(path).write_bytes(png(figure, 150))
    else:
        figure.savefig(path)
