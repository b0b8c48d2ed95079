"""end to end: nothing of the user's is lost: what a run reads is never where it removes or replaces files, the earlier run
goes when the new one is written, and only what this program has written goes at all.

A drawn model on rows of the demo, so that nothing but the repository is needed."""
import hashlib
import json
import os
import shutil
import sys

from harness import ROOT, Checks, precisions, run

DEMO = ROOT / "inputs/demo"


def contents(directory):
    """{path below: what is there} of everything; of a link where it leads, of a file its bytes."""
    found = {}
    for folder, folders, files in os.walk(directory):
        for name in folders + files:
            path = os.path.join(folder, name)
            key = os.path.relpath(path, directory)
            if os.path.islink(path):
                found[key] = "-> " + os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as f:
                    found[key] = hashlib.sha256(f.read()).hexdigest()
            else:
                found[key] = "folder"
    return found


def difference(before, after):
    return ", ".join(sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k)))


def settings(**changes):
    every = {"task": "finetune", "output": {"directory": "out"}, "model": {"path": "base", "init": "random"},
             "data": {"max_length": 64, "forget": {"path": "forget.jsonl", "rows": 2}},
             "optimizer": {"lr": 1e-3, "schedule": "constant", "warmup_steps": 0},
             "train": {"steps": 1, "batch_size": 2, "accumulation": 1}, **changes}
    return {k: v for k, v in every.items() if v is not None}


def unlearn(**changes):
    data = {"max_length": 64, "forget": {"path": "forget.jsonl", "rows": 2},
            "retain": {"path": "retain.jsonl", "rows": 3, "held_out": 0}, **changes.pop("data", {})}
    return settings(**{"task": "unlearn", "objective": {"name": "ga"}, "geffect": {"every": 0}, "data": data, **changes})


def evaluate(**changes):
    sets = {"forget": "forget.jsonl", **changes.pop("sets", {})}
    model = changes.pop("model", {"path": "base", "init": "random"})
    return settings(task="evaluate", data=None, train=None, optimizer=None, model=model,
                    evaluate={"rows": 2, "metrics": ["loss"], "sets": sets, **changes})


class Place:
    """A directory with a small base model, data, and in `out` the result of a run that has learnt them."""

    def __init__(self, checks):
        self.checks = checks
        self.pattern = checks.directory / "pattern"
        self.pattern.mkdir()
        base = self.pattern / "base"
        base.mkdir()
        config = json.loads((DEMO / "model/config.json").read_text())
        config.update(num_hidden_layers=1, hidden_size=16, intermediate_size=16, num_attention_heads=2, num_key_value_heads=2)
        config.pop("head_dim", None)
        (base / "config.json").write_text(json.dumps(config))
        shutil.copy(DEMO / "model/tokenizer.json", base)
        for name, source in (("forget", "forget05"), ("retain", "retain95")):
            shutil.copy(DEMO / f"{source}.jsonl", self.pattern / f"{name}.jsonl")
        (self.pattern / "idk.jsonl").write_text("I do not know.\n")
        (self.pattern / "u.json").write_text(json.dumps([0.5] * config["hidden_size"]))
        done = self.start(self.pattern, settings())
        assert done.returncode == 0, done.stderr
        os.rename(self.pattern / "my.yaml", self.pattern / "first.yaml")

    def start(self, directory, what, options=(), name="my.yaml", ranks=1):
        if what is not None:
            (directory / name).write_text(json.dumps(what, indent=1))
        return run([*options, name], ranks, precisions()[0], directory)

    def new(self, name):
        directory = self.checks.directory / name.replace(" ", "-").replace("/", "_")
        shutil.copytree(self.pattern, directory, symlinks=True)
        return directory


def move(name, to):
    """The file lies in the run now."""
    def damage(d):
        (d / to).parent.mkdir(exist_ok=True)
        os.rename(d / name, d / to)
    return damage


def link(name, to):
    def damage(d):
        (d / name).parent.mkdir(exist_ok=True)
        (d / name).symlink_to(to)
    return damage


def all_of(*damages):
    def damage(d):
        for one in damages:
            one(d)
    return damage


def trained(path, **more):
    return {"path": path, **more}


def spared(checks, place):
    """One error line that names both, before anything is touched; the same for --check, and without --overwrite."""
    resolved = "task: finetune\nmodel: {path: base, init: random}\noutput: {directory: out}\ndata: {forget: forget.jsonl}\n"

    def evaluated(d):
        rows = [{"question": "who?", "answer": "a b", "paraphrased_answer": "a c", "perturbed_answer": ["d", "e"]}] * 2
        (d / "forget.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        done = place.start(d, evaluate(metrics=["truth_ratio"]), ["--overwrite"])
        checks.check(done.returncode == 0, "a log to compare with", done.stderr)

    cases = [  # name, what is done to the place, input, what is named
        ("model", None, settings(model=trained("out/model")), ["out/model", "model.path", "out/model/"]),
        ("model by another spelling", None, settings(model=trained("./base/../out//model/")), ["model.path", "out/model/"]),
        ("model through a link", link("m", "out/model"), settings(model=trained("m")), ["error: m:", "out/model/"]),
        ("files of a model through links", all_of(*[link(f"m/{f}", f"../out/model/{f}") for f in (
            "config.json", "tokenizer.json", "model.safetensors")]), settings(model=trained("m")), ["error: m:", "out/model/"]),
        ("output is a link", link("o", "out"), settings(model=trained("out/model"), output={"directory": "o"}),
         ["out/model", "o/model/"]),
        ("output with a slash", None, settings(model=trained("out/model"), output={"directory": "out/"}), ["out/model", "model.path"]),
        ("reference", None, unlearn(model=trained("base", reference="out/model", init="random")), ["out/model", "model.reference"]),
        ("trajectory", lambda d: shutil.copytree(d / "out/model", d / "second"), evaluate(model={"path": [
            {"step": 0, "path": "second"}, {"step": 1, "path": "out/model"}]}), ["out/model", "model.path"]),
        ("checkpoint", lambda d: shutil.copytree(d / "base", d / "out/checkpoint-3/weights"),
         unlearn(model=trained("base", reference="out/checkpoint-3/weights", init="random")), ["model.reference", "out/checkpoint-3"]),
        ("checkpoint of a trajectory", move("out/model", "out/checkpoint-3/weights"), evaluate(model={"path": [
            {"step": 0, "path": "out/checkpoint-3/weights"}]}), ["model.path", "out/checkpoint-3"]),
        ("model that waits", all_of(lambda d: (d / "out/run.replaced").mkdir(), move("out/model", "out/run.replaced/model")),
         settings(model=trained("out/run.replaced/model")), ["out/run.replaced/model", "model.path"]),
        ("forget", move("forget.jsonl", "out/generations.jsonl"), settings(data={"forget": "out/generations.jsonl"}),
         ["out/generations.jsonl", "data.forget"]),
        ("forget is the way through a link", link("out/generations.jsonl", "../forget.jsonl"),
         settings(data={"forget": "out/generations.jsonl"}), ["out/generations.jsonl", "data.forget"]),
        ("forget through a link", all_of(move("forget.jsonl", "out/generations.jsonl"), link("f.jsonl", "out/generations.jsonl")),
         settings(data={"forget": "f.jsonl"}), ["f.jsonl", "out/generations.jsonl"]),
        ("retain", move("retain.jsonl", "out/TOFU_EVAL.json"), unlearn(data={"retain": {"path": "out/TOFU_EVAL.json", "rows": 3}}),
         ["out/TOFU_EVAL.json", "data.retain"]),
        ("idk", move("idk.jsonl", "out/geffect.h5"), unlearn(objective={"name": "po"}, data={"idk": "out/geffect.h5"}),
         ["out/geffect.h5", "data.idk"]),
        ("risk", move("retain.jsonl", "out/geffect.h5"), unlearn(geffect={"every": 1, "risks": {"r": {"data": "out/geffect.h5", "rows": 2}}},
         data={"retain": "forget.jsonl"}), ["out/geffect.h5", "geffect.risks"]),
        ("direction", move("u.json", "out/evaluation.h5"), unlearn(objective={"name": "rmu", "layer": 1, "direction": "out/evaluation.h5"}),
         ["out/evaluation.h5", "direction"]),
        ("direction of what is measured", move("u.json", "out/evaluation.h5"), unlearn(geffect={"every": 1, "objectives": [
            {"name": "rmu", "layer": 1, "direction": "out/evaluation.h5"}]}), ["out/evaluation.h5", "direction"]),
        ("set", move("forget.jsonl", "out/generations.jsonl"), evaluate(sets={"forget": "out/generations.jsonl"}),
         ["out/generations.jsonl", "evaluate.sets"]),
        ("log of another model", evaluated, evaluate(retain_logs="out/eval_log_aggregated.json", metrics=["truth_ratio"]),
         ["out/eval_log_aggregated.json", "evaluate.retain_logs"]),
        ("prompts", move("forget.jsonl", "out/generations.jsonl"), settings(task="generate", data=None, train=None, optimizer=None, generate={
            "prompts": "out/generations.jsonl", "rows": 1, "max_length": 200}), ["out/generations.jsonl", "generate.prompts"]),
        ("input", lambda d: (d / "out/input.yaml").write_text(resolved), "out/input.yaml", ["out/input.yaml", "the input file"]),
        ("input through a link", all_of(lambda d: (d / "out/run.log").write_text(resolved), link("i.yaml", "out/run.log")),
         "i.yaml", ["i.yaml", "out/run.log"]),
        ("output above all", lambda d: shutil.move(d / "base", d / "model"), settings(model=trained("model", init="random"),
         output={"directory": "."}), ["model", "./model/"]),
    ]
    for name, damage, what, named in cases:
        directory = place.new("spared " + name)
        if damage:
            damage(directory)
        if not isinstance(what, str):
            (directory / "my.yaml").write_text(json.dumps(what))
        before = contents(directory)
        for options in (["--overwrite"], ["--check"], [], ["--check", "--overwrite"]):
            done = place.start(directory, None, options, what if isinstance(what, str) else "my.yaml")
            text = done.stderr.strip().splitlines()
            if name.startswith("input") and "--check" in options:  # what an earlier run left reads back to the same
                checks.check(done.returncode == 0, f"{name} {options}", done.stderr)
                continue
            checks.check(done.returncode == 1 and len(text) == 1 and text[0].startswith("unlearn: error: ") and
                         all(n in text[0] for n in named) and "choose another output.directory" in text[0],
                         f"{name} {options}", f"{done.returncode} {done.stderr}")
            checks.check(before == contents(directory), f"{name} {options}: nothing is touched", difference(before, contents(directory)))


def without(found, *folders):
    return {k: v for k, v in found.items() if not any(k == f or k.startswith(f + "/") for f in folders)}


def kept_until_written(checks, place):
    """Bad weights: the earlier run stays as it was. A run that fails later: it waits beside. A good one: it is gone."""
    d = place.new("kept")
    (d / "out/notes.txt").write_text("mine")
    (d / "out/model/notes.tmp").write_text("mine")
    shutil.copytree(d / "out/model", d / "learnt")
    first = contents(d)
    weights = d / "learnt/model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-4] + b"\0\0\xc0\x7f")  # NaN
    (d / "my.yaml").write_text(json.dumps(settings(model=trained("learnt"))))
    before = contents(d)
    for ranks in (1, 2):
        done = place.start(d, None, ["--overwrite"], ranks=ranks)
        checks.check(done.returncode == 1 and "finite" in done.stderr, f"{ranks} ranks: bad weights are refused", done.stderr)
        checks.check(before == contents(d), f"{ranks} ranks: bad weights: the earlier run stays", difference(before, contents(d)))
    weights.write_bytes(good)

    def waits(what):
        out = contents(d / "out")
        for old in ("input.yaml", "train.h5", "run.log", "model/config.json", "model/model.safetensors", "model/tokenizer.json"):
            checks.check(out.get("run.replaced/" + old) == first["out/" + old], f"{what}: {old} of the earlier run waits")
        checks.check("model/model.safetensors" not in out and out["notes.txt"] == first["out/notes.txt"] and
                     out["model/notes.tmp"] == first["out/model/notes.tmp"], f"{what}: no model is there, other files are", str(out))
        checks.check(without(first, "out") == without({**contents(d), "learnt/model.safetensors": first["learnt/model.safetensors"]},
                     "out", "my.yaml"), f"{what}: nothing else is touched")

    mad = settings(model=trained("learnt"), optimizer={"lr": 1e38, "schedule": "constant", "warmup_steps": 0},
                   train={"steps": 5, "batch_size": 2, "accumulation": 1})
    for again in ("a failed run", "another one"):
        done = place.start(d, mad, ["--overwrite"])
        checks.check(done.returncode == 3 and "out/run.replaced" in (d / "out/run.log").read_text(), again, f"{done.returncode} {done.stderr}")
        waits(again)
    done = place.start(d, settings(model=trained("out/run.replaced/model")), ["--overwrite"])
    checks.check(done.returncode == 1, "what waits is not read and removed", done.stderr)
    waits("refused")
    done = place.start(d, settings(model=trained("learnt")))
    checks.check(done.returncode == 1 and "--overwrite" in done.stderr, "asks before it replaces", done.stderr)
    done = place.start(d, settings(model=trained("learnt")), ["--overwrite"], ranks=2)
    out = contents(d / "out")
    checks.check(done.returncode == 0 and set(out) == {k[4:] for k in first if k.startswith("out/")} and
                 out["model/model.safetensors"] != first["out/model/model.safetensors"], "replaced", f"{done.stderr} {sorted(out)}")
    done = place.start(d, evaluate(), ["--overwrite"])
    out = contents(d / "out")
    checks.check(done.returncode == 0 and "model/model.safetensors" not in out and "train.h5" not in out and
                 {"evaluation.h5", "model/notes.tmp", "notes.txt"} <= set(out) and "run.replaced" not in out,
                 "replaced by another task", f"{done.stderr} {sorted(out)}")


def only_what_was_written(checks, place):
    """Files that happen to bear the names of results, in a directory where no run has been; links; and neighbours."""
    mine = {"a model": ("model/config.json", "{}"), "a log of an evaluation": ("eval_log_aggregated.json", "{}"),
            "an input": ("input.yaml", "task: unlearn\n"), "generations": ("generations.jsonl", "{}\n"),
            "a log": ("run.log", "Monday: nothing\n"), "a lock": ("run.lock", "mine\n"), "a summary": ("TOFU_SUMMARY.json", "{}")}
    for name, (path, text) in mine.items():
        d = place.new("own " + name)
        (d / "own" / path).parent.mkdir(parents=True)
        (d / "own" / path).write_text(text)
        (d / "my.yaml").write_text(json.dumps(settings(output={"directory": "own"})))
        before = contents(d)
        for options in ([], ["--overwrite"]):
            done = place.start(d, None, options)
            checks.check(done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "own" in done.stderr, f"{name} {options}", done.stderr)
            checks.check(before == contents(d), f"{name} {options}: nothing is touched", difference(before, contents(d)))
    for options in ([], ["--overwrite"]):  # a directory of the user's, above all that is read: only new files
        d = place.new("above" + "".join(options))
        (d / "notes.tmp").write_text("mine")
        (d / "config.json").write_text("mine")
        (d / "my.yaml").write_text(json.dumps(settings(output={"directory": "."})))
        before = contents(d)
        done = place.start(d, None, options)
        after = contents(d)
        checks.check(done.returncode == 0 and all(after.get(k) == v for k, v in before.items()) and "model/model.safetensors" in after,
                     f"output above all {options}", f"{done.stderr} {difference(before, after)}")
        if options:
            done = place.start(d, None, options)
            after = contents(d)
            checks.check(done.returncode == 0 and all(after.get(k) == v for k, v in before.items()), "again", done.stderr)
    d = place.new("beside a model")  # the output directory is that of the model
    before = contents(d)
    for options in ([], ["--overwrite"]):
        done = place.start(d, settings(output={"directory": "base"}), options)
        after = contents(d)
        checks.check(done.returncode == 0 and all(after.get(k) == v for k, v in before.items()), f"beside a model {options}",
                     f"{done.stderr} {difference(before, after)}")


def links(checks, place):
    """Links in the output directory are removed themselves: what they lead to stays, even where the run reads it."""
    d = place.new("links")
    (d / "far").mkdir()
    for name in ("geffect.h5", "generations.jsonl", "run.log.tmp", "input.yaml.tmp", "eval_log_aggregated.json"):
        (d / "far" / name).write_text("mine")
        (d / "out" / name).symlink_to(f"../far/{name}")
    for name in ("train.h5", "run.log"):
        os.rename(d / "out" / name, d / "far" / name)
        (d / "out" / name).symlink_to(f"../far/{name}")
    (d / "out/TOFU_EVAL.json").symlink_to("../forget.jsonl")
    os.link(d / "out/model/tokenizer.json", d / "far/tokenizer.json")
    (d / "out/model/chat_template.jinja").symlink_to("../../base/config.json")
    before = without(contents(d), "out")
    done = place.start(d, settings(), ["--overwrite"])
    after = contents(d)
    checks.check(done.returncode == 0 and all(after.get(k) == v for k, v in before.items()), "links", f"{done.stderr} {difference(before, after)}")
    checks.check(not any(v.startswith("->") for k, v in after.items() if k.startswith("out")), "links are gone", str(after))
    for name in ("model", "run.replaced"):
        d = place.new("folder link " + name)
        shutil.rmtree(d / "out/model")
        (d / "out" / name).symlink_to("../base")
        (d / "my.yaml").write_text(json.dumps(settings(model=trained(str(DEMO / "model"), init="random"))))
        before = contents(d)
        done = place.start(d, None, ["--overwrite"])
        checks.check(done.returncode == 1 and name in done.stderr, f"{name} is a link", done.stderr)
        checks.check(before == contents(d), f"{name} is a link: nothing is touched", difference(before, contents(d)))


def main():
    checks = Checks("overwrite")
    if not precisions():
        checks.check(False, "no program is built")
        checks.finish()
    place = Place(checks)
    for part in (spared, kept_until_written, only_what_was_written, links):
        part(checks, place)
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
