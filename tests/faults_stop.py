"""Faults A1-A9: a run that is interrupted, and goes on."""
import os
import random
import shutil
import signal
import time

from faults_scene import LIMIT, STEPS, far, numbers, settings, start_with, sweep

USR1 = signal.SIGUSR1


def saved(directory, step=1):
    """A checkpoint of that step or a later one is there."""
    steps = [int(p.name[11:]) for p in (directory / "out").glob("checkpoint-*") if p.name[11:].isdigit()]
    return max(steps, default=-1) >= step


def killed_once(scene, d, options, ranks, precision, victim, moment):
    """-> the run, that had begun to write and was killed in the middle; where it was faster, a shorter moment."""
    while True:
        run = start_with(d, options, ranks, precision)
        run.until(lambda: (d / "out/train.h5").exists())
        run.until(lambda: False, moment)
        ids = [run.process.pid] if victim == "mpirun" else run.ranks()
        for pid in ids if victim == "all" else ids[-1:] if victim == "last" else ids[:1]:
            run.kill(pid)
        run.wait(20)
        if run.code == 0 and moment > 0.001:  # the end came first
            shutil.rmtree(d / "out")
            options, moment = [], moment / 2
            continue
        return run, moment


def killed_anywhere(scene, k, ranks, precision="float"):
    """A1, A3: SIGKILL of one rank, of all or of mpirun at a random moment; perhaps again while it goes on."""
    draw = random.Random(1000 * k + ranks)
    what = f"kill {k}, {ranks} ranks, {precision}"
    d = scene.new(what)
    options = []
    for _ in range(1 + k % 3):
        victim = draw.choice(["first", "last", "all", "mpirun"])
        run, moment = killed_once(scene, d, options, ranks, precision, victim, draw.uniform(0.0, 0.8))
        scene.checks.check(run.code not in (0, 124) and not run.left, f"{what}, {victim}: killed, and all end", f"{run.code} {run.left}")
        options = ["--restart"] if saved(d, 0) else ["--overwrite"]
    scene.finish_run(f"{what} after {moment:.2f} s, {victim}", d, ranks, precision)


def killed_in_calls(scene, n, ranks=1, precision="float", call="write,space,fsync,rename,remove,open"):
    """A2: the process ends itself at its n-th write, fsync, rename, opening, removal below out/. -> whether there was an n-th."""
    what = f"kill at call {n}, {ranks} ranks"
    d = scene.new(what)
    steps = ["train.steps=2"]
    done = start_with(d, steps, ranks, precision, env={
        "FAULT_CALL": call, "FAULT_HOW": "kill", "FAULT_N": n, "FAULT_RANK": 0, "FAULT_PATH": "out", "FAULT_MARK": d / "mark"}).wait(20)
    if not (d / "mark").exists():
        return False
    scene.checks.check(done.code not in (0, 124) and not done.left, f"{what}: all end", f"{done.code} {done.left}")
    scene.finish_run(what, d, ranks, precision, steps)
    scene.checks.check(not list((d / "out").rglob("*.tmp")) and not list((d / "out").glob("*.before")), f"{what}: no leftovers",
                       str(list((d / "out").rglob("*.tmp"))))
    return True


def stopped_by(scene, what, send, ranks=1, number=USR1, codes=(75,), precision="float"):
    """A4, A5: one signal, sent by send(run), when the first checkpoint is there."""
    d = scene.new(what)
    run = start_with(d, (), ranks, precision)
    run.until(lambda: saved(d))
    send(run, number)
    run.wait(20)
    if scene.ended(what, run, codes, *(["a signal", "--restart"] if codes == (75,) else [])):
        scene.finish_run(what, d, ranks, precision)


def to_launcher(run, number):
    run.kill(run.process.pid, number)


def to_rank(rank):
    def send(run, number):
        ids = run.ranks()
        if rank < len(ids):
            run.kill(ids[rank], number)
    return send


SLOW_SAVE = {"FAULT_CALL": "fsync", "FAULT_HOW": "sleep", "FAULT_N": 3, "FAULT_RANK": 0, "FAULT_PATH": "checkpoint-2.tmp"}


def second_signal(scene):
    """A6: a checkpoint that takes long: a first signal is waited for, a second one ends the process, nothing is spoilt."""
    what = "second signal in a checkpoint"
    d = scene.new(what)
    run = start_with(d, (), env={**SLOW_SAVE, "FAULT_MARK": d / "mark"})
    run.until((d / "mark").exists)
    run.kill(run.process.pid, USR1)
    time.sleep(2.3)
    run.kill(run.process.pid, signal.SIGTERM)
    run.wait(20)
    scene.checks.check(run.code == -signal.SIGTERM, f"{what}: it leaves at once", f"{run.code} {run.err}")
    scene.checks.check(saved(d, 1) and not saved(d, 2), f"{what}: the checkpoint before is there", str(os.listdir(d / "out")))
    scene.finish_run(what, d)
    what = "one signal in a checkpoint"
    d = scene.new(what)
    run = start_with(d, (), env={**SLOW_SAVE, "FAULT_MARK": d / "mark"})
    run.until((d / "mark").exists)
    run.kill(run.process.pid, USR1)
    run.kill(run.process.pid, USR1)  # by two ways at the same time: one request
    if scene.ended(what, run.wait(20), 75, "a signal"):
        scene.finish_run(what, d)


def early_and_late_signals(scene, ranks=1):
    """A6: before the handlers are there, and while the last files are written."""
    for k, moment in enumerate((0.0, 0.02, 0.1, 0.2, 0.4)):
        what = f"signal after {moment} s, {ranks} ranks"
        d = scene.new(what)
        run = start_with(d, (), ranks)
        time.sleep(moment)
        run.kill(run.process.pid, (USR1, signal.SIGTERM)[k % 2])
        run.wait(30)
        scene.checks.check(run.code != 124 and not run.left, f"{what}: no hang", f"{run.code} {run.left}")
        if run.code:
            scene.finish_run(what, d, ranks)
    what = f"signal in the export, {ranks} ranks"
    d = scene.new(what)
    run = start_with(d, (), ranks, env={"FAULT_CALL": "rename", "FAULT_HOW": "stop", "FAULT_N": 1, "FAULT_PATH": "out/model/",
                                       "FAULT_RANK": 0})
    run.wait(20)
    if scene.ended(what, run, (0, 75)) and run.code == 0:
        scene.same(what, d, ranks)
    elif run.code == 75:
        scene.finish_run(what, d, ranks)


def time_limit(scene, everything):
    """A7."""
    for hours in ("0", "-1", "nan", "x", "", "1h", "0x") if everything else ("0", "-1"):
        d = scene.new(f"max-hours [{hours}]")
        done = start_with(d, ["--max-hours", hours]).wait()
        scene.ended(f"--max-hours {hours!r}", done, 2, "--max-hours")
        scene.checks.check(not (d / "out").exists(), f"--max-hours {hours!r}: nothing is written")
    d = scene.new("max-hours missing")
    scene.ended("--max-hours without a number", start_with(d, ["--max-hours"]).wait(), (1, 2), "--max-hours")
    for what, options, env in (("shorter than a step", ["--max-hours", "1e-9"], {}),
                               ("the scheduler's end is past", [], {"SLURM_JOB_END_TIME": int(time.time()) - 5})):
        d = scene.new("time " + what)
        done = start_with(d, options, env=env).wait()
        if scene.ended(f"time limit {what}", done, 75, "the end of its time"):
            scene.finish_run(f"time limit {what}", d)
    if not everything:
        return
    for text in ("", "soon", "-1", "nan", "1e400", "99999999999"):
        d = scene.new("end time [" + text)
        done = start_with(d, ["train.steps=1"], env={"SLURM_JOB_END_TIME": text}).wait()
        scene.ended(f"SLURM_JOB_END_TIME {text!r} is no end", done, 0)
    for name, of in (("max-hours", lambda end: (["--max-hours", repr(6 / 3600)], {})),
                     ("SLURM_JOB_END_TIME", lambda end: ([], {"SLURM_JOB_END_TIME": end})),
                     ("PBS_WALLTIME", lambda end: ([], {"PBS_WALLTIME": 6}))):
        d = scene.new("in time " + name)
        long = {"train": {"steps": 100000, "batch_size": 2, "accumulation": 1}, "geffect": {"every": 0}, "evaluate": {"every": 0}}
        end = int(time.time()) + 7
        options, env = of(end)
        done = start_with(d, options, env=env, changes=long).wait(30)
        scene.ended(f"{name}: stops", done, 75, "the end of its time")
        over = done.began_at + done.seconds - end
        scene.checks.check(over < 0 and saved(d), f"{name}: in time, with a checkpoint", f"{over:.1f} s late")


def stop_file(scene, ranks=1):
    what = f"file STOP, {ranks} ranks"
    d = scene.new(what)
    run = start_with(d, (), ranks)
    run.until(lambda: saved(d))
    (d / "out/STOP").touch()
    if scene.ended(what, run.wait(20), 75, "the file STOP"):
        scene.checks.check(not (d / "out/STOP").exists(), f"{what}: it is obeyed once")
        begun = d / "out/checkpoint-1000.tmp/model"  # as a process leaves it that was killed while it saved
        begun.mkdir(parents=True)
        (begun / "model.safetensors").touch()
        scene.finish_run(what, d, ranks)
        scene.checks.check(not begun.parent.exists(), f"{what}: what was begun to be saved is removed")


def paused(scene, seconds, ranks=2):
    """A8: a rank that does not run for a while."""
    what = f"paused {seconds} s"
    d = scene.new(what)
    run = start_with(d, (), ranks)
    run.until(lambda: saved(d))
    ids = run.ranks()
    if scene.checks.check(len(ids) == ranks, f"{what}: it was running", str(ids)):
        run.kill(ids[-1], signal.SIGSTOP)
        time.sleep(seconds)
        run.kill(ids[-1], signal.SIGCONT)
    if scene.ended(what, run.wait(LIMIT), 0):
        scene.same(what, d, ranks)


def every_step(scene, ranks=1, precision="float"):
    """A9: stopped after every single step, and restarted every time."""
    what = f"stop after every step, {ranks} ranks, {precision}"
    d = scene.new(what)
    options, starts = [], 0
    while starts <= STEPS:
        step = starts + 1
        run = start_with(d, options, ranks, precision, env={
            "FAULT_CALL": "rename", "FAULT_HOW": "stop", "FAULT_N": 1, "FAULT_PATH": f"checkpoint-{step}", "FAULT_RANK": 0}).wait()
        starts += 1
        if run.code == 0:
            break
        if not scene.ended(f"{what}, start {starts}", run, 75, f"after {step} of {STEPS}"):
            return
        times = run.text.count(f"checkpoint-{step} saved")
        scene.checks.check(times == 1, f"{what}, start {starts}: the checkpoint that stands is not written again", f"{times} times")
        options = ["--restart"]
    scene.checks.check(starts == STEPS + 1, f"{what}: starts", str(starts))  # the last measurement can be stopped, too
    scene.same(what, d, ranks, precision)


def behind_the_last(scene):
    """A8: what is left behind the last update can take long, too: it is asked there."""
    what = "signal in the last update"
    d = scene.new(what)
    run = start_with(d, env={"FAULT_CALL": "rename", "FAULT_HOW": "stop", "FAULT_N": 1, "FAULT_PATH": f"checkpoint-{STEPS}", "FAULT_RANK": 0},
                     changes={"geffect": {"every": 0}}).wait()
    if scene.ended(what, run, 75, f"after {STEPS} of {STEPS}"):
        scene.checks.check(not (d / "out/model").exists(), f"{what}: nothing is exported yet")
        done = start_with(d, ["--restart", "--max-hours", "1e-9"], changes={"geffect": {"every": 0}}).wait()
        scene.ended(f"{what}: goes on to the end", done, 0)


def in_measurements(scene, ranks, products):
    """A signal at a matrix product: where that is one of a measurement, the step that had begun comes again, with its log."""
    last = 0
    for n in products:
        what = f"signal at product {n}, {ranks} ranks"
        d = scene.new(what)
        run = start_with(d, (), ranks, env={"FAULT_CALL": "gemm", "FAULT_HOW": "stop", "FAULT_N": n, "FAULT_RANK": 0,
                                            "FAULT_MARK": d / "mark"}).wait()
        scene.checks.check((d / "mark").exists(), f"{what}: it was sent")
        if scene.ended(what, run, (0, 75)) and run.code == 75:
            last = newest = max(int(p.name.split("-")[1]) for p in (d / "out").glob("checkpoint-*"))
            said = [p.read_text().count(f"checkpoint-{newest} saved") for p in (d / "out").glob("run.log")]
            scene.checks.check(said == [1], f"{what}: a checkpoint that is there is not made again", str(said))
            scene.finish_run(what, d, ranks)
        elif run.code == 0:  # while the last rows are evaluated, or later
            scene.same(what, d, ranks)
    scene.checks.check(last > 0, f"signals at products {list(products)}: one of them beyond step 0")


def longer(scene):
    """train.steps may grow: a constant learning rate then gives the run that had them from the start."""
    what = "more steps"
    constant = {"optimizer": {"lr": 1e-3, "schedule": "constant", "warmup_steps": 0}}
    d = scene.new(what)
    for n, options in ((2, []), (3, ["--restart"]), (STEPS, ["--restart"])):
        done = start_with(d, [*options, f"train.steps={n}"], changes=constant).wait()
        if not scene.ended(f"{what}, {n}", done, 0):
            return
    scene.same(what, d, changes=constant)


def refused(scene):
    """A longer run that is refused for one file of results leaves all of the shorter one as it was."""
    what = "a restart that is refused"
    d = scene.new(what)
    constant = {"optimizer": {"lr": 1e-3, "schedule": "constant", "warmup_steps": 0}}
    tokens = {"geffect": {**settings()["geffect"], "tokens": True}}
    if not scene.ended(what, start_with(d, ["train.steps=2"], changes=constant | tokens).wait(), 0):
        return
    left = lambda: {str(p.relative_to(d)): p.read_bytes() for p in (d / "out").rglob("*") if p.is_file() and p.name != "run.log"}
    for name in ("train.h5", "tokens.h5"):
        os.rename(d / "out" / name, d / name)
        before = left()
        scene.ended(f"{what}: {name}", start_with(d, ["--restart", "train.steps=3"]).wait(), 1, name, "put the file of that run back")
        after = left()
        scene.checks.check(before == after, f"{what}: {name}: nothing has changed", str([n for n in {*before, *after} if before.get(n) != after.get(n)]))
        os.rename(d / name, d / "out" / name)
    scene.ended(f"{what}: with its file again", start_with(d, ["--restart", "train.steps=3"]).wait(), 0)


def layouts(scene, everything):
    """A checkpoint of data 2 x tensor 2 goes on with other processes."""
    wide = ["train.batch_size=4"]  # a row for each of four
    of = scene.stopped(3, 4, "double", ["parallel.data=2", "parallel.tensor=2", *wide])
    kept = numbers(scene.whole(4, "double", ["parallel.data=2", "parallel.tensor=2", *wide]))
    others = [(r, o + wide) for r, o in ((1, []), (2, ["parallel.tensor=2"]), (3, []), (4, ["parallel.data=4"]))]
    for ranks, overrides in others if everything else others[1:2]:
        what = f"np 4 (2 x 2) goes on as np {ranks} {overrides}"
        d = scene.new(what, of)
        done = start_with(d, ["--restart", *overrides], ranks, "double").wait()
        if scene.ended(what, done, 0):
            bad = far(numbers(d), kept, 1e-10)
            scene.checks.check(not bad and len(kept) > 50, f"{what}: the same numbers to 1e-10", ", ".join(bad)[:600])


def cases(scene, everything):
    """(name, function) of all that are to run."""
    two = "double" if everything else "float"
    moments = 30 if everything else 2
    for k in range(moments):
        ranks = 1 + k % 2
        yield f"kill {k}", lambda k=k, ranks=ranks: killed_anywhere(scene, k, ranks, two if k % 5 == 4 else "float")
    for n in (150, 210):
        yield f"kill at call {n}", lambda n=n: killed_in_calls(scene, n)
    yield "USR1 to one rank", lambda: stopped_by(scene, "USR1 to rank 1", to_rank(1), 2)
    yield "STOP", lambda: stop_file(scene)
    yield "signal in a measurement", lambda: in_measurements(scene, 1, (247, 6000))
    yield "every step", lambda: every_step(scene)
    yield "last update", lambda: behind_the_last(scene)
    yield "refused", lambda: refused(scene)
    yield "layouts", lambda: layouts(scene, everything)
    yield "time limit", lambda: time_limit(scene, everything)
    if everything:
        for part in range(3):
            yield f"kill at every call {part}", lambda p=part: sweep(lambda n: killed_in_calls(scene, n), 6, 1 + 2 * p)
        yield "kill at calls of 2", lambda: sweep(lambda n: killed_in_calls(scene, n, 2, two), 29, 3)
        for ranks in (1, 2):
            for number in (USR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
                codes = (75,) if ranks == 1 or number in (USR1, signal.SIGUSR2) else None
                yield f"{number.name}", lambda n=number, r=ranks, c=codes: stopped_by(scene, f"{n.name} to the start, {r} ranks", to_launcher, r, n, c)
        yield "TERM to rank 0", lambda: stopped_by(scene, "TERM to rank 0 of 2", to_rank(0), 2, signal.SIGTERM)
        for ranks in (1, 2):
            yield f"signals in measurements {ranks}", lambda r=ranks: in_measurements(scene, r, range(150, 9000, 590))
        yield "STOP of 2", lambda: stop_file(scene, 2)
        yield "second signal", lambda: second_signal(scene)
        for ranks in (1, 2):
            yield f"early signals {ranks}", lambda r=ranks: early_and_late_signals(scene, r)
        yield "paused", lambda: paused(scene, 5)
        yield "every step, double", lambda: every_step(scene, 2, "double")
        yield "more steps", lambda: longer(scene)
