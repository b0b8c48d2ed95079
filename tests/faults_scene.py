"""What the fault tests share: a small run with everything in it, starting it under a fault, and what it left.

A drawn model on rows of the demo, so that nothing but the repository is needed."""
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
from harness import ALONE, ROOT, SLOWER, error, program, safetensors

DEMO = ROOT / "inputs/demo"
SHIM = ROOT / "build/faults_shim.so"
STEPS = 6
LIMIT = 60  # seconds of one run; what takes longer hangs


def settings(**changes):
    """All that appends rows: training, measurements, evaluations; every value per parameter."""
    return {
        "task": "unlearn", "output": {"directory": "out"}, "model": {"path": "base", "init": "random"},
        "data": {"max_length": 48, "forget": {"path": "forget.jsonl", "rows": 5},
                 "retain": {"path": "retain.jsonl", "rows": 7, "held_out": 2}},
        "objective": {"name": "npo", "regularizer": [{"name": "gd"}, {"name": "kl"}]},
        "optimizer": {"lr": 1e-3, "warmup_steps": 2}, "train": {"steps": STEPS, "batch_size": 2, "accumulation": 1},
        "geffect": {"every": 2, "fidelity": True},
        "evaluate": {"every": 3, "rows": 2, "metrics": ["loss", "probability"], "sets": {"forget": "set.jsonl"}},
        "checkpoint": {"every": 1}, **changes}


def make_pattern(directory):
    """The inputs of a run: a base model of two blocks, data, my.yaml."""
    base = directory / "base"
    base.mkdir(parents=True)
    config = json.loads((DEMO / "model/config.json").read_text())
    config.update(num_hidden_layers=2, hidden_size=16, intermediate_size=16, num_attention_heads=4, num_key_value_heads=4)
    config.pop("head_dim", None)
    (base / "config.json").write_text(json.dumps(config))
    shutil.copy(DEMO / "model/tokenizer.json", base)
    for name, source in (("forget", "forget05"), ("retain", "retain95"), ("set", "forget05_perturbed")):
        shutil.copy(DEMO / f"{source}.jsonl", directory / f"{name}.jsonl")
    (directory / "my.yaml").write_text(json.dumps(settings(), indent=1))


# ------------------------------------------------------------------------------------------------------------- starting
def limits(memory=None, files=None, stack=None):
    """For a child before it starts: bytes of address space, open files, bytes of stack."""
    def apply():
        for what, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_NOFILE, files), (resource.RLIMIT_STACK, stack)):
            if most is not None:
                resource.setrlimit(what, (most, most))
    return apply


class Running:
    """A started program. Its processes are known by an environment variable of their own, so that none is missed."""
    count = 0
    lock = threading.Lock()

    def __init__(self, directory, options=(), ranks=1, precision="float", env=None, before=None, name="my.yaml", mpirun=(),
                 output=None, stdin=subprocess.DEVNULL, settings=None, shell=None):
        with Running.lock:
            Running.count += 1
            self.tag = f"FAULTS_RUN={os.getpid()}.{Running.count}."
        if settings is not None:
            (directory / name).write_text(json.dumps(settings, indent=1))
        self.start = ["mpirun", *mpirun, "-np", str(ranks)] if ranks > 1 or mpirun else []
        text = os.environ | ({} if self.start or shell else ALONE) | dict([self.tag.split("=")]) | {k: str(v) for k, v in (env or {}).items()}
        if env and "FAULT_CALL" in env:  # mpirun's children inherit it; the shim keeps out of mpirun itself
            text["LD_PRELOAD"] = str(SHIM)
        self.out, self.began = output or (directory / f"log.{Running.count}"), time.monotonic()
        self.began_at = time.time()
        command = [*self.start, Scene.program(precision), *map(str, options)] + ([name] if name else [])
        with open(self.out, "wb") as out, open(str(self.out) + ".err", "wb") as err:
            self.process = subprocess.Popen(command if shell is None else shell, cwd=directory, env=text, stdin=stdin,
                                            stdout=out, stderr=err, preexec_fn=before)

    def processes(self):
        """Of this run, with their names; mpirun among them."""
        found = {}
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and self.tag.encode() in Path(f"/proc/{entry}/environ").read_bytes():
                    state = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[0]
                    if state not in "ZX":
                        found[int(entry)] = Path(f"/proc/{entry}/comm").read_text().strip()
            except OSError:
                pass
        return found

    def ranks(self):
        """Process ids of the program, by rank."""
        found = {}
        for pid, name in self.processes().items():
            if name.startswith("unlearn"):
                try:
                    text = Path(f"/proc/{pid}/environ").read_bytes()
                except OSError:
                    continue
                rank = [v.split(b"=")[1] for v in text.split(b"\0") if v.startswith(b"OMPI_COMM_WORLD_RANK=")]
                found[int(rank[0]) if rank else 0] = pid
        return [found[r] for r in sorted(found)]

    def kill(self, which, number=signal.SIGKILL):
        try:
            os.kill(which, number)
        except ProcessLookupError:
            pass

    def wait(self, timeout=LIMIT):
        """-> self; exit status `code` (124: it hung), standard error, output, processes that were left 5 s after the end."""
        try:
            self.code = self.process.wait(timeout * SLOWER)
        except subprocess.TimeoutExpired:
            self.code = 124
        self.seconds = time.monotonic() - self.began
        end = time.monotonic() + 5 if self.code != 124 else 0
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.05)
        self.left = left
        for pid in left:
            self.kill(pid)
        self.process.wait(5)
        self.text = Path(self.out).read_text(errors="replace")
        self.err = Path(str(self.out) + ".err").read_text(errors="replace")
        return self

    def until(self, holds, timeout=30):
        """Waits for it, while the run lasts."""
        end = time.monotonic() + timeout * SLOWER
        while time.monotonic() < end and self.process.poll() is None:
            if holds():
                return True
            time.sleep(0.01)
        return holds()

    def errors(self):
        """The program's own lines: of an error there must be exactly one, whatever number of ranks."""
        return [s for s in self.err.splitlines() if s.startswith(("unlearn: error: ", "unlearn: stopped: "))]


# ------------------------------------------------------------------------------------------------------------- what is left
def contents(path):
    """Every array and attribute, as bytes, but for time and place."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and name != "seconds":
            value = item[()]
            found[name] = (str(item.dtype), item.shape, value.tolist() if item.dtype == object else value.tobytes())
            found.update({f"{name}@{k}": str(v) for k, v in item.attrs.items() if k not in ("DIMENSION_LIST", "REFERENCE_LIST")})

    with h5py.File(path, "r", locking=False) as f:
        f.visititems(visit)
        found.update({"@" + k: str(v) for k, v in f.attrs.items() if k not in ("history", "host", "input", "overrides", "layout")})
    return found


def result(directory):
    """All that a run leaves for its user."""
    out, found = directory / "out", {}
    for name in ("geffect.h5", "train.h5", "evaluation.h5"):
        if (out / name).exists():
            found.update({f"{name}/{k}": v for k, v in contents(out / name).items()})
    for name in ("eval_log_aggregated.json", "TOFU_EVAL.json", "TOFU_SUMMARY.json", "model/model.safetensors", "model/config.json",
                 "model/tokenizer.json"):
        found[name] = (out / name).read_bytes() if (out / name).exists() else None
    found["log"] = [s.split("/")[0] if s.startswith("update") else s.split(":")[0] for s in (out / "run.log").read_text().splitlines()
                    if s.startswith(("update  ", "measured at", "evaluated at"))]
    return found


def everything_below(directory):
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def difference(a, b):
    return ", ".join(sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k)))[:600]


def numbers(directory):
    """{name: array} of the results that have values, for runs that may differ by rounding."""
    found = {}
    for name in ("geffect.h5", "train.h5", "evaluation.h5"):
        with h5py.File(directory / "out" / name) as f:
            found.update({f"{name}/{k}": v[()] for k, v in f.items()
                          if k != "seconds" and isinstance(v, h5py.Dataset) and v.dtype.kind in "fi" and v.ndim})
    found.update({f"model/{k}": v for k, v in safetensors(directory / "out/model/model.safetensors").items()})
    return found


def far(a, b, tolerance):
    """Names of arrays that differ by more; a value that is missing must be missing in both."""
    bad = []
    for k in a.keys() | b.keys():
        if k not in a or k not in b or a[k].shape != b[k].shape:
            bad.append(k)
            continue
        x, y = np.asarray(a[k], float), np.asarray(b[k], float)
        if (np.isfinite(x) != np.isfinite(y)).any():
            bad.append(k)
        elif not (e := error(np.where(np.isfinite(x), x, 0), np.where(np.isfinite(y), y, 0))) <= tolerance:
            bad.append(f"{k} {e:.2g}")
    return bad


class Scene:
    """The inputs in a directory, and what undisturbed runs of them leave, each made once."""
    copies, copying = None, threading.Lock()

    def __init__(self, checks):
        self.checks = checks
        self.pattern = checks.directory / "pattern"
        make_pattern(self.pattern)
        Scene.copies = checks.directory
        self.known, self.lock, self.stopped_at = {}, threading.Lock(), {}

    @staticmethod
    def program(precision="float"):
        """A copy, so that a build meanwhile does not matter."""
        original, copy = program(precision), Scene.copies / program(precision).name
        with Scene.copying:
            if not copy.exists():
                shutil.copy(original, copy)
        return copy

    def new(self, name, source=None):
        with Running.lock:
            Running.count += 1
            directory = self.checks.directory / f"{Running.count} {name}".replace(" ", "-").replace("/", "_")[:200]
        shutil.copytree(source or self.pattern, directory, symlinks=True)
        return directory

    def whole(self, ranks=1, precision="float", overrides=(), changes=None):
        """The directory of an undisturbed run."""
        key = (ranks, precision, tuple(overrides), json.dumps(changes))
        with self.lock:
            if key not in self.known:
                directory = self.new(f"whole {len(self.known)}")
                done = Running(directory, overrides, ranks, precision, settings=settings(**(changes or {}))).wait() \
                    if not overrides else start_with(directory, overrides, ranks, precision, changes).wait()
                assert done.code == 0, f"{key}: {done.code} {done.err}"
                self.known[key] = directory
            return self.known[key]

    def stopped(self, step=3, ranks=1, precision="float", overrides=()):
        """The directory of a run that a signal has stopped after `step` updates, with two checkpoints: copy it."""
        key = (step, ranks, precision, tuple(overrides))
        with self.lock:
            if key not in self.stopped_at:
                directory = self.new(f"stopped {len(self.stopped_at)}")
                done = start_with(directory, overrides, ranks, precision,
                                  env={"FAULT_CALL": "rename", "FAULT_HOW": "stop", "FAULT_N": 1, "FAULT_RANK": 0,
                                       "FAULT_PATH": f"checkpoint-{step}"}).wait()
                assert done.code == 75, f"{key}: {done.code} {done.err}"
                self.stopped_at[key] = directory
            return self.stopped_at[key]

    def same(self, what, directory, ranks=1, precision="float", overrides=(), changes=None):
        a, b = result(self.whole(ranks, precision, overrides, changes)), result(directory)
        return self.checks.check(a == b and len(a) > 100, f"{what}: the result is that of an undisturbed run", difference(a, b))

    def ended(self, what, done, codes, *words):
        """How a run ended: its status, one line of its own when that is not 0, these words in it, and nobody left. codes None:
        its launcher has ended it."""
        lines = done.errors()
        holds = not done.left and (done.code not in (0, 124) if codes is None else
                                   done.code in ([codes] if isinstance(codes, int) else codes))
        if codes and done.code in (1, 2, 3, 75):
            holds = holds and len(lines) == 1 and all(w in lines[0] for w in words)
        return self.checks.check(holds, what, f"status {done.code}, expected {codes} {words}; left {done.left}; {done.seconds:.1f} s; "
                                              f"{done.err[-1500:]}")

    def finish_run(self, what, directory, ranks=1, precision="float", overrides=(), env=None):
        """Goes on with it where there is a checkpoint, else anew, as a job script would; then compares."""
        again = ["--restart"] if list((directory / "out").glob("checkpoint-*[0-9]")) else ["--overwrite"]
        done = start_with(directory, [*again, *overrides], ranks, precision, env=env).wait()
        if self.ended(f"{what}: {again[0]}", done, 0):
            self.same(what, directory, ranks, precision, [o for o in overrides if "=" in o])
        return done


def start_with(directory, arguments=(), ranks=1, precision="float", changes=None, **more):
    """Options before my.yaml, overrides (with =) behind it."""
    options = [a for a in arguments if "=" not in a or a.startswith("-")]
    overrides = [a for a in arguments if a not in options]
    if changes is not None:
        (directory / "my.yaml").write_text(json.dumps(settings(**changes), indent=1))
    return Running(directory, [*options, "my.yaml", *overrides], ranks, precision, name=None, **more)


def sweep(function, every=1, first=1):
    """n = first, first + every, ... until the run completes untouched. -> whether any did not"""
    n = first
    while function(n):
        n += every
    return n > first


def is_root():
    return os.geteuid() == 0


def shim_missing():
    return not SHIM.exists() or bool(os.environ.get("VARIANT"))


if __name__ == "__main__":
    sys.exit("run tests/faults.py")
