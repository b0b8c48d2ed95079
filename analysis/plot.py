#!/usr/bin/env python3
"""Draws a run's G-effects over its steps, by depth, and its risks, from geffect.h5 into a PNG.

A row for each objective and regulariser, a column for each risk; below them the risks themselves. Below the zero line a
step raises the risk, above it lowers it.
"""
import argparse
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from effects import MEANING, Run

# Okabe and Ito's colours, told apart with any colour vision; the styles of the lines tell them apart in grey
LINE = {"embed": ("#E69F00", (0, (1, 1))), "shallow": ("#56B4E9", "-"), "middle": ("#009E73", (0, (5, 1.5))),
        "deep": ("#CC79A7", (0, (5, 1.5, 1, 1.5))), "lm": ("#D55E00", (0, (3, 1, 1, 1, 1, 1)))}
RISK = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DECADES = 3  # shown of an axis whose values differ by more than these


def scale_axis(axes, curves):
    """Linear, or symmetric-logarithmic where the largest value would flatten everything else."""
    sizes = np.abs(np.concatenate(curves))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if not len(sizes) or sizes.max() < 30 * np.median(sizes):
        return
    top = int(np.ceil(np.log10(sizes.max())))
    low = top - DECADES
    powers = 10.0 ** np.arange(low, top + 1)
    values = np.concatenate(curves)
    ticks = [-p for p in powers[::-1] if p <= -np.nanmin(values)] + [0.0] + [p for p in powers if p <= np.nanmax(values)]
    for a in axes:
        a.set_yscale("symlog", linthresh=powers[0], linscale=0.5)
        a.set_yticks(ticks)
        a.minorticks_off()


def draw_row(axes, run, effects):
    curves = [c for e in effects for c in (e.total, *e.group.values())]
    for a, effect in zip(axes, effects):
        a.axhline(0, color="0.35", linewidth=0.8, zorder=1)
        for name, values in effect.group.items():
            color, style = LINE[name]
            a.plot(run.steps, values, color=color, linestyle=style, linewidth=1.6, label=f"{name} ({MEANING[name]})",
                   marker="o" if len(run.steps) < 3 else None, zorder=3)
        a.plot(run.steps, effect.total, color="black", linewidth=2.0, label="total", zorder=2, alpha=0.8,
               marker="o" if len(run.steps) < 3 else None)
        a.set_title(f"{effect.source} on the risk “{effect.risk}”", fontsize=10, loc="left")
    scale_axis(axes, curves)
    what = "regulariser's " if effects[0].kind == "regularizer" else ""
    axes[0].set_ylabel(f"{what}G-effect (nat²)\n← raises · lowers the risk →", fontsize=9)


def draw_risks(a, run):
    for k, (name, values) in enumerate(run.risk_value.items()):
        a.plot(run.steps, values, color=RISK[k % len(RISK)], linewidth=1.8, marker="os^vDPX"[k % 7], markersize=3.5,
               label=name)
    values = np.concatenate(list(run.risk_value.values()))
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 30 * values.min():
        a.set_yscale("log")
    a.set_title("risks", fontsize=10, loc="left")
    a.set_ylabel("nat per token")
    a.set_xlabel("step")
    a.legend(loc="best", frameon=False, fontsize=9)


def draw(run):
    k = len(run.risks)
    rows = len(run.effects) // k
    figure = plt.figure(figsize=(max(6.4, 4.6 * k), 2.5 * rows + 2.9), layout="constrained")
    grid = figure.add_gridspec(rows + 1, k)
    for r in range(rows):
        axes = []
        for c in range(k):
            axes.append(figure.add_subplot(grid[r, c], sharey=axes[0] if axes else None))
            if c:
                axes[c].tick_params(labelleft=False)
        draw_row(axes, run, run.effects[r * k:(r + 1) * k])
    draw_risks(figure.add_subplot(grid[rows, :]), run)
    for a in figure.axes:
        a.grid(color="0.9", linewidth=0.6)
        a.set_axisbelow(True)
        a.spines[["top", "right"]].set_visible(False)
        a.margins(x=0.01)
        a.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("file", help="geffect.h5 of a run")
    arguments.add_argument("picture", nargs="?", help="PNG, PDF or SVG to write; default: the file's name with .png")
    chosen = arguments.parse_args()
    picture = chosen.picture or chosen.file.rsplit(".", 1)[0] + ".png"
    try:
        figure = draw(Run(chosen.file))
        figure.savefig(picture, dpi=150)
    except (OSError, KeyError, ValueError) as problem:
        sys.exit(f"plot.py: error: {chosen.file}: {problem}")
    print(picture)


if __name__ == "__main__":
    main()
