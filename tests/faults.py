"""end to end: a run that cannot be lost: killed, stopped, broken disks, damaged checkpoints, no memory, odd surroundings.

    tests/faults.py             a choice, for every change
    tests/faults.py --all       all of shared/FAULTS.md A to C: an hour or less; make test-faults
    tests/faults.py WORD ...    the cases whose name has a word (of --all)
docs/FAULTS.md says which row is held by what."""
import os
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import faults_files
import faults_numbers
import faults_place
import faults_stop
from faults_scene import SHIM, Scene, shim_missing
from harness import Checks, precisions

PARTS = (faults_stop, faults_files, faults_place, faults_numbers)


def main():
    words = [a for a in sys.argv[1:] if a != "--all"]
    everything = "--all" in sys.argv[1:] or bool(words)
    if os.access("/dev/shm", os.W_OK) and "TMPDIR" not in os.environ:
        tempfile.tempdir = "/dev/shm"  # syncs cost nothing there
    checks = Checks("faults")
    if not precisions():
        checks.check(False, "no program is built")
        checks.finish()
    if shim_missing():
        checks.skip(f"{SHIM} is not built, or this is a sanitizers' build")
        checks.finish()
    scene = Scene(checks)
    cases = [(n, f) for part in PARTS for n, f in part.cases(scene, everything) if not words or any(w in n for w in words)]

    def one(case):
        name, function = case
        began = time.monotonic()
        try:
            checks.check(function() is not False, f"{name}: the fault never happened")
        except Exception:  # a test that breaks is a failure of its own, the others go on
            checks.check(False, name, traceback.format_exc())
        print(f"{time.monotonic() - began:6.1f} s  {name}", flush=True)

    with ThreadPoolExecutor(max(2, int(os.environ.get("FAULTS_JOBS", 3)))) as pool:
        list(pool.map(one, cases))
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
