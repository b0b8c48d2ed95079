"""end to end: a run that an older program began goes on as it began.

Programs before optimizer.decay let norms and biases decay too; those before input_rules measured {name: npo} with the parameters of the
npo that was trained. A checkpoint of theirs is made here from one of this program: its manifest loses the keys, and gets the hash
that it then has."""
import ctypes
import json
import shutil

import h5py
from harness import SHARED, Checks, precisions, run_input, safetensors

CASE = SHARED / "golden/models/stablelm"
FIRST, ALL = 3, 6


def settings(directory, steps, **optimizer):
    return {"task": "unlearn", "output": {"directory": directory}, "model": {"path": str(CASE / "model")},
            "data": {"forget": str(CASE / "forget.jsonl"), "retain": str(CASE / "retain.jsonl")}, "objective": "ga",
            "optimizer": {"lr": 1e-3, "weight_decay": 0.5, "schedule": "constant", "warmup_steps": 0, **optimizer},
            "train": {"steps": steps, "batch_size": 2, "accumulation": 1}, "geffect": {"every": 0},
            "checkpoint": {"every": FIRST}}


def make_older(directory, change=lambda line: "" if line.strip().startswith("decay:") else line):
    """Changes lines of the input that the checkpoint keeps, and takes out what says how it is read."""
    path = directory / f"checkpoint-{FIRST}/manifest.json"
    manifest = json.loads(path.read_text())
    manifest.pop("xxh3"), manifest.pop("input_rules")
    before = manifest["input"]
    manifest["input"] = "".join(map(change, before.splitlines(keepends=True)))
    assert manifest["input"] != before
    text = json.dumps(manifest, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    xxh3 = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
    xxh3.restype, xxh3.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
    path.write_text(json.dumps({**manifest, "xxh3": f"{xxh3(text, len(text)):016x}"}))


def final(directory):
    return safetensors(directory / "model/model.safetensors")


def same(a, b):
    return all((a[k] == b[k]).all() for k in a)


def main():
    checks = Checks("older")
    checks.need(CASE)
    top, precision = checks.directory, precisions()[0]

    def go(directory, steps, options=(), **optimizer):
        return run_input(settings(directory, steps, **optimizer), 1, precision, top, options)

    for name, steps, decay in (("all", ALL, "all"), ("matrices", ALL, "matrices"), ("old", FIRST, "all"), ("new", FIRST, "matrices")):
        done = go(name, steps, decay=decay)
        checks.check(done.returncode == 0, f"{name}: exit status {done.returncode}", done.stderr)
    checks.check(not same(final(top / "all"), final(top / "matrices")), "what decays matters")
    make_older(top / "old")
    shutil.copytree(top / "old", top / "other")
    done = go("old", ALL, ["--restart"])
    checks.check(done.returncode == 0, f"goes on: exit status {done.returncode}", done.stderr)
    checks.check(same(final(top / "old"), final(top / "all")), "an older run goes on with decay of all parameters")
    checks.check("of all parameters" in done.stdout, "the log says what decays", done.stdout)
    checks.check("decay: all" in (top / "old/input.yaml").read_text(), "so does the resolved input")
    done = go("other", ALL, ["--restart"], decay="matrices")
    checks.check(done.returncode == 1 and "optimizer.decay is not what it was: now matrices, then all" in done.stderr,
                 "another decay is refused", done.stderr)
    done = go("other", ALL, ["--restart"], decay="all")
    checks.check(done.returncode == 0 and same(final(top / "other"), final(top / "all")), "the same decay is not", done.stderr)
    done = go("new", ALL, ["--restart"])
    checks.check(done.returncode == 0 and same(final(top / "new"), final(top / "matrices")), "a run of this program keeps its own",
                 done.stderr)
    measured(checks, top, precision)
    checks.finish()


def measured(checks, top, precision):
    """What was measured under a bare mapping, and risks with keys that did nothing."""
    def go(directory, steps, entry, risk, options=()):
        given = {"objective": {"name": "npo", "beta": 0.05},
                 "geffect": {"every": 2, "objectives": [entry, "ga"], "risks": {"unlearn": {"data": "forget", **risk}, "retain": {"data": "retain"}}}}
        return run_input({**settings(directory, steps), **given}, 1, precision, top, options)

    own = {"name": "npo", "beta": 0.05}
    for name, steps in (("whole", ALL), ("begun", FIRST)):
        done = go(name, steps, own, {})
        checks.check(done.returncode == 0, f"{name}: exit status {done.returncode}", done.stderr)
    entry = "      beta: "  # of the measured one; that of the trained one is further out
    older = lambda line: "" if line.startswith(entry) else line.replace("      answer: answer", "      answer: paraphrased_answer")
    make_older(top / "begun", older)
    done = go("begun", ALL, {"name": "npo"}, {}, ["--restart"])
    checks.check(done.returncode == 1 and "geffect.objectives is not what it was (the program that made it gave {name: npo}" in done.stderr,
                 "what would measure something else is refused, and says what to write", done.stderr)
    done = go("begun", ALL, own, {"answer": "answer", "question": "question"}, ["--restart"])
    checks.check(done.returncode == 0 and "which an earlier program has made" in done.stdout, "with its parameters it goes on", done.stderr)
    with h5py.File(top / "whole/geffect.h5") as a, h5py.File(top / "begun/geffect.h5") as b:
        checks.check((a["geffect"][:] == b["geffect"][:]).all(), "and measures the same")
    resolved = top / "whole/input.yaml"
    resolved.write_text("".join(map(older, resolved.read_text().splitlines(keepends=True))))
    done = go("whole", ALL, own, {}, ["--restart"])
    checks.check(done.returncode == 0 and "the run is finished" in done.stdout, "a finished older run is finished", done.stderr)
    done = go("whole", ALL, {"name": "npo", "beta": 0.06}, {}, ["--restart"])
    checks.check(done.returncode == 1 and "geffect.objectives is not what it was" in done.stderr, "but not with another input", done.stderr)


if __name__ == "__main__":
    main()
