"""end to end: every input file passes --check, and so do the experiments of the paper, with stand-ins for models and data.

A stand-in has the depth, the heads, the architecture and the turns of the model it stands for, but is 64 wide and has the demo's
words: --check reads or draws all weights, 27 GB for a model of 7 billion. Its rows are the demo's, under the names of TOFU's files."""
import itertools
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count, environ

import numpy as np
from harness import ROOT, SHARED, Checks, precisions, run, warnings_of

SPLITS = {"forget01": "retain99", "forget05": "retain95", "forget10": "retain90"}
GROUPS = ("@learn", "@methods", "@figures", "@sweep", "@open_unlearning")
NARROW = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 2048,
          "bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": False, "vocab_size": 1024}
SHAPES = {  # what each model's config.json has of its own
    "phi-1.5": {"model_type": "phi", "num_hidden_layers": 24, "hidden_act": "gelu_new", "partial_rotary_factor": 0.5, "layer_norm_eps": 1e-5},
    "llama2-7b": {"model_type": "llama", "num_hidden_layers": 32, "hidden_act": "silu", "rms_norm_eps": 1e-5},
    "llama3.2-1b": {"model_type": "llama", "num_hidden_layers": 16, "num_key_value_heads": 1, "hidden_act": "silu", "rms_norm_eps": 1e-5,
                    "tie_word_embeddings": True, "rope_theta": 500000.0,
                    "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                                     "original_max_position_embeddings": 1024}},
}
BASES = {"phi-1.5": "phi-1_5", "llama2-7b": "Llama-2-7b-chat-hf", "llama3.2-1b": "Llama-3.2-1B-Instruct"}
TURNS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")  # Llama 3's
CHECKED = {"phi-1.5": ("@methods", "@sweep"), "llama2-7b": ("@figures",),
           "llama3.2-1b": ("@open_unlearning", "wga", "tnpo+gd", "wtnpo+kl", "rmu-deep", "po+kl")}
# What of each model is on record, of the paper's code and of open-unlearning's: in what --check prints, with TOFU's own rows.
SCHEDULE = {("phi-1.5", "forget01"): "12 of 16 rows (40 rows to learn from), warm-up 2",
            ("llama2-7b", "forget05"): "62 of 16 rows (200 rows to learn from), warm-up 12",
            ("phi-1.5", "forget10"): "125 of 16 rows (400 rows to learn from), warm-up 25",
            ("llama3.2-1b", "forget10"): "125 of 32 rows (400 rows to learn from), warm-up 12"}
OF_STAND_INS = r"rows is \d+, but there are|longer than data\.max_length|no token at the end of a row|generate\.max_length = \d+ tokens or more"


def model(directory, shape, turns=False):
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = json.loads((ROOT / "inputs/demo/model/tokenizer.json").read_text())
    config = NARROW | shape
    if turns:
        like = tokenizer["added_tokens"][0]
        tokenizer["added_tokens"] += [like | {"id": config["vocab_size"] + i, "content": t} for i, t in enumerate(TURNS)]
        config["vocab_size"] += len(TURNS)
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    (directory / "config.json").write_text(json.dumps(config))


def scene(root):
    """A tree of stand-ins around a working directory `here`, as inputs/README.md says that they must lie."""
    here, tofu, demo = root / "here", root / "data" / "tofu", ROOT / "inputs/demo"
    here.mkdir()
    tofu.mkdir(parents=True)
    (here / "inputs").symlink_to(ROOT / "inputs")
    rows = {"full": "full", "idontknow": "idk", "retain_perturbed": "retain_perturbed", "real_authors_perturbed": "known_authors_perturbed",
            "world_facts_perturbed": "world_facts_perturbed"}
    for forget, retain in SPLITS.items():
        rows |= {forget: "forget05", retain: "retain95", f"{forget}_perturbed": "forget05_perturbed", f"holdout{forget[-2:]}": "forget05"}
    for name, of in rows.items():
        (tofu / f"{name}.json{'l' if name == 'idontknow' else ''}").symlink_to(demo / f"{of}.jsonl")
    for name, shape in SHAPES.items():
        model(root / "models" / BASES[name], shape, turns=name == "llama3.2-1b")
    return here


def experiments(here, name, split, *what):
    """Lines of arguments that experiment.sh prints."""
    done = subprocess.run(["sh", "inputs/paper/experiment.sh", name, split, *what], cwd=here, capture_output=True, text=True,
                          env={k: v for k, v in environ.items() if k not in ("TOFU", "BASE")})
    return done.stdout.splitlines() if done.returncode == 0 else [done.stderr]


def unlearn(here, line, *more):
    return run([*line.split(), *more], precision=precisions()[0], directory=here)


def passes(checks, here, lines, *more):
    """--check of each takes it without a warning but those that few rows and small models make."""
    with ThreadPoolExecutor(cpu_count()) as pool:
        for line, done in zip(lines, pool.map(lambda line: unlearn(here, line, *more, "--check"), lines)):
            said = [w for w in warnings_of(done.stdout) if not re.search(OF_STAND_INS, w)]
            checks.check(done.returncode == 0 and not said, f"--check {line}", done.stderr[-400:] + "; ".join(said))


def made(checks, here, lines, *more):
    """The models that later experiments begin from or score, of no update."""
    for line in lines:
        done = unlearn(here, line, "train.steps=0", "geffect.every=0", *more)
        checks.check(done.returncode == 0, line, done.stderr[-400:])


def model_by_model(checks, here, name, what):
    learn = experiments(here, name, "forget10", "@learn")
    passes(checks, here, learn, "model.init=random")
    made(checks, here, learn, "model.init=random")
    passes(checks, here, [line for w in what for line in experiments(here, name, "forget10", w)])
    made(checks, here, experiments(here, name, "forget10", "wga+kl"))
    passes(checks, here, experiments(here, name, "forget10", "retrain/evaluation"))
    passes(checks, here, experiments(here, name, "forget10", "wga+kl/evaluation"), "evaluate.retain_logs=null")


def names_and_files(checks, here):
    """Whatever model, split and experiment: an output of its own, and files that are there. An experiment that no --check is made
    of differs from one that is by these files and numbers alone."""
    for name, split in itertools.product(SHAPES, SPLITS):
        lines = set(experiments(here, name, split, *GROUPS)) # some are in two groups
        keys = [dict(w.split("=", 1) for w in line.split()[1:]) for line in lines]
        outputs = {k["output.directory"] for k in keys}
        checks.check(len(lines) > 70 and len(outputs) == len(lines), f"{name}, {split}: each experiment has an output of its own")
        files = {k[key] for k in keys for key in k if key.endswith("path")} | {line.split()[0] for line in lines}
        missing = [f for f in files if not (here / f).exists()]
        checks.check(len(files) > 4 and not missing, f"{name}, {split}: all files are there", " ".join(missing))
        retain = {f for f in files if "/retain" in f}
        checks.check(retain == {f"../data/tofu/{SPLITS[split]}.json"}, f"{name}, {split}: keeps the rest", str(retain))


def resolved(checks, here):
    """Some settings of the paper, by what --check prints of the input."""
    for name, split, what, lines in (
            ("llama2-7b", "forget05", "rmu-middle-5", ["  name: rmu ", "  layer: 21 ", "  c: 5 ", "  lr: 1.0e-05 ", "  weight_decay: 0 "]),
            ("phi-1.5", "forget10", "wtnpo+kl", ["  name: wtnpo ", "  alpha: 1.5 ", "  beta: 4 ", "    - name: kl ", "  lr: 2.0e-05 "]),
            ("phi-1.5", "forget01", "finetune", ["task: finetune ", "  weight_decay: 0.01 ", "  batch_size: 16 ", "  accumulation: 2 "]),
            ("llama3.2-1b", "forget10", "wga", ["  regularizer: [] ", "  alpha: 1 ", "  weight_decay: 0.01 ", "  epochs: 10 "]),
            ("llama3.2-1b", "forget10", "NPO", ["    - name: gd ", "  beta: 0.1 "])):
        text = unlearn(here, experiments(here, name, split, what)[0], "model.init=random", "--check").stdout
        missing = [line for line in lines if f"\n{line}" not in "\n" + text]
        checks.check(not missing, f"{name} {split} {what}", f"lacks {missing}")


def schedules(checks, here):
    tofu = SHARED / "data/tofu"
    if not tofu.exists():
        checks.skip(f"{tofu} is not there: no number of updates is compared with the paper's")
        return
    (here.parent / "data/tofu").rename(here.parent / "data/demo")
    (here.parent / "data/tofu").symlink_to(tofu)
    for (name, split), updates in SCHEDULE.items():
        text = unlearn(here, experiments(here, name, split, "po")[0], "--check").stdout
        checks.check(f"updates    {updates}" in text, f"{name} {split}: {updates}", "".join(re.findall("updates .*", text)))


def others(checks, here):
    """Every other input file: the models and rows that it looks for beside the tree are stand-ins."""
    made(checks, here, experiments(here, "demo", "forget05", "finetune"))
    stand_in = here / "outputs/demo/finetune/model"
    files = sorted(p for p in (ROOT / "inputs").rglob("*.yaml") if p.parent.name != "paper")
    for file in files:
        text = re.sub("#.*", "", file.read_text())
        for word in re.findall(r"(?<!\S)(?:\.\./shared|outputs|models|data)/[\w./-]+", text):
            path, rows = here / word, {"i": "idk", "f": "forget05"}
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix.startswith(".json") and not path.exists():  # enough of what is kept that some is held out
                path.write_text(3 * (ROOT / "inputs/demo" / f"{rows.get(path.name[0], 'retain95')}.jsonl").read_text())
            elif not path.exists():
                shutil.copytree(stand_in, path)
    checks.check(len(files) > 20, f"{len(files)} other input files")
    passes(checks, here, [str(f.relative_to(ROOT)) for f in files], "output.directory=outputs/checked")


def large(checks, here):
    """The generator of large/, of one block and few words: a model that is read, with a tokenizer that knows every byte."""
    model = here / "outputs/large/model"
    shutil.rmtree(model, ignore_errors=True)
    made = subprocess.run([sys.executable, ROOT / "inputs/make_large.py", model, "--blocks", "1", "--words", "3000"],
                          capture_output=True, text=True)
    if not checks.check(made.returncode == 0, "make_large.py", made.stderr):
        return
    vocabulary = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
    checks.check(sorted(vocabulary.values()) == list(range(3000)), "make_large.py: as many words as it says")
    done = unlearn(here, "inputs/large.yaml task=geffect output.directory=outputs/large/seen")
    found = re.search(r"R\(unlearn\) ([\d.]+)", done.stdout)
    checks.check(found and abs(float(found[1]) - np.log(3000)) < 1, "large.yaml: the risk of who knows nothing",
                 done.stdout[-900:] + done.stderr[-900:])


def main():
    checks = Checks("paper-inputs")
    checks.need(ROOT / "inputs/demo")
    here = scene(checks.directory)
    for name, what in CHECKED.items():
        model_by_model(checks, here, name, what)
    others(checks, here)
    large(checks, here)
    names_and_files(checks, here)
    resolved(checks, here)
    schedules(checks, here)
    checks.finish()


main()
