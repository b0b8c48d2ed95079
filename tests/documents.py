"""Documents and help, end to end: docs/INPUT.md, docs/OUTPUT.md and the manual page are what the program's tables say; the pages of --help;
the end of --check; links of all Markdown files; messages and commits that pages quote; the names of variables of a real run."""
import functools
import importlib.util
import json
import re
import shutil
import subprocess
import sys

import h5py

from harness import ROOT, Checks, labels, precisions, run, run_input

checks = Checks("documents")
DOCS = ROOT / "docs"
WIDTH, SCREEN = 100, 40  # columns and lines of a page


@functools.lru_cache(None)
def help_page(*topic):
    done = run(["--help", *topic], 1, precisions()[0])
    checks.check(done.returncode == 0, f"--help {' '.join(topic)}: status", done.stderr)
    return done.stdout


def keys():
    """Every path of the table, by --help keys: a line of it begins in column 2."""
    return [line.split()[0] for line in help_page("keys").splitlines()[1:] if re.match(r"  \S", line)]


# ---------------------------------------------------------------------------------------------------------- references
def check_references(paths):
    for name in ("INPUT.md", "OUTPUT.md"):
        checks.check(help_page(name) == (DOCS / name).read_text(), f"docs/{name} is stale: make references")
    text = (DOCS / "INPUT.md").read_text()
    lacking = [p for p in paths if f"- `{p}`" not in text]
    checks.check(len(paths) > 120 and not lacking, "keys in docs/INPUT.md", str(lacking))


def check_manual(paths):
    text = help_page("unlearn.1")
    plain = text.replace("\\-", "-")
    options = re.findall(r'strcmp\(a, "(--[a-z-]+)"\)', (ROOT / "src/main.c").read_text())
    first = help_page()
    checks.check(len(options) >= 7, "options in main.c", str(options))
    for option in options:
        checks.check(f".B {option}" in plain and option in first, f"{option} in the manual page and in --help")
    checks.check(not [p for p in paths if f".B {p}\n" not in plain], "keys in the manual page")
    checks.check(".B 75\n" in plain, "exit status 75 in the manual page")
    if shutil.which("groff"):
        said = subprocess.run(["groff", "-man", "-ww", "-z"], input=text, capture_output=True, text=True)
        checks.check(said.returncode == 0 and not said.stderr, "groff has no warning", said.stderr[:500])
    else:
        checks.skip("groff is not installed")


def check_files_named():
    """Every file that the program may find of an earlier run is in the list of outputs."""
    text = (DOCS / "OUTPUT.md").read_text()
    source = (ROOT / "src/output/earlier.c").read_text()
    written = re.findall(r'"([^"]+)"', source.split("written[] = {")[1].split("};")[0])
    checks.check(len(written) > 12, "names in earlier.c", str(written))
    for name in written:
        name = "*.h5.before" if name.endswith(".before") else name
        checks.check(name in text, f"{name} in docs/OUTPUT.md")


# ---------------------------------------------------------------------------------------------------------------- help
def check_help():
    first = help_page()
    lines = first.splitlines()
    checks.check(len(lines) <= SCREEN, f"--help fits a screen: {len(lines)} lines")
    checks.check(" 75 " in first and "--restart" in first, "--help names status 75 and --restart")
    for topic in ([], ["keys"], ["objectives"], ["scores"], ["outputs"], ["preset"], ["npo"], ["optimizer"], ["geffect.risks"]):
        wide = [line for line in help_page(*topic).splitlines() if len(line) > WIDTH]
        checks.check(not wide, f"--help {' '.join(topic)}: width", str(wide[:2]))
    for topic, expected in [("train.epochs", ["a number above 0", "default            5", "passes over the rows"]), ("lr", ["optimizer.lr"]),
                            ("guard", ["keys below it", "guard.retain.budget"]), ("npo", ["log sigmoid", "above 0", "2404.05868"]),
                            ("objective.beta", ["npo (objective)", "undial (objective)"]), ("delta", ["simnpo (objective)"]),
                            ("evaluate.sets.forget", ["evaluate.sets.*"]), ("train.batch_size", ["open_unlearning: 8; tofu: 16; paper: 4"]), ("preset", ["configs/trainer/NPO.yaml"])]:
        page = help_page(topic)
        checks.check(all(e in page for e in expected), f"--help {topic}", page[:600])
    checks.check("wga" not in help_page("npo") and "optimizer" not in help_page("train"), "a page is about its topic alone")
    for topic, near in [("traim", "train"), ("optimizer.lrr", "optimizer.lr"), ("objectivs", "objectives"), ("nppo", "npo"), ("xyzzyx", "--help lists")]:
        done = run(["--help", topic], 1, precisions()[0])
        checks.check(done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1 and near in done.stderr, f"--help {topic}: refused",
                     done.stderr)


# --------------------------------------------------------------------------------------------------- a run and its files
def settings(**more):
    """A few updates of the demo's model with random weights, with everything that has fields of its own."""
    demo = ROOT / "inputs/demo"
    forget, retain = demo / "forget05.jsonl", demo / "retain95.jsonl"
    return {"task": "unlearn", "model": {"path": str(demo / "model"), "init": "random"},
            "data": {"forget": {"path": str(forget), "rows": 4}, "retain": {"path": str(retain), "rows": 6}},
            "objective": {"name": "npo", "regularizer": {"name": "gd", "dual": {"step_size": 1}}},
            "optimizer": {"warmup_steps": 0}, "train": {"steps": 2, "batch_size": 2, "accumulation": 1},
            "geffect": {"every": 1, "fidelity": True, "standard_error": True, "tokens": True, "pairs": "retain", "curvature": True},
            "evaluate": {"every": 1, "rows": 2, "metrics": ["loss", "probability"], "sets": {"forget": str(forget), "retain": str(retain)}},
            "guard": {"retain": 9, "project": 1}, "checkpoint": {"export": False}, "output": {"directory": "out"}, **more}


def section(name):
    """{variable: (axes, type, unit)} of a file, and its coordinates, by docs/OUTPUT.md."""
    text = (DOCS / "OUTPUT.md").read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]
    coordinates, variables = text.split("\nVariables:\n")
    found = re.findall(r"^- `([^`]+)` \(([^)]*)\) (\w+)(?: \[([^]]+)\])?:", variables, re.M)
    return ({n: (a.split(", "), t, u) for n, a, t, u in found}, re.findall(r"^- `([^`]+)`", coordinates, re.M))


def named(f):
    """The variables of an open file that are no coordinates: {name: its axes}."""
    out = {}
    for name, d in f.items():
        if d.attrs.get("CLASS") == b"DIMENSION_SCALE":
            continue
        out[name] = [f[d.dims[i][0].name].name.split("/")[-1] for i in range(d.ndim)]
    return out


def check_run():
    done = run_input(settings(), 1, precisions()[0], checks.directory)
    if not checks.check(done.returncode == 0, "a run with everything", done.stdout[-400:] + done.stderr):
        return
    for name in ("geffect.h5", "tokens.h5", "train.h5", "evaluation.h5"):
        described, coordinates = section(name)
        with h5py.File(checks.directory / "out" / name) as f:
            variables = named(f)
            unnamed = [a for a in f.attrs if f"`{a}`" not in (DOCS / "OUTPUT.md").read_text()]
            checks.check(len(f.attrs) > 8 and not unnamed, f"{name}: attributes in docs/OUTPUT.md", str(unnamed))
            checks.check(len(variables) > 4, f"{name}: variables", str(variables))
            names = {axis: labels(f[axis]) for axis in ("layer", "gradient", "group", "number") if axis in f}
            unnamed = [n for axis in names for n in names[axis] if f"`{re.sub(r'layers.[0-9]+', 'layers.0', n)}`" not in (DOCS / "OUTPUT.md").read_text()]
            checks.check(not unnamed, f"{name}: names along axes in docs/OUTPUT.md", str(unnamed))
            units = {v: f[v].attrs.get("units", b"") for v in variables}
        for v, axes in variables.items():
            row = described.get(v) or described.get(re.sub("_gd$", "_NAME", v))
            unit = units[v].decode() if isinstance(units[v], bytes) else units[v]
            checks.check(row is not None and row[0] == axes and row[2] == unit and set(axes) <= set(coordinates), f"{name}: {v}{axes} [{unit}] in docs/OUTPUT.md",
                         str(row))
        lacking = [d for d in described if d not in variables and d.replace("NAME", "gd") not in variables and not d.startswith("window_")]
        checks.check(not lacking, f"{name}: nothing in docs/OUTPUT.md that a run with everything lacks", str(lacking))


def check_of_what_the_run_left():
    """Its input reads back to the same run, also where it lies: a check removes nothing."""
    first, again = (run(["--check", name], 1, precisions()[0], checks.directory) for name in ("input.yaml", "out/input.yaml"))
    checks.check(again.returncode == 0 and first.stdout.splitlines()[-1] == again.stdout.splitlines()[-1], "--check of the input that a run left", again.stderr)


def check_end_of_check():
    done = run_input(settings(), 1, precisions()[0], checks.directory, ["--check"])
    if not checks.check(done.returncode == 0, "--check", done.stderr):
        return
    text, end = done.stdout.split("what it comes to:\n")
    lines = end.strip().splitlines()
    checks.check("\nseed: 42" in text and "learning rate" in text, "--check: the resolved input stands first")
    starts = [line.split()[0] for line in lines]
    first = [line for line in lines if not line.startswith(" ")]  # of states there is a line for each kind
    checks.check(len(first) < 20 and all(s in starts for s in ("layout", "updates", "memory", "work", "node", "speed", "time")), "--check: what matters is last",
                 end)
    checks.check(lines[-1].startswith("digest: "), "--check: the digest is the last line")
    time = re.search(r"^time       an update ([0-9.e-]+) s, a measurement .*; about ([0-9.e-]+) s for all: 2 updates, 3 measurements, 3 evaluations$", end,
                     re.M)
    checks.check(time and 0 < float(time.group(1)) < float(time.group(2)), "--check: the time of all", end)
    node = re.search(r"^node       1 process: ([0-9.]+) MB of ([0-9.]+) MB that are free now; the whole job ([0-9.]+) MB$", end, re.M)
    memory = re.search(r"^memory     ([0-9.]+) MB a process", end, re.M)
    checks.check(node and memory and node.group(1) == memory.group(1) == node.group(3), "--check: the node's memory", end)


# --------------------------------------------------------------------------------------------------------------- pages
def pages():
    """The Markdown files of the project, as git knows them; without git, those of its own directories."""
    said = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True)
    if said.returncode == 0 and said.stdout:
        return [ROOT / line for line in said.stdout.splitlines() if (ROOT / line).exists()]
    return [p for d in ("", "docs", "src", "inputs", "jobs", "analysis", "tests") for p in sorted((ROOT / d).glob("*.md" if not d else "**/*.md"))]


def anchors(path):
    """What GitHub makes of a page's headings."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    found = [re.sub(r"[^\w\- ]", "", h.strip().lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)]
    return found


def check_links():
    count = 0
    for page in pages():
        text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            count += 1
            path, _, anchor = target.partition("#")
            to = (page.parent / path) if path else page
            good = to.exists() and (not anchor or to.suffix != ".md" or anchor in anchors(to))
            checks.check(good, f"{page.relative_to(ROOT)}: link to {target}")
    checks.check(count > 60, f"links: {count}")


def sources():
    """The strings of the program, each with its parts joined; what a format fills in is a blank."""
    text = "\n".join(p.read_text() for p in sorted((ROOT / "src").glob("*/*.c")) + [ROOT / "src/main.c"])
    joined = re.sub(r'"\s*(?:PRI\w+\s*)?"', "", text)
    return re.sub(r"%[-.*0-9]*(?:l|ll|z)?[a-zA-Z]", " ", joined.replace('\\"', '"'))


def check_messages():
    """The quoted parts of each message of docs/TROUBLESHOOTING.md stand in the program."""
    source = sources()
    rows = [row.split("|")[1] for row in (DOCS / "TROUBLESHOOTING.md").read_text().splitlines() if row.startswith("| `")]
    checks.check(len(rows) >= 30, f"messages: {len(rows)}")
    for row in rows:
        for message in re.findall(r"`([^`]+)`", row):
            lacking = [part for part in message.split("...") if part.strip(' "') and part.strip() not in source]
            checks.check(not lacking, f"docs/TROUBLESHOOTING.md: {message}", str(lacking))


def check_commits():
    """The commits that docs/EXTENDING.md walks through touched the files that it lists."""
    text = (DOCS / "EXTENDING.md").read_text()
    for part in text.split("Real change `")[1:]:
        commit = part.split("`")[0]
        said = subprocess.run(["git", "show", "--stat=300", "--format=%s", commit], cwd=ROOT, capture_output=True, text=True)
        if said.returncode:
            checks.skip(f"commit {commit} is not there")
            continue
        touched = said.stdout
        table = part.split("| files | what for |")[1].split("\n\n")[0]
        for cell in [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]:
            for name in re.findall(r"`([^`*]+)`", cell):
                checks.check(name in touched, f"docs/EXTENDING.md: {commit} touched {name}")


def check_first_run():
    """The input file of docs/FIRST_RUN.md is one, with the demo's own data in the place of what a reader makes."""
    text = (DOCS / "FIRST_RUN.md").read_text()
    blocks = re.findall(r"    cat >(my/\S+) <<'END'\n(.*?)    END\n", text, re.S)
    files = {name: re.sub(r"^    ", "", body, flags=re.M) for name, body in blocks}
    checks.check({"my/first.yaml", "my/ask.jsonl", "my/ask.yaml"} == set(files), "docs/FIRST_RUN.md: its files", str(list(files)))
    (checks.directory / "my").mkdir()
    for name, body in files.items():
        (checks.directory / name).write_text(body)
    rows = (ROOT / "inputs/demo/full.jsonl").read_text().splitlines(True)
    for name, holds in (("forget", True), ("retain", False)):
        (checks.directory / f"my/{name}.jsonl").write_text("".join(r for r in rows if ("Ysmay Kettlewisp" in r) == holds))
    model = [f"model={json.dumps({'path': str(ROOT / 'inputs/demo/model'), 'init': 'random'})}"]
    done = run(["--check", "my/first.yaml", *model], 1, precisions()[0], checks.directory)
    checks.check(done.returncode == 0 and "updates    25 of 4 rows (10 rows to learn from), warm-up 2" in done.stdout, "docs/FIRST_RUN.md: first.yaml",
                 done.stderr)
    done = run(["my/ask.yaml", *model, "output.directory=asked"], 1, precisions()[0], checks.directory)
    lines = (checks.directory / "asked/generations.jsonl").read_text().splitlines() if done.returncode == 0 else []
    checks.check(len(lines) == 2, "docs/FIRST_RUN.md: ask.yaml", done.stderr)
    row = re.search("^- `generations.jsonl`: (.*)$", (DOCS / "OUTPUT.md").read_text(), re.M).group(1)
    checks.check(lines and all(re.search(rf"\b{k}\b", row) for k in json.loads(lines[0])), "docs/OUTPUT.md: keys of generations.jsonl", str(lines[:1]))


def check_site():
    """make docs: every page is there, with its equations; a link that leads nowhere, or anything from the network, fails the making."""
    if not all(importlib.util.find_spec(m) for m in ("mkdocs", "latex2mathml", "ziamath")):
        checks.skip("the site: pip install -r docs/requirements.txt")
        return
    site = checks.directory / "site"
    done = subprocess.run([sys.executable, ROOT / "docs/make_site.py", site], capture_output=True, text=True)
    if not checks.check(done.returncode == 0, "docs/make_site.py", done.stderr[-800:]):
        return
    made = {p.relative_to(site).as_posix() for p in site.rglob("*.html")}
    lacking = [p.stem for p in DOCS.glob("*.md") if f"docs/{'index' if p.stem == 'README' else p.stem}.html" not in made]
    checks.check(not lacking and "index.html" in made, "pages of the site", str(lacking))
    theory = (site / "docs/THEORY.html").read_text()
    checks.check(theory.count("<math") > 30 and "EQUATION" not in theory and "$" not in re.sub("<[^>]*>", "", theory.split('role="main"')[1]),
                 "equations of the site")


if not precisions():
    checks.check(False, "no program is built")
    checks.finish()
known = keys()
check_references(known)
check_manual(known)
check_files_named()
check_help()
check_run()
check_of_what_the_run_left()
check_end_of_check()
check_links()
check_messages()
check_commits()
check_first_run()
check_site()
checks.finish()
