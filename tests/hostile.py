"""end to end: hostile and odd inputs, rows D1 to D10 of FAULTS.md: what is malformed is refused with one line that names the
file, without a crash, a hang or anything left behind; what is only odd is read as if it were plain.

    hostile.py [--all] [--mutate N] [WORD ...]
        --all       every case (some minutes); without, a fair share of each kind; HOSTILE=all does the same
        --mutate    so many random damages of each kind of file (20, or 2 of a share)
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

from harness import SLOWER, Checks, launch, precisions, program
from hostile_base import CONFIG, INDEX, TOKENIZER, WEIGHTS, Case, Pattern, damaged, directing, evaluating, generating, logged, raw, settings
from hostile_cases import malformed, sharded
from hostile_legal import legal

SECONDS = 10
MOST_MEMORY = 1 << 30  # of one process: the BLAS library's buffers and a few times the largest file
ALWAYS = ("a byte order mark", "question is null", "UTF-8 in its name", "YAML: literal", "output is", "epochs beyond", "doubled", "byte alone", "zeros alone")  # once a fault
SHARE = {"malformed": 16, "legal": 10, "parallel": 250, "parallel of all": 25}  # one of so many


def contents(directory):
    """Every path below, with what tells whether it was touched."""
    found = {}
    for folder, folders, names in os.walk(directory):
        for name in folders + names:
            path = os.path.join(folder, name)
            s = os.lstat(path)
            found[os.path.relpath(path, directory)] = (s.st_mode, s.st_size, s.st_mtime_ns if name not in folders else 0)
    return found


def start(case, options, ranks=1, before=()):
    """-> (exit status, standard output, standard error)."""
    command, environment = launch(ranks)
    command = [*before, *command, program(precisions()[0]), *options, *(case.arguments or [case.name])]
    limit = SLOWER * SECONDS * (3 if ranks > 1 else 1)  # of both ranks and the launcher
    child = subprocess.Popen(command, cwd=case.directory, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
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


def refusal(status, err, word, expected=1):
    wrong = complaints(status, err)
    said = error_lines(err)
    if status != expected:
        wrong.append(f"exit status {status}, not {expected}")
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
        wrong = refusal(status, err, word, case.status)
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


def calls(checks):
    """No shell and no other program is called, and no locale is set: the program does not know these names."""
    if SLOWER > 1 or not shutil.which("nm"):  # the sanitizers bring names of their own
        checks.skip("names of functions: no nm, or a build with sanitizers")
        return
    names = {s.split()[-1].split("@")[0] for s in subprocess.run(["nm", "-D", "--undefined-only", program(precisions()[0])], capture_output=True,
                                                                 text=True).stdout.splitlines() if s}
    never = ("system", "popen", "fork", "vfork", "posix_spawn", "posix_spawnp", "setlocale", "newlocale", "uselocale", "chmod", "fchmod", "umask",
             "tmpnam", "mktemp", "gets")
    wrong = {n for n in names if n in never or n.startswith("exec") and n != "execv"}  # execv starts itself anew, with better kernels
    checks.check(len(names) > 50 and not wrong, "no shell, no locale, no modes of files", f"{len(names)} names; {wrong}")


def modes(checks, work):
    """Files and folders are made with the user's umask."""
    for mask in (0o077, 0o002):
        case = work.case("umask", mask, settings(task="finetune", objective=None, geffect=None, checkpoint={"every": 1}))
        case.write()
        before = set(contents(case.directory))
        old = os.umask(mask)
        try:
            status, _, err = start(case, [])
        finally:
            os.umask(old)
        made = {k: v[0] for k, v in contents(case.directory).items() if k not in before}
        wrong = [f"{k} {oct(m)}" for k, m in made.items() if m & 0o777 != (0o777 if os.path.isdir(case / k) else 0o666) & ~mask]
        work.close(case, "umask", oct(mask), wrong + ([] if status == 0 and len(made) > 10 else [f"status {status}, {len(made)} files"]), err)


def traced(work, number, base, damage):
    """-> (status, [(call, path)] of all that was opened, made, renamed or removed); None where no trace can be taken."""
    case = work.case("traced", number, base)
    damage(case)
    case.write()
    status, _, _ = start(case, case.options, before=["strace", "-f", "-y", "-qq", "-o", "trace", "-e",
                                                     "trace=open,openat,creat,mkdir,mkdirat,rename,renameat,unlink,unlinkat,link,symlink,truncate"])
    if not (case / "trace").exists():
        return None
    return status, re.findall(r"^\d+ +(\w+\(.*)$", (case / "trace").read_text(errors="replace"), re.M)


def confined(checks, work):
    """What is written lies in the output directory, but for MPI's own files; an index leads nowhere else."""
    training = settings(task="finetune", objective=None, geffect=None, checkpoint={"every": 1})
    if SLOWER > 1 or not shutil.which("strace") or not (run := traced(work, 0, training, lambda c: c.options.clear())):
        checks.skip("what is opened: no strace, or a build with sanitizers")
        return
    status, lines = run
    writes = [s for s in lines if not s.startswith("open") or re.search("O_WRONLY|O_RDWR|O_CREAT", s)]
    place = str((work.checks.directory / "traced-0").resolve())
    paths = [os.path.normpath(os.path.join(place, folder, name)) for s in writes for folder, name in re.findall(r'(?:<([^>]*)>, )?"([^"]*)"', s)]
    mpi = r"/(tmp|run|var/tmp|dev|proc)(/[^/]*(ompi|pmix|prte|open_?mpi|vader|null|shm|self).*)?$"
    outside = [p for p in paths if not re.match(mpi, p) and not (p + "/").startswith(place + "/out/")]
    checks.check(status == 0 and len(paths) > 10 and not outside, "nothing is written outside", f"{status} {outside[:10]}")
    for i, name in enumerate(("../forget.jsonl", "/etc/passwd", "/dev/zero", "..", "x/../../forget.jsonl")):
        status, lines = traced(work, i + 1, settings(), sharded(lambda index, name=name: index["weight_map"].update({n: name for n in index["weight_map"]})))
        opened = [s for s in lines if name in s or "model/" + name in s]
        opened = [s for s in opened if name != ".." or "model/.." in s]
        checks.check(status == 1 and not opened, f"an index that names {name}: not opened", f"{status} {opened}")


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
    mutate = int(arguments[arguments.index("--mutate") + 1]) if "--mutate" in arguments else 20 if whole else 2
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
        calls(checks)
        modes(checks, work)
        confined(checks, work)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    checks.check(SLOWER > 1 or memory < MOST_MEMORY, "memory", f"{memory >> 20} MB of one process")
    counts(checks, work, whole)
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
