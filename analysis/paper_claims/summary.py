"""A summary file, as summarise.py writes it, in memory: settings of seeds of runs of curves. What is not there is a KeyError."""
import csv
from functools import cached_property
from pathlib import Path

import numpy as np

COLUMNS = ("seed", "rate", "estimator", "run", "quantity", "values")


class Curves:
    """A run, and what the claims ask of it. Effects are those of the objective trained, or of a regulariser.

    peak: the measured step where the larger of |e_u| and |e_r| is largest;  rho = |e_r|/|e_u| there"""

    def __init__(self, name):
        self.name, self.values = name, {}

    def __contains__(self, quantity):
        return quantity in self.values

    def __getitem__(self, quantity):
        if quantity not in self.values:
            raise KeyError(f"{quantity} of {self.name}")
        return self.values[quantity]

    steps = cached_property(lambda self: self["step"])
    e_u = cached_property(lambda self: self["e_u"])
    e_r = cached_property(lambda self: self["e_r"])
    warmup = cached_property(lambda self: self["warmup"][0])
    length = cached_property(lambda self: self["length"][0])
    peak = cached_property(lambda self: int(np.argmax(np.maximum(abs(self.e_u), abs(self.e_r)))))
    peak_step = cached_property(lambda self: self.steps[self.peak])
    height = cached_property(lambda self: max(abs(self.e_u[self.peak]), abs(self.e_r[self.peak])))
    rho = cached_property(lambda self: abs(self.e_r[self.peak] / self.e_u[self.peak]))

    def largest(self, from_step=0):
        """The largest |e_u| or |e_r| at this step or later."""
        late = self.steps >= from_step
        return max(abs(self.e_u[late]).max(initial=0), abs(self.e_r[late]).max(initial=0))

    def first(self, holds):
        """The first step at which something holds; infinity where it never does."""
        return self.steps[np.argmax(holds)] if holds.any() else np.inf

    def whole(self, of):
        """Effect of all that is trained on risk u or r: the objective, and its regularisers with their weight, which is 1 or a dual
        variable."""
        weight = self.values.get("dual_weight", 1)
        return sum(v * (weight if ":" in q else 1) for q, v in self.values.items() if q == f"e_{of}" or q.startswith(f"e_{of}:"))

    def over_steps(self, rate):
        """Sum over the updates of something that was measured at some of them: [step], from 0."""
        return np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(self.steps))])


class Seed:
    """The runs of one seed, factor of the learning rate and estimator."""

    def __init__(self, seed, rate, estimator):
        self.seed, self.rate, self.estimator, self.runs = seed, rate, estimator, {}

    def __getitem__(self, name):
        if name not in self.runs:
            raise KeyError(name + {"full": "", "ma": " with moving averages"}.get(self.estimator, f" ({self.estimator})"))
        return self.runs[name]

    def strength(self, name):
        """Extraction strength at the end of a run: of what stays, of what is forgotten."""
        if self.estimator != "full":
            raise KeyError("an estimator changes no model")
        return self[name]["strength_r"][-1], self[name]["strength_u"][-1]


class Setting:
    """name: demo, stories260K ...; groups {(rate, estimator): [Seed by seed]}."""

    def __init__(self, path):
        self.name, found = Path(path).stem, {}
        with open(path, newline="") as file:
            rows = csv.DictReader(file)
            if not set(COLUMNS) <= set(rows.fieldnames or ()):
                raise ValueError(f"{path}: is no summary file: make one with `paper-claims summarise`")
            for row in rows:
                key = (row["rate"], row["estimator"], int(row["seed"]))
                seed = found.setdefault(key, Seed(key[2], key[0], key[1]))
                curves = seed.runs.setdefault(row["run"], Curves(row["run"]))
                curves.values[row["quantity"]] = np.array(row["values"].split(), float)
        if not found:
            raise ValueError(f"{path}: has no line of a run: make it with `paper-claims summarise`")
        self.groups = {}
        for key in sorted(found):
            self.groups.setdefault(key[:2], []).append(found[key])

    def seeds(self, rate="1", estimator="full"):
        return self.groups.get((rate, estimator), [])

    def beside(self, estimator):
        """[(Seed with effects of full sets, Seed of what else was measured)] of the same trainings: of those made again where there are any,
        since everything else that a directory holds is of its model."""
        effects = {s.seed: s for s in self.seeds(estimator="again") or self.seeds()}
        return [(effects[s.seed], s) for s in self.seeds(estimator=estimator) if s.seed in effects]

    def rates(self):
        """The other learning rates, as factors."""
        return [r for r, e in self.groups if e == "full" and r != "1"]
