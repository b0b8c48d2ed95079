"""Draws what every objective did to both risks: objectives.py DIRECTORY PICTURE, after docs/objectives.sh. Prints the ends as a table."""
import sys
from pathlib import Path

import h5py
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

MARKS = "os^vD<>pP*XhH"
COLOURS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000"]  # Okabe and Ito's


def risks(path):
    """(step, unlearn, retain) of a run's geffect.h5."""
    with h5py.File(path) as f:
        names = [n.decode() if isinstance(n, bytes) else n for n in f["risk"][()]]
        value = f["risk_value"][()]
        return f["step"][()], value[:, names.index("unlearn")], value[:, names.index("retain")]


def main(directory, picture):
    runs = sorted({p.name.rsplit("-", 1)[0] for p in Path(directory).iterdir()})
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), sharex=True, sharey=True, layout="constrained")
    print("objective  alone: forgotten, stays   with gd: forgotten, stays   (nats a token after 50 updates)")
    for k, name in enumerate(runs):
        ends = []
        for axis, how in zip(axes, ("alone", "gd")):
            _, forgotten, stays = risks(Path(directory) / f"{name}-{how}" / "geffect.h5")
            axis.plot(forgotten, stays, color=COLOURS[k % len(COLOURS)], lw=1, ls="-" if k < len(COLOURS) else "--", alpha=0.7)
            axis.plot(forgotten[-1], stays[-1], MARKS[k], color=COLOURS[k % len(COLOURS)], ms=7, label=name)
            ends += [forgotten[-1], stays[-1]]
        print(f"{name:10} {ends[0]:16.3g} {ends[1]:10.3g} {ends[2]:18.3g} {ends[3]:10.3g}")
    for axis, title in zip(axes, ("the objective alone", "with the regulariser gd")):
        axis.set(xscale="log", yscale="log", title=title, xlabel="risk of what is to be forgotten (nats a token)")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("risk of what must stay (nats a token)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, frameon=False)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:3])
