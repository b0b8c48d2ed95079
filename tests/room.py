"""end to end: what a run chooses by the memory that it may have: whether data ranks share all states, and how many tokens a pass has; all
processes alike, whoever has least; the same when it goes on. Limits are told by tests/room_shim.c, preloaded."""
import json
import os
import re
import shutil
import subprocess

from harness import ROOT, Checks, precisions, run
from measures import Place
from recompute import equal, results, shaped

FILES = ["geffect.h5", "train.h5"]
WAYS = {"recompute": "none", "logits": 1024, "risks": "together"}  # one way each, so that what is tested is all there is to give up
PLENTY = 16e9


def settings(place, steps=2, **parallel):
    s = place.settings(2, 1, "unlearn", train={"steps": steps}, optimizer={"name": "adamw", "lr": 1e-5}, geffect={"objectives": ["npo", "ga"], "every": 1},
                       objective={"name": "npo", "regularizer": []})
    s["checkpoint"] = {"every": 1, "keep": 9, "export": False}
    s["parallel"] = {"data": 2, "tensor": 1, **WAYS, **parallel}
    return s


def start(place, precision, options, **room):
    names = {"LD_PRELOAD": str(place.directory / "shim.so"), **{k: str(int(v)) for k, v in room.items()}}
    os.environ.update(names)
    try:
        return run([*options, "input.yaml"], 2, precision, place.directory)
    finally:
        for name in names:
            os.environ.pop(name)


def megabytes(checks, place, precision, **parallel):
    """What a process takes so, in bytes."""
    (place.directory / "input.yaml").write_text(json.dumps(settings(place, **parallel)))
    done = start(place, precision, ["--check"])
    found = re.search(r"^memory +([\d.]+) MB a process", done.stdout, re.M)
    checks.check(found, f"--check with {parallel}", done.stderr[-1000:])
    return float(found[1]) * 1e6 if found else PLENTY


def made(checks, place, precision, what, s, options=("--overwrite",), **room):
    """Runs it. -> its log, and its results"""
    (place.directory / "input.yaml").write_text(json.dumps(s))
    done = start(place, precision, options, **room)
    if not checks.check(done.returncode == 0, f"{what}: exit status {done.returncode}", done.stderr[-1500:]):
        return "", None
    return (place.directory / "out/run.log").read_text(), results(place.directory, FILES)


def shares(checks, place, precision):
    """By the process that has least, and to the last bit the same, since each has one pass."""
    none, full = (megabytes(checks, place, precision, tokens=1024, shard=shard) for shard in ("none", "full"))
    checks.check(none - full > 8e6, f"{precision}: sharing saves so much", f"{none} {full}")
    between = (none + full) / 2
    _, expected = made(checks, place, precision, f"{precision}, none", settings(place, tokens=1024, shard="none"), ROOM=PLENTY)
    for what, room, shared in (("enough", {"ROOM": none + 3e6}, False), ("less on one", {"ROOM_OF_0": PLENTY, "ROOM_OF_1": between}, True)):
        log, found = made(checks, place, precision, f"{precision}, {what}", settings(place, tokens=1024), **room)
        said = re.search(r"^shard +(none|full): ([\d.]+) MB a process( unsharded)?, ([\d.]+) MB are free$", log, re.M)
        checks.check(said and (said[1] == "full") == shared == bool(said[3]) and abs(float(said[2]) * 1e6 - none) < 3e6,
                     f"{precision}, {what}: the log says why", log[:3000])
        checks.check(("shared     all states" in log) == shared, f"{precision}, {what}: all states are shared", log[:3000])
        if found and expected:
            equal(checks, f"{precision}, {what}", expected, found)


def goes_on(checks, place, precision):
    """Passes of few tokens, and all states shared, sum in another order: where memory asked for them a run goes on so, with all that it wants."""
    tight = megabytes(checks, place, precision, tokens=64, shard="full") + 2e6
    passes = re.compile(r"^passes     at most (\d+) tokens(, or the memory would not do|, as it was)?;", re.M)
    _, other = made(checks, place, precision, f"{precision}, plenty", settings(place, 3, shard="none"), ROOM=PLENTY)
    log, whole = made(checks, place, precision, f"{precision}, tight", settings(place, 3), ROOM=tight)
    said = passes.search(log)
    checks.check(said and int(said[1]) < 128 and said[2] == ", or the memory would not do" and "shared     all states" in log,
                 f"{precision}, tight: small passes, all shared", log[:3000])
    if not whole or not other:
        return
    checks.check(whole["train.h5"]["loss"] != other["train.h5"]["loss"], f"{precision}: with plenty sums are others, or this shows nothing")
    (place.directory / "out/run.finished").unlink()  # or nothing is left to do
    for step in (2, 3):
        shutil.rmtree(place.directory / f"out/checkpoint-{step}")
    log, found = made(checks, place, precision, f"{precision}, gone on", settings(place, 3), ("--restart",), ROOM=PLENTY)
    if found:
        said = passes.findall(log)[-1]
        checks.check("as it was: to the last bit" in log and said[1] == ", as it was" and "shard      full, as it was" in log,
                     f"{precision}, gone on: the log says how", log[:6000])
        equal(checks, f"{precision}, gone on", whole, found)


def generates(checks, place, precision):
    """Ranks share the weights where they have to, and answer the same."""
    shaped(place, {"num_hidden_layers": 12})
    s = {"task": "generate", "output": {"directory": "out"}, "model": {"path": "model", "init": "random"}, "parallel": {"data": 2, "tensor": 1},
         "generate": {"prompts": "prompts.jsonl", "max_length": 16, "slots": 1}}
    (place.directory / "prompts.jsonl").write_text("".join(json.dumps({"question": q, "answer": ""}) + "\n" for q in ("Where was the author born?", "What is the book?")))
    needs, answers = {}, []
    for shard in ("none", "full"):
        s["parallel"]["shard"] = shard
        (place.directory / "input.yaml").write_text(json.dumps(s))
        found = re.search(r"^memory +([\d.]+) MB a process", start(place, precision, ["--check"]).stdout, re.M)
        needs[shard] = float(found[1]) * 1e6 if found else 0
    checks.check(needs["none"] - needs["full"] > 2e6, f"generate, {precision}: sharing saves so much", str(needs))
    s["parallel"]["shard"] = "auto"
    (place.directory / "input.yaml").write_text(json.dumps(s))
    for room in (PLENTY, sum(needs.values()) / 2):
        done = start(place, precision, ["--overwrite"], ROOM_OF_0=PLENTY, ROOM_OF_1=room)
        shared = "shard      full: " in done.stdout
        checks.check(done.returncode == 0 and shared == (room < PLENTY), f"generate, {precision}, room for {room:.3g}", done.stdout[-1500:] + done.stderr)
        answers.append((place.directory / "out/generations.jsonl").read_text() if done.returncode == 0 else "")
    checks.check(answers[0] == answers[1] and answers[0].count("\n") == 2, f"generate, {precision}: the same answers", str(answers))


def main():
    checks = Checks("room")
    place = Place(checks)
    shaped(place, {"hidden_size": 256, "intermediate_size": 768, "head_dim": 64, "num_hidden_layers": 4})
    subprocess.run(["mpicc", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o", str(place.directory / "shim.so"),
                    str(ROOT / "tests/room_shim.c"), "-ldl"], check=True)
    for precision in precisions()[-1:]:
        shares(checks, place, precision)
        goes_on(checks, place, precision)
        generates(checks, place, precision)
    checks.finish()


if __name__ == "__main__":
    main()
