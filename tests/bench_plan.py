"""The plan against measured runs: memory of every rank, seconds of an update and of a measurement.

    tests/bench_plan.py [memory] [seconds] [SHAPE ...] [NP ...]   without, M1 to M3 and all else; seconds want a quiet machine
The models are drawn; rows are those of the demo. Prints a line for each shape and number of ranks, and what is beyond 5 % of
memory or 25 % of time."""
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
from harness import ROOT, Checks, program

DEMO = ROOT / "inputs/demo"
SHAPES = {  # but for the last they are those of tests/bench.c
    "M1": {"model_type": "llama", "hidden_size": 288, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 768,
           "vocab_size": 4096, "max_position_embeddings": 1024},
    "M2": {"model_type": "gpt_neox", "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8,
           "intermediate_size": 2048, "vocab_size": 4096, "max_position_embeddings": 1024, "hidden_act": "gelu"},
    "M3": {"model_type": "llama", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
           "intermediate_size": 2048, "vocab_size": 4096, "max_position_embeddings": 1024},
    "M0": {"model_type": "llama", "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 344,
           "vocab_size": 1024, "max_position_embeddings": 512},
}
STEPS = 5
LAYOUTS = {1: [(1, 1)], 2: [(2, 1), (1, 2)], 4: [(4, 1), (2, 2), (1, 4)]}


def settings(data, tensor, every=2, **parallel):
    return {"task": "unlearn", "seed": 1, "output": {"directory": "out"}, "model": {"path": "base", "init": "random"},
            "data": {"forget": {"path": str(DEMO / "forget05.jsonl")},
                     "retain": {"path": str(DEMO / "retain95.jsonl"), "held_out": 0}},
            "parallel": {"data": data, "tensor": tensor, **parallel},
            "objective": {"name": "npo", "regularizer": [{"name": "gd"}]},
            "train": {"steps": STEPS, "batch_size": 16, "accumulation": 1},
            "geffect": {"every": every, "risks": {"unlearn": {"data": "forget"}, "retain": {"data": "retain", "rows": 40}}},
            "checkpoint": {"export": False}}


def make_model(directory, shape):
    shutil.rmtree(directory / "base", ignore_errors=True)
    (directory / "base").mkdir()
    (directory / "base/config.json").write_text(json.dumps(SHAPES[shape] | {"eos_token_id": 0}))
    shutil.copy(DEMO / "model/tokenizer.json", directory / "base")


def rank(command):
    """One rank of a run: the program as a child, whose peak memory goes to a file of its own."""
    code = subprocess.call(command)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    Path(f"peak.{os.environ['OMPI_COMM_WORLD_RANK']}").write_text(str(peak))
    sys.exit(code)


def start(directory, ranks, every, layout, *options, **parallel):
    """-> the log, and the peak of every rank in MB."""
    (directory / "input.yaml").write_text(json.dumps(settings(*layout, every, **parallel)))
    shutil.rmtree(directory / "out", ignore_errors=True)
    command = ["mpirun", "-np", str(ranks), sys.executable, __file__, "--rank", str(program()), *options, "input.yaml"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=900)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.returncode}\n{done.stderr}")
    return done.stdout, [float((directory / f"peak.{r}").read_text()) for r in range(ranks)]


def compare(checks, what, planned, measured, most, less=0):
    """less: how much less, beside that, is no error, in the same unit."""
    line = f"{what}: planned {planned:.4g}, measured {measured:.4g} ({measured / planned - 1:+.1%})"
    print(line, flush=True)
    checks.check(-most * planned - less <= measured - planned <= most * planned, line)


def memory(checks, what, ranks, layout, of_first=0, **parallel):
    """of_first: MB that only the first rank has, for which all are planned."""
    log, peaks = start(checks.directory, ranks, 2, layout, **parallel)
    planned = float(re.search(r"^memory     ([\d.]+) MB", log, re.M)[1])
    compare(checks, f"{what}: MB of the first rank", planned, peaks[0], 0.05)
    if ranks > 1:
        compare(checks, f"{what}: MB of the others, most", planned, max(peaks[1:]), 0.05, of_first)
    return log


UNIT = {"s": 1, "min": 60}


def predicted(directory, ranks, layout):
    """Seconds of an update and of a measurement, and the speed that says so."""
    check, _ = start(directory, ranks, 1, layout, "--check")
    said = re.search(r"^time +an update ([\d.e-]+) (s|min), a measurement ([\d.e-]+) (s|min)", check, re.M)
    return np.array([float(said[1]) * UNIT[said[2]], float(said[3]) * UNIT[said[4]]]), re.search(r"^speed +(.*)", check, re.M)[1]


def taken(directory, ranks, layout):
    """An update is the median of those after the first; a measurement what a run with six takes longer than one without."""
    total = {}
    for every in (0, 1):
        log, _ = start(directory, ranks, every, layout)
        total[every] = float(re.search(r"^total ([\d.]+) s", log, re.M)[1])
        if every == 0:
            with h5py.File(directory / "out/train.h5") as f:
                update = float(np.nanmedian(f["seconds"][1:-1]))
    return np.array([update, (total[1] - total[0]) / (STEPS + 1)])


def seconds(checks, what, ranks, layout):
    """Predictions before and after the runs; where they disagree the machine was not quiet, and all is done again."""
    for attempt in range(3):
        before, speed = predicted(checks.directory, ranks, layout)
        measured = taken(checks.directory, ranks, layout)
        after, _ = predicted(checks.directory, ranks, layout)
        if np.all(np.abs(after / before - 1) < 0.15):
            break
        print(f"{what}: not quiet: {before} s were predicted before, {after} after ({speed})", flush=True)
    else:
        checks.skip(f"{what}: the machine is not quiet")
        return
    for k, name in enumerate(("an update", "a measurement")):
        compare(checks, f"{what}: seconds of {name}", (before[k] + after[k]) / 2, measured[k], 0.25)
    print("   ", speed, flush=True)


def main():
    words = sys.argv[1:]
    shapes = [s for s in SHAPES if s in words] or list(SHAPES)[:3]
    ranks = [int(w) for w in words if w.isdigit()] or list(LAYOUTS)
    parts = [f for f in (memory, seconds) if f.__name__ in words] or [memory, seconds]
    checks = Checks("plan")
    for shape in shapes:
        make_model(checks.directory, shape)
        for n in ranks:
            for layout in LAYOUTS[n]:
                what = f"{shape}, {n} rank{'' if n == 1 else 's'}, data {layout[0]} x tensor {layout[1]}"
                for part in parts:
                    part(checks, what, n, layout)
                if memory in parts and layout == (4, 1):
                    memory(checks, f"{what}, shard: full", n, layout, shard="full")
    checks.finish()


if __name__ == "__main__":
    rank(sys.argv[2:]) if sys.argv[1:2] == ["--rank"] else main()
