"""The plan against measured runs: memory of every rank, seconds of an update and of a measurement.

    tests/bench_plan.py [memory] [time] [SHAPE ...] [NP ...]      all without; time wants a machine without other work
The models are drawn; rows are those of the demo. Prints a line for each shape and number of ranks, and what is beyond 5 % of memory
or 25 % of time."""
import json
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
SHAPES = {  # the first two are those of tests/bench.c
    "M1": {"model_type": "llama", "hidden_size": 288, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 768,
           "vocab_size": 4096, "max_position_embeddings": 1024},
    "M2": {"model_type": "gpt_neox", "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "intermediate_size": 2048,
           "vocab_size": 4096, "max_position_embeddings": 1024, "hidden_act": "gelu"},
    "M0": {"model_type": "llama", "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 344,
           "vocab_size": 1024, "max_position_embeddings": 512},
}
LAYOUTS = {1: [(1, 1)], 2: [(2, 1), (1, 2)], 4: [(4, 1), (2, 2), (1, 4)]}


def settings(data, tensor):
    return {"task": "unlearn", "seed": 1, "output": {"directory": "out"}, "model": {"path": "base", "init": "random"},
            "data": {"forget": {"path": str(DEMO / "forget05.jsonl")}, "retain": {"path": str(DEMO / "retain95.jsonl"), "held_out": 0}},
            "parallel": {"data": data, "tensor": tensor},
            "objective": {"name": "npo", "regularizer": [{"name": "gd"}]}, "train": {"steps": 6, "batch_size": 16, "accumulation": 1},
            "geffect": {"every": 2, "risks": {"unlearn": {"data": "forget"}, "retain": {"data": "retain", "rows": 40}}},
            "checkpoint": {"export": False}}


def make_model(directory, shape):
    shutil.rmtree(directory / "base", ignore_errors=True)
    (directory / "base").mkdir()
    (directory / "base/config.json").write_text(json.dumps(SHAPES[shape] | {"eos_token_id": 0}))
    shutil.copy(DEMO / "model/tokenizer.json", directory / "base")


def start(directory, ranks, *options):
    """Each rank as a child of this script, which prints the child's peak memory."""
    command = ["mpirun", "-np", str(ranks), sys.executable, __file__, "--rank", str(program()), *options, "input.yaml"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=240)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.returncode}\n{done.stderr}")
    return done.stdout, [int(n) * 1024 / 1e6 for n in re.findall(r"^peak (\d+)$", done.stdout, re.M)]


def rank(command):
    code = subprocess.call(command)
    print(f"peak {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}", flush=True)
    sys.exit(code)


def measured_seconds(directory):
    """Medians of an update, without the first, and of a measurement."""
    with h5py.File(directory / "out/train.h5") as f:
        update = np.median(f["seconds"][1:-1])
    log = (directory / "out/run.log").read_text()
    return update, log


def main():
    words = sys.argv[1:]
    shapes = [s for s in SHAPES if s in words] or list(SHAPES)
    ranks = [int(w) for w in words if w.isdigit()] or list(LAYOUTS)
    checks = Checks("plan")
    for shape in shapes:
        make_model(checks.directory, shape)
        for n in ranks:
            for data, tensor in LAYOUTS[n]:
                what = f"{shape}, {n} ranks, data {data} x tensor {tensor}"
                (checks.directory / "input.yaml").write_text(json.dumps(settings(data, tensor)))
                shutil.rmtree(checks.directory / "out", ignore_errors=True)
                log, peaks = start(checks.directory, n)
                planned = float(re.search(r"^memory     ([\d.]+) MB", log, re.M)[1])
                print(f"{what}: memory planned {planned:.1f} MB, peak {min(peaks):.1f} to {max(peaks):.1f} ({max(peaks)/planned-1:+.1%})")
                print(re.search(r"^memory  .*", log, re.M)[0])
    checks.finish()


if __name__ == "__main__":
    rank(sys.argv[2:]) if sys.argv[1:2] == ["--rank"] else main()
