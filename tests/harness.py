"""What the scripts that run the real program share: starting it, reading its files, comparing, counting.

They are run by tests/run.sh, which sets the environment for MPI."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("SHARED", ROOT.parent / "shared")).resolve()
VARIANT = os.environ.get("VARIANT", "")
SLOWER = 10 if VARIANT else 1  # the sanitizers' builds
THOROUGH = bool(os.environ.get("THOROUGH"))  # every test on each of its layouts in each precision
TOLERANCE = {"float": 2e-5, "double": 1e-8}
# One process without mpirun: no daemon, which is half of a short run, and no session directory, since those of processes
# without a daemon have the same name. package_test.sh starts as users do.
ALONE = {"OMPI_MCA_ess_singleton_isolated": "1", "OMPI_MCA_orte_create_session_dirs": "0"}


def program(precision="float"):
    """The program of this precision; None where it is not built."""
    name = "unlearn-double" if precision == "double" else "unlearn"
    path = ROOT / "build" / (precision + VARIANT) / name if VARIANT else ROOT / name
    return path if path.exists() else None


def precisions():
    return [p for p in os.environ.get("PRECISIONS", "float double").split() if program(p)]


def launch(ranks):
    """What starts so many processes: the beginning of a command, and the environment."""
    return (["mpirun", "-np", str(ranks)], os.environ) if ranks > 1 else ([], os.environ | ALONE)


def run(arguments, ranks=1, precision="float", directory=None, timeout=120):
    """Runs the program with these arguments; more than one rank: under mpirun. -> the finished process, with its text."""
    start, environment = launch(ranks)
    try:
        return subprocess.run([*start, program(precision), *map(str, arguments)], cwd=directory, timeout=SLOWER * timeout, env=environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    except subprocess.TimeoutExpired as e:
        text = lambda b: (b or b"").decode(errors="replace") if isinstance(b, (bytes, type(None))) else b
        return subprocess.CompletedProcess(e.cmd, 124, text(e.stdout), text(e.stderr) + f"\nstill running after {e.timeout} s")


def layout(ranks, tensor):
    """The section parallel: of four ranks those that share the data also share all states."""
    return {"data": ranks // tensor, "tensor": tensor, "shard": "full" if ranks == 4 and tensor < 4 else "none"}


def few(layouts, precision="double"):
    """Of the layouts that a test is for: in double the first and the last, in float the last alone; all with THOROUGH=1."""
    if THOROUGH:
        return layouts
    return [layouts[-1]] if precision == "float" else list(dict.fromkeys((layouts[0], layouts[-1])))


def in_turn(layouts, n):
    """Of the layouts that the n-th case of several may have: the one whose turn it is; all with THOROUGH=1."""
    return layouts if THOROUGH else [layouts[n % len(layouts)]]


def run_input(settings, ranks=1, precision="float", directory=None, options=(), timeout=120):
    """Writes settings (a dictionary; JSON is YAML) to DIRECTORY/input.yaml and runs it."""
    path = Path(directory) / "input.yaml"
    path.write_text(json.dumps(settings, indent=1))
    return run([*options, path], ranks, precision, directory, timeout)


def error(x, y):
    """max |x - y| / max |y|: the error measure of the whole project; infinite where one is not finite or shapes differ."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or not np.isfinite(x).all():
        return np.inf
    worst = np.abs(x - y).max(initial=0)
    return 0.0 if worst == 0 else worst / np.abs(y).max(initial=0)


def safetensors(path):
    """{name: array in float64} of a safetensors file."""
    raw = Path(path).read_bytes()
    n = int.from_bytes(raw[:8], "little")
    out = {}
    for name, t in json.loads(raw[8:8 + n]).items():
        if name == "__metadata__":
            continue
        part = raw[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]]
        if t["dtype"] == "BF16":  # the upper half of a float32
            values = (np.frombuffer(part, "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(part, {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[t["dtype"]])
        out[name] = values.astype(float).reshape(t["shape"])
    return out


def warnings_of(text):
    """Lines that warn, but for that of kernels below the processor's: it is of the environment."""
    return [s for s in text.splitlines() if s.startswith("warning: ") and not s.startswith("warning: products reach")]


def labels(dataset):
    return [s.decode() if isinstance(s, bytes) else str(s) for s in dataset[()]]


class Checks:
    """Counts what held; each failure is printed where it happens."""

    def __init__(self, what):
        self.passed = self.failed = self.skipped = 0
        self.directory = Path(tempfile.mkdtemp(prefix=f"unlearn-{what}-"))

    def check(self, holds, what, detail=""):
        if holds:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED: {what}{': ' if detail else ''}{detail}", flush=True)
        return holds

    def near(self, what, pairs, tolerance):
        """One check of many arrays: pairs = {name: (got, expected)}."""
        errors = {name: error(x, y) for name, (x, y) in pairs.items()}
        bad = {name: e for name, e in errors.items() if not e <= tolerance}
        worst = max(errors, key=errors.get)
        print(f"{what}: {len(errors)} arrays, worst {worst} {errors[worst]:.2g}", flush=True)
        return self.check(not bad, what, f"beyond {tolerance:g}: " +
                          ", ".join(f"{n} {e:.3g}" for n, e in list(bad.items())[:12]))

    def skip(self, what):
        self.skipped += 1
        print(f"skipped: {what}", flush=True)

    def need(self, path):
        """Ends the script here where this shared material is not there, or no program is built."""
        if not path.exists():
            self.skip(f"{path} is not there")
            self.finish()
        if not precisions():
            self.check(False, f"no program is built: {program()}")
            self.finish()

    def finish(self):
        """Ends the script with the counting line; what a failure left behind stays for a look."""
        if self.failed:
            print(f"files: {self.directory}")
        else:
            shutil.rmtree(self.directory)
        print(f"{self.passed} passed, {self.failed} failed" + (f", {self.skipped} skipped" if self.skipped else ""))
        sys.exit(self.failed > 0)
