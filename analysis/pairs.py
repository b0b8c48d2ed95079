#!/usr/bin/env python3
"""Which rows pay for which forgotten rows, from the pair_effect of a run's geffect.h5 (geffect.pairs).

The forgotten rows that cost the others most, and for each the rows that pay: a plain step of size lr on the one changes the loss
of the other by -lr times the number. Texts are those of the files that the run's input.yaml names, where these are to be had.
"""
import argparse
import json
import re
import signal
import sys
from pathlib import Path

import h5py
import numpy as np

from effects import plain


def settings(path):
    """{"data.forget.path": text} of an input.yaml that the program has written: one key a line, by indentation."""
    found, above = {}, []
    for line in path.read_text().splitlines() if path.exists() else ():
        key = re.match(r"( *)([\w.]+):(?: (.*?))?(?:  # .*)?$", line)
        if key:
            above[len(key[1]) // 2:] = [key[2]]
            value = key[3] or ""
            found[".".join(above)] = json.loads(value) if value.startswith('"') else value
    return found


class Pairs:
    """effect [step][objective][group][i][p], weight [p]; of_row, the retain or the forget file of p; text(side, row)."""

    def __init__(self, path):
        with h5py.File(path) as f:
            if "pair_effect" not in f:
                raise ValueError("holds no pair_effect: the run needs geffect.pairs, see docs/PAIRS.md")
            done = f["step"][:] >= 0  # a killed run may leave a row that it had not committed
            self.steps = f["step"][:][done]
            self.effect = f["pair_effect"][:len(done)][done]
            self.weight = f["pair_weight"][:]
            self.objectives, self.groups = (list(f[a].asstr()[:]) for a in ("objective", "group"))
            self.row = f["pair_instance"][:]
            self.of_row = "forget" if "forget" in str(f["pair_instance"].attrs["long_name"]) else "retain"
        given, self._texts = settings(Path(path).with_name("input.yaml")), {}
        for side in ("forget", "retain"):
            file, key = Path(given.get(f"data.{side}.path", "null")), given.get(f"data.{side}.question", "question")
            if file.is_file() and given.get(f"data.{side}.text", "null") == "null":  # a line of plain text may be several rows
                self._texts[side] = [json.loads(s).get(key, "") for s in file.read_text().split("\n") if s.strip()]

    def text(self, side, row):
        texts = self._texts.get(side, ())
        return texts[row] if row < len(texts) else ""

    def at(self, step, objective):
        """(i, p) of one step and objective, all groups together."""
        return self.effect[list(self.steps).index(step), self.objectives.index(objective)].sum(0)

    def costliest_step(self, objective):
        """Where the weighted sum over p is most negative."""
        total = (self.effect[:, self.objectives.index(objective)].sum(1) @ self.weight).sum(1)
        return int(self.steps[np.argmin(np.where(np.isfinite(total), total, np.inf))])

    def who_pays(self, step, objective, n, payers):
        """The n rows i that cost most, each with the rows p that pay most: the most negative effects."""
        effect = self.at(step, objective)
        total, share = effect @ self.weight, self.effect[list(self.steps).index(step), self.objectives.index(objective)]
        return [{"row": int(i), "text": self.text("forget", i), "effect": float(total[i]),
                 "pays": [{"row": int(self.row[p]), "text": self.text(self.of_row, self.row[p]), "effect": float(effect[i, p]),
                           "groups": dict(zip(self.groups, plain(share[:, i, p])))}
                          for p in np.argsort(effect[i], kind="stable")[:payers] if effect[i, p] < 0]}
                for i in np.argsort(total, kind="stable")[:n] if total[i] < 0]


def picture(pairs, step, objective, file):
    """All pairs of a step, rows p in the order of what they pay together. Needs matplotlib."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    effect = pairs.at(step, objective)
    order = np.argsort(effect.sum(0), kind="stable")
    most = np.abs(effect).max() or 1
    figure, axes = plt.subplots(figsize=(9, 3.2), constrained_layout=True)
    scale = matplotlib.colors.SymLogNorm(most / 1000, vmin=-most, vmax=most)
    drawn = axes.pcolormesh(range(effect.shape[1]), range(effect.shape[0]), effect[:, order], cmap="RdBu", norm=scale)
    axes.set(xlabel=f"rows of the {pairs.of_row} file, those that pay most first", ylabel="forgotten row",
             title=f"effect of forgetting a row ({objective}) on single rows, step {step}")
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.invert_yaxis()
    figure.colorbar(drawn, label="nat$^2$; red: the row pays")
    figure.savefig(file, dpi=110)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("file", help="geffect.h5 of a run")
    arguments.add_argument("--step", type=int, help="a measured step; without it the one that costs most")
    arguments.add_argument("--objective", help="without it the first one")
    arguments.add_argument("--rows", type=int, default=3, metavar="N", help="forgotten rows (3)")
    arguments.add_argument("--payers", type=int, default=5, metavar="N", help="rows that pay, of each (5)")
    arguments.add_argument("--picture", metavar="FILE", help="also all pairs of the step as a PNG, PDF or SVG; needs matplotlib")
    arguments.add_argument("--json", action="store_true", help="the same as JSON, for programs")
    chosen = arguments.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it quietly
    try:
        pairs = Pairs(chosen.file)
        objective = pairs.objectives[0] if chosen.objective is None else chosen.objective
        if objective not in pairs.objectives:
            raise ValueError(f"no objective {objective}; there are {', '.join(pairs.objectives)}")
        step = pairs.costliest_step(objective) if chosen.step is None else chosen.step
        if step not in pairs.steps:
            raise ValueError(f"no step {step}; there are {', '.join(str(s) for s in pairs.steps)}")
        worst = pairs.who_pays(step, objective, chosen.rows, chosen.payers)
        if chosen.picture:
            picture(pairs, step, objective, chosen.picture)
    except (OSError, KeyError, ValueError) as problem:
        sys.exit(f"pairs.py: error: {chosen.file}: {problem}")
    if chosen.json:
        json.dump({"file": chosen.file, "step": step, "objective": objective, "rows": worst}, sys.stdout, indent=1)
        print()
        return
    print(f"{chosen.file}: {objective} at step {step}: what forgetting a row does to rows of the {pairs.of_row} file (nat2)")
    for i in worst:
        print(f"\nforget {i['row']:5d} {i['effect']:11.4g}  {i['text']}")
        for p in i["pays"]:
            most = min(p["groups"], key=p["groups"].get)
            print(f"  pays {p['row']:5d} {p['effect']:11.4g}  {p['text']}  (most of it in {most})")


if __name__ == "__main__":
    main()
