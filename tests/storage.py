"""end to end: moments and the update's gradient held in bfloat16 (optimizer.storage): what that changes, and what it never does."""
import re
import shutil

import h5py
import numpy as np
from harness import SHARED, VARIANT, Checks, precisions
from products import Place, larger, said, same, settings, version

STEPS = 12
# Against the same training with moments and gradients in float32, which differs by rounding to 8 bits: of what the run has changed.
WAY = 0.1
HELD = {"precision": "bfloat16", "optimizer": {"lr": 1e-3, "schedule": "constant", "warmup_steps": 0, "storage": "bfloat16"}}


def stored(storage, **changes):
    s = settings(**HELD | changes)
    s["optimizer"] = {**HELD["optimizer"], "storage": storage}
    s["train"] = {"steps": STEPS, "batch_size": 4, "accumulation": 1}
    s["objective"] = {"name": "npo", "regularizer": [{"name": "gd"}, {"name": "kl"}]}
    s["geffect"] = {"every": 4, "objectives": ["npo", "ga"], "fidelity": True}
    return s


def follows(checks):
    """The risks go the way that they go with moments in float32; the same run has the same bits, on a restart too."""
    place, got = Place(checks, "follows"), {}
    for storage in ("float32", "bfloat16"):
        place.run(storage, stored(storage))
        got[storage] = place.results()
        halves = re.findall(r"^(?:states)? +(moments|gradient|regulariser) .* in bfloat16$", place.log(), re.M)
        checks.check(halves == (["moments", "gradient", "regulariser"] if storage == "bfloat16" else []), f"{storage}: what the plan says", place.log())
    wide, half = got["float32"]["risk_value"], got["bfloat16"]["risk_value"]
    way = np.abs(wide - wide[0]).max()
    off = np.abs(half - wide).max() / way
    print(f"risks: {off:.2g} of the way of {way:.3g} nats apart", flush=True)
    checks.check(0 < off < WAY and way > 0.5, "risks follow those of moments in float32", f"{off} of {way}")
    place.run("again, with checkpoints", stored("bfloat16", checkpoint={"every": 6, "keep": 9, "export": True}))
    checks.check(same(place.results(), got["bfloat16"]), "the same bits again")
    model = (place.directory / "out/model/model.safetensors").read_bytes()
    shutil.rmtree(place.directory / "out/checkpoint-12")
    (place.directory / "out/run.finished").unlink()
    place.run("goes on", stored("bfloat16", checkpoint={"every": 6, "keep": 9, "export": True}), options=("--restart",))
    checks.check("restart    from out/checkpoint-6" in place.log(), "goes on from the checkpoint", place.log())
    checks.check(same(place.results(), got["bfloat16"]) and (place.directory / "out/model/model.safetensors").read_bytes() == model,
                 "goes on: the same bits")
    shutil.rmtree(place.directory / "out/checkpoint-12")
    (place.directory / "out/run.finished").unlink()
    place.run("goes on with other storage", stored("float32", checkpoint={"every": 6, "keep": 9}), options=("--restart",), status=1)
    return got["bfloat16"]


def on_layouts(checks, one):
    """Gradients are rounded where they are summed, so that layouts agree to the rounding of bfloat16."""
    place = Place(checks, "layouts")
    way = np.abs(one["risk_value"] - one["risk_value"][0]).max()
    for ranks, tensor, shard in ((2, 1, "none"), (2, 1, "full"), (2, 2, "none"), (4, 2, "full")):
        what = f"{ranks} ranks, tensor {tensor}, shard {shard}"
        if place.run(what, stored("bfloat16", parallel={"data": ranks // tensor, "tensor": tensor, "shard": shard}), ranks=ranks).returncode:
            continue
        off = np.abs(place.results()["risk_value"] - one["risk_value"]).max() / way
        checks.check(off < WAY, f"{what}: risks as on one rank", f"{off:.2g} of the way")


def bystanders(checks):
    """What is measured may have the memory of the update's gradient, or of a part of it, but changes neither: the same weights."""
    place, got = Place(checks, "bystanders"), {}
    for what, geffect in (("nothing", {"every": 0}), ("curvature", {"every": 4, "curvature": True}),
                          ("fidelity", {"every": 4, "fidelity": True, "gram": False})):
        for ranks in (1, 2):
            s = stored("bfloat16", parallel={"data": ranks, "tensor": 1, "shard": "full" if ranks > 1 else "none"})
            s["objective"]["regularizer"] = [{"name": "gd"}]
            s["geffect"] = geffect
            place.run(f"bystanders, {what}, {ranks} ranks", s, ranks=ranks)
            got[what, ranks] = (place.directory / "out/model/model.safetensors").read_bytes()
            halves = re.findall(r"^(?:states)? +(gradient|regulariser) .* in bfloat16$", place.log(), re.M)
            checks.check(halves == ["gradient", "regulariser"], f"bystanders, {what}, {ranks} ranks: what the plan says", place.log())
            checks.check(got[what, ranks] == got["nothing", ranks], f"bystanders, {what}, {ranks} ranks: the same weights")


def guarded(checks):
    """What acts on gradients reads them in either form: a budget of a predicted risk, layers at rest, a projection with its mean."""
    place, got = Place(checks, "guarded"), {}
    for storage in ("float32", "bfloat16"):
        s = stored(storage, guard={"retain": {"budget": 9, "of": "predicted"}, "freeze": {"layers": 1}, "project": 0.5}, checkpoint={"every": 4})
        s["geffect"] = {"every": 2, "objectives": ["npo"], "gram": True}
        place.run(storage, s)
        with h5py.File(place.directory / "out/train.h5") as f:
            got[storage] = {k: f[k][()] for k in ("loss", "gradient_norm", "project_cosine")}
        with h5py.File(place.directory / "out/geffect.h5") as f:
            got[storage] |= {k: f[k][()] for k in ("guard_value", "guard_limit")}
        checks.check(np.isfinite(got[storage]["guard_value"][0]) and np.isfinite(got[storage]["project_cosine"][0]), f"guarded, {storage}: it acts")
    checks.near("guarded: the first update", {k: (v[0], got["float32"][k][0]) for k, v in got["bfloat16"].items()}, 2e-2)


def measured(checks):
    """Half of each state but the weights, as planned and as the system says."""
    place, got = Place(checks, "measured"), {}
    for storage in ("float32", "bfloat16"):
        s = {**larger(place), "task": "unlearn", **HELD, "optimizer": {"storage": storage}, "train": {"steps": 1, "batch_size": 4}}
        s["checkpoint"] = {"export": False}
        place.run(storage, s)
        shutil.rmtree(place.directory / "model")
        planned, peak = map(float, re.findall(r"planned ([\d.]+) MB, peak ([\d.]+) MB", place.log())[0])
        state = float(re.search(r"weights +1 x ([\d.]+) MB", place.log())[1])
        checks.check(abs(peak / planned - 1) < 0.08, f"{storage}: memory as planned", f"{planned} {peak}")
        got[storage] = peak
    saved = got["float32"] - got["bfloat16"]
    checks.check(1.2 * state < saved < 1.8 * state, "a half of each of three states", f"{got} {state}")


def refused(checks):
    place = Place(checks, "refused")
    s = settings(optimizer={"storage": "bfloat16"})
    done = place.run("without precision", s, status=1)
    lines = [line for line in done.stderr.splitlines() if "unlearn: error" in line]
    checks.check(len(lines) == 1 and "optimizer.storage: bfloat16 needs precision: bfloat16" in lines[0] and "input.yaml:" in lines[0],
                 "without precision: one line says why", done.stderr[-500:])


def main():
    checks = Checks("storage")
    checks.need(SHARED / "golden/models/llama")
    if VARIANT or "float" not in precisions() or "\noneDNN " not in version():
        checks.skip("no program for float with oneDNN and without sanitizers")
        checks.finish()
    on_layouts(checks, follows(checks))
    bystanders(checks)
    guarded(checks)
    measured(checks)
    refused(checks)
    checks.finish()


main()
