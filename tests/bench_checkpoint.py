"""What writing a checkpoint costs, against a plain copy of its bytes to the same disk (not a test).

    python tests/bench_checkpoint.py [--saves 22] [--layers 8] [--hidden 512] [--precision float] [--directory .]
        [--ranks 1] [--tensor 1]

A model of random weights (100 MB in float by default; with AdamW's moments a checkpoint has three times that) is trained with a checkpoint after each step, the one before removed; the log says how long each took. After each the program
is stopped while `cp` copies it, each file and directory is synced, as the program does, and the copy before removed. Both
begin with nothing left to write. A line of JSON: medians of seconds and of the pairs' ratios."""
import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from harness import SHARED, program


def make_model(path, layers, hidden):
    source = SHARED / "golden/models/llama/model"
    config = json.loads((source / "config.json").read_text())
    config.update(num_hidden_layers=layers, hidden_size=hidden, intermediate_size=hidden * 11 // 4 // 64 * 64,
                  num_attention_heads=8, num_key_value_heads=8, head_dim=hidden // 8)
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    shutil.copy(source / "tokenizer.json", path)


def settings(work, saves, ranks, tensor):
    case = SHARED / "golden/models/llama"
    return {"task": "unlearn", "output": {"directory": str(work / "out")},
            "model": {"path": str(work / "model"), "init": "random"},
            "data": {"template": "qa", "max_length": 70, "forget": {"path": str(case / "forget.jsonl"), "rows": 2},
                     "retain": {"path": str(case / "retain.jsonl"), "rows": 2, "held_out": 0}},
            "objective": {"name": "ga"}, "train": {"steps": saves, "batch_size": max(1, ranks // tensor), "accumulation": 1},
            "geffect": {"every": 0}, "parallel": {"tensor": tensor}, "checkpoint": {"every": 1, "keep": 1, "export": False}}


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def copied(source, target):
    """Seconds of one copy, all of it on the disk."""
    begin = time.monotonic()
    subprocess.run(["cp", "-r", source, target], check=True)
    old = target.with_suffix(".old")
    for root, _, files in os.walk(target):
        for name in files:
            sync(os.path.join(root, name))
        sync(root)
    sync(target.parent)
    if old.exists():
        shutil.rmtree(old)
    seconds = time.monotonic() - begin
    target.rename(old)
    return seconds


def processes(pid):
    """Those that mpirun has started."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if int(directory.joinpath("stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(directory.name))
        except OSError:
            pass
    return found


def paired(work, a):
    """Runs the program; after each checkpoint it is stopped for as long as the copy takes. -> [(save, copy)], bytes"""
    path = work / "input.yaml"
    path.write_text(json.dumps(settings(work, a.saves, a.ranks, a.tensor)))
    pairs, size = [], 0
    start = ["mpirun", "-np", str(a.ranks)] if a.ranks > 1 else []
    p = subprocess.Popen([*start, program(a.precision), path], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    for line in p.stdout:
        saved = re.match(r"(checkpoint-\d+) saved in ([0-9.]+) s", line)
        if not saved:
            continue
        for pid in processes(p.pid) if start else [p.pid]:
            os.kill(pid, signal.SIGSTOP)
        newest = work / "out" / saved[1]
        size = sum(f.stat().st_size for f in newest.rglob("*") if f.is_file())
        pairs.append((float(saved[2]), copied(newest, work / "copy")))
        for pid in processes(p.pid) if start else [p.pid]:
            os.kill(pid, signal.SIGCONT)
    if p.wait():
        raise SystemExit(f"exit status {p.returncode}")
    return pairs[2:], size  # the first two remove nothing


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--saves", type=int, default=22)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--precision", default="float")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--tensor", type=int, default=1)
    parser.add_argument("--directory", default=".")
    a = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="bench-checkpoint-", dir=a.directory)).resolve()
    try:
        make_model(work / "model", a.layers, a.hidden)
        pairs, size = paired(work, a)
    finally:
        shutil.rmtree(work)
    save, copy, ratio = (statistics.median(x) for x in zip(*((s, c, s / c) for s, c in pairs)))
    print(json.dumps({"bench": "checkpoint", "precision": a.precision, "ranks": a.ranks, "tensor": a.tensor, "bytes": size, "save_seconds": round(save, 3),
                      "copy_seconds": round(copy, 3), "ratio": round(ratio, 2), "of_medians": round(save / copy, 2),
                      "pairs": [[s, round(c, 2)] for s, c in pairs]}))


main()
