"""What the guard's actions did: a Markdown table of the runs of inputs/guard.sh.

    guard.py DIRECTORY [--forgotten 0.5]

Each run is DIRECTORY/OBJECTIVE-ACTION with geffect.h5 and evaluation/evaluation.h5. `same forgetting`: the retain risk at the
first measured step whose forget risk is at least so many nats, on a straight line from the step before."""
import argparse
import sys
from pathlib import Path

import h5py
import numpy as np

OBJECTIVES, ACTIONS = ("npo-gd", "npo", "ga-gd", "ga"), ("none", "stop", "step_back", "predicted", "freeze", "project", "mean")


def labels(dataset):
    return [s.decode() if isinstance(s, bytes) else str(s) for s in dataset[()]]


def run(directory):
    """-> risks (step, [unlearn, retain]) at the measured steps, and the step of the model that is left."""
    with h5py.File(directory / "geffect.h5") as f:
        names, step = labels(f["risk"]), f["step"][()]
        risk = f["risk_value"][()][:, [names.index("unlearn"), names.index("retain")]]
        left = f["guard_model"][-1] if "guard_model" in f else np.nan
    return step, risk, int(step[-1] if np.isnan(left) else left)


def utility(directory):
    with h5py.File(directory / "evaluation/evaluation.h5") as f:
        return f["summary"][-1][labels(f["number"]).index("model_utility")]


def at_forgetting(risk, forgotten):
    beyond = np.nonzero(risk[:, 0] >= forgotten)[0]
    if not len(beyond) or beyond[0] == 0:
        return None
    a, b = risk[beyond[0] - 1], risk[beyond[0]]
    return a[1] + (forgotten - a[0]) / (b[0] - a[0]) * (b[1] - a[1])


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("directory", type=Path)
    arguments.add_argument("--forgotten", type=float, default=0.5)
    chosen = arguments.parse_args()
    number = lambda x: f"{x:.3f}" if x is not None and abs(x) < 100 else "-" if x is None else f"{x:.3g}"
    print("| objective | guard | updates | forget risk | retain risk | most ever | same forgetting | utility |\n|---|---|---|---|---|---|---|---|")
    for objective in OBJECTIVES:
        for action in ACTIONS:
            directory = chosen.directory / f"{objective}-{action}"
            if not (directory / "evaluation/complete").exists():
                print(f"{directory}: is not complete", file=sys.stderr)
                continue
            step, risk, left = run(directory)
            end = risk[list(step).index(left)]
            print(f"| {objective} | {action} | {left} | {number(end[0])} | {number(end[1])} | {number(risk[:, 1].max())} | "
                  f"{number(at_forgetting(risk, chosen.forgotten))} | {number(utility(directory))} |")


if __name__ == "__main__":
    main()
