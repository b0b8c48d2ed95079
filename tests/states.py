"""end to end: states that share memory. With the risks' gradients held in turn every file is what it is with all of them held; so it is
where the norms of single regularisers have no room; auto gives up no more than the memory asks for; what a process takes is what was planned."""
import json
import re
import subprocess

import bench_plan
import h5py
from harness import VARIANT, Checks, precisions, program, run
from measures import Place
from recompute import ALL, equal, results

RISKS = {"unlearn": {"data": "forget"}, "retain": {"data": "retain", "rows": 5}, "one": {"data": "retain", "rows": 1}}
MEASURED = {"objectives": ALL, "every": 1, "risks": RISKS, "tokens": True, "pairs": {"with": "retain", "rows": 2}, "standard_error": True}
LAYOUTS = {"double": [(1, 1, "none"), (4, 1, "full")], "float": [(2, 1, "full"), (4, 2, "full")]}


def settings(place, ranks=1, tensor=1, shard="none", risks="auto", **changes):
    s = place.settings(ranks, tensor, "unlearn", train={"steps": 2}, optimizer={"name": "adamw"},
                       objective={"name": "npo", "regularizer": [{"name": "kl"}, {"name": "gd", "weight": 0.5}]},
                       geffect=MEASURED, guard={"freeze": {"layers": 1}, "retain": 9}, **changes)
    s["parallel"] |= {"shard": shard, "risks": risks}
    return s


def in_turn(checks, place, precision, ranks, tensor, shard):
    """Products of tangents are of other sizes, so that what forward mode gives agrees to rounding; all else to the last bit."""
    what = f"in turn, {precision}, {ranks} ranks, tensor {tensor}, shard {shard}"
    found, tokens = {}, {}
    for risks in ("together", "in_turn"):
        s = settings(place, ranks, tensor, shard, risks)
        if not place.run(checks, f"{what}, {risks}", s, ranks, precision):
            return
        found[risks] = results(place.directory, ["geffect.h5", "train.h5"])
        found[risks]["geffect.h5"].pop("duality_error")
        with h5py.File(place.directory / "out/tokens.h5") as f:
            tokens[risks] = {k: d[()] for k, d in f.items() if d.dtype.kind == "f"}
        log = (place.directory / "out/run.log").read_text()
        checks.check(("risks      in turn: 1 gradient held in place of 3" in log) == (risks == "in_turn"), f"{what}: the log says which", log)
        held = re.search(r"^ +risks +(\d) x .* MB  effects$", log, re.M)
        checks.check(held and held[1] == ("1" if risks == "in_turn" else "3"), f"{what}, {risks}: states of the risks", log)
    equal(checks, what, found["together"], found["in_turn"])
    checks.near(f"{what}: tokens", {k: (tokens["in_turn"][k], v) for k, v in tokens["together"].items()},
                1e-12 if precision == "double" else 1e-5)


LARGE = {"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
         "head_dim": 64, "intermediate_size": 8192, "vocab_size": 128256, "max_position_embeddings": 8192, "tie_word_embeddings": True}


def planned(checks, memory, **changes):
    """What --check says of npo + kl on the model of 1.24 B parameters, on a machine of so much memory; no weights are drawn for it."""
    s = bench_plan.settings(1, 1, 1, **changes)
    s["model"]["reference_as"] = "values"
    s["objective"] = {"name": "npo", "regularizer": [{"name": "kl"}]}
    s["train"] = {"steps": 2, "batch_size": 4, "accumulation": 1}
    s["plan"] = {"processes": 1, "per_node": 1, "memory": memory, "flops": 1e11, "bandwidth": 1e10}
    (checks.directory / "input.yaml").write_text(json.dumps(s))
    done = run(["--check", "input.yaml"], 2, precisions()[0], checks.directory)
    checks.check(done.returncode == 0, f"--check with {memory:.3g} bytes", done.stderr[-1500:])
    return done.stdout.split("what it comes to:\n")[-1]


def large(checks):
    """Llama-3.2-1B's shape: four states in 21 GiB, and nothing given up where there is room."""
    bench_plan.SHAPES["large"] = LARGE
    bench_plan.make_model(checks.directory, "large")
    size = r"4943\.3" if precisions()[0] == "float" else r"9886\.\d"
    scale = 1 if precisions()[0] == "float" else 2
    text = planned(checks, scale * 21 * 2**30)
    given_up = ["risks      in turn, or the memory would not do: 1 gradient held in place of 2", "norms      of single regularisers"]
    checks.check(re.search(rf"^memory .* 4 states of {size}, ", text, re.M) and all(g in text for g in given_up), "21 GiB: four states", text)
    lives = [rf"weights +1 x {size} MB  always", rf"moments +2 x {size} MB  always", rf"risks +1 x {size} MB  effects", rf"gradient +1 x {size} MB  gradient to update"]
    checks.check(all(re.search(rf"^(states)? +{line}$", text, re.M) for line in lives), "each state, its size, and when it lives", text)
    work = re.search(r"a measurement takes ([\d.e+]+) Gflop in place of ([\d.e+]+)", text)
    checks.check(work and 1.2 < float(work[1]) / float(work[2]) < 1.4, "the price of taking risks in turn", text)
    text = planned(checks, scale * 40e9)
    checks.check(" 5 states of " in text and not re.search("would not do|in turn", text), "40 GB: nothing is given up", text)
    text = planned(checks, scale * 21 * 2**30, risks="together")
    checks.check(" 5 states of " in text and "in turn" not in text, "together, if that is asked for", text)


def said(checks, place):
    """What a run that has no room is told, and what cannot be held in turn."""
    s = settings(place, risks="together")
    s["parallel"] |= {"tokens": 20000, "recompute": "block", "logits": 256}  # a BLAS library asks for 144 MB to begin with
    (place.directory / "input.yaml").write_text(json.dumps(s))
    done = run(["--check", "input.yaml"], 1, precisions()[0], place.directory)
    needs = re.search(r"^memory +([\d.]+) MB", done.stdout, re.M)
    for risks, helps in (("together", True), ("auto", False)):
        limited = f"ulimit -d {int(float(needs[1]) * 1e3 * 0.7)} && exec {program(precisions()[0])} --check input.yaml parallel.risks={risks}"
        done = subprocess.run(["sh", "-c", limited], cwd=place.directory, capture_output=True, text=True, timeout=120)
        warned = re.search(r"needs \d+ MB a process, may use .*", done.stdout + done.stderr)
        checks.check(warned and ("parallel.risks=in_turn, " in warned[0]) == helps, f"too little memory, {risks}", done.stdout[-1500:] + done.stderr)
    for changes, word in (({"gram": True}, "geffect.gram"), ({"fidelity": True}, "geffect.fidelity"), ({"curvature": True}, "geffect.curvature")):
        s = settings(place, risks="in_turn")
        s["geffect"] = {**MEASURED, **changes}
        error = place.run(checks, f"in turn with {word}", s, precision=precisions()[0], status=1)
        checks.check(error and "parallel.risks: in_turn" in error and word in error and error.count("unlearn: error") == 1, f"{word} is refused", str(error))


def main():
    checks = Checks("states")
    place = Place(checks)
    for precision in precisions():
        for layout in LAYOUTS[precision]:
            in_turn(checks, place, precision, *layout)
    said(checks, place)
    large(checks)
    if VARIANT or "float" not in precisions():
        checks.skip("memory: sanitizers have their own")
    else:
        bench_plan.make_model(checks.directory, "M1")
        log = bench_plan.memory(checks, "memory in turn", 1, (1, 1), risks="in_turn")
        checks.check("risks      in turn: 1 gradient held in place of 2" in log, "in turn", log)
    checks.finish()


if __name__ == "__main__":
    main()
