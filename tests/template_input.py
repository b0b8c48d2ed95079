"""end to end: bad values of data.template and of the files that name special tokens; templates in whole runs.

Bad ones are refused with one line that says where and what; sound ones give the same on one process and on two."""
import json

import h5py
import numpy as np
from bad_input import INPUT, ROWS, bad
from damage import GOLDEN, Case, both, json_file, raw, setting, writing
from harness import Checks, precisions, run, run_input

HEAD = "task: unlearn\nmodel: {path: model}\noutput: {directory: out}\ndata: {forget: forget.jsonl, retain: retain.jsonl, template: "


def template(text):
    """The template's text begins in line 4, column 62."""
    return raw(HEAD + text + "}\n")


def tokens(**keys):
    """tokenizer_config.json of the model says this alone."""
    return writing("model/tokenizer_config.json", json.dumps(keys))


def generating(text):
    return both(both(setting("task", "generate"), setting("generate", {"prompt": "Who?"})), writing("model/generation_config.json", text))


def encoding(*words):
    return lambda c: setattr(c, "options", ["--encode", *words])


def nameless(*keys):
    return json_file("model/config.json", lambda c: c.update({k: None for k in keys}))


BESIDE = json.dumps({"question": "Who?", "answer": "She.", "text": "as long a text " * 20}) + "\n"
PLACE = INPUT + ":4:62: data.template: "
TABLE = [
    ("a name that is none", template("lama3"), [PLACE, "lama3", "did you mean llama3", "qa, llama2"], 1, 2),
    ("a name under name", template("{name: quen2}"), [INPUT + ":4:69", "quen2", "did you mean qwen2"], 1, 1),
    ("no name near", template("vicuna"), [PLACE + "there is no template \"vicuna\"; use one of qa"], 1, 1),
    ("a part misspelt", template("{promt_end: x}"), [INPUT + ":4:63", "promt_end", 'did you mean "prompt_end"'], 1, 1),
    ("bos of another word", template("{name: qa, bos: alway}"), [INPUT + ":4:78", "data.template.bos", "did you mean always"], 1, 1),
    ("eos of another word", template("{name: qa, eos: nevr}"), [INPUT + ":4:78", "data.template.eos", "did you mean never"], 1, 1),
    ("trim of another word", template("{name: qa, trim: 1}"), [INPUT + ":4:79", "data.template.trim", "auto | always | never"], 1, 1),
    ("end_token of another word", template("{name: qa, end_token: uot}"), [INPUT + ":4:84", "data.template.end_token", "did you mean out"], 1, 1),
    ("a list", template("[qa]"), [INPUT + ":4:62", "data.template"], 1, 1),
    ("system text of qa", template("{name: qa, system: x}"), [INPUT + ":4:81", "qa has no system text"], 1, 2),
    ("a date of gemma", template("{name: gemma, date: 1 Jan 2020}"), [INPUT + ":4:82", "gemma names no date"], 1, 1),
    ("a system text beside parts", template("{answer_end: x, system: y}"), [INPUT + ":4:86", "data.template.system", "question_start"], 1, 1),
    ("a date beside parts", template("{answer_end: x, date: y}"), [INPUT + ":4:84", "data.template.date", "question_start"], 1, 1),
    ("name and parts", template("{name: qa, answer_end: x}"), [PLACE, "not both"], 1, 1),
    ("settings without a name or parts", template("{bos: never}"), [PLACE, "give its name"], 1, 1),
    ("a template with the end token's text, and no such text", template("zephyr"), [PLACE, "zephyr", "tokenizer_config.json", "eos_token"], 1, 2),
    ("bos always where there is none", both(template("{name: qa, bos: always}"), nameless("bos_token_id")),
     [INPUT + ":4:78", "data.template.bos", "bos_token"], 1, 1),
    ("eos always where there is none", both(template("{name: qa, eos: always}"), nameless("eos_token_id")),
     [INPUT + ":4:78", "data.template.eos", "eos_token"], 1, 2),
    ("questions where plain text is asked for", template("plain"), [ROWS + ":1", 'no key "text"'], 1, 1),
    ("refusals for plain text", both(setting("data.template", "plain"), both(setting("objective", {"name": "po"}), both(
        setting("data.idk", "idk.jsonl"), both(writing(ROWS, '{"text": "a"}\n'), writing("retain.jsonl", '{"text": "a"}\n'))))),
     [ROWS + ": is read as plain text, which has no questions that the refusals of idk.jsonl"], 1, 1),
    ("refusals for plain text beside questions, measured", both(setting("data.template", "plain"), both(setting("data.max_length", 8), both(
        setting("geffect.objectives", ["dpo"]), both(setting("data.idk", "idk.jsonl"), both(writing(ROWS, BESIDE), writing("retain.jsonl", BESIDE)))))),
     [ROWS + ": is read as plain text, .*neither data.template plain"], 1, 2),
    ("an eos_token that is a number", both(lambda c: None, tokens(eos_token=2)), ["tokenizer_config.json: eos_token: ", "text"], 1, 2),
    ("a tokenizer_config.json that is none", writing("model/tokenizer_config.json", "{"), ["tokenizer_config.json:1"], 1, 1),
    ("ends of answers that are text", generating('{"eos_token_id": "two"}'), ["generation_config.json: eos_token_id"], 1, 2),
    ("ends of answers that are texts", generating('{"eos_token_id": [0, "two"]}'), ["generation_config.json: eos_token_id"], 1, 1),
    ("too many ends of answers", generating(json.dumps({"eos_token_id": list(range(9))})), ["generation_config.json: eos_token_id", "more than 8"], 1, 1),
    ("a generation_config.json that is none", generating("{,}"), ["generation_config.json:1:2"], 1, 1),
    ("encode by a name that is none", encoding("model", ROWS, "data.template=lama3"), ["data.template", "did you mean llama3"], 1, 1),
    ("encode by an unknown key", encoding("model", ROWS, "data.tmplate=qa"), ["tmplate", "template"], 1, 1),
    ("encode of questions without a template", encoding("model", ROWS), [ROWS + ":1", "data.template=NAME"], 1, 1),
    ("encode of a row without an answer", both(writing(ROWS, '{"question": "a"}\n'), encoding("model", ROWS, "data.template=qa")),
     [ROWS + ":1", "answer"], 1, 1),
]


# ------------------------------------------------------------------------------------------------------ whole runs
def trained(case, ranks):
    """-> what the log says, and the losses of the updates."""
    done = run_input(case.input, ranks, precisions()[-1], case.directory, ["--overwrite"], 60)
    if done.returncode:
        return done.stderr, []
    with h5py.File(case / "out/train.h5") as f:
        return done.stdout, f["loss"][:-1].tolist()


def plain_text(checks):
    case = Case(checks.directory / "plain")
    words = " ".join(json.loads(s)["answer"] for s in (case / ROWS).read_text().splitlines())
    for name in (ROWS, "retain.jsonl"):
        (case / name).write_text("".join(json.dumps({"text": t}) + "\n" for t in (words, "Short.", words[:200])))
    case.set("data.template", "plain"), case.set("data.max_length", 40)
    case.set("objective", {"name": "ga", "regularizer": "gd"}), case.set("geffect", {"every": 2})
    log, one = trained(case, 1)
    line = next((s for s in log.splitlines() if "texts in" in s), "")
    checks.check("forget.jsonl: 3 texts in " in line and int(line.split(" in ")[1].split()[0]) > 6, "long texts are several rows", log)
    case.set("evaluate", {"every": 2, "sets": {"forget": "idk.jsonl"}, "metrics": ["tokens", "loss"]})
    (case / "idk.jsonl").write_text('{"question": "Who", "answer": " she?"}\n')  # one behind the other, only the answer labelled
    log, two = trained(case, 2)
    checks.check(one and len(one) == len(two) and all(abs(a - b) < 1e-5 for a, b in zip(one, two)), "two processes train on the same rows", f"{one} {two} {log[-500:]}")
    with h5py.File(case / "out/evaluation.h5") as f:
        metrics = [m.decode() if isinstance(m, bytes) else m for m in f["metric"][:]]
        labels = f["evaluation"][0, 0, 0, metrics.index("tokens")]
    checks.check(0 < labels < 8, "questions and answers beside plain text", str(labels))


def scored(checks):
    """What is not labelled, or not there, needs not be left out of a score: the answer's last token stays in."""
    case = Case(checks.directory / "scored")
    names, got = ["exact_memorization", "extraction_strength", "min_k"], {}
    for what, end, settings in (("labelled, left out", "out", {}), ("not labelled", "out", {"end_token": "out"}), ("not there", "out", {"eos": "never"}),
                                ("labelled, counted", "in", {})):
        case.input = {"task": "evaluate", "output": {"directory": "out"}, "model": {"path": "model"},
                      "data": {"template": {"question_start": "Q: ", "prompt_end": "\n", **settings}},
                      "evaluate": {"metrics": names, "end_token": end, "sets": {"forget": ROWS}}}
        done = run_input(case.input, 1, precisions()[-1], case.directory, ["--overwrite"], 60)
        if not checks.check(not done.returncode, f"scored: {what}", done.stderr):
            return
        with h5py.File(case / "out/evaluation.h5") as f:
            metrics = [m.decode() if isinstance(m, bytes) else m for m in f["metric"][:]]
            got[what] = np.array([f["evaluation"][0, 0, :, metrics.index(n)] for n in names])
    same = np.abs(got["labelled, left out"] - got["not labelled"]).max() < 1e-12 and np.abs(got["labelled, left out"] - got["not there"]).max() < 1e-12
    checks.check(same and np.isfinite(got["not there"]).all(), "scores without the end token", str(got))
    checks.check(np.abs(got["labelled, left out"] - got["labelled, counted"]).max() > 1e-3, "scores with it are others", str(got))


def restarted(checks):
    """A run is not gone on with by another template."""
    case = Case(checks.directory / "restarted")
    case.set("train.steps", 4), case.set("geffect.every", 0), case.set("checkpoint", {"every": 2})
    case.set("objective", {"name": "ga"}), case.set("data.template", {"question_start": "Q: ", "prompt_end": "\nA: "})
    (case / "out").mkdir()
    first = run_input(case.input, 1, precisions()[0], case.directory, ["--max-hours", "1e-9"], 60)
    checks.check(first.returncode == 75, "stopped with a checkpoint", first.stderr)
    case.set("data.template", {"question_start": "Q: ", "prompt_end": "\nA:"})
    done = run_input(case.input, 1, precisions()[0], case.directory, ["--restart"], 60)
    checks.check(done.returncode == 1 and "data.template.prompt_end" in done.stderr, "another template is refused", done.stderr)


def restarted_with_other_ends(checks):
    """Nor where answers that are scored would end elsewhere."""
    case = Case(checks.directory / "ends")
    case.set("train.steps", 4), case.set("geffect.every", 0), case.set("checkpoint", {"every": 2}), case.set("objective", {"name": "ga"})
    case.set("evaluate", {"every": 1, "rows": 1, "metrics": ["rougeL_recall"], "sets": {"forget": ROWS}})
    (case / "out").mkdir()
    first = run_input(case.input, 1, precisions()[0], case.directory, ["--max-hours", "1e-9"], 60)
    checks.check(first.returncode == 75, "stopped with a checkpoint and scores", first.stderr)
    before = (case / "model/generation_config.json").read_text()
    (case / "model/generation_config.json").write_text('{"eos_token_id": [1, 0]}')
    done = run_input(case.input, 1, precisions()[0], case.directory, ["--restart"], 60)
    checks.check(done.returncode == 1 and "evaluate.sets" in done.stderr, "other ends of answers are refused", done.stderr)
    (case / "model/generation_config.json").write_text(before)
    done = run_input(case.input, 1, precisions()[0], case.directory, ["--restart"], 60)
    checks.check(done.returncode == 0, "the same ends are not", done.stderr)


def shown(checks):
    """Each line of --encode with a template, or with an input file in place of the model."""
    case = Case(checks.directory / "shown")
    case.set("data.template", {"question_start": "Q: ", "prompt_end": " A:", "answer_start": " ", "end_token": "out", "eos": "always"})
    (case / INPUT).write_text(json.dumps(case.input))
    done = run(["--encode", INPUT, ROWS], 1, precisions()[0], directory=case.directory)
    rows = [json.loads(s) for s in done.stdout.splitlines()]
    checks.check(len(rows) == len((case / ROWS).read_text().splitlines()), "a line for each row", done.stderr)
    checks.check(all(r["labels"] == len(r["label"]) and len(r["end"]) == 1 and
                     len(r["ids"]) == len(r["prompt"] + r["label"] + r["end"]) for r in rows), "prompt, label and end", done.stdout[:500])
    again = run(["--encode", "model", ROWS, "data.template=" + json.dumps(case.input["data"]["template"]), "data.max_length=200"], 1, precisions()[0], directory=case.directory)
    checks.check(again.stdout == done.stdout and done.stdout, "the same by the input and by keys", again.stderr)
    said = run(["--help", "templates"], 1, precisions()[0]).stdout
    checks.check(all(s in said for s in ('"{bos}[<|start_header_id|>', '"[INST] {question} [/INST]"', 'prompt "Question: {question}\\n"')), "--help templates has their texts")


def main():
    checks = Checks("template")
    checks.need(GOLDEN)
    for entry in TABLE:
        bad(checks, entry)
    plain_text(checks)
    scored(checks)
    restarted(checks)
    restarted_with_other_ends(checks)
    shown(checks)
    checks.finish()


if __name__ == "__main__":
    main()
