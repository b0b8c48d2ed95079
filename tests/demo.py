"""end to end: the demo tells its story, and with two ranks the same one of the same model (THOROUGH=1: with four too, each from the start)."""
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
from harness import THOROUGH, Checks, labels

ROOT = Path(__file__).resolve().parent.parent
RANKS = (1, 2, 4) if THOROUGH else (1, 2)
SAME = 1e-3  # relative, of the risks at the end: float rounding, grown over up to 375 + 50 updates


def run(ranks, source, *overrides):
    command = ["mpirun", "-np", str(ranks), str(ROOT / "unlearn"), str(ROOT / "inputs" / source), *overrides]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def story(work, ranks):
    """Both steps of the demo; the effects of the whole objective per step, risk and layer, and the risks."""
    first, second = work / f"learn{ranks if THOROUGH else 1}", work / f"forget{ranks}"
    if not first.exists():
        run(ranks, "demo-finetune.yaml", f"output.directory={first}")
    run(ranks, "demo-unlearn.yaml", f"model.path={first}/model", f"output.directory={second}")
    with h5py.File(second / "geffect.h5") as f:
        e = (f["geffect"][:, 0] * f["instance_weight"][0]).sum(-1)
        return f["risk_value"][()], dict(zip(labels(f["risk"]), np.moveaxis(e, 1, 0)))


def main():
    checks = Checks("demo")
    work = checks.directory
    risks = {}
    for ranks in RANKS:
        risks[ranks], effects = story(work, ranks)
    forget, retain = risks[1].T
    checks.check(forget[0] < 0.1 and retain[0] < 0.1, f"the rows are known by heart: {forget[0]:.3g}, {retain[0]:.3g}")
    checks.check(forget[-1] > 8 * forget[0], f"what was forgotten: {forget[0]:.3g} -> {forget[-1]:.3g}")
    checks.check(retain[-1] < 2 * retain[0], f"what stays: {retain[0]:.3g} -> {retain[-1]:.3g}")
    checks.check((effects["unlearn"].sum(-1) < 0).all(), "the effect on what is forgotten is negative at every step")
    for ranks in RANKS[1:]:
        error = np.abs(risks[ranks][-1] / risks[1][-1] - 1).max()
        checks.check(error < SAME, f"{ranks} ranks end like one: {error:.1e}")
    out = subprocess.run([sys.executable, str(ROOT / "analysis/unlearn-report"), "summary", "--json", str(work / "forget1")],
                         capture_output=True, text=True, check=True).stdout
    for effect in json.loads(out)["effects"]:
        total, parts = np.array(effect["total"]), sum(np.array(g) for g in effect["groups"].values())
        checks.check(np.allclose(total, parts, rtol=1e-9, atol=0), f"groups of {effect['source']} on {effect['risk']} add up")
    subprocess.run([sys.executable, str(ROOT / "analysis/unlearn-report"), "figures", "--only", "story", str(work / "forget1")],
                   capture_output=True, check=True)
    checks.check((work / "forget1/figures/story.png").stat().st_size > 20000, "the picture is drawn")
    checks.finish()


main()
