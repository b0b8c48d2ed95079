"""Faults C1-C8: values that are not finite, memory that is not there, and surroundings that are not the usual ones."""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import h5py
import numpy as np
from faults_scene import Scene, contents, far, limits, numbers, start_with, sweep
from harness import TOLERANCE, safetensors

MB = 1 << 20


def checkpoints_finite(d):
    return all(np.isfinite(v).all() for p in (d / "out").glob("checkpoint-*/*/model.safetensors") for v in safetensors(p).values())


def not_finite(d):
    """Where geffect.h5 has no finite numbers, by design (docs: NaN where there is nothing)."""
    with h5py.File(d / "out/geffect.h5") as f:
        return {name: (~np.isfinite(v[()])).tobytes() for name, v in f.items() if v.dtype.kind == "f"}


# ------------------------------------------------------------------------------------------------------------------- C1
def diverges(scene, rate, ranks=1, measured=True, **more):
    """A learning rate that breaks the weights: named, and no checkpoint holds what is not finite."""
    what = f"rate {rate}, {ranks} ranks{'' if measured else ', nothing measured'}{''.join(f', {k}' for k in more)}"
    d = scene.new(what)
    changes = {"optimizer": {"lr": rate, "schedule": "constant", "warmup_steps": 0}}
    if not measured:
        changes.update(geffect={"every": 0}, evaluate={"every": 0})
    changes.update(more)
    done = start_with(d, (), ranks, changes=changes).wait()
    scene.ended(what, done, 3, "update 1", "diverged")
    scene.checks.check(checkpoints_finite(d) and not (d / "out/model").exists(), f"{what}: nothing bad is kept")


def spoilt(scene, n, ranks, rank):
    """The n-th matrix product of one rank has a NaN: named and stopped, or it was of no consequence. -> was there one"""
    what = f"NaN in product {n} of rank {rank} of {ranks}"
    d = scene.new(what)
    done = start_with(d, (), ranks, env={"FAULT_CALL": "gemm", "FAULT_HOW": "nan", "FAULT_N": n, "FAULT_RANK": rank, "FAULT_MARK": d / "mark"}).wait()
    if not (d / "mark").exists():
        return False
    scene.checks.check(checkpoints_finite(d), f"{what}: no checkpoint holds it")
    if done.code == 0:  # a measurement only, which no update depends on: the state goes on
        a, b = contents(d / "out/train.h5"), contents(scene.whole(ranks) / "out/train.h5")
        scene.checks.check(a == b, f"{what}: status 0, and training was not touched")
        scene.checks.check(not_finite(d) == not_finite(scene.whole(ranks)), f"{what}: status 0, and no effect is spoilt")
    else:
        scene.ended(what, done, 3, "finite" if "finite" in done.err else "nan")
        scene.checks.check(any(w in done.err for w in ("update ", "step ", "as reference: ")), f"{what}: the step is named", done.err)
        place = re.search(r"row \d+ \(from 0\)|hidden state \d+ is|(?:\(not finite:| of) \S+|effect of", done.err)
        scene.checks.check(place, f"{what}: the row or the tensor is named", done.err)
        scene.checks.check("a log-likelihood" not in done.err or "(rank " in done.err, f"{what}: the rank is named", done.err)
        if "gradient norm nan" in done.err:
            scene.checks.check("(not finite: model." in done.err or "(not finite: lm_head." in done.err, f"{what}: the tensor is named", done.err)
        scene.finish_run(what, d, ranks)
    shutil.rmtree(d)
    return True


# ------------------------------------------------------------------------------------------------------------------- C3
def memory_limit(scene, megabytes, options=("train.steps=1",), speaks_from=512):
    """ulimit -v for the program alone, as a job script sets it."""
    what = f"ulimit -v of {megabytes} MB, {options[0]}"
    d = scene.new(what)
    done = start_with(d, options, before=limits(memory=megabytes * MB)).wait(30)
    scene.checks.check(done.code not in (124,) and not done.left and done.seconds < 15, f"{what}: no hang", f"{done.code} {done.seconds:.0f} s")
    if done.code == 0:
        return
    lines = done.errors()  # without room for the libraries themselves there is no program that could speak
    spoke = len(lines) == 1 and done.code in (1, 3)
    scene.checks.check(spoke or megabytes < speaks_from, f"{what}: says so", f"{done.code} {done.err[-600:]}")
    scene.checks.check(done.code > 0, f"{what}: no signal", f"{done.code} {done.err[-600:]}") if megabytes >= speaks_from else None


def too_large(scene):
    """A plan beyond what the process may use is refused before the run."""
    d = scene.new("too large")
    config = json.loads((d / "base/config.json").read_text())
    config.update(hidden_size=2048, intermediate_size=8192, num_hidden_layers=24)
    (d / "base/config.json").write_text(json.dumps(config))
    done = start_with(d, (), before=limits(memory=3000 * MB)).wait()
    scene.ended("a model beyond ulimit -v", done, 3, "MB")
    scene.checks.check(not (d / "out").exists() or not list((d / "out").glob("*.h5")), "a model beyond ulimit -v: nothing is written")
    done = start_with(d, ["--check"], before=limits(memory=3000 * MB)).wait()
    if scene.ended("a check of a model beyond ulimit -v", done, 0):
        scene.checks.check("\nmemory " in done.text and "\ndigest: none, for there is no room here" in done.text, "a check of a model beyond ulimit -v: the plan",
                           done.text[-600:])


@contextlib.contextmanager
def control_group(megabytes):
    """A control group with this limit, of either version -> what puts a child into it; OSError: not allowed here."""
    root = Path("/sys/fs/cgroup")
    first = (root / "memory/memory.limit_in_bytes").exists()
    group = root / ("memory" if first else "") / f"unlearn-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(megabytes * MB))
        yield lambda: (group / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        group.rmdir()


def grouped(scene):
    """A plan beyond what the job's control group leaves is refused before the run; one that fits runs in it."""
    what = "a control group of 1200 MB"
    try:
        with control_group(1200) as enter:
            d = scene.new("grouped")
            done = start_with(d, (), before=enter).wait()
            scene.ended(f"{what}, a small model", done, 0)
            config = json.loads((d / "base/config.json").read_text())
            config.update(hidden_size=1024, intermediate_size=4096, num_hidden_layers=12)
            (d / "base/config.json").write_text(json.dumps(config))
            done = start_with(d, ["--overwrite"], before=enter).wait()
            scene.ended(f"{what}, a large one", done, 3, "MB", "control group")
    except OSError as e:
        scene.checks.skip(f"{what} cannot be made here: {e}")


def no_memory(scene, n, library, ranks=1):
    """The n-th way to a malloc gets none; of HDF5, whose own start crashes on it, from its first file on. -> was there one"""
    what = f"no memory for {library}, {n}, {ranks} ranks"
    d = scene.new(what)
    steps = ["train.steps=2"]
    done = start_with(d, steps, ranks, env={"FAULT_CALL": "malloc", "FAULT_HOW": 0, "FAULT_N": n, "FAULT_RANK": ranks - 1, "FAULT_PATH": library,
                                            "FAULT_STACK": 6, "FAULT_MARK": d / "mark",
                                            **({"FAULT_SINCE": "out/"} if library == "hdf5" else {})}).wait(30)
    if not (d / "mark").exists():
        return False
    if library == "hdf5" and done.code < 0:  # it does not look whether it got any: what matters is what is left
        scene.checks.check(done.code in (-signal.SIGSEGV, -signal.SIGABRT) and "libhdf5" in done.err and not done.left, f"{what}: all end",
                           f"{done.code} {done.left} {done.err[-800:]}")
    else:
        scene.ended(what, done, (0, 1, 3))
    if done.code == 0:
        scene.same(what, d, ranks, overrides=steps)
    elif n % 5 == 0 or done.code < 0:
        scene.finish_run(what, d, ranks, overrides=steps)
    shutil.rmtree(d)
    return True


# --------------------------------------------------------------------------------------------------------------- C4, C5
def many_ranks(scene):
    """More ranks than there are rows, or numbers that divide nothing: the same numbers, or an error that says which would do."""
    kept = numbers(scene.whole(1, "double"))
    for ranks, overrides in ((3, []), (5, []), (7, []), (8, ["parallel.tensor=4"]), (6, ["parallel.tensor=3"]), (4, ["parallel.tensor=4"]),
                             (3, ["parallel.tensor=3"]), (5, ["parallel.tensor=5"])):
        what = f"{ranks} ranks {overrides}"
        d = scene.new(what)
        done = start_with(d, overrides, ranks, "double").wait()
        if scene.ended(what, done, (0, 1), *([] if done.code == 0 else ["parallel"])) and done.code == 0:
            bad = far(numbers(d), kept, 1e-8)
            scene.checks.check(not bad, f"{what}: the numbers of one", ", ".join(bad)[:600])
    one = {"data": {"max_length": 48, "forget": {"path": "forget.jsonl", "rows": 1}, "retain": {"path": "retain.jsonl", "rows": 1, "held_out": 0}},
           "train": {"steps": 2, "batch_size": 1, "accumulation": 1}}
    for ranks in (1, 2):
        d = scene.new(f"one row {ranks}")
        done = start_with(d, (), ranks, changes=one).wait()
        scene.ended(f"one row, {ranks} ranks", done, (0, 1), *([] if done.code == 0 else ["rows"]))


def threads(scene):
    kept = numbers(scene.whole())
    for name, env in (("64", {"OMP_NUM_THREADS": 64, "OPENBLAS_NUM_THREADS": 64}), ("0", {"OMP_NUM_THREADS": 0, "OPENBLAS_NUM_THREADS": 0}),
                      ("garbage", {"OMP_NUM_THREADS": "many", "OPENBLAS_NUM_THREADS": "-3x"}), ("nested", {"OMP_NUM_THREADS": "2,3"}),
                      ("1e99", {"OMP_NUM_THREADS": "1e99", "OPENBLAS_NUM_THREADS": "99999999999999999999"}),
                      ("empty", {"OMP_NUM_THREADS": "", "OPENBLAS_NUM_THREADS": ""}), ("wait", {"OMP_WAIT_POLICY": "active", "OMP_DYNAMIC": "true"})):
        d = scene.new("threads " + name)
        done = start_with(d, (), env=env).wait()
        if scene.ended(f"threads: {name}", done, 0):
            bad = far(numbers(d), kept, 10 * TOLERANCE["float"])
            scene.checks.check(not bad, f"threads: {name}: the same values", ", ".join(bad)[:600])
    for name, mpirun in (("bound to nothing", ["--bind-to", "none"]), ("bound to cores", ["--bind-to", "core", "--oversubscribe"])):
        d = scene.new(name)
        done = start_with(d, (), 2, mpirun=mpirun).wait()
        if scene.ended(name, done, 0):
            bad = far(numbers(d), kept, 10 * TOLERANCE["float"])
            scene.checks.check(not bad, f"{name}: the same values", ", ".join(bad)[:600])
    d = scene.new("taskset")
    done = start_with(d, (), before=lambda: os.sched_setaffinity(0, {0})).wait()
    if scene.ended("one core", done, 0):
        bad = far(numbers(d), kept, 10 * TOLERANCE["float"])
        scene.checks.check(not bad, "one core: the same values", ", ".join(bad)[:600])


# --------------------------------------------------------------------------------------------------------------- C6, C7
def locales(scene):
    known = subprocess.run(["locale", "-a"], capture_output=True, text=True).stdout.split() if shutil.which("locale") else []
    comma = [n for n in known if n.startswith(("de_", "fr_", "tr_"))]
    if not comma:
        scene.checks.skip("no locale with a decimal comma is installed (locale -a)")
    for name in [*comma[:3], "xx_YY.UTF-8", "C"]:
        d = scene.new("locale " + name)
        done = start_with(d, (), env={"LC_ALL": name, "LANG": name}).wait()
        if scene.ended(f"locale {name}", done, 0):
            scene.same(f"locale {name}", d)
    symbols = subprocess.run(["nm", "-D", "--undefined-only", Scene.program()], capture_output=True, text=True).stdout
    scene.checks.check("setlocale" not in symbols and "malloc" in symbols, "the program never calls setlocale", symbols[:200])


def surroundings(scene):
    """Streams that are closed, a full disk behind standard output, few files, a small stack, no home."""
    exe = str(Scene.program())
    for name, redirect, code in (("closed input", "<&-", 0), ("closed output", ">&-", None), ("closed errors", "2>&-", 0),
                                 ("all closed", "<&- >&- 2>&-", None), ("full output", ">/dev/full", None)):
        d = scene.new(name)
        done = start_with(d, (), shell=["sh", "-c", f"exec {exe} my.yaml {redirect}"]).wait()
        holds = done.code == 0 if code == 0 else done.code in (0, 1, 3)
        scene.checks.check(holds and not done.left, f"{name}: it ends well", f"{done.code} {done.err[-800:]}")
        scene.same(name, d)
    d = scene.new("closed pipe")
    done = start_with(d, (), shell=["sh", "-c", f"{exe} my.yaml | true"]).wait()
    scene.same("output into a closed pipe", d)
    for name, before in (("32 files", limits(files=32)), ("256 KB of stack", limits(stack=256 << 10))):
        d = scene.new(name)
        done = start_with(d, (), before=before).wait()
        if done.code == 0:
            scene.ended(name, done, 0)
            scene.same(name, d)
        else:
            scene.checks.check(0 < done.code < 126 and not done.left, f"{name}: a clean error", f"{done.code} {done.err[-800:]}")
    for name, env in (("no home", {"HOME": "/nonexistent"}), ("no path", {"PATH": "/nonexistent:/usr/bin:/bin"}), ("small terminal", {"COLUMNS": "1"})):
        d = scene.new(name)
        done = start_with(d, (), env=env).wait()
        if scene.ended(name, done, 0):
            scene.same(name, d)
    d = scene.new("umask")
    done = start_with(d, (), before=lambda: os.umask(0o077)).wait()
    modes = {str(p): oct(p.stat().st_mode & 0o777) for p in (d / "out").rglob("*")}
    scene.ended("umask 077", done, 0)
    scene.checks.check(modes and all(m in ("0o600", "0o700") for m in modes.values()), "umask 077 is heeded", str(modes)[:600])


# ------------------------------------------------------------------------------------------------------------------- C8
def two_copies(scene):
    """Rank 1 sees other files than rank 0, as an old copy on a network's file system: refused, or only one was read."""
    def edit(name, change):
        return lambda d: (d / name).write_text(change((d / name).read_text()))

    other_answer = lambda text: text.replace('"answer": "', '"answer": "Never ', 3)
    norm = lambda text: json.dumps({**json.loads(text), "rms_norm_eps": 1e-4})
    for name, change in (("forget.jsonl", edit("forget.jsonl", other_answer)), ("set.jsonl", edit("set.jsonl", other_answer)),
                         ("config.json", edit("base/config.json", norm)), ("my.yaml", edit("my.yaml", lambda t: t.replace('"lr": 0.001', '"lr": 0.1')))):
        what = f"rank 1 has another {name}"
        d = scene.new(what)
        other = d / "other"
        other.mkdir()
        for item in ("base", "forget.jsonl", "retain.jsonl", "set.jsonl", "my.yaml"):
            (shutil.copytree if (d / item).is_dir() else shutil.copy)(d / item, other / item)
        change(other)
        exe = str(Scene.program())
        done = start_with(d, (), shell=["mpirun", "-np", "1", exe, "my.yaml", ":", "-np", "1", "-wdir", str(other), exe, "my.yaml"]).wait()
        if done.code == 0:
            scene.ended(what, done, 0)
            scene.same(what, d, 2)
        else:
            scene.ended(what, done, (1, 3))


# -------------------------------------------------------------------------------------------------------------- the list
def cases(scene, everything):
    yield "diverges", lambda: diverges(scene, 1e38, measured=False)
    yield "diverges where a dual weight looks", lambda: diverges(scene, 1e38, 2, objective={
        "name": "pdu", "regularizer": [{"name": "gd", "dual": {"step_size": 0.5, "update": "epoch", "warmup_epochs": 0}}]},
        train={"steps": 6, "batch_size": 5, "accumulation": 1})
    yield "NaN on rank 1", lambda: spoilt(scene, 500, 2, 1)
    yield "no memory", lambda: no_memory(scene, 40, "unlearn")
    yield "memory limit", lambda: memory_limit(scene, 512)
    yield "memory limit, threads", lambda: scene.ended("ulimit -v of 900 MB, 8 threads", start_with(
        scene.new("limit of threads"), ["parallel.threads=8"], before=limits(memory=900 * MB)).wait(30), 3, "1152 MB", "8 threads")
    for megabytes in (350, 420):
        yield f"memory limit {megabytes}, generate", lambda m=megabytes: memory_limit(scene, m, ("task=generate", "generate.prompt=who"), 400)
    if not everything:
        return
    for rate in (1e30, 1e38):
        for ranks in (1, 2):
            yield f"diverges {rate} {ranks}", lambda r=rate, n=ranks: diverges(scene, r, n)
    for part in range(3):
        yield f"NaN sweep {part}", lambda p=part: sweep(lambda n: spoilt(scene, n, 1 + p % 2, p % 2), 61, 2 + 20 * p)
    for megabytes in (100, 200, 300, 400, 512, 600, 700, 800, 1000, 1500, 2000):
        yield f"memory limit {megabytes}", lambda m=megabytes: memory_limit(scene, m)
    yield "too large", lambda: too_large(scene)
    yield "control group", lambda: grouped(scene)
    for library, every in (("unlearn", 3), ("jansson", 3), ("hdf5", 7), ("yaml", 1), ("pcre2", 1)):
        for part in range(2):
            yield f"no memory {library} {part}", lambda v=library, e=every, p=part: sweep(lambda n: no_memory(scene, n, v), 2 * e, 1 + p * e)
    yield "no memory on rank 1", lambda: sweep(lambda n: no_memory(scene, n, "unlearn", 2), 23)
    yield "streams", lambda: surroundings(scene)
    yield "many ranks", lambda: many_ranks(scene)
    yield "threads", lambda: threads(scene)
    yield "locales", lambda: locales(scene)
    yield "two copies", lambda: two_copies(scene)
