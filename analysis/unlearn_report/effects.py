"""Adds the effects of a geffect.h5 up.

    total effect of objective j on risk k in a group of layers:  sum over its layers l and the instances i of w[j,i] e[t,j,k,l,i]
"""
import re

import numpy as np

from .run import reading

GROUPS = ("embed", "shallow", "middle", "deep", "lm")
UNIT = {"token_mean": "nat per token", "sequence_sum": "nat per sequence"}  # of a risk, by the attribute normalisation
MEANING = {"embed": "embedding", "shallow": "first third of the blocks", "middle": "second third",
           "deep": "last third", "lm": "final norm and output layer"}
BLOCK = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)(?:\.|$)")
EMBEDDING = re.compile(r"^embed$|(?:^|\.)(?:embed_tokens|embed_in|wte|wpe)\.")


def groups_of(layers):
    """The group of each label of the axis `layer`, be it a layer (layers.3) or a tensor (model.layers.3.mlp.up_proj.weight).

    Tied embeddings are one tensor: by tensor, their use as output layer counts in `embed`; by layer, in `lm`."""
    blocks = [BLOCK.search(name) for name in layers]
    count = 1 + max((int(b.group(1)) for b in blocks if b), default=0)
    groups = []
    for name, block in zip(layers, blocks):
        if block:
            groups.append(GROUPS[1 + 3 * int(block.group(1)) // count])
        else:
            groups.append("embed" if EMBEDDING.search(name) else "lm")
    return groups


class Effect:
    """What one objective, or one regulariser, does to one risk: by_layer (step, layer), total [step], by group {name: [step]}."""

    def __init__(self, source, kind, risk, by_layer, standard_error=None):
        self.source, self.kind, self.risk, self.by_layer = source, kind, risk, by_layer
        self.standard_error = standard_error  # of the total over the risk's rows, [step]; None: not measured
        self.total = by_layer.sum("layer", skipna=False).values
        groups = np.array(groups_of(by_layer.layer.values))
        self.group = {g: by_layer.isel(layer=groups == g).sum("layer", skipna=False).values for g in GROUPS if g in groups}


class Change:
    """What each update after a measurement was expected to do to one risk, and what it did: [step], NaN where none followed."""

    def __init__(self, risk, aware, plain, actual):
        self.risk, self.aware, self.plain, self.actual = risk, aware, plain, actual

    def r_squared(self, predicted):
        """Share of the actual changes' variance that a prediction explains; NaN for fewer than two updates."""
        known = np.isfinite(self.actual)
        rest = ((predicted - self.actual)[known] ** 2).sum()
        variance = ((self.actual[known] - self.actual[known].mean()) ** 2).sum() if known.sum() > 1 else 0
        return 1 - rest / variance if variance > 0 else np.nan


class Measured:
    """A run's effects: steps, trained (see Run), risks, risk_value {risk: [step]} and its unit, effects: objectives first, the trained one before the
    others, then regularisers, each for every risk; changes: one for each risk where the run had geffect.fidelity, else none; end:
    the row of the model that the run leaves."""

    def __init__(self, run):
        self.run, self.path, data = run, run.directory / "geffect.h5", run.geffect
        run.must_read("geffect.h5")
        if data is None or "geffect" not in data:
            raise ValueError(f"{self.path}: holds no G-effects: give the directory of a run with geffect.every above 0")
        if not data.sizes["step"]:
            raise ValueError(f"{self.path}: nothing is measured yet: wait for the run's first measurement")
        with reading(self.path):
            data.geffect.load()  # it is read in many ways
        self.data, self.steps, self.trained = data, data.step.values, run.trained
        self.title, self.objectives, self.risks = data.attrs.get("title", ""), *(list(data[a].values) for a in ("objective", "risk"))
        self.risk_value = {r: data.risk_value.sel(risk=r).values for r in self.risks}
        self.end = self._end()
        self.unit = UNIT[data.attrs.get("normalisation", "token_mean")]
        self.regularizers = [x.removeprefix("geffect_") for x in data if x.startswith("geffect_")]
        of = data.geffect.dot(data.instance_weight, "instance")
        error = data.get("standard_error")
        self.effects = [Effect(o, "objective", r, of.isel(objective=j, risk=k),
                               None if error is None else error.isel(objective=j, risk=k).values)
                        for j, o in enumerate(self.objectives) for k, r in enumerate(self.risks)]
        for g in self.regularizers:
            of = data[f"geffect_{g}"].dot(data[f"instance_weight_{g}"], "retain_instance")
            self.effects += [Effect(g, "regularizer", r, of.isel(risk=k)) for k, r in enumerate(self.risks)]
        names = ("predicted_change", "predicted_change_plain", "actual_change")
        self.changes = [Change(r, *(data[n].isel(risk=k).values for n in names)) for k, r in enumerate(self.risks)] \
            if all(n in data for n in names) else []

    def _end(self):
        """The last row, but where a guard has stepped back to an earlier state: that one's, or the last before it that was measured."""
        left = self.data.guard_model.values[-1] if "guard_model" in self.data else np.nan
        return int(np.searchsorted(self.steps, left, side="right")) - 1 if np.isfinite(left) else len(self.steps) - 1

    def find(self, risk, source=None):
        return next(e for e in self.effects if e.risk == risk and e.source == (source or self.objectives[0]))

    def sources(self):
        """The objectives, the one trained first, then the regularisers: a list of Effect, one for each risk, each."""
        k = len(self.risks)
        return [self.effects[i:i + k] for i in range(0, len(self.effects), k)]

    def side(self, meant):
        """The first risk on the rows to forget, or to retain; None."""
        return next((r for r in self.risks if self.run.meant(r) == meant), None)

    def place(self, meant):
        """The same; without one the first risk, or the second; None."""
        k = {"forget": 0, "retain": 1}[meant]
        return self.side(meant) or (self.risks[k] if k < len(self.risks) else None)


def plain(values):
    """For JSON, which has no NaN."""
    return [float(v) if np.isfinite(v) else None for v in values]
