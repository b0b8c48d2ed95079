"""end to end: task generate against the float64 reference's greedy answers, on every layout; its draws; bad input.

    generation.py

SHARED/golden/evaluation: a model that knows TOFU rows, and what the reference's greedy() answers. SHARED/models: Llamas that
write stories, and what they write after given prompts."""
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import SHARED, Checks, few, layout, precisions, run_input

EVALUATION = SHARED / "golden/evaluation"
TOFU = SHARED / "data/tofu"
SETS = {"forget": "forget01_perturbed", "retain": "retain_perturbed", "real_authors": "real_authors_perturbed",
        "world_facts": "world_facts_perturbed"}
LAYOUTS = [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2)]  # ranks, tensor
SPLIT_SINGLE = 0.98  # float: share of the ids that must be the reference's; near ties fall either way
STORIES = SHARED / "models/stories260K"


def answers(directory):
    """-> the lines of generations.jsonl."""
    return [json.loads(s) for s in (directory / "out/generations.jsonl").read_text(encoding="utf-8").splitlines()]


def generate(checks, name, model, prompts, ranks=1, tensor=1, precision="double", seed=42, **keys):
    """Runs the task -> its lines, None where it failed. prompts: the value of generate.prompts, or a list of lines."""
    directory = checks.directory / name.replace(" ", "-")
    directory.mkdir()
    if isinstance(prompts, list):
        (directory / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts), encoding="utf-8")
        prompts = "prompts.jsonl"
    settings = {"task": "generate", "seed": seed, "output": {"directory": "out"}, "model": {"path": str(model)},
                "parallel": layout(ranks, tensor), "generate": {"prompts": prompts, **keys}}
    done = run_input(settings, ranks, precision, directory)
    if not checks.check(done.returncode == 0, f"{name}: exit status {done.returncode}", done.stderr[-2000:]):
        return None
    return answers(directory)


def same_share(got, want):
    """Of all ids of the reference, those in whose place the same one stands."""
    return sum(a == b for x, y in zip(got, want) for a, b in zip(x, y)) / max(1, sum(map(len, want)))


def evaluation(checks):
    """The golden answers, of four sets together."""
    want = json.loads((EVALUATION / "expected.json").read_text())
    rows, ids, texts = want["settings"]["rows"], [], []
    prompts = []
    for name, file in SETS.items():
        lines = (TOFU / f"{file}.json").read_text(encoding="utf-8").splitlines()[:rows]
        prompts += [{"question": json.loads(s)["question"]} for s in lines]
        ids += want["detail"][name]["generated_ids"]
        texts += want["detail"][name]["generated"]
    for precision in precisions():
        for ranks, tensor in few(LAYOUTS, precision):
            name = f"golden {precision} {ranks} ranks tensor {tensor}"
            got = generate(checks, name, EVALUATION / "model", prompts, ranks, tensor, precision,
                           max_length=want["settings"]["max_length"], slots=[1, 5, 32][ranks % 3])
            if got is None:
                continue
            mine = [g["ids"] for g in got]
            share = same_share(mine, ids)
            print(f"{name}: {share:.4f} of {sum(map(len, ids))} ids are the reference's")
            checks.check([g["row"] for g in got] == list(range(len(ids))), f"{name}: rows")
            if precision == "double":
                checks.check(mine == ids, f"{name}: the ids of the reference")
                checks.check([g["text"] for g in got] == texts, f"{name}: the texts of the reference")
            else:
                checks.check(share >= SPLIT_SINGLE, f"{name}: the ids of the reference", f"{share}")
            checks.check(all(g["stop"] == ("max_length" if g["prompt_tokens"] + len(g["ids"]) == 300 else "eos") for g in got),
                         f"{name}: why each ended")


def stories(checks, model):
    """Raw prompts, each as long as the reference wrote."""
    want = json.loads((model / "expected.json").read_text())["greedy"]
    for i, one in enumerate(want):
        for ranks, tensor in few(LAYOUTS):
            name = f"{model.name} prompt {i}, {ranks} ranks tensor {tensor}"
            got = generate(checks, name, model, [{"prompt": one["prompt"]}, {"prompt": "Tom had a red"}], ranks, tensor,
                           max_length=len(one["ids"]))
            if got:
                n = got[0]["prompt_tokens"]
                ids = one["ids"][n:]
                checks.check(n == len(one["prompt_ids"]) and got[0]["ids"] == ids[:len(got[0]["ids"])]
                             and (len(got[0]["ids"]) == len(ids) or got[0]["stop"] == "eos"), f"{name}: the ids of the reference",
                             f"{got[0]['ids']} and {ids}")


def draws(checks):
    prompts = [{"prompt": p} for p in ("Once upon a time", "Tom and Sue", "The cat", "One day", "A dog", "She", "He said")]
    keys = {"temperature": 0.9, "top_p": 0.95, "max_length": 60}
    first = generate(checks, "draws", STORIES, prompts, **keys)
    again = generate(checks, "draws again, 4 ranks, 1 slot", STORIES, prompts, 4, slots=1, **keys)
    other = generate(checks, "draws of another seed", STORIES, prompts, seed=43, **keys)
    greedy = generate(checks, "greedy", STORIES, prompts, max_length=60)
    cold = generate(checks, "draws without choice", STORIES, prompts, temperature=5, top_p=1e-9, max_length=60)
    if first and again and other and greedy and cold:
        checks.check(first == again, "draws: the same on other ranks and slots")
        checks.check(first != other, "draws: others of another seed")
        checks.check(greedy == cold, "draws: the likeliest alone with a small top_p")
        checks.check(len({tuple(g["ids"]) for g in first}) > 1 and first != greedy, "draws: are drawn")


def long_prompt(checks):
    directory = checks.directory / "long"
    directory.mkdir()
    (directory / "p.jsonl").write_text('{"prompt": "Once upon a time there was a girl"}\n\n{"prompt": "Tom"}\n')
    done = run_input({"task": "generate", "output": {"directory": "out"}, "model": {"path": str(STORIES)},
                      "generate": {"prompts": "p.jsonl", "max_length": 6}}, 1, precisions()[0], directory)
    if checks.check(done.returncode == 0, "a prompt that is too long: exit status", done.stderr):
        got = answers(directory)
        checks.check(got[0]["ids"] == [] and got[0]["text"] == "" and got[0]["stop"] == "max_length" and got[1]["ids"],
                     "a prompt that is too long: no answer", str(got))
        checks.check("warning: p.jsonl: 1 prompt has generate.max_length = 6 tokens or more: no answer" in done.stdout,
                     "a prompt that is too long: a warning", done.stdout)


BAD = {  # prompts (a text or lines), keys of generate -> words of the message
    "no file": (None, {"prompts": "nowhere.jsonl"}, "nowhere.jsonl"),
    "an empty file": ("", {}, "p.jsonl: holds no prompts"),
    "no key": ('{"prompt": "a"}\n{"text": "b"}\n', {}, 'p.jsonl:2: has neither the key "question" nor "prompt"'),
    "both keys": ('{"prompt": "a", "question": "b"}\n', {}, 'p.jsonl:1: has both'),
    "no text": ('{"question": 3}\n', {}, 'p.jsonl:1: "question" is not text'),
    "no object": ('[1]\n', {}, "p.jsonl:1: the line is not a JSON object"),
    "no JSON": ('{"prompt": \n', {}, "p.jsonl:1"),
    "neither": (None, {"prompts": None}, "generate.prompts is missing"),
    "both": ('{"prompt": "a"}\n', {"prompt": "b"}, "not both"),
    "top_p": ('{"prompt": "a"}\n', {"top_p": 0}, "generate.top_p"),
    "temperature": ('{"prompt": "a"}\n', {"temperature": -1}, "generate.temperature"),
    "max_length": ('{"prompt": "a"}\n', {"max_length": 0}, "generate.max_length"),
}


def bad(checks, name):
    text, keys, words = BAD[name]
    directory = checks.directory / f"bad-{name}".replace(" ", "-")
    directory.mkdir()
    if text is not None:
        (directory / "p.jsonl").write_text(text)
    done = run_input({"task": "generate", "output": {"directory": "out"}, "model": {"path": str(STORIES)},
                      "generate": {"prompts": "p.jsonl", **keys}}, 1, precisions()[0], directory, timeout=30)
    lines = done.stderr.strip().splitlines()
    checks.check(done.returncode == 1 and len(lines) == 1 and lines[0].startswith("unlearn: error: ") and words in lines[0]
                 and not (directory / "out/generations.jsonl").exists(), f"bad input: {name}", f"{done.returncode} {done.stderr}")


def empty_prompt(checks):
    """No token at all: only where the tokenizer adds none of its own."""
    directory = checks.directory / "empty"
    model = directory / "model"
    model.mkdir(parents=True)
    for path in STORIES.iterdir():
        (model / path.name).symlink_to(path)
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["post_processor"] = None
    (model / "tokenizer.json").unlink()
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    done = run_input({"task": "generate", "output": {"directory": "out"}, "model": {"path": "model"},
                      "generate": {"prompt": ""}}, 1, precisions()[0], directory)
    checks.check(done.returncode == 1 and "input.yaml" in done.stderr and "the prompt is empty" in done.stderr, "an empty prompt",
                 done.stderr)


def check_only(checks):
    """--check: plan and digest, which spelling does not change and settings do; nothing is written."""
    digests = []
    for i, keys in enumerate(({}, {"top_p": 1.0, "slots": 3}, {"temperature": 1}, {"prompt": "Once"})):
        directory = checks.directory / f"check-{i}"
        directory.mkdir()
        done = run_input({"task": "generate", "output": {"directory": "out"}, "model": {"path": str(STORIES)},
                          "generate": {"prompt": "Once upon", **keys}}, 1, precisions()[0], directory, ["--check"])
        found = re.search(r"digest: (\w+)\n$", done.stdout)
        if checks.check(done.returncode == 0 and found and "memory     " in done.stdout and not (directory / "out").exists(),
                        f"--check {i}", done.stdout + done.stderr):
            digests.append(found[1])
    checks.check(len(digests) == 4 and digests[0] == digests[1] and len(set(digests)) == 3, "--check: digests", str(digests))


def check_elsewhere(checks):
    """--check plans for the machine that the input describes."""
    settings = {"task": "generate", "output": {"directory": "out"}, "model": {"path": str(STORIES)}, "generate": {"prompt": "Once upon"}}
    done = run_input({**settings, "plan": {"processes": 16, "per_node": 4, "memory": 16e9}}, 1, precisions()[0],
                     checks.directory, ["--check"])
    checks.check(done.returncode == 0 and "\nlayout     16 processes = " in done.stdout and "digest: none, for plan.processes" in done.stdout,
                 "--check for another machine", done.stdout[-1500:] + done.stderr)


def reference_unread(checks):
    """An input of a training, as it is: no objective or regularizer of it is used, so its reference is not loaded."""
    directory = checks.directory / "reference"
    model = directory / "other"
    model.mkdir(parents=True)
    for path in STORIES.iterdir():
        (model / path.name).symlink_to(path)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").unlink()
    (model / "config.json").write_text(json.dumps(config | {"rope_theta": 77.0}))  # which is refused where it is loaded
    learn = {"output": {"directory": "out"}, "model": {"path": str(STORIES), "reference": "other"},
             "data": {"forget": "f.jsonl", "retain": "f.jsonl"}, "generate": {"prompt": "Once", "max_length": 8}}
    (directory / "f.jsonl").write_text('{"question": "a", "answer": "b"}\n' * 2)
    for name in ("kl", "rr"):
        for kept in ("weights", "values"):
            learn["model"]["reference_as"], learn["objective"] = kept, {"name": "npo", "regularizer": name}
            done = run_input({**learn, "task": "generate"}, 1, precisions()[0], directory, ["--overwrite"])
            checks.check(done.returncode == 0 and len(answers(directory)) == 1, f"{name} as {kept} in the input: no reference", done.stderr)
    for task in ("unlearn", "geffect"):
        done = run_input({**learn, "task": task}, 1, precisions()[0], directory, ["--overwrite"])
        checks.check(done.returncode == 1 and "rope_theta" in done.stderr, f"{task} loads the reference", done.stderr)


def main():
    checks = Checks("generation")
    if not precisions():
        checks.check(False, "no program is built")
        checks.finish()
    if (EVALUATION / "expected.json").exists() and TOFU.exists():
        evaluation(checks)
    else:
        checks.skip(f"{EVALUATION} or {TOFU} is not there")
    if not STORIES.exists():
        checks.skip(f"{STORIES} is not there")
        checks.finish()
    if "double" in precisions():
        for path in sorted(Path(STORIES.parent).glob("*/expected.json")):
            stories(checks, path.parent)
        draws(checks)
    long_prompt(checks)
    reference_unread(checks)
    empty_prompt(checks)
    check_only(checks)
    check_elsewhere(checks)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: bad(checks, name), BAD))
    checks.finish()


if __name__ == "__main__":
    main()
