#!/usr/bin/env python3
"""How good a straight line was: changes of the risks by each measured update to first and second order, and as they were; and
those of windows of updates. From the geffect.h5 of a run with geffect.curvature and geffect.fidelity.

    curvature.py FILE                     a table
    curvature.py FILE --picture FILE.png  curves, with the part of the second order in each layer

Needs h5py and numpy, for pictures matplotlib.
"""
import argparse
import sys

import h5py
import numpy as np

FIRST, SECOND, ACTUAL = "predicted_change", "predicted_change_second", "actual_change"
WINDOW = ("window_first_order", "window_corrected", "window_second_order", "window_measured")


def read(path):
    with h5py.File(path) as f:
        there = f["step"][()] >= 0
        text = lambda d: [s.decode() if isinstance(s, bytes) else str(s) for s in d[()]]
        got = {k: f[k][()][there] for k in (FIRST, SECOND, ACTUAL, "second_order", "second_order_by_layer", *WINDOW) if k in f}
        return f["step"][()][there], text(f["risk"]), text(f["layer"]), got


def table(steps, risks, names, got):
    names = [n for n in names if n in got]
    print("  step  risk      " + "".join(f"{n.removeprefix('predicted_').removeprefix('window_'):>16}" for n in names))
    for t, step in enumerate(steps):
        for k, risk in enumerate(risks):
            values = [got[n][t, k] for n in names]
            if np.isfinite(values).any():
                print(f"{step:6d}  {risk:<10}" + "".join(f"{v:16.6g}" for v in values))


def picture(path, steps, risks, layers, got):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    styles = {ACTUAL: ("#000000", "o-", "as it was"), FIRST: ("#0072B2", "--", "first order"), SECOND: ("#D55E00", "-", "second order")}
    fig, axes = plt.subplots(2, len(risks), figsize=(4.6 * len(risks), 6), squeeze=False)
    for k, risk in enumerate(risks):
        for name, (colour, style, label) in styles.items():
            if name in got:
                axes[0, k].plot(steps, got[name][:, k], style, color=colour, label=label, markersize=4)
        axes[0, k].set_title(f"change of R({risk}) by one update")
        parts = got["second_order_by_layer"][:, k]
        shown = axes[1, k].imshow(parts.T, aspect="auto", origin="lower", cmap="RdBu_r", norm=matplotlib.colors.CenteredNorm(),
                                  extent=(steps[0] - 0.5 * (steps[1] - steps[0]), steps[-1] + 0.5 * (steps[1] - steps[0]), -0.5, len(layers) - 0.5))
        axes[1, k].set_yticks(range(len(layers)), layers, fontsize=7)
        axes[1, k].set_xlabel("step")
        axes[1, k].set_title("its second-order part, layer by layer (nat)")
        fig.colorbar(shown, ax=axes[1, k])
    axes[0, 0].set_ylabel("nat")
    axes[0, 0].legend()
    fig.tight_layout()
    fig.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--picture", metavar="FILE", help="draws into a PNG, PDF or SVG")
    arguments = parser.parse_args()
    try:
        steps, risks, layers, got = read(arguments.file)
    except (OSError, KeyError) as e:
        sys.exit(f"{arguments.file}: {e}: give the geffect.h5 of a run")
    if "second_order" not in got:
        sys.exit(f"{arguments.file}: has no second_order: run with geffect.curvature: true")
    table(steps, risks, (FIRST, "second_order", SECOND, ACTUAL), got)
    if WINDOW[0] in got:
        print("\nwindows of updates that end at")
        table(steps, risks, WINDOW, got)
    if arguments.picture:
        if len(steps) < 2:
            sys.exit(f"{arguments.file}: a picture needs two measured steps")
        picture(arguments.picture, steps, risks, layers, got)


if __name__ == "__main__":
    main()
