"""end to end: every input file of inputs/objectives runs, inputs/claims.sh goes on where it stopped, and each claim gets a verdict.

The whole of inputs/claims.sh on the demo's data, with 6 updates in place of 50: the claims' verdicts mean nothing here, but the facts
that hold at any step must hold."""
import os
import subprocess
import sys

import h5py
import numpy as np
from harness import ROOT, VARIANT, Checks, labels, precisions, program

STEPS = [0, 3, 6]
NORM = 1e-4  # relative, of e_u = -|grad R_u|^2 in float: sums of a million products taken in two orders
SHORT = {"LEARN": "train.epochs=6", "MORE": "train.steps=6 geffect.every=3 optimizer.warmup_steps=1 optimizer.lr=1e-3 geffect.gram=true"}


def claims(out, **settings):
    environment = os.environ | SHORT | {"OUT": str(out), "PROGRAM": str(program(precisions()[0])), "PYTHON": sys.executable} | settings
    done = subprocess.run(["sh", "inputs/claims.sh", "demo"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    print(done.stdout + done.stderr[-2000:])
    return done


def read(directory):
    with h5py.File(directory / "geffect.h5") as f:
        got = {k: f[k][()] for k in f if f[k].dtype.kind in "fi"}
        return got | {k: labels(f[k]) for k in ("layer", "risk", "objective", "gradient")}


def by_layer(got, risk, name=None):
    """[step, layer] of the objective, or of a regulariser."""
    k = got["risk"].index(risk)
    if name:
        return got["geffect_" + name][:, k] @ got["instance_weight_" + name]
    return got["geffect"][:, 0, k] @ got["instance_weight"][0]


def finite(checks, runs):
    for name, got in runs.items():
        effects = [got[k] for k in got if k.startswith("geffect")] + [got["risk_value"], got["instance_loss"]]
        checks.check(all(np.isfinite(e).all() for e in effects), f"{name}: everything is finite")
        checks.check(list(got["step"]) == STEPS, f"{name}: measured steps", str(got["step"]))


def same_training(checks, out):
    """How effects are estimated changes no update."""
    for path in sorted(out.glob("*-ma/train.h5")):
        name = path.parent.name.removesuffix("-ma")
        with h5py.File(path) as f, h5py.File(out / name / "train.h5") as g:
            checks.check(np.array_equal(f["loss"], g["loss"], equal_nan=True), f"{name}: the same training with either estimator")


def facts(checks, runs, estimator):
    ga = runs["ga" + estimator]
    u = ga["gradient"].index("unlearn")
    e_u, norm = by_layer(ga, "unlearn"), ga["gram"][:, :, u, u]
    checks.check((e_u.sum(1) < 0).all(), f"ga{estimator}: e_u < 0")
    checks.check(abs(e_u + norm).max() <= NORM * norm.max(), f"ga{estimator}: e_u is minus the squared norm of its risk's gradient",
                 f"{e_u.sum(1)} {norm.sum(1)}")
    for name, layer in {"rmu-first": 1, "rmu-second": 3}.items():
        got = runs[name + estimator]
        above = got["layer"].index(f"layers.{layer}")
        checks.check((got["geffect"][:, :, :, above:] == 0).all() and (got["geffect"][:, :, :, above - 1] != 0).all(),
                     f"{name}{estimator}: zero above its layer, not in it")
    for name in ("kl", "rr"):
        effects = runs[name + estimator]["geffect_" + name]
        checks.check(abs(effects[0]).max() <= 1e-6 * abs(effects).max(), f"{name}{estimator}: no effect at the reference",
                     f"{abs(effects[0]).max():.3g} of {abs(effects).max():.3g}")
    e_r = by_layer(runs["gd" + estimator], "retain", "gd").sum(1)
    checks.check((e_r > 0).all(), f"gd{estimator}: e_r > 0", str(e_r))


def verdicts(checks, out):
    rows = [line.split(" | ") for line in (out / "claims.md").read_text().splitlines() if line.startswith("| C")]
    checks.check([r[0] for r in rows] == [f"| C{n}" for n in range(1, 19)], "a row for each claim", str([r[0] for r in rows]))
    for row in rows:
        known = [any(cell.startswith(f"**{v}**: ") for v in ("holds", "does not hold", "not measured")) for cell in row[2:]]
        checks.check(known == [True, True], f"{row[0][2:]}: a verdict for either estimator", str(row))
    unmeasured = [r[0][2:] for r in rows if r[2].startswith("**not measured")]
    checks.check(set(unmeasured) <= {"C10"}, "full sets answer every claim that six updates can", str(unmeasured))
    checks.check((out / "claims.png").stat().st_size > 20000, "the picture is drawn")


def main():
    checks = Checks("claims")
    out = checks.directory / "demo"
    if VARIANT or not precisions():
        checks.skip("claims: needs the plain program")
        checks.finish()
    checks.check(claims(out).returncode == 0, "all runs are complete")
    for path in sorted((ROOT / "inputs/objectives").glob("*.yaml")):
        checks.check(any(out.glob(f"{path.stem}*/complete")), f"{path.name} runs")
    runs = {p.parent.name: read(p.parent) for p in out.glob("*/geffect.h5")}
    finite(checks, runs)
    same_training(checks, out)
    for estimator in ("", "-ma"):
        facts(checks, runs, estimator)
    verdicts(checks, out)
    (out / "ga" / "complete").unlink()
    again = [line for line in claims(out).stdout.splitlines() if line.endswith(" s")]
    checks.check(len(again) == 1 and again[0].startswith("ga: "), "a second start runs what is not complete, only that", str(again))
    checks.finish()


main()
