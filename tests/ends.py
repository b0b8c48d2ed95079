"""end to end: the tokens that begin and end a row, and those that end an answer, where several files of a model name them.

The rules are transformers' and TOFU's; where transformers is there, it says itself which tokens they are."""
import json
import os
import shutil

from harness import SHARED, Checks, precisions, run, run_input

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
try:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
except ImportError:
    AutoTokenizer = None

MODEL = SHARED / "golden/open_unlearning/mid"  # <s> is 1, </s> is 2
TOFU = SHARED / "data/tofu"
PROMPT, LENGTH = "Question: Where was the author born?\nAnswer:", 60


def change(model, name, **keys):
    """Members of a JSON file of the model; None takes one away, "null" makes it null."""
    path = model / name
    value = json.loads(path.read_text()) if path.exists() else {}
    value.update({k: None if v == "null" else v for k, v in keys.items()})
    path.write_text(json.dumps({k: v for k, v in value.items() if keys.get(k, 0) is not None}))


def copy(checks, name):
    shutil.copytree(MODEL, model := checks.directory / name)
    return model


# ---------------------------------------------------------------------------------------------------- ends of rows
def without(name):
    return lambda m: (m / name).unlink()


def changing(*changes):
    def apply(m):
        for name, keys in changes:
            change(m, name, **keys)
    return apply


TOKENIZER, MAP, CONFIG, GENERATION = "tokenizer_config.json", "special_tokens_map.json", "config.json", "generation_config.json"
ROWS = [  # what is changed, the end token of a row, whether transformers' tokenizer says the same
    ("as it is", lambda m: None, 2, True),
    ("config.json says null", changing((CONFIG, {"eos_token_id": "null"})), 2, True),
    ("config.json has a list", changing((CONFIG, {"eos_token_id": [0, 2]})), 2, True),
    ("config.json has another", changing((CONFIG, {"eos_token_id": 7})), 2, True),
    ("the tokenizer has another", changing((TOKENIZER, {"eos_token": "<s>"})), 1, True),
    ("an object", changing((TOKENIZER, {"eos_token": {"content": "<s>", "lstrip": False, "__type": "AddedToken"}})), 1, True),
    ("the old map counts", changing((TOKENIZER, {"added_tokens_decoder": None}), (MAP, {"eos_token": "<s>"})), 1, True),
    ("the old map does not count beside added_tokens_decoder",
     changing((TOKENIZER, {"added_tokens_decoder": {"2": {"content": "</s>", "special": True}}}), (MAP, {"eos_token": "<s>"})), 2, True),
    ("only config.json names one", changing((TOKENIZER, {"eos_token": None, "tokenizer_class": "PreTrainedTokenizerFast"}),
                                            (CONFIG, {"eos_token_id": [7, 2]})), 7, False),
    ("no tokenizer_config.json", without(TOKENIZER), 2, False),
    ("no token of the tokenizer", changing((TOKENIZER, {"eos_token": "<nowhere>"}), (CONFIG, {"eos_token_id": 7})), 7, False),
    ("a number past 64 bits beside it", changing((TOKENIZER, {"model_max_length": 10**30})), 2, True),
    ("none at all", changing((TOKENIZER, {"eos_token": "null"}), (CONFIG, {"eos_token_id": "null"})), None, False),
]


def end_of_rows(checks):
    data = checks.directory / "rows.jsonl"
    data.write_text('{"question": "Who?", "answer": "She."}\n')
    for i, (name, edit, expected, same) in enumerate(ROWS):
        edit(model := copy(checks, f"rows-{i}"))
        done = run(["--encode", model, data, "data.template=qa"], 1, precisions()[0])
        end = json.loads(done.stdout)["ids"][-1] if not done.returncode else done.stderr
        checks.check(end == (expected if expected is not None else 426), f"a row's end: {name}", str(end))  # 426: "."
        if same and AutoTokenizer:
            theirs = AutoTokenizer.from_pretrained(model).eos_token_id
            checks.check(theirs == expected, f"a row's end by transformers: {name}", str(theirs))


# ------------------------------------------------------------------------------------------------- ends of answers
def answer(checks, name, edit=None):
    """-> the ids of an answer, what ended it, the log."""
    model = checks.directory / name if (checks.directory / name).exists() else copy(checks, name)
    if edit:
        edit(model)
    done = run_input({"task": "generate", "model": {"path": str(model)}, "output": {"directory": str(checks.directory / f"out-{name}")},
                      "generate": {"prompt": PROMPT, "max_length": LENGTH}}, 1, precisions()[0], directory=checks.directory)
    if done.returncode:
        return [], done.stderr.strip(), done.stdout
    line = json.loads((checks.directory / f"out-{name}/generations.jsonl").read_text())
    return line["ids"], line["stop"], done.stdout


def end_of_answers(checks):
    never = changing((GENERATION, {"eos_token_id": None}))
    whole, stop, log = answer(checks, "never", never)
    if not checks.check(stop == "max_length" and len(set(whole)) > 6, "an answer goes on where nothing ends it", f"{stop}: {whole}"):
        return
    checks.check("warning: " in log and "no eos_token_id ends answers" in log, "a warning that nothing ends answers")
    one = next(t for i, t in enumerate(whole) if i > 2 and t != 2 and t not in whole[:i])
    cut = whole[:whole.index(one)]
    unused = next(t for t in range(3, 500) if t not in whole)
    cases = [  # name, what is changed, the answer
        ("a number", changing((GENERATION, {"eos_token_id": one})), cut),
        ("a list", changing((GENERATION, {"eos_token_id": [unused, one]})), cut),
        ("a list, against config.json", changing((GENERATION, {"eos_token_id": [one, 2]}), (CONFIG, {"eos_token_id": unused})), cut),
        ("no such file: config.json", lambda m: (without(GENERATION)(m), change(m, CONFIG, eos_token_id=[2, one])), cut),
        ("the file says null", changing((GENERATION, {"eos_token_id": "null"}), (CONFIG, {"eos_token_id": one})), whole),
        ("the file says nothing", changing((GENERATION, {"eos_token_id": None}), (CONFIG, {"eos_token_id": one})), whole),
        ("beyond the vocabulary", changing((GENERATION, {"eos_token_id": [99999, one]})), cut),
    ]
    for i, (name, edit, expected) in enumerate(cases):
        ids, stop, log = answer(checks, f"answer-{i}", edit)
        checks.check(ids == expected and stop == ("eos" if expected == cut else "max_length"), f"an answer's end: {name}", f"{stop}: {ids}")
        checks.check(("config.json says otherwise" in log) == (name != "no such file: config.json"),
                     f"the log says where files disagree: {name}", log)
        if AutoTokenizer and (checks.directory / f"answer-{i}" / GENERATION).exists():
            theirs = GenerationConfig.from_pretrained(checks.directory / f"answer-{i}").eos_token_id
            checks.check((one in (theirs if isinstance(theirs, list) else [theirs])) == (expected == cut),
                         f"an answer's end by transformers: {name}", str(theirs))
    return one


def theirs(checks):
    """transformers' own generate(), with the files as they are, says the same."""
    for i in (0, 1, 2, 3, 5, 6):
        model = checks.directory / f"answer-{i}"
        ids = AutoTokenizer.from_pretrained(model)(PROMPT, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            said = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).generate(ids, max_length=LENGTH, do_sample=False)
        said = said[0, ids.shape[1]:].tolist()
        ours = json.loads((checks.directory / f"out-answer-{i}/generations.jsonl").read_text())
        said = said[:-1] if ours["stop"] == "eos" else said
        checks.check(said == ours["ids"], f"generate() of answer-{i}", f"{said} not {ours['ids']}")


def evaluated(checks, one):
    """What is scored ends there too, on one process and on two, and the digest knows it."""
    texts, digests = {}, {}
    for name, ranks in (("never", 1), ("answer-0", 1), ("answer-0", 2)):
        out = checks.directory / f"evaluated-{name}-{ranks}"
        settings = {"task": "evaluate", "model": {"path": str(checks.directory / name)}, "output": {"directory": str(out)},
                    "data": {"template": "qa"}, "evaluate": {"rows": 3, "max_length": 90, "metrics": ["rougeL_recall"],
                                                             "sets": {"forget": str(TOFU / "forget01_perturbed.json")}}}
        done = run_input(settings, ranks, precisions()[0], directory=checks.directory)
        if not checks.check(not done.returncode, f"evaluated: {name}", done.stderr):
            return
        log = json.loads((out / "eval_log_aggregated.json").read_text())
        generated = next(v for v in log.values() if "generated_text" in v)["generated_text"]
        texts[name, ranks] = [t[1] for t in (generated.values() if isinstance(generated, dict) else generated)]
        shutil.rmtree(out)
        digests[name] = run_input(settings, 1, precisions()[0], directory=checks.directory, options=["--check"]).stdout.split("digest: ")[-1]
    long, short = texts["never", 1], texts["answer-0", 1]
    checks.check(all(a.startswith(b) for a, b in zip(long, short)) and sum(map(len, short)) < sum(map(len, long)),
                 "answers that are scored end there", f"{short} {long}")
    checks.check(texts["answer-0", 2] == short, "they end alike on two processes", str(texts["answer-0", 2]))
    checks.check(digests["never"] != digests["answer-0"], "the digest knows where answers end", str(digests))


def main():
    checks = Checks("ends")
    checks.need(MODEL)
    end_of_rows(checks)
    one = end_of_answers(checks)
    if one is not None:
        evaluated(checks, one)
        if AutoTokenizer:
            theirs(checks)
        else:
            checks.skip("transformers' own generate(): make transformers")
    checks.finish()


if __name__ == "__main__":
    main()
