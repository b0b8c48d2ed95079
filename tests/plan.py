"""end to end: --check: memory against runs, other machines than this one, layouts and which of them to take, digests."""
import json
import os
import re
from unittest import mock

import bench_plan
from harness import VARIANT, Checks, precisions, run

checks = Checks("plan")
OF_FIRST = 6  # MB at the start that only the first rank has, for which all are planned (seen: 5)


def planned(ranks=1, code=0, parallel=None, **plan):
    """The end of --check for this machine, its weights not drawn where it is another one."""
    text = bench_plan.settings("auto", "auto", **(parallel or {})) | {"plan": plan}
    (checks.directory / "input.yaml").write_text(json.dumps(text))
    done = run(["--check", "input.yaml"], ranks, precisions()[0], checks.directory)
    checks.check(done.returncode == code, f"--check, {plan}", done.stderr)
    return done.stdout.split("what it comes to:\n")[-1]


def layouts(text):
    """{(data, tensor, shard): (MB a process, s an update, s a measurement, fits)}"""
    rows = re.findall(r"^ +(\d+) x (\d+) +(full)? +([\d.]+) +[\d.]+ +([\d.e+-]+) +([\d.e+-]+) *(does not fit)?", text, re.M)
    return {(int(d), int(t), full): (float(m), float(u), float(e), not no) for d, t, full, m, u, e, no in rows}


def another_machine():
    text = planned(processes=8, per_node=2, flops=1e11, memory=16e9, bandwidth=1e10, network=1e9)
    found = layouts(text)
    allowed = {(8 // t, t, full) for t in (1, 2, 4) for full in ("", "full")}
    checks.check(set(found) == allowed, "eight processes: what four heads and sixteen rows allow", text)
    only = "layout     8 processes" in text and text.splitlines()[-1].startswith("digest: none")
    checks.check(only, "it is planned for, not run", text)
    checks.check(found[2, 4, ""][0] < found[4, 2, ""][0] < found[8, 1, ""][0], "tensor ranks share the memory", text)
    pairs = [(found[d, t, "full"], found[d, t, ""]) for d, t in ((8, 1), (4, 2))]
    shared = all(full[0] < none[0] and full[1] > none[1] for full, none in pairs)
    checks.check(shared, "shard: full takes less memory, and more time", text)
    best = min(found, key=lambda k: 5 * found[k][1] + 4 * found[k][2])
    advice = f"advice     parallel: {{data: {best[0]}, tensor: {best[1]}{', shard: full' if best[2] else ''}}}"
    checks.check(advice in text, "the shortest run is advised", text)
    twice = layouts(planned(processes=8, per_node=2, flops=2e11, memory=16e9, bandwidth=2e10, network=2e9))
    checks.check(all(abs(found[k][1] / twice[k][1] - 2) < 0.02 for k in found), "all rates twice: half the time",
                 str((found, twice)))
    slow = layouts(planned(processes=8, per_node=2, flops=1e11, memory=16e9, bandwidth=1e10, network=1e6))
    checks.check(slow[2, 4, ""][1] > 1.2 * found[2, 4, ""][1], "a slow network costs time", str((found, slow)))


def too_little_memory():
    large_passes = {"tokens": 1024}
    small, large = (layouts(planned(processes=8, per_node=2, memory=m, parallel=large_passes)) for m in (130e6, 16e9))
    checks.check(all(fits for *_, fits in large.values()), "a large node has room", str(large))
    checks.check(small[2, 4, ""][3] and not small[8, 1, ""][3], "a small one for some layouts", str(small))
    text = planned(processes=2, per_node=2, memory=112e6, parallel=large_passes)
    said = r"^advice     none fits: take (\d+) processes, 2 on each node: parallel: \{data: (\d+), tensor: (\d+)\}"
    more = re.search(said, text, re.M)
    checks.check(more and int(more[1]) == 4 == int(more[2]) * int(more[3]), "how many more are needed", text)
    text = planned(processes=2, per_node=2, memory=20e6)
    checks.check("advice     none fits, nor would" in text, "where no number would do", text)


def this_machine():
    text = planned(2)
    ends = re.search(r"^digest: [0-9a-f]{16}$", text, re.M)
    checks.check(set(layouts(text)) == {(2, 1, ""), (2, 1, "full"), (1, 2, "")} and ends, "two processes here", text)
    sent = re.search(r"^messages   a process sends in an update [\d.]+ MB to data ranks; in a measurement", text, re.M)
    checks.check(sent, "what they send", text)


def threads():
    """Those that are asked for, and no more than the cores of the process, whether or not OpenMP binds threads to places."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        checks.skip("threads: one core")
        return
    both, one = ",".join(map(str, cores)), str(cores[0])
    for binding, found in (({}, 2), ({"OMP_PROC_BIND": "true"}, 2), ({"OMP_PLACES": "threads"}, 2), ({"GOMP_CPU_AFFINITY": both}, 2),
                           ({"OMP_PLACES": f"{{{one}}}"}, 1)):
        with mock.patch.dict(os.environ, {"OMP_NUM_THREADS": "2"} | binding):
            text = planned()
        checks.check(f"data 1 x tensor 1, {found} thread{'s' * (found > 1)} each" in text, f"two threads of {len(cores)} cores, {binding}", text)


def digest(task, regularizer):
    """What --check says of an input that measures two objectives, or trains one, with these regularisers beside it."""
    text = bench_plan.settings(1, 1) | {"task": task, "objective": {"name": "npo", "regularizer": regularizer}}
    if task == "geffect":
        del text["train"]
        text["geffect"] = {"objectives": ["ga", "npo"], "risks": text["geffect"]["risks"]}
    (checks.directory / "input.yaml").write_text(json.dumps(text))
    done = run(["--check", "input.yaml"], 1, precisions()[0], checks.directory)
    checks.check(done.returncode == 0, f"--check of {task} with {regularizer}", done.stderr)
    return done.stdout.splitlines()[-1]


def digests():
    for task in ("unlearn", "geffect"):
        one, spelled, twice, other = (digest(task, r) for r in ("gd", [{"name": "gd", "weight": 1}], [{"name": "gd", "weight": 2}], "kl"))
        checks.check(one == spelled, f"{task}: one computation, one digest", str((one, spelled)))
        checks.check(len({one, twice, other}) == 3, f"{task}: regularisers count", str((one, twice, other)))


def main():
    if not precisions():
        checks.check(False, "no program is built")
        checks.finish()
    bench_plan.make_model(checks.directory, "M0")
    another_machine()
    too_little_memory()
    this_machine()
    threads()
    digests()
    if VARIANT or "float" not in precisions():
        checks.skip("memory: sanitizers have their own")
    else:
        bench_plan.memory(checks, "memory, a process", 1, (1, 1))
        bench_plan.memory(checks, "memory, two", 2, (1, 2), OF_FIRST)
    checks.finish()


if __name__ == "__main__":
    main()
