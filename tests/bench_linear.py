"""What a measurement costs as it grows: seconds with twice as many instances, risk rows, blocks, against those without.

    . tests/env.sh; SHARED=../shared .venv/bin/python tests/bench_linear.py [THREADS]        run nothing else meanwhile

A drawn model of M1's blocks (docs/SPEED.md) on TOFU's rows: a run of several measurements less one of two, the median of three. A table in Markdown."""
import json
import os
import re
import shutil
import sys

from harness import ROOT, SHARED, Checks, run_input

REPEATED, MANY = 3, 5
BASE = {"instances": 40, "risk rows": 60, "blocks": 6}
WORDS = {"instances": "forget rows whose effects are measured", "risk rows": "rows of each of the two risks", "blocks": "blocks of the model"}


def model(directory, blocks):
    """The demo's tokenizer with a shape like M1's."""
    path = directory / f"model{blocks}"
    if not path.exists():
        shutil.copytree(ROOT / "inputs/demo/model", path)
        config = json.loads((path / "config.json").read_text())
        config.update(hidden_size=288, intermediate_size=768, num_hidden_layers=blocks, num_attention_heads=6, num_key_value_heads=6,
                      head_dim=48)
        (path / "config.json").write_text(json.dumps(config))
    return str(path)


def seconds_of(checks, size, threads, every):
    """Of a whole run of MANY + 1 updates that measures after each of so many."""
    tofu = SHARED / "data/tofu"
    forget, retain = (str(tofu / f"{name}.json") for name in ("forget05", "retain95"))
    settings = {"task": "unlearn", "output": {"directory": "out"},
                "model": {"path": model(checks.directory, size["blocks"]), "init": "random"},
                "train": {"steps": MANY + 1, "batch_size": 1, "accumulation": 1}, "optimizer": {"name": "sgd", "warmup_steps": 0},
                "data": {"max_length": 200, "forget": {"path": forget, "rows": size["instances"]},
                         "retain": {"path": retain, "rows": 200, "held_out": 0}},
                "parallel": {"threads": threads}, "objective": "npo",
                "geffect": {"every": every, "objectives": ["npo"], "fidelity": False, "risks": {
                    "forget": {"data": forget, "rows": size["risk rows"]}, "retain": {"data": retain, "rows": size["risk rows"]}}}}
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    done = run_input(settings, 1, "float", checks.directory, ["--overwrite"], timeout=900)
    if done.returncode:
        sys.exit(done.stderr)
    return float(re.search(r"^total ([\d.]+) s", done.stdout, re.M).group(1))


def measured(checks, size, threads):
    """Seconds of one measurement: MANY + 2 of them, less two."""
    runs = [seconds_of(checks, size, threads, 1) - seconds_of(checks, size, threads, MANY + 1) for _ in range(REPEATED)]
    return sorted(runs)[REPEATED // 2] / MANY


def main():
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    checks = Checks("linear")
    base = measured(checks, BASE, threads)
    print(f"| twice as many | seconds, from {base:.3f} | times |\n|---|---|---|")
    for what in BASE:
        seconds = measured(checks, BASE | {what: 2 * BASE[what]}, threads)
        print(f"| {WORDS[what]}: {2 * BASE[what]} | {seconds:.3f} | {seconds / base:.2f} |", flush=True)
    shutil.rmtree(checks.directory)


if __name__ == "__main__":
    main()
