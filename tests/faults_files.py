"""Faults B1-B3, B9: damaged checkpoints, disks and calls that fail."""
import ctypes
import errno
import json
import os
import random
import resource
import shutil
import subprocess

import h5py
from faults_scene import difference, everything_below, is_root, start_with, sweep
from harness import precisions

STATES = ("weights", "first_moment", "second_moment")


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
    scene.ended("no checkpoint", start_with(d, ["--restart"]).wait(), 1, "out", "no checkpoint", "anew with --overwrite")
    scene.ended("no checkpoint: the cure", start_with(d, ["--overwrite"]).wait(), 0)
    scene.same("no checkpoint: the cure", d)
    (d / "out/input.yaml").unlink()
    scene.ended("results of no run", start_with(d, ["--restart"]).wait(), 1, "out", "move it, or choose another directory")
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
    for name, old, new, word in (("later format", '"format": 2', '"format": 3', "format"),
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
    for call, how, n in (("write", errno.ENOSPC, 5), ("write", errno.EIO, 60), ("fsync", errno.EIO, 8), ("fsync", errno.EINTR, 8), ("space", errno.EINTR, 8), ("rename", errno.EIO, 4),
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
    for call, how, every in (("write", errno.ENOSPC, 3), ("write", "short", 7), ("write", errno.EINTR, 11), ("space", errno.ENOSPC, 1), ("fsync", errno.EINTR, 3),
                             ("fsync", errno.EIO, 1), ("rename", errno.EIO, 1), ("open", errno.EIO, 1), ("remove", errno.EIO, 1)):
        for part in range(3):  # three at a time
            yield f"sweep {call} {how} {part}", lambda c=call, h=how, e=every, p=part: sweep(
                lambda n: broken_call(scene, c, h, n), 3 * e, 1 + p * e)
    yield "sweep write from then on", lambda: sweep(lambda n: broken_call(scene, "write,space,fsync", errno.EIO, n, 2, 0), 17)
