"""end to end: a model that gradient ascent has driven beyond 90 nats per token, in float: every number stays finite."""
import json

import h5py
import numpy as np
from harness import SHARED, Checks, labels, layout, precisions, run_input, safetensors

CASE = SHARED / "golden/models/llama"
NATS = 90
WEIGHED = ["npo", "tnpo", "wtnpo", "wga", "satimp"]  # of what is forgotten for good
OBJECTIVES = ["ga", *WEIGHED, "simnpo", "po", "dpo", "rmu", "ceu", "undial"]
REGULARIZERS = ["gd", "kl", "rr"]


def settings(ranks, tensor):
    at = {k: str(CASE / k) for k in ("model", "reference", "forget.jsonl", "retain.jsonl", "idk.jsonl")}
    return {"task": "unlearn", "output": {"directory": "out"},
            "model": {"path": at["model"], "reference": at["reference"]},
            "data": {"template": "llama2", "forget": at["forget.jsonl"], "retain": at["retain.jsonl"],
                     "idk": {"path": at["idk.jsonl"], "draw": "in_order"}},
            "parallel": layout(ranks, tensor),
            # weight 0: measured, but without a part in the updates
            "objective": {"name": "ga", "regularizer": [{"name": n, "weight": 0} for n in REGULARIZERS]},
            "optimizer": {"lr": 0.2, "schedule": "constant", "warmup_steps": 0},
            "train": {"steps": 8, "batch_size": 6, "accumulation": 1, "shuffle": False},
            "geffect": {"every": 4, "objectives": OBJECTIVES, "gram": True, "fidelity": True}}


def absent(name, objective):
    """What is NaN on purpose: weights of objectives that have none, and what belongs to an update, after the last one."""
    none = np.array([o not in (*WEIGHED, "simnpo", "dpo") for o in objective])
    return none[None, :, None] if name == "objective_weight" else np.False_


def check(checks, what, directory):
    with h5py.File(directory / "geffect.h5") as f:
        objective = labels(f["objective"])
        risk = f["risk_value"][()]
        print(f"{what}: risks {risk[-1]}")
        checks.check(risk[-1, 0] > NATS, f"{what}: the model is destroyed", str(risk))
        for name, field in f.items():
            if field.dtype.kind != "f" or field.shape[0] != len(risk) or name in ("loss", "gram") or "change" in name:
                continue
            x = field[()]
            bad = np.isnan(x) != np.broadcast_to(absent(name, objective), x.shape)
            checks.check(not bad.any() and not np.isinf(x).any(), f"{what}: {name} is finite", str(np.argwhere(bad)[:5]))
        for name in ("loss", "gram", "predicted_change", "predicted_change_plain", "actual_change"):
            checks.check(np.isfinite(f[name][:-1]).all(), f"{what}: {name} is finite")
        weight = {n: f["objective_weight"][-1, objective.index(n)] for n in WEIGHED}
        checks.check((weight["npo"] == 0).all(), f"{what}: npo weighs nothing", str(weight["npo"]))
        # of a few hundred tokens one may still be likely, even in a model that knows nothing any more
        vanished = all(np.median(w) < 1e-60 and w.max() < 1e-3 for w in weight.values())
        checks.check(vanished, f"{what}: weights vanish", str(weight))
    with h5py.File(directory / "train.h5") as f:
        for name, field in f.items():
            if field.dtype.kind == "f":
                checks.check(np.isfinite(field[:-1]).all(), f"{what}: {name} of train.h5 is finite")
    final = safetensors(directory / "model/model.safetensors")
    checks.check(all(np.isfinite(x).all() for x in final.values()), f"{what}: the weights written are finite")


def main():
    checks = Checks("destroyed")
    if not CASE.exists():
        checks.skip(f"{CASE} is not there")
    elif "float" not in precisions():
        checks.skip("unlearn is not built")
    else:
        for ranks, tensor in ((1, 1), (2, 2)):
            what = f"float, data {ranks // tensor} x tensor {tensor}"
            directory = checks.directory / f"{ranks}-{tensor}"
            directory.mkdir()
            done = run_input(settings(ranks, tensor), ranks, "float", directory)
            if checks.check(done.returncode == 0, f"{what}: exit status {done.returncode}", done.stderr[-2000:]):
                check(checks, what, directory / "out")
    checks.finish()


if __name__ == "__main__":
    main()
