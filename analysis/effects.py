"""Reads geffect.h5 and adds its effects up: what summary.py and plot.py share. Needs h5py and numpy.

    total effect of objective j on risk k in a group of layers:  sum over its layers l and the instances i of w[j,i] e[t,j,k,l,i]
"""
import re

import h5py
import numpy as np

GROUPS = ("embed", "shallow", "middle", "deep", "lm")
MEANING = {"embed": "embedding", "shallow": "first third of the blocks", "middle": "second third",
           "deep": "last third", "lm": "final norm and output layer"}
BLOCK = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)(?:\.|$)")
EMBEDDING = re.compile(r"^embed$|(?:^|\.)(?:embed_tokens|embed_in|wte)\.")


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
    """What one objective, or one regulariser, does to one risk: total [step] and by group {name: [step]}."""

    def __init__(self, source, kind, risk, by_layer, groups, standard_error=None):
        self.source, self.kind, self.risk = source, kind, risk
        self.standard_error = standard_error  # of the total over the risk's rows, [step]; None: not measured
        self.total = by_layer.sum(axis=1)
        self.group = {g: by_layer[:, [i for i, x in enumerate(groups) if x == g]].sum(axis=1)
                      for g in GROUPS if g in groups}


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


class Run:
    """steps, risks, risk_value {risk: [step]}, effects: objectives first, then regularisers, each for every risk; changes: one
    for each risk where the run had geffect.fidelity, else none."""

    def __init__(self, path):
        self.path = path
        with h5py.File(path) as f:
            if "geffect" not in f:
                raise ValueError(f"{path}: holds no G-effects")
            done = f["step"][:] >= 0  # a killed run may leave a row that it had not committed
            n = len(done)
            self.steps = f["step"][:][done]
            self.title = f.attrs.get("title", "")
            self.objectives, self.risks, layers = (list(f[a].asstr()[:]) for a in ("objective", "risk", "layer"))
            self.risk_value = {r: f["risk_value"][:n, k][done] for k, r in enumerate(self.risks)}
            self.regularizers = [x[len("geffect_"):] for x in f if x.startswith("geffect_")]
            groups = groups_of(layers)
            weight = f["instance_weight"][:]
            error = f["standard_error"][:n][done] if "standard_error" in f else None
            self.effects = [Effect(o, "objective", r, f["geffect"][:n, j, k][done] @ weight[j], groups,
                                   None if error is None else error[:, j, k])
                            for j, o in enumerate(self.objectives) for k, r in enumerate(self.risks)]
            self.effects += [Effect(g, "regularizer", r,
                                    f["geffect_" + g][:n, k][done] @ f["instance_weight_" + g][:], groups)
                             for g in self.regularizers for k, r in enumerate(self.risks)]
            changes = [f[name][:n][done] for name in ("predicted_change", "predicted_change_plain", "actual_change")
                       if name in f]
            self.changes = [Change(r, *(c[:, k] for c in changes)) for k, r in enumerate(self.risks)] if changes else []


def plain(values):
    """For JSON, which has no NaN."""
    return [float(v) if np.isfinite(v) else None for v in values]
