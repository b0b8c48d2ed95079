"""end to end: runs of every objective and of sums with regularisers, against a twin made of the reference.

    trajectories.py [CASE ...]

Four updates of tiny models in double, batches in file order: losses, risks, effects and weights of sequences at each step,
norms, and the final weights; each on one of its layouts, in turn, or on all (THOROUGH=1). Needs torch and transformers."""
import sys
from types import SimpleNamespace

import h5py
import numpy as np
from golden import RISKS
from harness import SHARED, Checks, error, in_turn, labels, layout, precisions, run_input, safetensors
from twin import Case, part, run

TOLERANCE = 1e-8
SAME = 1e-12  # kept values of the reference against a copy of it
STEPS, BATCH = 4, 4  # of 6 forget and 8 retain rows: the second batch wraps
OPTIMIZER = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.5, "schedule": "linear", "clip": 0}
WARMUP = 6 // BATCH  # what `auto` means: one epoch
SGD = {"name": "sgd", "lr": 0.02}
npo, kl, gd = part("npo", {"beta": 0.05}), part("kl", {}), part("gd", {})


def case(model, *parts, optimizer=None, freeze=(), layouts=((1, 1), (2, 1)), reference_as="auto"):
    return SimpleNamespace(model=model, parts=parts, optimizer={**OPTIMIZER, **(optimizer or {})}, freeze=freeze,
                           layouts=layouts, reference_as=reference_as)


TENSOR = ((1, 1), (2, 2))
CASES = {
    "ga": case("llama", part("ga", {})),
    "wga": case("llama3", part("wga", {"alpha": 1.0}), layouts=TENSOR),
    "npo": case("mistral", npo),
    "tnpo": case("qwen2", part("tnpo", {"beta": 2.0}), layouts=TENSOR),
    "wtnpo": case("phi", part("wtnpo", {"beta": 2.0, "alpha": 0.5})),
    "rmu": case("gpt_neox", part("rmu", {"layer": 2, "c": 1.0}), layouts=TENSOR),
    "po": case("stablelm", part("po", {})),
    "simnpo": case("llama", part("simnpo", {"beta": 1.0, "delta": 0.5}), layouts=TENSOR),
    "satimp": case("mistral", part("satimp", {"beta1": 2.0, "beta2": 0.5})),
    "ceu": case("qwen2", part("ceu", {"skip": 2}), layouts=TENSOR),
    "undial": case("phi", part("undial", {"beta": 3.0}), layouts=TENSOR),
    "dpo": case("llama3", part("dpo", {"beta": 0.05})),
    "pdu": case("llama3", part("pdu", {}), gd, layouts=TENSOR),
    "pdu at all positions": case("phi", part("pdu", {"positions": "all"}), layouts=TENSOR),
    "undial at all positions": case("llama", part("undial", {"beta": 3.0, "positions": "all"}), layouts=TENSOR),
    "undial at all positions + kl at labels": case("llama", part("undial", {"beta": 3.0, "positions": "all"}), part("kl", {"positions": "labelled"}),
                                            layouts=((2, 1),), reference_as="values"),
    "rmu + rr at labels": case("gpt_neox", part("rmu", {"layer": 2, "positions": "labelled", "unit": True}),
                               part("rr", {"layer": 2, "positions": "labelled", "combine": "rows"}, 1.5), reference_as="values"),
    "rmu + rr, crossed": case("mistral", part("rmu", {"layer": 1, "positions": "all", "combine": "rows"}),
                              part("rr", {"layer": 2, "positions": "before", "combine": "crossed"}, 1.5), layouts=TENSOR),
    "rmu, all decay": case("gpt_neox", part("rmu", {"layer": 2}), optimizer={"decay": "all"}),
    "ga, all decay": case("stablelm", part("ga", {}), optimizer={"decay": "all"}),
    "ga, all decay, sgd": case("gpt_neox", part("ga", {}), optimizer={**SGD, "decay": "all"}),
    "npo + kl": case("llama", npo, kl, optimizer={"schedule": "cosine"}, layouts=TENSOR, reference_as="weights"),
    "npo + kl, values": case("llama", npo, kl, optimizer={"schedule": "cosine"}, layouts=((2, 2),), reference_as="values"),
    "ga + gd, sgd": case("stablelm", part("ga", {}), gd, optimizer=SGD),
    "rmu + rr": case("gpt_neox", part("rmu", {"layer": 3}), part("rr", {"layer": 3}, 1.5), reference_as="values"),
    "rmu + rr, a copy": case("gpt_neox", part("rmu", {"layer": 3}), part("rr", {"layer": 3}, 1.5), layouts=((2, 1),),
                             reference_as="weights"),
    "dpo + gd": case("qwen2", part("dpo", {"beta": 0.05}), gd, layouts=TENSOR),
    "wtnpo + gd + kl, clipped": case("mistral", part("wtnpo", {"beta": 1.0, "alpha": 0.5}), part("gd", {}, 0.5, 3),
                                     part("kl", {}, 2.0, 5), optimizer={"clip": 0.1}, layouts=TENSOR),
    "undial + rr, frozen": case("phi", part("undial", {"beta": 3.0}), part("rr", {"layer": 2}, 10.0), layouts=((1, 1), (2, 2)),
                                freeze=["embed", "layers.0-1", "*.bias"], optimizer={"clip": 0.2}),
}


def frozen(names, freeze):
    """Of names as transformers has them: what the entries of CASES' freeze say."""
    head = {"embed": ("model.embed_tokens.",), "layers.0-1": ("model.layers.0.", "model.layers.1.")}
    return [n for n in names for f in freeze if (n.startswith(head[f]) if f in head else n.endswith(f.lstrip("*")))]


def program_part(p):
    direction = {"direction": "u.json"} if p.name == "rmu" else {}
    return {"name": p.name, **p.given, **direction}


def settings(what, golden, ranks, tensor):
    data = golden.data()
    data["model"]["reference_as"] = what.reference_as
    first, *others = what.parts
    return {"task": "unlearn", "output": {"directory": "out"}, **data,
            "parallel": layout(ranks, tensor),
            "objective": {**program_part(first), "regularizer": [
                {**program_part(p), "weight": p.weight, **({"batch_size": p.batch} if p.batch else {})} for p in others]},
            "optimizer": {k: v for k, v in what.optimizer.items() if k != "warmup_steps"},
            "train": {"steps": STEPS, "batch_size": BATCH // 2, "accumulation": 2, "shuffle": False, "pair_retain": "in_order",
                      "freeze": list(what.freeze)},
            "geffect": {"every": 1, "resolution": "tensor"}}


def pairs_of(directory, what, golden, want):
    """{name: (what the files hold, what the twin says)}"""
    pairs = {}
    with h5py.File(directory / "geffect.h5") as f, h5py.File(directory / "train.h5") as train:
        order = [labels(f["layer"]).index(t) for t in golden.file_names()]
        pairs["loss"] = f["loss"][:-1], want["loss"]
        pairs["loss of an update"] = train["loss"][:-1], want["loss"]
        pairs["norm"], pairs["rate"] = (train["gradient_norm"][:-1], want["norm"]), (train["lr"][:-1], want["rate"])
        for k, risk in enumerate(RISKS):
            pairs[f"risk {risk}"] = f["risk_value"][:, k], want["risk"][:, k]
        for i, p in enumerate(what.parts):
            e = f[f"geffect_{p.name}"][()] if i else f["geffect"][:, 0]
            for k, risk in enumerate(RISKS):
                pairs[f"{p.name} effect on {risk}"] = e[:, k][:, order].transpose(0, 2, 1), want[p.name, "effect"][:, k]
            own = f[f"instance_loss_{p.name}"][()] if i else f["instance_loss"][:, 0]
            pairs[f"{p.name} loss"] = own, want[p.name, "loss"]
            batch = train[f"loss_{p.name}" if i else "loss_objective"][:-1]
            pairs[f"{p.name} loss of a batch"] = batch, want[p.name, "batch"]
        first = what.parts[0].name
        absent = np.isnan(want[first, "weight"])
        weight = f["objective_weight"][:, 0]
        pairs["where there is a weight"] = np.isnan(weight), absent
        pairs["weight"] = np.where(absent, 0, weight), np.where(absent, 0, want[first, "weight"])
    final = safetensors(directory / "model/model.safetensors")
    return pairs | {t: (final.get(t, np.nan), w) for t, w in want["final"].items()}


def reference_line(what, text):
    """Whether the plan says where the reference's distributions or hidden states come from, as it was told."""
    said = [line.split(":")[0].split(None, 1)[1] for line in text.splitlines() if line.startswith("reference ")]
    needed = any(p.name in ("kl", "rr", "undial") for p in what.parts)
    wanted = {"weights": ["a copy"], "values": ["values"]}.get(what.reference_as, said)
    return said == wanted if needed else not said


def one_case(checks, name, cache, twins):
    what = CASES[name]
    golden = cache[what.model] = cache.get(what.model) or Case(what.model)
    key = name.split(",")[0] if what.reference_as != "auto" else name
    if key not in twins:
        stays = frozen(golden.tensors, what.freeze)
        twins[key] = run(golden, what.parts, STEPS, BATCH, {**what.optimizer, "warmup_steps": WARMUP}, stays)
    clip = what.optimizer["clip"]
    checks.check(not clip or twins[key]["norm"].max() > clip, f"{name}: some gradient is clipped", str(twins[key]["norm"]))
    got = {}
    # where it is said what the reference is held as, two cases are compared on the layouts that both have
    for ranks, tensor in in_turn(what.layouts, list(CASES).index(name)) if what.reference_as == "auto" else what.layouts:
        shown = f"{name}, {what.model}, data {ranks // tensor} x tensor {tensor}"
        directory = checks.directory / f"{name.replace(' ', '')}-{ranks}-{tensor}"
        directory.mkdir()
        golden.write_direction(directory / "u.json")
        done = run_input(settings(what, golden, ranks, tensor), ranks, "double", directory)
        if not checks.check(done.returncode == 0, f"{shown}: exit status {done.returncode}", done.stderr[-2000:]):
            continue
        pairs = pairs_of(directory / "out", what, golden, twins[key])
        checks.near(shown, pairs, TOLERANCE)
        checks.check(reference_line(what, (directory / "out/run.log").read_text()), f"{shown}: the plan's line about the reference",
                     done.stdout)
        got[ranks, tensor] = {k: x for k, (x, _) in pairs.items()}
    return key, got


def drawn(golden, ranks, tensor, reference_as):
    """Rows drawn at random, so that which values of the reference are needed is known from the draws alone."""
    what = case("llama", part("undial", {"beta": 3.0}), part("kl", {}, 1.0, 3), part("rr", {"layer": 2}), reference_as=reference_as)
    given = settings(what, golden, ranks, tensor)
    given["train"] |= {"steps": 5, "shuffle": True, "pair_retain": "random"}
    given["geffect"] |= {"every": 2, "objectives": ["npo", "undial"], "risks": {
        "unlearn": {"data": "forget"}, "retain": {"data": "retain", "rows": 5, "draw": "spread"}}}
    return given


def kept_rows(checks, ranks, tensor):
    golden, got = Case("llama"), []
    for reference_as in ("weights", "values"):
        what = f"random rows, {reference_as}, data {ranks // tensor} x tensor {tensor}"
        directory = checks.directory / f"drawn-{reference_as}-{ranks}-{tensor}"
        directory.mkdir()
        done = run_input(drawn(golden, ranks, tensor, reference_as), ranks, "double", directory)
        if not checks.check(done.returncode == 0, f"{what}: exit status {done.returncode}", done.stderr[-2000:]):
            return
        with h5py.File(directory / "out/geffect.h5") as f:
            arrays = {k: np.nan_to_num(x[()]) for k, x in f.items() if x.dtype.kind == "f"}
        got.append(arrays | safetensors(directory / "out/model/model.safetensors"))
    worst = max(error(got[1][k], got[0][k]) for k in got[0])
    checks.check(worst <= SAME, f"{what}: as with a copy of the reference", f"{worst:.3g}")


def main():
    checks = Checks("trajectories")
    cache, twins, first = {}, {}, {}
    if "double" not in precisions():
        checks.skip("unlearn-double is not built")
        checks.finish()
    for name in sys.argv[1:] or CASES:
        if not (SHARED / "golden/models" / CASES[name].model / "expected.h5").exists():
            checks.skip(f"{SHARED}/golden/models/{CASES[name].model}/expected.h5 is not there")
            continue
        key, got = one_case(checks, name, cache, twins)
        for layout in got.keys() & first.setdefault(key, got).keys():
            worst = max(error(x, first[key][layout][k]) for k, x in got[layout].items())
            checks.check(worst <= SAME, f"{name}: kept values and a copy of the reference give the same", f"{worst:.3g}")
    for ranks, tensor in () if sys.argv[1:] or not cache else ((2, 1), (4, 2)):
        kept_rows(checks, ranks, tensor)
    checks.finish()


if __name__ == "__main__":
    main()
