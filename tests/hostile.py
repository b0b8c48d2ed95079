"""end to end: hostile and odd inputs, rows D1 to D10 of FAULTS.md: what is malformed is refused with one line that names the
file, without a crash, a hang or anything left behind; what is only odd is read as if it were plain.

    hostile.py [--all] [--mutate N] [WORD ...]
        --all       every case (some minutes); without, a fair share of each kind; HOSTILE=all does the same
        --mutate    so many random damages of each kind of file (20, or 3 of a share)
        WORD        cases whose row or name contains one of the words; all of them

Nearly all run as `unlearn --check` in one process, without mpirun; each in a directory of its own."""
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from harness import SLOWER, Checks, precisions, program
from hostile_base import CONFIG, INDEX, TOKENIZER, WEIGHTS, Case, Pattern, damaged, directing, evaluating, generating, logged, raw, settings
from hostile_cases import malformed, sharded
from hostile_legal import legal

SECONDS = 10
MOST_MEMORY = 1 << 30  # of one process: the BLAS library's buffers and a few times the largest file
ALWAYS = ("a byte order mark", "question is null", "UTF-8 in its name", "YAML: literal", "output is", "epochs beyond")  # once a fault
SHARE = {"malformed": 12, "legal": 8, "parallel": 150, "parallel of all": 25}  # one of so many


def contents(directory):
    """Every path below, with what tells whether it was touched."""
    found = {}
    for folder, folders, names in os.walk(directory):
        for name in folders + names:
            path = os.path.join(folder, name)
            s = os.lstat(path)
            found[os.path.relpath(path, directory)] = (s.st_mode, s.st_size, s.st_mtime_ns if name not in folders else 0)
    return found


def start(case, options, ranks=1):
    """-> (exit status, standard output, standard error, seconds over the limit)."""
    command = ["mpirun", "-np", str(ranks)] if ranks > 1 else []
    command += [program(precisions()[0]), *options, *(case.arguments or [case.name])]
    limit = SLOWER * SECONDS * (3 if ranks > 1 else 1)  # of both ranks and the launcher
    child = subprocess.Popen(command, cwd=case.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             start_new_session=True)
    try:
        out, err = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = child.communicate()
        return 124, out.decode(errors="replace"), err.decode(errors="replace") + f"\nstill running after {limit} s"
    return child.returncode, out.decode(errors="replace"), err.decode(errors="replace")


def complaints(status, err):
    """What no input may bring about."""
    wrong = []
    if status < 0 or status > 125 or status == 124:
        wrong.append(f"exit status {status}")
    if "Sanitizer" in err or "runtime error" in err:
        wrong.append("the sanitizer complains")
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", err):
        wrong.append("control characters in a message")
    return wrong


def error_lines(err):
    return [s for s in err.split("\n") if s.startswith("unlearn: error: ")]


def refusal(status, err, word):
    wrong = complaints(status, err)
    said = error_lines(err)
    if status != 1:
        wrong.append(f"exit status {status}, not 1")
    if len(said) != 1:
        wrong.append(f"{len(said)} error lines")
    elif len(err.strip().split("\n")) > 1:
        wrong.append("other lines beside the error")
    if word and not any(re.search(word, s) for s in said):
        wrong.append(f"no {word!r}")
    return wrong


class Work:
    def __init__(self, checks):
        self.checks, self.n = checks, {}
        self.pattern = Pattern(checks.directory / "pattern")
        self.digests = {}

    def case(self, kind, number, base):
        return Case(self.pattern, self.checks.directory / f"{kind}-{number}", base)

    def close(self, case, row, name, wrong, err):
        good = self.checks.check(not wrong, f"{row} {name}", "; ".join(wrong) + "\n  " + err.strip()[-1000:].replace("\n", "\n  ") +
                                 f"\n  in {case.directory}")
        self.n[row] = self.n.get(row, 0) + 1
        if good:
            for folder, folders, _ in os.walk(case.directory):
                for sub in folders:
                    os.chmod(os.path.join(folder, sub), 0o755) if not os.path.islink(os.path.join(folder, sub)) else None
            shutil.rmtree(case.directory)

    def refused(self, kind, number, entry, ranks=1):
        row, name, base, damage, word = entry
        case = self.case(kind, number, base)
        damage(case)
        case.write()
        before = contents(case.directory)
        status, _, err = start(case, case.options if ranks == 1 else [], ranks)
        wrong = refusal(status, err, word)
        after = contents(case.directory)
        if ranks > 1:  # the directory itself and a lock in it may stay: no result does
            after = {k: v for k, v in after.items() if k in before or os.path.basename(k) in
                     ("geffect.h5", "train.h5", "evaluation.h5", "model.safetensors", "generations.jsonl")}
        if after != before:
            wrong.append("left " + ", ".join(sorted(k for k in {**before, **after} if before.get(k) != after.get(k))))
        self.close(case, row, name + (f", {ranks} ranks" if ranks > 1 else ""), wrong, err)

    def digest(self, base):
        """Of a base as it is; asked for before the others run."""
        key = json.dumps(base)
        if key not in self.digests:
            case = self.case("base", len(self.digests), {} if isinstance(base, str) else base)
            if isinstance(base, str):
                raw(base)(case)
            case.write()
            status, out, err = start(case, case.options)
            found = re.findall(r"^digest: ([0-9a-f]{16})$", out, re.M)
            self.checks.check(status == 0 and len(found) == 1, "a sound input is accepted", f"{status} {err}\n{case.directory}")
            self.digests[key] = found[0] if found else None
        return self.digests[key]

    def accepted(self, number, entry):
        row, name, base, change = entry
        case = self.case("legal", number, {} if isinstance(base, str) else base)
        change(case)
        case.write()
        status, out, err = start(case, case.options)
        wrong = complaints(status, err)
        if status != 0:
            wrong.append(f"exit status {status}")
        found = re.findall(r"^digest: ([0-9a-f]{16})$", out, re.M)
        if found != [self.digest(base)]:
            wrong.append(f"digest {found}, not {self.digest(base)}")
        self.close(case, row, name, wrong, err)

    def either(self, number, entry):
        """A random damage: accepted, or refused as it should be; a row of bad text may also make a sound one."""
        name, base, prepare, file, seed = entry
        case = self.case("damaged", number, base)
        prepare(case)
        case.write()
        damaged(file, seed)(case)
        before = contents(case.directory)
        status, out, err = start(case, case.options)
        if status == 0:
            wrong = complaints(status, err) + ([] if re.search(r"^digest: [0-9a-f]{16}$", out, re.M) else ["no digest"])
        else:
            wrong = refusal(status, err, None)
        if contents(case.directory) != before:
            wrong.append("left something")
        self.close(case, "D10", name, wrong, err)


def mutations(count):
    nothing = lambda c: None
    files = {WEIGHTS: settings(), CONFIG: settings(), TOKENIZER: settings(), "forget.jsonl": settings(), "input.yaml": settings(),
             "set.jsonl": evaluating(), "prompts.jsonl": generating(), "log.json": logged(), "u.json": directing(), "idk.jsonl": settings(
             objective={"name": "po"})}
    for file, base in files.items():
        for seed in range(count):
            yield f"{file} damaged, seed {seed}", base, nothing, file, seed
    for seed in range(count):
        yield f"{INDEX} damaged, seed {seed}", settings(), sharded(), INDEX, seed


def chosen(entries, words, every, fair):
    """Those with one of the words; else all, or each `every`-th."""
    entries = list(entries)
    if words:
        return [e for e in entries if any(w in f"{e[0]} {e[1]}" for w in words)]
    return entries if not fair else [e for i, e in enumerate(entries) if i % every == 0 or any(w in e[1] for w in ALWAYS)]


def counts(checks, work, whole):
    """What the list itself promises, whatever share of it runs."""
    bad, good = list(malformed()), list(legal())
    for what, entries, least in (("malformed", bad, 400), ("legal", good, 80)):
        names = [f"{e[0]} {e[1]}" for e in entries]
        checks.check(len(names) >= least and len(set(names)) == len(names), f"{len(names)} different {what} inputs",
                     ", ".join(sorted({n for n in names if names.count(n) > 1})[:5]))
    checks.check({e[0] for e in bad} == {"D1", "D3", "D4", "D5", "D6", "D8", "D9"} and {e[0] for e in good} >= {"D2", "D7", "D8", "D9"},
                 "every row has cases")
    print("cases run: " + ", ".join(f"{row} {n}" for row, n in sorted(work.n.items())) + (", all" if whole else ", a share"))


def main():
    arguments = sys.argv[1:]
    whole = "--all" in arguments or os.environ.get("HOSTILE") == "all"
    mutate = int(arguments[arguments.index("--mutate") + 1]) if "--mutate" in arguments else 20 if whole else 3
    words = [a for i, a in enumerate(arguments) if a not in ("--all", "--mutate") and (not i or arguments[i - 1] != "--mutate")]
    checks = Checks("hostile")
    if not precisions():
        checks.check(False, "no program is built")
        checks.finish()
    work = Work(checks)
    bad = chosen(malformed(), words, SHARE["malformed"], not whole)
    good = chosen(legal(), words, SHARE["legal"], not whole)
    odd = [e for e in mutations(mutate) if not words or any(w in f"D10 {e[0]}" for w in words)]
    for base in {json.dumps(e[2]): e[2] for e in good}.values():
        work.digest(base)
    with ThreadPoolExecutor(max_workers=int(os.environ.get("JOBS", os.cpu_count()))) as pool:
        jobs = [pool.submit(work.refused, "bad", i, e) for i, e in enumerate(bad)]
        jobs += [pool.submit(work.accepted, i, e) for i, e in enumerate(good)]
        jobs += [pool.submit(work.either, i, e) for i, e in enumerate(odd)]
        for job in jobs:
            job.result()
    if not words:
        for i, entry in enumerate(list(malformed())[7::SHARE["parallel of all" if whole else "parallel"]]):
            work.refused("ranks", i, entry, 2)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    checks.check(SLOWER > 1 or memory < MOST_MEMORY, "memory", f"{memory >> 20} MB of one process")
    counts(checks, work, whole)
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
