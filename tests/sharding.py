"""end to end: parallel.shard. Where the data ranks share states every file is to the last bit what it is where they do not: of every
kind of block, with all that reads or keeps states, on the same ranks and gone on with by others; and a process needs less memory."""
import json
import shutil

from harness import THOROUGH, Checks, precisions, run
from measures import Place, rows, write
from recompute import ALL, FAMILIES, FILES, equal, results, shaped

LAYOUTS = [(2, 1), (4, 2), (4, 1)]  # ranks, tensor


def settings(place, ranks, tensor, shard, **changes):
    s = place.settings(ranks, tensor, "unlearn", train={"steps": 2}, objective={"name": "npo", "regularizer": [{"name": "kl"}]},
                       optimizer={"name": "adamw"}, **changes)
    s["parallel"]["shard"] = shard
    return s


EVERYTHING = {"geffect": {"objectives": ALL, "tokens": True, "every": 1, "pairs": {"with": "retain", "rows": 2}, "curvature": True,
                          "fidelity": True, "standard_error": True, "gram": True}}
WINDOW = {"objective": {"name": "npo", "regularizer": []}, "optimizer": {"name": "sgd"}, "geffect": {"objectives": ["ga"], "every": 1, "curvature": {"window": 2}}}
GUARD = {"guard": {"project": 0.5, "freeze": {"layers": 1}, "retain": 9}, "geffect": {"objectives": ["npo"], "every": 1}}


def drawn(place):
    """Rows drawn from so many that one of two processes keeps values of more than it has room for at a time, the other does not."""
    more = write(place.directory / "more.jsonl", rows("retain95.jsonl", 40))
    return {"model": {"reference_as": "values"}, "data": {"retain": {"path": more, "held_out": 0}},
            "train": {"steps": 6, "batch_size": 4, "shuffle": True, "pair_retain": "random"},
            "geffect": {"every": 3, "risks": {"unlearn": {"data": "forget", "rows": 3}, "retain": {"data": "retain", "rows": 3}}}}


def same(checks, place, what, files, ranks, tensor, precision, changes, modes=("none", "full")):
    found = {}
    for shard in modes:
        s = settings(place, ranks, tensor, shard)
        for name, section in changes.items():
            s[name] = {**s[name], **section} if isinstance(s.get(name), dict) else section
        if not place.run(checks, f"{what}, {shard}", s, ranks, precision):
            return
        found[shard] = results(place.directory, files)
        log = (place.directory / "out/run.log").read_text()
        checks.check(("shared     all states" in log) == (shard == "full"), f"{what}, {shard}: the log says what is shared")
    for shard in modes[1:]:
        equal(checks, f"{what}, {shard}", found[modes[0]], found[shard])


def gone_on_with(checks, place, precision):
    """Checkpoints of four ranks that share all, gone on with by two that do not, and the other way round."""
    for then, now in ((("full", 4), ("none", 4)), (("none", 2), ("full", 2))):
        what = f"{precision}: from {then[0]} on {then[1]} ranks to {now[0]}"
        keep = {"checkpoint": {"every": 1, "keep": 4}, "train": {"steps": 3}}
        s = settings(place, then[1], 1, then[0])
        s["checkpoint"], s["train"] = keep["checkpoint"], {**s["train"], **keep["train"]}
        if not place.run(checks, what, s, then[1], precision):
            return
        whole = results(place.directory, ["geffect.h5", "train.h5"])
        shutil.rmtree(place.directory / "out/checkpoint-2", ignore_errors=True)
        shutil.rmtree(place.directory / "out/checkpoint-3", ignore_errors=True)
        (place.directory / "out/run.finished").unlink()
        s["parallel"]["shard"] = now[0]
        if place.run(checks, f"{what}, gone on with", s, now[1], precision, options=("--restart",)):
            log = (place.directory / "out/run.log").read_text()
            checks.check("restart    from out/checkpoint-1" in log, f"{what}: goes on", log)
            equal(checks, what, whole, results(place.directory, ["geffect.h5", "train.h5"]))


def evaluated(checks, place, precision):
    """Scores and answers, of which the ranks have different numbers."""
    found = {}
    for shard in ("none", "full"):
        s = place.settings(4, 1, "evaluate", data={"template": "qa", "max_length": 128})
        for key in ("objective", "optimizer", "train"):
            s.pop(key)
        s["data"] = {"template": "qa", "max_length": 128}
        s["parallel"]["shard"] = shard
        s["evaluate"] = {"sets": {"forget": "forget.jsonl"}, "rows": 5, "max_length": 48}
        (place.directory / "input.yaml").write_text(json.dumps(s))
        done = run(["--overwrite", "input.yaml"], 4, precision, place.directory)
        if not checks.check(done.returncode == 0, f"evaluate, {shard}: exit status {done.returncode}", done.stderr[-1500:]):
            return
        found[shard] = results(place.directory, ["evaluation.h5"])
    equal(checks, f"evaluate, {precision}", found["none"], found["full"])


def in_two_layers(checks, place, precision):
    """phi's lm_head with the embeddings' matrix has its bias elsewhere: no layer at a time has both."""
    phi = {"model_type": "phi", "num_key_value_heads": 4, "num_hidden_layers": 12}
    for tied, words in ((True, "states are not shared"), (False, "states are shared")):
        kept = shaped(place, phi | {"tie_word_embeddings": tied})
        s = settings(place, 2, 1, "auto", plan={"processes": 2, "memory": 1e6})
        (place.directory / "input.yaml").write_text(json.dumps(s))
        done = run(["--check", "input.yaml"], 1, precision, place.directory)
        checks.check(done.returncode == 0 and ("shared     all states" in done.stdout) == (not tied), f"phi, tied {tied}: {words}",
                     done.stdout[-1500:] + done.stderr[-500:])
        s = settings(place, 2, 1, "full") if precision == "double" else settings(place, 2, 1, "none", precision="bfloat16")
        for option in ("--check", "--overwrite") if tied else ():
            said = place.run(checks, f"phi, tied {option}", s, 2, precision, (option,), status=1)
            word = "parallel.shard: full" if precision == "double" else "precision: bfloat16"
            checks.check(said and f"{word} is not for a model" in said, f"phi, tied {option}: says why", str(said))
        (place.directory / "model/config.json").write_text(kept)


def main():
    checks = Checks("sharding")
    place = Place(checks)
    for i, (family, changes) in enumerate(FAMILIES.items()):
        kept = shaped(place, changes)
        for precision in precisions():
            ranks, tensor = LAYOUTS[(i + (precision == "float")) % len(LAYOUTS)]
            recompute = {"parallel": {"recompute": "block"}} if i % 2 else {}
            if precision == "float" or family in ("llama", "olmo2"):
                same(checks, place, f"{family}, {precision}, {ranks} ranks, tensor {tensor}", FILES, ranks, tensor, precision,
                     {**EVERYTHING, **recompute}, ("none", "optimizer", "full") if i == 0 else ("none", "full"))
        (place.directory / "model/config.json").write_text(kept)
    for precision in precisions():  # the bits of which do not depend on it: each part in one of them, THOROUGH=1: in both
        if THOROUGH or precision == precisions()[0]:
            same(checks, place, f"a window, {precision}", ["geffect.h5", "train.h5"], 2, 1, precision, WINDOW)
            same(checks, place, f"a guard, {precision}", ["geffect.h5", "train.h5"], 2, 1, precision, GUARD)
            same(checks, place, f"kept values of drawn rows, {precision}", ["geffect.h5", "train.h5"], 2, 1, precision, drawn(place))
        if THOROUGH or precision == precisions()[-1]:
            gone_on_with(checks, place, precision)
            evaluated(checks, place, precision)
        in_two_layers(checks, place, precision)
    checks.finish()


if __name__ == "__main__":
    main()
