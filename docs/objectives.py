"""Draws what every objective did: objectives.py DIRECTORY, after docs/objectives.sh -> docs/objectives.png (where both risks went) and
docs/objectives_effects.png (effects over the updates). Prints the ends as a table."""
import sys
from pathlib import Path

import h5py
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).resolve().parent
MARKS = "os^vD<>pP*XhH"
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000"]  # Okabe and Ito's
SHOWN = ("ga", "wga", "npo", "rmu")


def read(directory, name, how):
    """{"unlearn", "retain": (risk, total effect of the objective)} over the steps of a run, and its steps."""
    with h5py.File(Path(directory) / f"{name}-{how}" / "geffect.h5") as f:
        names = [n.decode() if isinstance(n, bytes) else n for n in f["risk"][()]]
        total = (f["geffect"][:, 0].sum(axis=2) * f["instance_weight"][0]).sum(axis=2)  # step, risk
        return f["step"][()], {n: (f["risk_value"][:, k], total[:, k]) for k, n in enumerate(names)}


def draw_risks(directory, names):
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.8), sharex=True, sharey=True, layout="constrained")
    print("objective  alone: forgotten, stays   with gd: forgotten, stays   (nats a token after the last update)")
    for k, name in enumerate(names):
        ends = []
        for axis, how in zip(axes, ("alone", "gd")):
            _, runs = read(directory, name, how)
            x, y = runs["unlearn"][0], runs["retain"][0]
            colour, line = COLOURS[k % len(COLOURS)], "-" if k < len(COLOURS) else "--"
            axis.plot(x, y, color=colour, lw=1, ls=line, alpha=0.6)
            axis.plot(x[-1], y[-1], MARKS[k], color=colour, ms=7, label=name)
            if how == "gd":
                axis.annotate(name, (x[-1], y[-1]), xytext=(5, -9), textcoords="offset points", fontsize=8)
            if k == 0:
                axis.plot(x[0], y[0], "o", mfc="white", mec="black", ms=8, zorder=5)
                axis.annotate("before", (x[0], y[0]), xytext=(8, -9), textcoords="offset points", fontsize=8)
            ends += [x[-1], y[-1]]
        print(f"{name:10} {ends[0]:16.3g} {ends[1]:10.3g} {ends[2]:18.3g} {ends[3]:10.3g}")
    for axis, title in zip(axes, ("the objective alone", "with the regulariser gd (wanted: right and low)")):
        axis.set(xscale="log", yscale="log", title=title, xlabel="risk of what is to be forgotten (nats a token)")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("risk of what must stay (nats a token)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, frameon=False)
    figure.savefig(DOCS / "objectives.png", dpi=110)


def draw_effects(directory, names):
    figure, axes = plt.subplots(1, len(names), figsize=(9.5, 3), sharex=True, sharey=True, layout="constrained")
    for axis, name in zip(axes, names):
        step, runs = read(directory, name, "alone")
        axis.axhline(0, color="grey", lw=0.8)
        axis.plot(step, runs["unlearn"][1], "o-", color=COLOURS[3], ms=4, lw=1.2, label="on what is to be forgotten")
        axis.plot(step, runs["retain"][1], "s--", color=COLOURS[0], ms=4, lw=1.2, label="on what must stay")
        axis.set(title=name, xlabel="update", yscale="symlog")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("effect of the objective (nat$^2$);\nbelow 0: raises that risk")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(DOCS / "objectives_effects.png", dpi=110)


if __name__ == "__main__":
    runs = sorted({p.name.rsplit("-", 1)[0] for p in Path(sys.argv[1]).iterdir()})
    draw_risks(sys.argv[1], runs)
    draw_effects(sys.argv[1], SHOWN)
