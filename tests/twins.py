"""end to end: dpo, rr and the hidden states of every layer, of the golden models, against the reference extended here.

    twins.py [MODEL ...]        names of directories in SHARED/golden/models

What has no golden values: losses, weights, effects by instance and tensor on both risks. Needs torch and transformers."""
import sys

import h5py
import numpy as np
from golden import MODELS, RISKS
from harness import SHARED, TOLERANCE, Checks, few, labels, layout, precisions, run_input
from twin import Case, measure, shares, weight

# of rr only one layer is measured by a run: the last in these, a lower one in others
LAYOUTS = {"double": [(1, 1, "last"), (2, 1, "lower"), (2, 2, "last"), (4, 2, "lower")],
           "float": [(4, 2, "last"), (1, 1, "lower")]}


def measured(case):
    """What is measured: name, its settings for the program."""
    return [("dpo", {"beta": 0.03}), *(("rmu", {"layer": k, "c": 1.5}) for k in range(1, case.blocks + 1))]


def settings(case, ranks, tensor, layer):
    return {"task": "geffect", "output": {"directory": "out"}, **case.data(),
            "parallel": layout(ranks, tensor),
            "objective": {"name": "dpo", "regularizer": {"name": "rr", "layer": layer}},
            "geffect": {"resolution": "tensor",
                        "objectives": [{"name": n, **p, **({"direction": "u.json"} if n == "rmu" else {})}
                                       for n, p in measured(case)]}}


def expected(case):
    """{(name, layer): (loss, share, weight, effects [risk, item, tensor])}"""
    model, ref = case.model(), case.reference
    risks = case.risks(model)[1]
    rows = {}
    for name, given in [*measured(case), *(("rr", {"layer": k}) for k in range(1, case.blocks + 1))]:
        p, items = case.parameters(name, given), case.items(name)
        values, e = measure(name, model, ref, items, p, risks)
        rows[name, given.get("layer")] = values, shares(name, items, p), [weight(name, model, ref, i, p) for i in items], e
    return rows


def read(directory, case, layer):
    """The same of geffect.h5."""
    rows = {}
    with h5py.File(directory / "geffect.h5") as f:
        order = [labels(f["layer"]).index(t) for t in case.file_names()]
        assert labels(f["risk"]) == RISKS and len(order) == len(f["layer"])
        for j, (name, given) in enumerate(measured(case)):
            rows[name, given.get("layer")] = (f["instance_loss"][0, j], f["instance_weight"][j], f["objective_weight"][0, j],
                                              f["geffect"][0, j][:, order].transpose(0, 2, 1))
        rows["rr", layer] = (f["instance_loss_rr"][0], f["instance_weight_rr"][()], np.full(len(case.retain), np.nan),
                             f["geffect_rr"][0][:, order].transpose(0, 2, 1))
    return rows


def compare(checks, what, got, want, tolerance):
    pairs = {}
    for (name, layer), values in got.items():
        shown = name if layer is None else f"{name} {layer}"
        for k, kind in enumerate(("loss", "share")):
            pairs[f"{shown} {kind}"] = values[k], want[name, layer][k]
        wanted = np.array(want[name, layer][2])
        checks.check((np.isnan(values[2]) == np.isnan(wanted)).all(), f"{what}: where {shown} has no weight", str(values[2]))
        pairs[f"{shown} weight"] = np.nan_to_num(values[2]), np.nan_to_num(wanted)
        for r, risk in enumerate(RISKS):
            pairs[f"{shown} effect on {risk}"] = values[3][r], want[name, layer][3][r]
    checks.near(what, pairs, tolerance)


def one_model(checks, name):
    case = Case(name)
    want = expected(case)
    lower = 0
    for precision in precisions():
        for ranks, tensor, which in few(LAYOUTS[precision], precision):
            layer = case.blocks if which == "last" else 1 + lower % (case.blocks - 1)
            lower += which == "lower"
            what = f"{name}, {precision}, data {ranks // tensor} x tensor {tensor}"
            directory = checks.directory / f"{name}-{precision}-{ranks}-{tensor}"
            directory.mkdir()
            case.write_direction(directory / "u.json")
            done = run_input(settings(case, ranks, tensor, layer), ranks, precision, directory)
            if checks.check(done.returncode == 0, f"{what}: exit status {done.returncode}", done.stderr[-2000:]):
                compare(checks, what, read(directory / "out", case, layer), want, TOLERANCE[precision])


def main():
    checks = Checks("twins")
    for name in sys.argv[1:] or MODELS:
        if (SHARED / "golden/models" / name / "expected.h5").exists():
            one_model(checks, name)
        else:
            checks.skip(f"{SHARED}/golden/models/{name}/expected.h5 is not there")
    if not precisions():
        checks.check(False, "no program is built")
    checks.finish()


if __name__ == "__main__":
    main()
