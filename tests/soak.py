"""A long run of small steps must not grow: `make soak` (some minutes; not part of `make test`).

    python tests/soak.py [--steps 2000] [--ranks 1 2]

A small model is trained with G-effects at every step and a checkpoint at every hundredth; meanwhile the resident memory and the open
files of each rank are read from /proc. The first quarter of the run sets what is normal. Afterwards the middle number of open files
must be the same, and the middle of the resident memory and its peak at most a MiB more: less than one KiB a step."""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import SHARED, program


def settings(work, steps):
    case = SHARED / "golden/models/llama"
    return {"task": "unlearn", "output": {"directory": str(work / "out")},
            "model": {"path": str(case / "model"), "reference": str(case / "reference")},
            "data": {"template": "qa", "max_length": 70, "forget": {"path": str(case / "forget.jsonl"), "rows": 2},
                     "retain": {"path": str(case / "retain.jsonl"), "rows": 2, "held_out": 0}},
            "objective": {"name": "npo", "regularizer": [{"name": "kl"}]}, "optimizer": {"lr": 1e-6},
            "train": {"steps": steps, "batch_size": 2, "accumulation": 1}, "geffect": {"every": 1, "objectives": ["ga", "npo"], "tokens": True},
            "checkpoint": {"every": 100, "keep": 2, "export": False}}


def ranks_of(mpirun):
    """The processes that mpirun started, which run the program."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            stat = (entry / "stat").read_text()
            if entry.name.isdigit() and int(stat.rsplit(")", 1)[1].split()[1]) == mpirun and "(unlearn" in stat:
                found.append(int(entry.name))
        except OSError:
            pass
    return sorted(found)


def sample(pid):
    """Resident MiB, their peak so far, and open files; None once the process is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return (*(int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) / 1024 for key in ("VmRSS", "VmHWM")),
                len(os.listdir(f"/proc/{pid}/fd")))
    except (OSError, TypeError):
        return None


def step_of(log):
    with open(log, "rb") as f:
        f.seek(0, os.SEEK_END)
        f.seek(max(0, f.tell() - 4096))
        steps = re.findall(rb"^update +(\d+)/", f.read(), re.M)
    return int(steps[-1]) if steps else 0


def soak(steps, ranks):
    """-> {process: [(step, MiB, peak, files)]} and the exit status."""
    work = Path(tempfile.mkdtemp(prefix="unlearn-soak-"))
    (work / "input.yaml").write_text(json.dumps(settings(work, steps)))
    seen = {}
    try:
        with open(work / "log", "w") as log:
            p = subprocess.Popen(["mpirun", "-np", str(ranks), program("float"), work / "input.yaml"], stdout=log,
                                 stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 3600
            while p.poll() is None and time.monotonic() < end:
                step = step_of(work / "log")
                for pid in ranks_of(p.pid) if len(seen) < ranks else list(seen):
                    now = sample(pid)
                    if now:
                        seen.setdefault(pid, []).append((step, *now))
                time.sleep(0.1)
        finally:
            if p.poll() is None:
                p.terminate()
                p.wait()
        if p.returncode:
            print((work / "log").read_text()[-2000:])
        return seen, p.returncode
    finally:
        shutil.rmtree(work)


def verdict(pid, samples, steps):
    """Whether the last three quarters stay at what the first shows, after its beginning."""
    first = [s for s in samples if steps // 20 <= s[0] <= steps // 4]
    rest = [s for s in samples if s[0] > steps // 4 and s[0] < steps]
    if len(first) < 10 or len(rest) < 10:
        print(f"process {pid}: only {len(samples)} samples: more steps are needed")
        return False
    memory, files = ([statistics.median(s[i] for s in part) for part in (first, rest)] for i in (1, 3))
    peak = [part[-1][2] for part in (first, rest)]
    good = memory[1] <= memory[0] + 1 and peak[1] <= peak[0] + 1 and files[1] == files[0]
    print(f"process {pid}: {len(samples)} samples; first quarter, then the rest: resident {memory[0]:.2f}, {memory[1]:.2f} MiB; "
          f"peak {peak[0]:.2f}, {peak[1]:.2f} MiB; open files {files[0]:g}, {files[1]:g}: {'flat' if good else 'GROWING'}")
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    a = parser.parse_args()
    good = True
    for ranks in a.ranks:
        begin = time.monotonic()
        seen, status = soak(a.steps, ranks)
        print(f"soak: {a.steps} steps, {ranks} rank{'s' * (ranks > 1)}: exit status {status}, "
              f"{time.monotonic() - begin:.0f} s")
        good &= status == 0 and len(seen) == ranks
        for pid, samples in seen.items():
            good &= verdict(pid, samples, a.steps)
    sys.exit(not good)


main()
