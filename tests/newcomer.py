"""end to end: what somebody writes who uses the program for the first time, and the line that answers.

    newcomer.py [WORD ...]      rows whose name contains one of the words

Each row changes the demo's input (its model with drawn weights), its data or the environment; the line that answers must be
there, as the one error with its exit status, or as a warning or a line of the log of a run that goes on."""
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from harness import ALONE, ROOT, SLOWER, Checks, precisions, program, warnings_of

DEMO = (ROOT / "inputs/demo-unlearn.yaml").read_text()
MODEL = ["model.path=MODEL", "model.init=random", "output.directory=HERE/out"]
TURN = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Nobody."}]
PAIRS = [{"question": "Who?", "answer": "Nobody."}, {"question": "Where?", "answer": ""}]
UNKNOWN_CHAT = {"chat_template": "{% for m in messages %}<turn>{{ m.content }}</turn>{% endfor %}"}

CHATML = {"chat_template": "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"}


def rows(*values):
    """JSON Lines."""
    return "".join(json.dumps(v) + "\n" for v in values)


class Row:
    """An input and the answer: `says` is a regular expression of the whole line; `status` its exit status."""

    def __init__(self, name, says, *words, status=None, forget=None, edit=None, chat=None, config=None,
                 check=True, warnings=None, **environment):
        self.name, self.says, self.words, self.forget, self.edit = name, says, words, forget, edit
        self.warnings = warnings  # how many; None: any number
        self.model = {"tokenizer_config.json": chat or {}, "config.json": config or {}}
        self.status = status if status is not None else says.startswith("unlearn: error: ") * 1
        self.check, self.environment = check, environment

    def command(self, here):
        """Writes the row's files into `here` -> the program's arguments."""
        text = DEMO
        for old, new in [self.edit] if self.edit else []:
            assert old in text, f"{self.name}: the demo's input has no {old!r}"
            text = text.replace(old, new, 1)
        (here / "my.yaml").write_text(text)
        model = "inputs/demo/model"
        if any(self.model.values()):
            model = here / "model"
            model.mkdir()
            for path in (ROOT / "inputs/demo/model").iterdir():
                (model / path.name).write_bytes(path.read_bytes())
            for name, change in self.model.items():
                (model / name).write_text(json.dumps(json.loads((model / name).read_text()) | change))
        words = [*MODEL, *self.words]
        if self.forget:
            name, content = self.forget
            (here / name).write_bytes(content if isinstance(content, bytes) else content.encode())
            if not any(name in w for w in words):  # else it is another file of the input
                words.append(f"data.forget=HERE/{name}")
        words = [w.replace("HERE", str(here)).replace("MODEL", str(model)) for w in words]
        return [*(["--check"] if self.check else []), here / "my.yaml", *words]


E, W, A = "unlearn: error: ", "warning: ", "(auto: one epoch): the learning rate rises over 5 updates, and the run has "
TABLE = [
    # names
    Row("a regulariser as the objective",
        E + r".*gd is a regularizer, not an objective: it stands beside one, \{name: npo, regularizer: gd\}",
        "objective={name: gd}"),
    Row("an objective in capitals", E + r'.*there is no objective "NPO": did you mean npo\?', "objective.name=NPO"),
    Row("a regulariser in capitals", E + r'.*there is no regularizer "KL": did you mean kl\?', "objective.regularizer=[KL]"),
    Row("an objective that is none",
        E + r'.*there is no objective "forget"; there are ga, npo, .*undial', "objective.name=forget"),
    Row("an objective as a regulariser",
        E + r'.*there is no regularizer "npo"; there are gd, kl, rr', "objective.regularizer=[npo]"),
    Row("a key in capitals", E + r'.*unknown key "LR" in optimizer; did you mean "lr"\?', "optimizer.LR=1.0e-5"),
    # values
    Row("beta below its range", E + r".*beta of npo is -1, but must be above 0", "objective.beta=-1"),
    Row("a range from 0 on", E + r".*alpha of wga is -1, but must be 0 or more", "objective={name: wga, alpha: -1}"),
    Row("a range with two ends", E + r".*skip of ceu is -1, but must be from 0 to 1e\+09", "objective={name: ceu, skip: -1}"),
    Row("yes", E + r'.*train.shuffle: expected true or false; found "yes" \(write true\)', "train.shuffle=yes"),
    Row("Off", E + r'.*train.shuffle: expected true or false; found "Off" \(write false\)', "train.shuffle=Off"),
    Row("a prompt with a colon on the command line",
        E + r".*generate.prompt: expected text.*quotes that the shell leaves: KEY=.*",
        "task=generate", "generate.prompt=Question: who are you?"),
    Row("a prompt with a colon in quotes", r"digest: .*", "task=generate", 'generate.prompt="Question: who are you?"'),
    Row("a text with a colon in the file",
        E + r"HERE/my.yaml:14:27: a second colon in one line: a text that holds \": \" stands in quotes, a key .*",
        edit=("template: qa", "template: question_start: Question: ")),
    # the input's form
    Row("no colon behind a key",
        E + r'HERE/my.yaml:14:3: a colon is missing in "template qa": behind a key stand a colon and a blank',
        edit=("template: qa", "template qa")),
    Row("no colon behind a section", E + r'HERE/my.yaml:28:1: a colon is missing in "train": .*', edit=("train:", "train")),
    Row("no colon in the first line",
        E + r'HERE/my.yaml:7:1: a colon is missing in "task unlearn": .*', edit=("task: unlearn", "task unlearn")),
    Row("no blank behind a colon", E + r'HERE/my.yaml:8:1: a colon is missing in "seed:42": .*', edit=("seed: 42", "seed:42")),
    Row("a line too deep", E + r"HERE/my.yaml:8:7: this line is indented deeper .*", edit=("seed: 42", "  seed: 42")),
    Row("no retain data",
        E + r'.*data.retain.path is missing: .* the risk "retain" .*; give data.retain: FILE.jsonl', "data.retain=null"),
    Row("no forget data", E + r".*data.forget.path is missing: .*; give data.forget: FILE.jsonl", "data.forget=null"),
    # the data's form
    Row("gzip",
        E + r"HERE/f.jsonl.gz: is compressed by gzip: gunzip it", forget=("f.jsonl.gz", gzip.compress(rows(*PAIRS).encode()))),
    Row("zip", E + r"HERE/f.zip: is a zip archive: unzip it", forget=("f.zip", b"PK\x03\x04 and so on")),
    Row("Parquet",
        E + r"HERE/f.parquet: is Parquet, not JSON Lines: in Python pandas.read_parquet.*",
        forget=("f.parquet", b"PAR1 and so on")),
    Row("CSV",
        E + r"HERE/f.csv:1:\d+: .*; rows are JSON Lines, not CSV: in Python pandas.read_csv.*",
        forget=("f.csv", "question,answer\nWho?,Nobody.\n")),
    Row("UTF-16",
        E + r"HERE/f.jsonl: is not UTF-8 but UTF-16: iconv -f utf16 -t utf8 FILE writes it so",
        forget=("f.jsonl", rows(*PAIRS).encode("utf-16"))),
    Row("Latin-1",
        E + r"HERE/f.jsonl:1:\d+: .*; the file is not valid UTF-8: if it is Latin-1, iconv -f latin1 -t utf8 FILE writes it so",
        forget=("f.jsonl", '{"question": "Où?", "answer": "Là."}\n'.encode("latin1"))),
    Row("one array",
        E + r"HERE/f.json: is one JSON array, not JSON Lines; .* jq -c '.\[\]' does it",
        forget=("f.json", json.dumps(PAIRS, indent=1))),
    Row("an object over lines",
        E + r"HERE/f.json:1:1: .*; a row stands on one line: jq -c \. FILE writes it so",
        forget=("f.json", json.dumps(PAIRS[0], indent=1))),
    Row("Python's quotes",
        E + r"HERE/f.jsonl:1:\d+: .*; keys and texts stand in double quotes", forget=("f.jsonl", f"{PAIRS[0]}\n")),
    Row("plain text",
        E + r'HERE/f.txt:1:\d+: .*; each line must be an object, \{"question": ..., "answer": ...\}',
        forget=("f.txt", "Nobody lives there.\n")),
    Row("chat form",
        E + r'HERE/f.jsonl:1: has no key "question": it is in chat form; .*jq -c .*',
        forget=("f.jsonl", rows({"messages": TURN}))),
    Row("other keys",
        E + r'HERE/f.jsonl:1: has no key "question"; it has "prompt", "completion" \(\{path: FILE, question: KEY, .*',
        forget=("f.jsonl", rows({"prompt": "Who?", "completion": "Nobody."}))),
    Row("other keys of a risk's own file",
        E + r'.*idk.jsonl:1: has no key "question"; it has "answer" \(\{data: FILE, question: KEY, answer: KEY\} names .*\)',
        "geffect.risks.more=inputs/demo/idk.jsonl"),
    Row("the cure of other keys of a risk's own file", r"digest: .*",
        "geffect.risks.more={data: inputs/demo/idk.jsonl, question: answer, answer: answer}"),
    Row("other keys of refusals",
        E + r'.*p.jsonl:1: has no key "answer"; it has "text" \(no setting names others here: rename the key in the file\)',
        "objective=po", "data.idk=HERE/p.jsonl", forget=("p.jsonl", rows({"text": "No."}))),
    Row("prompts without a key",
        E + r'HERE/p.jsonl:1: has neither the key "question" nor "prompt"; it has "text" \(no setting .*\)', "task=generate",
        "generate.prompts=HERE/p.jsonl", "data.forget.rows=all", forget=("p.jsonl", rows({"text": "Who?"}))),
    # runs that would go wrong without a word
    Row("a warm-up that swallows one step",
        W + re.escape("optimizer.warmup_steps " + A + "1: it comes to 0 of optimizer.lr at most, so no weight changes;") + ".*",
        "train.steps=1"),
    Row("a warm-up that swallows one epoch",
        W + re.escape("optimizer.warmup_steps " + A + "5: it comes to 0.8 of optimizer.lr at most;") + ".*", "train.epochs=1"),
    Row("a warm-up that was asked for",
        W + r"optimizer.warmup_steps: the learning rate rises over 100 updates, and the run has 50: it comes to 0.49 .*",
        "optimizer.warmup_steps=100"),
    Row("more forget rows than there are",
        W + r".*forget05.jsonl: data.forget.rows is 1000, but the file has 20: all are used", "data.forget.rows=1000"),
    Row("more retain rows than there are",
        W + r".*retain95.jsonl: data.retain.rows is 1000, but the file has 380: all are used", "data.retain.rows=1000"),
    Row("more rows of a risk than there are",
        W + r'.*risk "retain": rows is 1000, but there are 380: all are used', "geffect.risks.retain.rows=1000"),
    Row("fewer rows than a risk has by default", r"digest: .*", "data.retain.rows=8", "geffect.risks=null",
        "geffect.risks.unlearn.rows=4", warnings=0),
    Row("refusals that are cut",
        W + r"HERE/p.jsonl, to the questions of .*/forget05.jsonl: 20 rows are longer than data.max_length = 100 tokens, cut",
        "objective=po", "data.idk=HERE/p.jsonl", "data.max_length=100", forget=("p.jsonl", "No! " * 200)),
    Row("empty answers",
        W + r"HERE/f.jsonl: 1 answer is empty \(first: line 2\): nothing but its end is labelled",
        forget=("f.jsonl", rows(*PAIRS))),
    Row("a chat model of a known kind with the plain template",
        W + r'.*the model\'s own chat template, of the kind "chatml", would give the first row \d+ tokens, .*', chat=CHATML),
    Row("a chat model of no known kind with the plain template",
        W + r"HERE/model: has a chat template of no kind that is known here; data.template: qa .*TEMPLATES.md\)",
        chat=UNKNOWN_CHAT),
    Row("dropout of the model's config.json", r"dropout    none: that of config.json \(0.1\) is left out",
        config={"attention_dropout": 0.1}),
    Row("regularisers without a risk on what is kept",
        W + r"command line: .*: geffect.risks: none is on data.retain: effects of regularisers \(gd\) are not measured; .*",
        "objective.regularizer=gd", "geffect.risks={unlearn: {data: forget}}"),
    Row("the regularisers in the log", r"objective  npo\(beta=0.5\) x 2 \+ kl \+ gd x 0.5", "objective.weight=2",
        "objective.regularizer=[kl, {name: gd, weight: 0.5}]", "train.steps=0", "geffect.every=0", "checkpoint.export=false",
        check=False),
    # settings without effect
    Row("effects of words that are never measured",
        W + r"command line: geffect.tokens=true: geffect.tokens does nothing: geffect.every is 0: nothing is measured",
        "geffect.tokens=true", "geffect.every=0", warnings=1),
    Row("much that is never measured",
        W + r"command line: geffect.curvature=true: geffect.curvature does nothing: geffect.every is 0: nothing is measured",
        "geffect.every=0", "geffect.fidelity=true", "geffect.gram=true", "geffect.standard_error=true", "geffect.curvature=true",
        warnings=4),
    Row("sets that are not evaluated in this run", r"evaluate   none of evaluate.sets in this run: evaluate.every is 0",
        "evaluate.sets.kept=inputs/demo/retain95.jsonl", warnings=0),
    Row("moments of sgd", W + r"command line: .*: optimizer.betas does nothing: optimizer.name is sgd, which has no moments",
        "optimizer={name: sgd, betas: [0.8, 0.9], eps: 1.0e-6}", warnings=2),
    Row("defaults beside others do nothing, as ever", r"digest: .*", "optimizer={name: sgd, betas: [0.9, 0.999], eps: 1.0e-8}",
        "geffect.every=0", "geffect.tokens=false", "geffect.gram=auto", "evaluate.sets={}", warnings=0),
    Row("a question of plain text",
        W + r"command line: .*: data.retain.question does nothing: data.retain.text is given",
        "data.retain={path: inputs/demo/retain95.jsonl, text: answer, question: q}", warnings=1),
    Row("a question beside the template of plain text",
        W + r"command line: data.retain.question=q: data.retain.question does nothing: data.template is plain: a row .*",
        "data.template=plain", "data.retain.question=q", "data.forget.text=answer", "data.retain.path=HERE/p.jsonl",
        "geffect.risks=null", forget=("p.jsonl", rows({"text": "Once. " * 9})), warnings=1),
    Row("other keys of plain text",
        E + r'HERE/f.jsonl:1: has no key "text"; it has "question", "answer" \(\{path: FILE, text: KEY\} names .*',
        "data.template=plain", forget=("f.jsonl", rows(*PAIRS))),
    Row("a time limit of what cannot stop early",
        W + r"--max-hours does nothing: only tasks finetune and unlearn stop early, with a checkpoint: this one runs to its end",
        "task=geffect", "--max-hours", "1", warnings=1),
    Row("a time limit of prompts", W + r"--max-hours does nothing: .*",
        "task=generate", "generate.prompt=Who?", "--max-hours", "1"),
    Row("a time limit of what can", r"digest: .*", "--max-hours", "1", warnings=0),
    Row("the job's time of what cannot stop early", r"stop       not before the end of the job's time: only tasks finetune .*",
        "task=geffect", SLURM_JOB_END_TIME="99999999999"),
    # launchers
    Row("MPICH's launcher",
        E + r"PMI_SIZE=2: .* has started 2 processes, but each is a job of its own.*make CC=.*", status=2, PMI_SIZE="2"),
    Row("Open MPI's launcher",
        E + r"OMPI_COMM_WORLD_SIZE=4: Open MPI's mpirun has started 4 .*", status=2, OMPI_COMM_WORLD_SIZE="4"),
    Row("srun that has started a launcher", r"digest: .*", OMPI_COMM_WORLD_SIZE="1", SLURM_STEP_NUM_TASKS="2"),
    Row("a shell that srun has started", r"digest: .*", SLURM_STEP_NUM_TASKS="2"),
]


def start(row, here):
    """-> the finished process, its lines with HERE for the directory."""
    command = [program(precisions()[0]), *map(str, row.command(here))]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | ALONE | row.environment, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=SLOWER * 60)
    return done, [s.replace(str(here), "HERE") for s in (done.stdout + done.stderr).splitlines()]


def answered(checks, number, row):
    here = checks.directory / str(number)
    here.mkdir()
    done, lines = start(row, here)
    errors = [s for s in lines if s.startswith(E)]
    wrong = [] if done.returncode == row.status else [f"exit status {done.returncode}, not {row.status}"]
    if not any(re.fullmatch(row.says, s) for s in lines):
        wrong.append(f"no line {row.says}")
    if len(errors) != bool(row.status):
        wrong.append(f"{len(errors)} errors")
    warned = set(warnings_of("\n".join(lines)))  # each comes again at the end
    if row.warnings is not None and len(warned) != row.warnings:
        wrong.append(f"{len(warned)} warnings, not {row.warnings}")
    said = [s for s in lines if s.startswith((E, W, "objective "))]
    checks.check(not wrong, row.name, "; ".join(wrong) + "\n  " + "\n  ".join(said))


def sound(checks):
    """The demo's input as it is: nothing to complain of."""
    here = checks.directory / "sound"
    here.mkdir()
    done, lines = start(Row("the demo as it is", ""), here)
    checks.check(done.returncode == 0 and not warnings_of("\n".join(lines)) and not any(s.startswith(E) for s in lines), "the demo as it is", "\n".join(lines))


def one_line_of_many(checks):
    """Of processes that another launcher has started one alone complains."""
    row = Row("the second process", "", status=2, PMI_SIZE="2", PMI_RANK="1")
    here = checks.directory / "second"
    here.mkdir()
    done, lines = start(row, here)
    checks.check(done.returncode == 2 and not lines, row.name, f"{done.returncode}: {lines}")


def srun(checks):
    """Of two processes that srun itself has started (here a shell under the name of its process) one complains."""
    stepd = checks.directory / "slurmstepd"
    shutil.copy(os.path.realpath("/bin/sh"), stepd)
    for rank, lines in (("0", 1), ("1", 0)):
        environment = os.environ | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": rank}
        done = subprocess.run([stepd, "-c", f"{program(precisions()[0])} --version; exit $?"], env=environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        said = re.findall(E + r"SLURM_STEP_NUM_TASKS=2: srun has started 2 .*srun --mpi=.*", done.stdout + done.stderr)
        checks.check(done.returncode == 2 and len(said) == lines, f"srun without MPI, process {rank}", done.stdout + done.stderr)


def quiet_launcher(checks):
    """What README says of mpirun -q: of a run that fails the program's one line is left, and without it there is more."""
    if not re.search(r"\(Open MPI\) 4", subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout):
        checks.skip("mpirun -q: mpirun is not Open MPI 4's")
        return
    environment = {k: v for k, v in os.environ.items() if k != "OMPI_MCA_orte_execute_quiet"}
    said = {}
    for option in ([], ["-q"]):
        done = subprocess.run(["mpirun", *option, "-np", "2", program(precisions()[0]), "nowhere.yaml"], cwd=ROOT,
                              env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SLOWER * 60)
        said[len(option)] = (done.stdout + done.stderr).strip().splitlines()
    checks.check(len(said[1]) == 1 and said[1][0].startswith(E) and len(said[0]) > 1, "mpirun -q leaves one line", str(said))


def main():
    checks = Checks("newcomer")
    checks.need(ROOT / "inputs/demo/model/config.json")
    words = sys.argv[1:]
    wanted = [(i, r) for i, r in enumerate(TABLE) if not words or any(w in r.name for w in words)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(lambda entry: answered(checks, *entry), wanted))
    if not words:
        sound(checks)
        one_line_of_many(checks)
        srun(checks)
        quiet_launcher(checks)
    checks.finish()


if __name__ == "__main__":
    main()
