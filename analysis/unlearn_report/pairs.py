"""Which rows pay for which forgotten rows, from the pair_effect of a run's geffect.h5 (geffect.pairs).

The forgotten rows that cost the others most, and for each the rows that pay: a plain step of size lr on the one changes the loss
of the other by -lr times the number. Texts are those of the files that the run's input.yaml names, where these are to be had.
"""
import json
import sys

import numpy as np
from matplotlib.ticker import MaxNLocator

from .effects import plain
from .look import WIDTH, Panel, Picture, dress, log_colours, save, signed_map
from .run import open_runs


class Pairs:
    """effect [step][objective][group][i][p], weight [p]; of_row, the retain or the forget file of p; text(side, row)."""

    def __init__(self, run):
        data = run.geffect
        run.must_read("geffect.h5")
        if data is None or "pair_effect" not in data:
            raise ValueError(f"{run.directory}: has no effects on single rows: run with geffect.pairs: true, see docs/PAIRS.md")
        if not data.sizes["step"]:
            raise ValueError(f"{run.directory / 'geffect.h5'}: nothing is measured yet: wait for the run's first measurement")
        self.run, self.steps, self.effect, self.weight = run, data.step.values, data.pair_effect.values, data.pair_weight.values
        self.objectives, self.groups, self.row = list(data.objective.values), list(data.group.values), data.pair_instance.values
        self.of_row = "forget" if "forget" in data.pair_instance.attrs["long_name"] else "retain"

    def text(self, side, row):
        return self.run.question(side, int(row))

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


def picture(pairs, step=None, objective=None):
    """All pairs of a step, rows p in the order of what they pay together."""
    objective = objective or pairs.objectives[0]
    step = pairs.costliest_step(objective) if step is None else step
    effect = pairs.at(step, objective)
    order = np.argsort(effect.sum(0), kind="stable")

    def on(a):
        across, down = (np.arange(n + 1) - 0.5 for n in effect.shape[::-1])
        signed_map(a, across, down, effect[:, order], log_colours(effect), "nat²")
        dress(a, f"{objective} at step {step}", f"rows of the {pairs.of_row} file, those that pay most first", "forgotten row")
        a.grid(False)
        a.yaxis.set_major_locator(MaxNLocator(integer=True))
        a.invert_yaxis()

    return Picture("pairs", f"{pairs.run.name}: which rows pay for which",
                   "Effect of forgetting one row (down) on the loss of one other row (across), at the step that costs most. Blue: the row pays, "
                   "its loss rises; orange with +: it gains; pale: nothing. Logarithmic colours.", [Panel(on, 1.5 * WIDTH, 3.3)], 1)


def add_arguments(parser):
    parser.add_argument("run", metavar="[NAME=]RUN", help="output directory of a run, or its geffect.h5")
    parser.add_argument("--step", type=int, help="a measured step; without it the one that costs most")
    parser.add_argument("--objective", help="without it the one that was trained, or the first")
    parser.add_argument("--rows", type=int, default=3, metavar="N", help="forgotten rows (3)")
    parser.add_argument("--payers", type=int, default=5, metavar="N", help="rows that pay, of each (5)")
    parser.add_argument("--picture", metavar="FILE", help="also all pairs of the step as a PNG, PDF or SVG")
    parser.add_argument("--json", action="store_true", help="the same as JSON, for programs")


def run(chosen):
    pairs = Pairs(open_runs([chosen.run])[0])
    objective = pairs.objectives[0] if chosen.objective is None else chosen.objective
    if objective not in pairs.objectives:
        raise ValueError(f"{chosen.run}: no objective {objective}; there are {', '.join(pairs.objectives)}")
    step = pairs.costliest_step(objective) if chosen.step is None else chosen.step
    if step not in pairs.steps:
        raise ValueError(f"{chosen.run}: no step {step}; there are {', '.join(str(s) for s in pairs.steps)}")
    worst = pairs.who_pays(step, objective, chosen.rows, chosen.payers)
    if chosen.picture:
        save(picture(pairs, step, objective), chosen.picture)
        print(chosen.picture, file=sys.stderr if chosen.json else sys.stdout)  # JSON stands alone
    if chosen.json:
        json.dump({"file": chosen.run, "step": step, "objective": objective, "rows": worst}, sys.stdout, indent=1)
        print()
        return
    print(f"{chosen.run}: {objective} at step {step}: what forgetting a row does to rows of the {pairs.of_row} file (nat2)")
    for i in worst:
        print(f"\nforget {i['row']:5d} {i['effect']:11.4g}  {i['text']}")
        for p in i["pays"]:
            most = min(p["groups"], key=p["groups"].get)
            print(f"  pays {p['row']:5d} {p['effect']:11.4g}  {p['text']}  (most of it in {most})")
