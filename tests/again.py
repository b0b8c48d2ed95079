"""end to end: a run repeated gives the same bytes, and a run killed at any time leaves files that open.

A drawn model on rows of the demo, so that nothing but the repository is needed."""
import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
from harness import ROOT, SLOWER, Checks, launch, precisions, program, run, run_input

TIME_AND_CHECKSUM = 64  # bytes of geffect.h5 that may differ: the time in `history`, and checksums over it


def settings(**changes):
    demo = ROOT / "inputs/demo"
    return {
        "task": "unlearn", "output": {"directory": "out"}, "model": {"path": str(demo / "model"), "init": "random"},
        "data": {"max_length": 128, "forget": {"path": str(demo / "forget05.jsonl"), "rows": 6},
                 "retain": {"path": str(demo / "retain95.jsonl"), "rows": 12, "held_out": 4}},
        "objective": {"name": "npo", "regularizer": [{"name": "gd"}, {"name": "kl"}]},
        "optimizer": {"lr": 1e-3}, "train": {"steps": 3, "batch_size": 4, "accumulation": 1}, "geffect": {"every": 2},
        **changes,
    }


def differing(a, b):
    """Bytes that differ; infinitely many between files of two lengths."""
    a, b = np.fromfile(a, np.uint8), np.fromfile(b, np.uint8)
    return int((a != b).sum()) if a.shape == b.shape else np.inf


def contents(path):
    """Every array and attribute, as bytes, but for time and seconds."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and name != "seconds":
            found[name] = (str(item.dtype), item.shape, np.asarray(item[()]).tolist() if item.dtype == object else item[()].tobytes())

    with h5py.File(path) as f:
        f.visititems(visit)
        found.update({"@" + k: v for k, v in f.attrs.items() if k != "history"})
    return found


def same_again(checks, ranks, precision):
    what = f"{precision}, {ranks} ranks"
    out = []
    for name in ("first", "second"):
        directory = checks.directory / f"{name}-{ranks}-{precision}"
        directory.mkdir()
        done = run_input(settings(), ranks, precision, directory)
        if not checks.check(done.returncode == 0, f"{what}: exit status {done.returncode}", done.stderr[-2000:]):
            return
        out.append(directory / "out")
    for name in ("geffect.h5", "train.h5"):
        a, b = contents(out[0] / name), contents(out[1] / name)
        checks.check(a == b and len(a) > 10, f"{what}: {name} again has the same numbers",
                     ", ".join(k for k in a if a[k] != b.get(k)))
    n = differing(out[0] / "geffect.h5", out[1] / "geffect.h5")
    checks.check(n <= TIME_AND_CHECKSUM, f"{what}: geffect.h5 again has the same bytes", f"{n} differ")
    for name in ("input.yaml", "model/model.safetensors", "model/config.json"):
        checks.check(differing(out[0] / name, out[1] / name) == 0, f"{what}: {name} again has the same bytes")


def rows(path):
    """Rows of a file that another process may be writing to; 0 while there is none."""
    try:
        with h5py.File(path, "r", locking=False) as f:
            return len(f["step"])
    except (OSError, KeyError):
        return 0


def writer(pid):
    """The process that writes: mpirun's first child, or without mpirun the process itself."""
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        children = sorted(map(int, f.read().split()))
    with open(f"/proc/{pid}/comm") as f:
        return children[0] if "unlearn" not in f.read() and children else pid


def killed(checks, ranks, precision):
    """SIGKILL in the middle: every row that was committed is there and finite, and the directory can be used again."""
    what = f"killed, {ranks} ranks"
    directory = checks.directory / f"killed-{ranks}"
    directory.mkdir()
    long = settings(train={"steps": 100000, "batch_size": 4, "accumulation": 1}, geffect={"every": 1})
    (directory / "input.yaml").write_text(json.dumps(long))
    start, environment = launch(ranks)
    process = subprocess.Popen([*start, program(precision), "input.yaml"], cwd=directory, env=environment, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 30 * SLOWER
    while rows(directory / "out/geffect.h5") < 3 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    alive = process.poll() is None
    if alive:
        os.kill(writer(process.pid), signal.SIGKILL)
    process.wait(30 * SLOWER)  # mpirun ends the others
    if not checks.check(alive, f"{what}: it was running", f"exit status {process.returncode}"):
        return
    with h5py.File(directory / "out/geffect.h5") as f:
        step = f["step"][()]
        done = step[step >= 0]
        checks.check(len(done) >= 3 and (done == np.arange(len(done))).all() and (step[len(done):] < 0).all(),
                     f"{what}: steps without a hole", str(step))
        checks.check(np.isfinite(f["geffect"][:len(done)]).all() and np.isfinite(f["risk_value"][:len(done)]).all(),
                     f"{what}: committed rows are finite")
    with h5py.File(directory / "out/train.h5") as f:
        checks.check(np.isfinite(f["loss"][:len(done) - 1]).all(), f"{what}: train.h5 opens")
    (directory / "input.yaml").write_text(json.dumps(settings()))
    again = run(["input.yaml"], ranks, precision, directory)
    checks.check(again.returncode == 1 and "--overwrite" in again.stderr, f"{what}: asks before it replaces", again.stderr)
    again = run(["--overwrite", "input.yaml"], ranks, precision, directory)
    checks.check(again.returncode == 0, f"{what}: the directory is free again", again.stderr)


def long_name(checks, precision):
    """`history` has the name of the input whole, however long that is, and `overrides` what the command line says beside it."""
    directory = checks.directory.joinpath(*["é" * 120] * 3)
    directory.mkdir(parents=True)
    said = ["train.steps=1", "optimizer.lr=0.5", "output.directory='out'"]
    (directory / "input.yaml").write_text(json.dumps(settings()))
    done = run([directory / "input.yaml", *said], 1, precision, directory)
    if checks.check(done.returncode == 0, f"a long name: exit status {done.returncode}", done.stderr):
        with h5py.File(directory / "out/geffect.h5") as f:
            history, overrides = f.attrs["history"], f.attrs["overrides"]
        checks.check(history.endswith(f" unlearn {directory}/input.yaml"), "a long name: it is in the history", repr(history))
        checks.check(overrides == "\n".join(said), "the command line's keys are in the overrides", repr(overrides))


def main():
    checks = Checks("again")
    if not precisions():
        checks.check(False, "no program is built")
    for precision in precisions()[:1]:
        for ranks in (1, 2):
            same_again(checks, ranks, precision)
            killed(checks, ranks, precision)
        long_name(checks, precision)
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
