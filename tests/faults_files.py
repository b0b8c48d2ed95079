"""Faults B1-B14: damaged checkpoints, disks that fail, directories that are not as they should be."""
import ctypes
import errno
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import time

import h5py
from faults_scene import Scene, contents, difference, is_root, result, start_with, sweep
from harness import precisions

STATES = ("weights", "first_moment", "second_moment")


def everything_below(directory):
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


# ------------------------------------------------------------------------------------------------- B1: damaged checkpoints
def cut(name, n):
    def damage(c):
        raw = (c / name).read_bytes()
        (c / name).write_bytes(raw[:n] if n >= 0 else raw[:len(raw) + n])
    return damage


def half(name):
    return lambda c: os.truncate(c / name, (c / name).stat().st_size // 2)


def flip(name, share):
    def damage(c):
        raw = bytearray((c / name).read_bytes())
        raw[min(len(raw) - 1, int(share * len(raw)))] ^= 1
        (c / name).write_bytes(raw)
    return damage


def swap(a, b):
    def damage(c):
        os.rename(c / a, c / "x")
        os.rename(c / b, c / a)
        os.rename(c / "x", c / b)
    return damage


def from_before(name):
    return lambda c: shutil.copy(c.parent / "checkpoint-2" / name, c / name)


def with_text(name, old, new):
    def damage(c):
        text = (c / name).read_text()
        assert old in text, old
        (c / name).write_text(text.replace(old, new, 1))
    return damage


def signed(old, new):
    """The same in a manifest whose checksum is right."""
    def damage(c):
        with_text("manifest.json", old, new)(c)
        manifest = json.loads((c / "manifest.json").read_text())
        manifest.pop("xxh3")
        text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        xxh3 = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
        xxh3.restype, xxh3.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
        (c / "manifest.json").write_text(json.dumps({**manifest, "xxh3": f"{xxh3(text, len(text)):016x}"}))
    return damage


def gone(name):
    return lambda c: (c / name).unlink()


def directory_for(name):
    def damage(c):
        (c / name).unlink()
        (c / name).mkdir()
    return damage


def damages():
    """(name, damage of the newest checkpoint, word that the warning must have)"""
    for state in STATES:
        f = f"{state}/model.safetensors"
        yield from ((f"{f} {n}", d, f) for n, d in (
            ("is cut to 1 byte", cut(f, 1)), ("is cut to half", half(f)), ("lacks a byte", cut(f, -1)), ("is empty", cut(f, 0)),
            ("flipped in the length", flip(f, 0)), ("flipped in the header", flip(f, 0.002)), ("flipped in the values", flip(f, 0.6)),
            ("flipped at the end", flip(f, 1)), ("is missing", gone(f)), ("is of another step", from_before(f)),
            ("is a directory", directory_for(f))))
        yield f"{state}/config.json flipped", flip(f"{state}/config.json", 0.5), f"{state}/config.json"
        yield f"{state}/config.json is missing", gone(f"{state}/config.json"), f"{state}/config.json"
    m = "manifest.json"
    yield "two states are swapped", swap("weights", "second_moment"), "safetensors"
    yield "a state is missing", lambda c: shutil.rmtree(c / "weights"), "weights"
    for n, d in (("is cut to 1 byte", cut(m, 1)), ("is cut to half", half(m)), ("lacks its end", cut(m, -2)), ("is empty", cut(m, 0)),
                 ("is missing", gone(m)), ("is of another step", from_before(m)), ("is a directory", directory_for(m)),
                 ("has another number", with_text(m, '"updates made": 3', '"updates made": 2')),
                 ("has another log", with_text(m, '"log_bytes": ', '"log_bytes": 1')),
                 ("has no such state", with_text(m, '"weights/model.safetensors"', '"wrights/model.safetensors"')),
                 ("leads out", with_text(m, '"weights/model.safetensors"', '"../forget.jsonl"')),
                 ("leads to a device", with_text(m, '"weights/model.safetensors"', '"/dev/zero"')),
                 ("lacks a file", with_text(m, '"weights/config.json"', '"weights/.config.json"'))):
        yield f"{m} {n}", d, m
    for n, old, new in (("has no such file", '"weights/', '"wrights/'), ("leads out", '"weights/', '"../weights/'),
                        ("leads to a device", '"weights/model.safetensors"', '"/dev/zero"'), ("leads to a hidden file", '"weights/', '"weights/.')):
        yield f"{m}, signed, {n}", signed(old, new), "weights" if "zero" not in new and "wr" not in new else new.split('"')[1][:5]
    yield "the checkpoint is an empty directory", lambda c: (shutil.rmtree(c), c.mkdir()), m
    yield "the checkpoint is a file", lambda c: (shutil.rmtree(c), c.write_text("")), m


def falls_back(scene, name, damage, word, ranks=1):
    what = f"checkpoint: {name}"
    d = scene.new(what, scene.stopped(3, ranks))
    damage(d / "out/checkpoint-3")
    done = start_with(d, ["--restart"], ranks).wait()
    if scene.ended(what, done, 0):
        scene.checks.check("checkpoint-3" in done.text and (word in done.text or word == "manifest.json") and
                           "the one before it is tried" in done.text, f"{what}: it is named", done.text[:1500])
        scene.same(what, d, ranks)


def flipped_anywhere(scene, seed, flips):
    """A byte of the manifest flipped anywhere: the one before, a clear refusal, or a byte that says nothing; never another result."""
    draw = random.Random(seed)
    for _ in range(flips):
        d = scene.new(f"manifest flip {seed} {draw.random()}", scene.stopped())
        path = d / "out/checkpoint-3/manifest.json"
        raw = bytearray(path.read_bytes())
        at, bit = draw.randrange(len(raw)), 1 << draw.randrange(8)
        raw[at] ^= bit
        path.write_bytes(raw)
        done = start_with(d, ["--restart"]).wait()
        what = f"manifest.json, bit {bit} of byte {at} ({bytes(raw[at - 20:at + 20])!r})"
        if scene.ended(what, done, 0):
            scene.same(what, d)


def none_sound(scene):
    """Both damaged: an error, nothing is begun afresh, nothing changes. None at all: the same."""
    d = scene.new("none sound", scene.stopped())
    for n in (2, 3):
        flip("weights/model.safetensors", 0.5)(d / f"out/checkpoint-{n}")
    before = everything_below(d / "out")
    done = start_with(d, ["--restart"]).wait()
    scene.ended("no checkpoint is sound", done, 1, "out", "--overwrite")
    after = everything_below(d / "out")
    scene.checks.check(before == {**after, "run.log": before["run.log"]}, "no checkpoint is sound: nothing changes", difference(before, after))
    for n in (2, 3):
        shutil.rmtree(d / f"out/checkpoint-{n}")
    scene.ended("no checkpoint", start_with(d, ["--restart"]).wait(), 1, "out", "no checkpoint", "without --restart")
    shutil.rmtree(d / "out")
    scene.ended("no run", start_with(d, ["--restart"]).wait(), 1, "out", "without --restart")
    scene.checks.check(not (d / "out").exists(), "no run: nothing is made")


def of_another_run(scene):
    other = scene.new("another seed", scene.pattern)
    done = start_with(other, ["seed=7"], env={"FAULT_CALL": "rename", "FAULT_HOW": "stop", "FAULT_N": 1, "FAULT_PATH": "checkpoint-3"}).wait()
    scene.ended("a run with another seed", done, 75)
    d = scene.new("checkpoint of another run", scene.stopped())
    shutil.rmtree(d / "out/checkpoint-3")
    shutil.copytree(other / "out/checkpoint-3", d / "out/checkpoint-3")
    scene.ended("checkpoint of another run", start_with(d, ["--restart"]).wait(), 1, "checkpoint-3", "seed")
    for name, old, new, word in (("later format", '"format": 1', '"format": 2', "format"),
                                 ("other byte order", '"byte_order": "little"', '"byte_order": "big"', "byte order"),
                                 ("other precision", '"precision": "float32"', '"precision": "float64"', "float64")):
        d = scene.new("checkpoint of " + name, scene.stopped())
        signed(old, new)(d / "out/checkpoint-3")
        scene.ended(f"checkpoint of {name}", start_with(d, ["--restart"]).wait(), 1, "checkpoint-3", word)
    if len(precisions()) == 2:
        d = scene.new("the other program", scene.stopped())
        scene.ended("the program of the other precision", start_with(d, ["--restart"], 1, "double").wait(), 1, "float32", "unlearn")


# ------------------------------------------------------------------------------------------------------ B2, B3: the disk
def broken_call(scene, call, how, n, ranks=1, last=1, path="out"):
    """Its n-th call fails: one line, status 3 (or nothing noticed, then all is there); what was saved is usable. -> was there one"""
    what = f"{call} {n} fails with {how}{' and all after' if not last else ''}, {ranks} ranks"
    steps = ["train.steps=2"]
    d = scene.new(what)
    done = start_with(d, steps, ranks, env={"FAULT_CALL": call, "FAULT_HOW": how, "FAULT_N": n, "FAULT_RANK": 0, "FAULT_LAST": last,
                                            "FAULT_PATH": path, "FAULT_MARK": d / "mark"}).wait(30)
    if not (d / "mark").exists():
        return False
    harmless = how in ("short", errno.EINTR)
    scene.ended(what, done, 0 if harmless else (0, 1, 3), *([] if harmless or done.code == 0 else ["out"]))
    if done.code == 0:
        scene.same(what, d, ranks, overrides=steps)
    else:
        scene.finish_run(what, d, ranks, overrides=steps)
    shutil.rmtree(d)
    return True


def full_disk(scene, kilobytes):
    """A small file system that fills up; space is made; the run goes on."""
    what = f"disk of {kilobytes} KB"
    d = scene.new(what)
    (d / "out").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", d / "out"], check=True)
    try:
        done = start_with(d).wait()
        if done.code:
            scene.ended(what, done, (1, 3), "out", "No space left")
            for p in (d / "out").rglob("*.h5"):
                with h5py.File(p, locking=False) as f:
                    f["step"][()]
            subprocess.run(["mount", "-o", "remount,size=64m", d / "out"], check=True)
            scene.finish_run(what, d)
        else:
            scene.ended(what, done, 0)
            scene.same(what, d)
    finally:
        subprocess.run(["umount", d / "out"], check=True)
    return done.code != 0


def small_files(scene, kilobytes):
    """A limit of the size of files; MPI has its own, so that it comes when the directory is there."""
    what = f"files of {kilobytes} KB at most"
    d = scene.new(what)
    run = start_with(d)
    run.until((d / "out/run.lock").exists)
    try:
        resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (kilobytes << 10, resource.RLIM_INFINITY))
    except ProcessLookupError:
        pass
    run.wait()
    if run.code:
        scene.ended(what, run, (1, 3), "out", "File too large")
        scene.finish_run(what, d)
    return run.code != 0


# --------------------------------------------------------------------------------------- B4, B5, B12, B14: the directory
def directories(scene):
    """B4: an output directory that cannot be one."""
    def file(d):
        (d / "out").write_text("")

    def dangling(d):
        (d / "out").symlink_to("nowhere")

    def link_loop(d):
        (d / "out").symlink_to("out")
    for name, make, options in (("a file", file, []), ("a dangling link", dangling, []), ("a link to itself", link_loop, []),
                                ("a name of 300 bytes", None, ["output.directory=" + "x" * 300]),
                                ("below a file", None, ["output.directory=my.yaml/out"]), ("nothing", None, ["output.directory="]),
                                ("below /proc", None, ["output.directory=/proc/nothing/out"])):
        d = scene.new("output is " + name)
        if make:
            make(d)
        for ranks in (1, 2):
            done = start_with(d, options, ranks).wait(20)
            if name == "nothing":
                scene.ended("output.directory is empty: " + str(ranks), done, (0, 1))
            else:
                scene.ended(f"output is {name}, {ranks} ranks", done, 1, "output.directory")
    d = scene.new("output has a long name")
    scene.ended("output has 255 bytes", start_with(d, ["output.directory=" + "x" * 255, "train.steps=1"]).wait(), 0)
    if is_root():
        d = scene.new("output is read-only")
        (d / "out").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,ro", "none", d / "out"], check=True)
        try:
            for options in ([], ["--restart"], ["--overwrite"]):
                scene.ended(f"output is read-only {options}", start_with(d, options).wait(20), 1, "out", "Read-only")
        finally:
            subprocess.run(["umount", d / "out"], check=True)
        d = scene.new("checkpoints are read-only", scene.stopped())
        subprocess.run(["mount", "--bind", d / "out", d / "out"], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", d / "out"], check=True)
        try:
            scene.ended("read-only at restart", start_with(d, ["--restart"]).wait(20), 1, "out", "Read-only")
        finally:
            subprocess.run(["umount", d / "out"], check=True)
        scene.finish_run("read-only at restart, then not", d)


def already_there(scene):
    """B5, B8: an earlier run: asked for, never mixed; a finished one is left as it is."""
    for name, source in (("stopped", scene.stopped()), ("finished", scene.whole())):
        d = scene.new("already " + name, source)
        before = everything_below(d / "out")
        scene.ended(f"a {name} run is there", start_with(d).wait(), 1, "--overwrite")
        scene.checks.check(before == everything_below(d / "out"), f"a {name} run is there: unchanged")
    for ranks in (1, 2):
        d = scene.new(f"finished {ranks}", scene.whole(ranks))
        before = {p: p.stat().st_mtime_ns for p in (d / "out").rglob("*") if p.is_file()}
        contents_before = everything_below(d / "out")
        done = start_with(d, ["--restart"], ranks).wait()
        scene.ended(f"restart of a finished run, {ranks} ranks", done, 0)
        scene.checks.check("finished" in done.text and contents_before == everything_below(d / "out") and
                           before == {p: p.stat().st_mtime_ns for p in (d / "out").rglob("*") if p.is_file()},
                           "restart of a finished run: says so, files unchanged", done.text)
    d = scene.new("both options")
    scene.ended("--restart --overwrite", start_with(d, ["--restart", "--overwrite"]).wait(), 2, "--restart", "--overwrite")
    d = scene.new("restart of an evaluation")
    done = start_with(d, ["--restart"], changes={"task": "geffect", "train": {}, "checkpoint": {}, "geffect": {}}).wait()
    scene.ended("--restart of a task that keeps no checkpoints", done, 1, "--restart")


def changed_inputs(scene):
    """B7: what may change, and what may not, is named."""
    refused = ["seed=7", "optimizer.lr=0.5", "optimizer.name=sgd", "train.batch_size=3", "data.max_length=40",
               "data.forget.rows=4", "geffect.fidelity=false", "train.shuffle=false", "optimizer.warmup_steps=1", "train.accumulation=2"]
    refused += ["objective.beta=0.9", "data.retain.held_out=1"]
    for override in refused:
        d = scene.new("changed " + override, scene.stopped())
        before = everything_below(d / "out")
        done = start_with(d, ["--restart", override]).wait()
        scene.ended(f"restart with {override}", done, 1, override.split("=")[0] if "objective" not in override else "objective")
        after = everything_below(d / "out")
        scene.checks.check(before == {**after, "run.log": before["run.log"]}, f"restart with {override}: unchanged", difference(before, after))
    for override in ("checkpoint.every=3", "checkpoint.keep=1", "parallel.threads=2", "parallel.tokens=100"):
        d = scene.new("harmless " + override, scene.stopped())
        done = start_with(d, ["--restart", override]).wait()
        if scene.ended(f"restart with {override}", done, 0) and "checkpoint" in override:
            scene.same(f"restart with {override}", d)

    def edit(name, change):
        def apply(d):
            text = (d / name).read_text()
            (d / name).write_text(change(text))
        return apply
    first_line = lambda change: lambda text: "\n".join([change(text.split("\n")[0]), *text.split("\n")[1:]])
    other_row = first_line(lambda s: json.dumps({"question": "Who?", "answer": "Nobody.", **{k: v for k, v in json.loads(s).items()
                                                                                            if k not in ("question", "answer")}}))
    norm = lambda text: json.dumps({**json.loads(text), "rms_norm_eps": 1e-4})
    for name, apply, word in (("forget", edit("forget.jsonl", other_row), "data.forget"), ("retain", edit("retain.jsonl", other_row), "data.retain"),
                              ("set", edit("set.jsonl", other_row), "evaluate"), ("config.json", edit("base/config.json", norm), "model.path")):
        d = scene.new("changed file " + name, scene.stopped())
        apply(d)
        before = everything_below(d / "out")
        scene.ended(f"restart with another {name}", start_with(d, ["--restart"]).wait(), 1, word)
        after = everything_below(d / "out")
        scene.checks.check(before == {**after, "run.log": before["run.log"]}, f"restart with another {name}: unchanged", difference(before, after))
    for name, steps in (("fewer steps", "train.steps=2"),):
        d = scene.new(name, scene.stopped())
        scene.ended(f"restart with {name}", start_with(d, ["--restart", steps]).wait(), 1, "train.")
    d = scene.new("moved", scene.stopped())
    os.rename(d / "forget.jsonl", d / "moved.jsonl")
    done = start_with(d, ["--restart", "data.forget.path=moved.jsonl"]).wait()
    if scene.ended("the same data at another place", done, 0):
        scene.same("the same data at another place", d)


def two_runs(scene):
    """B10, B11: one directory, two runs; and a lock that nobody holds."""
    for delay in (0, 0.3, 1):
        d = scene.new(f"two runs {delay}")
        long = ["train.steps=200"]
        first = start_with(d, long, 2)
        time.sleep(delay)
        second = start_with(d, long, 2)
        first.until(lambda: second.process.poll() is not None or first.process.poll() is not None, 20)
        loser, winner = (second, first) if second.process.poll() is not None else (first, second)
        scene.ended(f"two runs, {delay} s", loser.wait(), 1, "run.lock" if delay == 1 else "out")
        line = " ".join(loser.errors())
        if "is locked" in line:
            scene.checks.check(socket.gethostname() in line and "process " in line, "two runs: host and process are named", line)
        (d / "out/STOP").touch()
        winner.wait()
        scene.ended(f"two runs, {delay} s: one goes on", winner, 75)
        scene.checks.check(result(d)["log"] == sorted(result(d)["log"], key=result(d)["log"].index), "two runs: the log is of one")
    for text in ("process 1 on nowhere\n", "process 999999 on " + socket.gethostname() + "\n", ""):
        d = scene.new("stale lock " + text.strip()[:12], scene.stopped())
        (d / "out/run.lock").write_text(text)
        scene.finish_run(f"stale lock {text!r}", d)


def vanishing(scene, name, how):
    """B12: an output file is taken away, replaced or cut while the run writes it."""
    what = f"{name} is {how} in the middle"
    d = scene.new(what)
    run = start_with(d, ["train.steps=100000", "geffect.every=1"])
    path = d / "out" / name
    run.until(lambda: (d / "out/checkpoint-3").exists())
    if how == "removed":
        path.unlink()
    elif how == "replaced":
        (d / "other").write_text("mine")
        os.rename(d / "other", path)
    elif how == "cut":
        os.truncate(path, 1000)
    run.until(lambda: False, 3)
    if run.process.poll() is None:
        (d / "out/STOP").touch()
    run.wait(20)
    scene.ended(what, run, 3, name)
    if how == "replaced":
        scene.checks.check(path.read_text() == "mine", f"{what}: what replaced it stays")


def directory_gone(scene):
    what = "the output directory is gone"
    d = scene.new(what)
    run = start_with(d, ["train.steps=100000"])
    run.until(lambda: (d / "out/checkpoint-2").exists())
    os.rename(d / "out", d / "elsewhere")
    run.until(lambda: False, 4)
    scene.checks.check(run.process.poll() is not None, f"{what}: it ends at the next write")
    run.kill(run.process.pid)
    run.wait()
    scene.ended(what, run, 3, "out/")


def readers(scene):
    """B12: whoever reads the files of a running job neither stops it nor is stopped."""
    d = scene.new("readers")
    run = start_with(d, ["geffect.every=1"], 1, env={"FAULT_CALL": "fsync", "FAULT_HOW": "0", "FAULT_N": 1 << 30})
    seen, failed = 0, []
    while run.process.poll() is None:
        for name in ("geffect.h5", "train.h5"):
            try:
                with h5py.File(d / "out" / name, "r") as f:  # with HDF5's own locking
                    seen += len(f["step"]) > 0
                    f["step"][()]
            except (OSError, KeyError) as e:
                if (d / "out/checkpoint-2").exists():
                    failed.append(str(e))
    if scene.ended("readers", run.wait(), 0):
        a, b = contents(d / "out/train.h5"), contents(scene.whole() / "out/train.h5")
        scene.checks.check(seen > 3 and a == b, "readers: they read, and the run is not disturbed", f"{seen} {failed[:1]} {difference(a, b)}")


def clock(scene):
    """B13: the newest checkpoint is that of the highest step, whatever the times of files; another time zone."""
    d = scene.new("clock", scene.stopped())
    day = time.time() - 10 * 86400
    for p in [d / "out/checkpoint-3", *(d / "out/checkpoint-3").rglob("*")]:
        os.utime(p, (day, day))
    ahead = time.time() + 86400
    os.utime(d / "out/checkpoint-2", (ahead, ahead))
    done = start_with(d, ["--restart"], env={"TZ": "Pacific/Kiritimati"}).wait()
    scene.checks.check("checkpoint-3" in done.text, "the newest checkpoint is told by its step", done.text[:600])
    scene.ended("times of files", done, 0)
    scene.same("times of files", d)
    if shutil.which("faketime"):
        d = scene.new("faketime")
        done = start_with(d, (), shell=["faketime", "-f", "+1d x100", str(Scene.program()), "my.yaml"]).wait()
        scene.ended("a clock that runs fast", done, 0)
        scene.same("a clock that runs fast", d)


def number_kept(scene):
    """B14: never more than asked for, plus the one being written; the newest stay."""
    for keep in (1, 3):
        d = scene.new(f"keep {keep}")
        run = start_with(d, [f"checkpoint.keep={keep}", "train.steps=40", "geffect.every=0", "evaluate.every=0"])
        most = 0
        while run.process.poll() is None:
            names = os.listdir(d / "out") if (d / "out").exists() else []
            most = max(most, sum(n.startswith("checkpoint-") and not n.endswith(".tmp") for n in names))
            time.sleep(0.002)
        scene.ended(f"keep {keep}", run.wait(), 0)
        left = sorted(int(p.name[11:]) for p in (d / "out").glob("checkpoint-*"))
        scene.checks.check(left == list(range(41 - keep, 41)) and most <= keep + 1, f"keep {keep}: number of checkpoints", f"{left} {most}")
    d = scene.new("keep anything else")
    shutil.copytree(scene.stopped() / "out", d / "out")
    (d / "out/checkpoint-3/mine.txt").write_text("mine")
    (d / "out/checkpoint-x").mkdir()
    done = start_with(d, ["--restart", "checkpoint.keep=1"]).wait()
    scene.ended("files beside the checkpoint's", done, 0)
    scene.checks.check((d / "out/checkpoint-3/mine.txt").exists() and (d / "out/checkpoint-x").exists(), "files of others are not removed")
    d = scene.new("a file in a checkpoint that is written again", scene.stopped())
    (d / "out/checkpoint-3/mine.txt").write_text("mine")
    done = start_with(d, ["--restart", "--max-hours", "1e-9"]).wait()
    scene.ended("a file in a checkpoint that is written again", done, 75)
    scene.checks.check((d / "out/checkpoint-3.kept/mine.txt").exists(), "a file in a checkpoint stays", str(os.listdir(d / "out")))
    scene.finish_run("a file in a checkpoint that is written again", d)


# ------------------------------------------------------------------------------------------------------------ the list
def cases(scene, everything):
    list_of_damages = list(damages())
    short = {"weights/model.safetensors flipped in the values", "first_moment/model.safetensors lacks a byte", "manifest.json is cut to half",
             "two states are swapped", "weights/model.safetensors is of another step", "manifest.json has another number"}
    for name, damage, word in list_of_damages:
        if everything or name in short:
            yield f"damage {name}", lambda n=name, d=damage, w=word: falls_back(scene, n, d, w)
    yield "none sound", lambda: none_sound(scene)
    yield "another run", lambda: of_another_run(scene)
    yield "vanishing", lambda: vanishing(scene, "geffect.h5", "removed")
    for call, how, n in (("write", errno.ENOSPC, 5), ("write", errno.EIO, 60), ("fsync", errno.EIO, 8), ("rename", errno.EIO, 4),
                         ("open", errno.EIO, 20), ("space", errno.ENOSPC, 9)):
        yield f"broken {call} {n}", lambda c=call, h=how, n=n: broken_call(scene, c, h, n)
    if is_root():
        yield "full disk", lambda: full_disk(scene, 1400)
    if not everything:
        return
    for ranks in (2,):
        yield "damage at 2 ranks", lambda: falls_back(scene, "2 ranks", flip("weights/model.safetensors", 0.5), "weights", 2)
    for seed in range(4):
        yield f"manifest flips {seed}", lambda s=seed: flipped_anywhere(scene, s, 15)
    if is_root():
        yield "full disks", lambda: sweep(lambda k: full_disk(scene, k), 100, 100)
    yield "small files", lambda: [small_files(scene, k) for k in (1, 4, 10, 30, 60, 100, 145, 160, 300)]
    yield "directories", lambda: directories(scene)
    yield "already there", lambda: already_there(scene)
    yield "changed inputs", lambda: changed_inputs(scene)
    yield "two runs", lambda: two_runs(scene)
    for name in ("geffect.h5", "train.h5", "evaluation.h5"):
        for how in ("removed", "replaced", "cut"):
            yield f"vanishing {name} {how}", lambda n=name, h=how: vanishing(scene, n, h)
    yield "directory gone", lambda: directory_gone(scene)
    yield "readers", lambda: readers(scene)
    yield "clock", lambda: clock(scene)
    yield "number kept", lambda: number_kept(scene)
    for call, how, every in (("write", errno.ENOSPC, 3), ("write", "short", 7), ("write", errno.EINTR, 11), ("space", errno.ENOSPC, 1),
                             ("fsync", errno.EIO, 1), ("rename", errno.EIO, 1), ("open", errno.EIO, 1), ("remove", errno.EIO, 1)):
        for part in range(3):  # three at a time
            yield f"sweep {call} {how} {part}", lambda c=call, h=how, e=every, p=part: sweep(
                lambda n: broken_call(scene, c, h, n), 3 * e, 1 + p * e)
    yield "sweep write from then on", lambda: sweep(lambda n: broken_call(scene, "write,space,fsync", errno.EIO, n, 2, 0), 17)
