"""Steps of two data ranks on two nodes whose cable has a given rate, of one program or of several in turns.

    python tests/bench_network.py [--rate 1gbit] [--shape M1] [--what step] [--repetitions 3] [--rounds 2] [--shard] [BENCH ...]
The nodes are those of tests/two_nodes.py, the cable's rate is that of `tc ... tbf`; each rank has one thread, on one core.
BENCH: build/float/tests/bench by default (`make build/float/tests/bench`); another commit's beside it shows what has changed.
Prints for each: what, seconds, and the first process's seconds by phase, the warming-up among them."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import two_nodes
from harness import ROOT

PHASES = ("forward", "backward", "optimiser", "messages")


def limit(nodes, rate):
    """Both ends of the cable send at this rate, with room for 50 ms of it."""
    for start, end in (([], "cable"), (nodes.room, "cable-b")):
        two_nodes.sh(*start, "tc", "qdisc", "add", "dev", end, "root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms")


def measure(nodes, bench, asked):
    here = {"WHAT": asked.what, "PHASES": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | ({"SHARD": "1", "AHEAD": "1"} if asked.shard else {})
    program = f"exec taskset -c $OMPI_COMM_WORLD_RANK {bench} {asked.shape} 1 {asked.repetitions}"
    exported = [x for key in here for x in ("-x", key)]
    done = subprocess.run(["mpirun", *nodes.mpirun(1, 1), *exported, "-np", "2", "sh", "-c", program],
                          env=os.environ | here, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{bench}: status {done.returncode}: {done.stderr[-1000:]}")
    seconds = {line.split()[0]: line.split()[-1] for line in done.stderr.splitlines() if line.startswith(PHASES)}
    for line in map(json.loads, done.stdout.splitlines()):
        print(f"{bench} {asked.rate} {line['shape']} {line['what']}: {line['seconds']} s, least {line['least']} s;",
              ", ".join(f"{name} {seconds[name]}" for name in PHASES), flush=True)


def main():
    p = argparse.ArgumentParser()
    for name, usual in (("rate", "1gbit"), ("shape", "M1"), ("what", "step"), ("repetitions", 3), ("rounds", 2)):
        p.add_argument(f"--{name}", default=usual, type=type(usual))
    p.add_argument("--shard", action="store_true", help="the data ranks share all states")
    p.add_argument("bench", nargs="*", default=[ROOT / "build/float/tests/bench"])
    asked = p.parse_args()
    if two_nodes.INSIDE not in os.environ:
        sys.exit(two_nodes.tools_missing() or two_nodes.enter())
    os.environ.pop("OMPI_MCA_mpi_yield_when_idle", None)  # each has a core
    with tempfile.TemporaryDirectory() as directory:
        nodes = two_nodes.Nodes(Path(directory))
        limit(nodes, asked.rate)
        for _ in range(asked.rounds):
            for bench in asked.bench:
                measure(nodes, bench, asked)
        nodes.lose()


if __name__ == "__main__":
    main()
