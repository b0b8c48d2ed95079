#!/usr/bin/env python3
"""Several evaluations side by side, from their evaluation.h5: the last step of each, or every step of one.

    compare.py original=outputs/a unlearned=outputs/b retrained=outputs/c

NAME=DIRECTORY or NAME=FILE; without NAME= the directory's name heads the column. With one run its steps are the columns.
"""
import argparse
import json
import math
import signal
import sys
from pathlib import Path

import h5py

SCORES = ["loss", "probability", "truth_ratio", "exact_memorization", "extraction_strength", "rougeL_recall", "kl"]


def labels(dataset):
    return [s.decode() if isinstance(s, bytes) else str(s) for s in dataset[()]]


def columns(name, path):
    """[(heading, {number: value})], one for each committed step."""
    with h5py.File(path) as f:
        step = f["step"][()]
        sets, metrics, numbers = labels(f["set"]), labels(f["metric"]), labels(f["number"])
        mean, summary, risk = f["mean"][()], f["summary"][()], f["risk"][()]
    out = []
    for t in range(len(step)):
        if step[t] < 0:
            continue
        values = dict(zip(numbers, summary[t]))
        for k, s in enumerate(sets):
            values[f"{s}: risk"] = risk[t, k]
            values |= {f"{s}: {m}": mean[t, k, metrics.index(m)] for m in SCORES if m in metrics}
        out.append((f"{name} @{step[t]}", {k: float(v) for k, v in values.items() if math.isfinite(v)}))
    if not out:
        raise ValueError("no evaluation is complete yet")
    return out


def read(words):
    runs = []
    for word in words:
        name, _, path = word.rpartition("=")
        path = Path(path) / "evaluation.h5" if Path(path).is_dir() else Path(path)
        try:
            runs.append(columns(name or path.absolute().parent.name, path))
        except (OSError, KeyError, ValueError) as problem:
            sys.exit(f"compare.py: error: {path}: {problem}")
    if len(runs) == 1:
        return runs[0]
    return [(run[-1][0].rsplit(" @", 1)[0], run[-1][1]) for run in runs]


def print_table(table):
    rows = list(dict.fromkeys(k for _, values in table for k in values))
    width = max(map(len, rows))
    print(" " * width + "".join(f"{heading:>14}" for heading, _ in table))
    for row in rows:
        print(f"{row:{width}}" + "".join(f"{values[row]:14.4g}" if row in values else f"{'-':>14}" for _, values in table))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("run", nargs="+", help="NAME=DIRECTORY, NAME=FILE, or without NAME=")
    arguments.add_argument("--json", action="store_true", help="the same as JSON, for programs")
    chosen = arguments.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it quietly
    table = read(chosen.run)
    if chosen.json:
        json.dump(dict(table), sys.stdout, indent=1)
        print()
    else:
        print_table(table)


if __name__ == "__main__":
    main()
