"""Faults B4-B14: output directories and inputs that are not as they should be, two runs, files that vanish."""
import json
import os
import shutil
import socket
import subprocess
import time

import h5py
from faults_scene import Scene, contents, difference, everything_below, is_root, result, start_with


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
    for override, word in (("seed=7", "seed is not what it was: now 7, then"), ("objective.beta=0.9", "objective.beta"),
                           ("data.max_length=40", "data.max_length"), ("optimizer.name=sgd", "optimizer.name")):
        d = scene.new("finished, but " + override, scene.whole())
        before = everything_below(d / "out")
        scene.ended(f"restart of a finished run with {override}", start_with(d, ["--restart", override]).wait(), 1, "out/input.yaml", word)
        scene.checks.check(before == everything_below(d / "out"), f"restart of a finished run with {override}: unchanged")
    for override in ("checkpoint.every=3", "parallel.threads=2", "geffect.every=3"):
        d = scene.new("finished, and " + override, scene.whole())
        done = start_with(d, ["--restart", override]).wait()
        if scene.ended(f"restart of a finished run with {override}", done, 0):
            scene.checks.check("the run is finished" in done.text, f"restart of a finished run with {override}: says so", done.text)
    d = scene.new("finished at once")
    scene.ended("a run of no updates", start_with(d, ["train.steps=0"]).wait(), 0)
    done = start_with(d, ["--restart", "train.steps=0"]).wait()
    if scene.ended("restart of a finished run of no updates", done, 0):
        scene.checks.check("the run is finished" in done.text, "restart of a finished run of no updates: says so", done.text)
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
    spelt = 'objective={"regularizer":["gd",{"positions":"all","name":"kl"}],"beta":0.50,"name":"npo"}'  # defaults, written or not
    for override in ("checkpoint.every=3", "checkpoint.keep=1", "parallel.threads=2", "parallel.tokens=100", spelt):
        d = scene.new("harmless " + override, scene.stopped())
        done = start_with(d, ["--restart", override]).wait()
        if scene.ended(f"restart with {override}", done, 0) and ("checkpoint" in override or override == spelt):
            scene.same(f"restart with {override}", d)

    for switched, back in (("geffect.every=0", "geffect.every=2"), ("evaluate.every=0", "evaluate.every=3")):
        d = scene.new("off " + switched, scene.stopped())
        scene.ended(f"restart with {switched}", start_with(d, ["--restart", switched]).wait(), 0)
        d = scene.new("on " + back, scene.stopped(overrides=(switched,)))
        if scene.ended(f"{switched}, then a restart with {back}", start_with(d, ["--restart", back]).wait(), 0):
            weights = {k: v for k, v in result(d).items() if "model" in k}
            same = {k: v for k, v in result(scene.whole()).items() if "model" in k}
            scene.checks.check(weights == same and weights, f"{switched}, then {back}: the same model", difference(same, weights))

    at_three = {"FAULT_CALL": "rename", "FAULT_HOW": "stop", "FAULT_N": 1, "FAULT_RANK": 0, "FAULT_PATH": "checkpoint-3"}
    towards = {"objective": "ga", "model": {"path": "base", "init": "random", "reference": str(scene.whole() / "out/model")},
               "geffect": {"every": 2, "objectives": ["ga", "npo"]}}
    d = scene.new("reference measured")
    scene.ended("a reference that is not measured", start_with(d, ["geffect.every=0"], changes=towards, env=at_three).wait(), 75)
    scene.ended("then a restart that measures it", start_with(d, ["--restart"], changes=towards).wait(), 0)
    d = scene.new("reference measured, then another")
    scene.ended("a reference that is measured", start_with(d, changes=towards, env=at_three).wait(), 75)
    scene.ended("then another", start_with(d, ["--restart", "model.reference=null"], changes=towards).wait(), 1, "model.reference")
    towards["objective"] = "npo"
    d = scene.new("reference trained")
    scene.ended("a reference that is trained with", start_with(d, changes=towards, env=at_three).wait(), 75)
    scene.ended("a restart towards another", start_with(d, ["--restart", "model.reference=null"], changes=towards).wait(), 1, "model.reference")
    for gone in ("data.retain=null", "data.forget=null"):
        d = scene.new("finetune " + gone)
        scene.ended("fine-tuning stops", start_with(d, changes={"task": "finetune"}, env=at_three).wait(), 75)
        scene.ended(f"fine-tuning goes on with {gone}", start_with(d, ["--restart", gone], changes={"task": "finetune"}).wait(), 1,
                    gone.split("=")[0])

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
    what = "a file in a checkpoint that stands"
    d = scene.new(what, scene.stopped())
    (d / "out/checkpoint-3/mine.txt").write_text("mine")
    done = start_with(d, ["--restart", "--max-hours", "1e-9"]).wait()
    scene.ended(what, done, 75)
    scene.checks.check((d / "out/checkpoint-3/mine.txt").exists(), f"{what}: it is not written again", str(os.listdir(d / "out")))
    what = "a file in a checkpoint that is written again"
    (d / "out/checkpoint-3/manifest.json").write_text("{")
    scene.finish_run(what, d)
    scene.checks.check((d / "out/checkpoint-3.kept/mine.txt").exists(), f"{what}: it is moved aside", str(os.listdir(d / "out")))


# ------------------------------------------------------------------------------------------------------------ the list
def cases(scene, everything):
    yield "vanishing", lambda: vanishing(scene, "geffect.h5", "removed")
    if not everything:
        return
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
