"""end to end: runs with guard.project, guard.freeze and a predicted budget, against a twin made of the reference.

    guard_twin.py [CASE ...]

Five updates of tiny models in double, batches in file order: cosines, norms, which layers rest, what is predicted, and the
final weights. Needs torch and transformers."""
import math
import re
import sys
from types import SimpleNamespace

import h5py
import numpy as np
from harness import SHARED, Checks, few, labels, layout, precisions, run_input, safetensors
from twin import Case, batch_loss, in_order, measure, part, rate, shares, torch, unreached, update
from with_torch import reference

TOLERANCE = 1e-8
STEPS, BATCH, RETAIN = 5, 4, 1  # of 6 forget and 8 retain rows; the risk that is guarded
ADAMW = {"name": "adamw", "lr": 2e-3, "weight_decay": 0.5, "schedule": "linear", "clip": 0}
SGD = {**ADAMW, "name": "sgd", "lr": 0.02, "schedule": "constant"}
TENSOR, DATA = ((1, 1), (2, 2), (4, 2)), ((1, 1), (2, 1))


def case(model, *parts, optimizer=ADAMW, every=1, project=0, layers=0, freeze=(), layouts=DATA):
    return SimpleNamespace(model=model, parts=parts, optimizer=optimizer, every=every, project=project, layers=layers, freeze=freeze,
                           layouts=layouts)


ga, gd = part("ga", {}), part("gd", {})
CASES = {
    "project off gd, clipped": case("llama", ga, gd, optimizer={**ADAMW, "clip": 0.1}, project=1, layouts=TENSOR),
    "project alone, running mean, sgd": case("stablelm", ga, optimizer=SGD, project=0.8),
    "project beside kl, running mean": case("mistral", part("npo", {"beta": 0.05}), part("kl", {}, 2.0), project=0.5, every=2,
                                            layouts=TENSOR),
    "project beside rmu, which ends below": case("llama", part("rmu", {"layer": 1}), project=1),
    "freeze": case("gpt_neox", part("wga", {"alpha": 1.0}), gd, optimizer={**ADAMW, "lr": 5e-3}, layers=4, layouts=TENSOR),
    "freeze, sgd": case("phi", ga, gd, optimizer={**SGD, "lr": 0.1}, layers=4, layouts=TENSOR),
    "freeze, sgd, every other update": case("gpt_neox", part("wga", {"alpha": 1.0}), gd, optimizer={**SGD, "lr": 0.1}, every=2,
                                            layers=2),
    "freeze, tied": case("qwen2", part("wga", {"alpha": 1.0}), gd, optimizer={**ADAMW, "lr": 5e-3}, layers=2, layouts=TENSOR),
    "freeze, tied, sgd": case("gemma2", ga, gd, optimizer={**SGD, "lr": 0.1}, layers=2),
    "freeze and project, one frozen for good": case("llama3", ga, part("gd", {}, 0.5, 3), every=2, layers=1, project=0.5,
                                                    freeze=["layers.0"], optimizer={**ADAMW, "lr": 5e-3, "clip": 0.1}, layouts=TENSOR),
}


def layer(name):
    block = re.search(r"layers\.(\d+)\.", name)
    if block:
        return f"layers.{block[1]}"
    return "lm_head" if name.startswith(("lm_head", "embed_out")) else "embed" if "embed" in name else "norm"


def product(a, b, names):
    return sum(float((a[n] * b[n]).sum()) for n in names)


def worst_layers(golden, model, what, risks):
    """The layers of the most negative effect of the objective on the retain risk, and all layers' effects."""
    p = what.parts[0]
    settings, items = golden.parameters(p.name, p.given), golden.items(p.name)
    _, e = measure(p.name, model, golden.reference, items, settings, risks)
    by_tensor, effect = np.array(shares(p.name, items, settings)) @ e[RETAIN], {}
    for (name, _), x in zip(model.named_parameters(), by_tensor):
        effect[layer(name)] = effect.get(layer(name), 0) + x
    free = [k for k in sorted(effect, key=effect.get) if effect[k] < 0 and k not in what.freeze]
    return free[:what.layers]


def entries(model, rests):
    """The layers of the file for those that rest: in torch a tied head has no parameter of its own, in the file it has an entry."""
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    return [*rests, *["lm_head"] * (tied and "embed" in rests)]


def projected(f, r, moves):
    both, size = product(f, r, moves), product(r, r, moves)
    cosine = both / math.sqrt(product(f, f, moves)) / math.sqrt(size)
    return cosine, {n: f[n] - both / size * r[n] for n in f} if both < 0 else f


def twin(golden, what):
    """-> what the files hold, and the final weights."""
    model, state, mean, rests = golden.model(), {}, None, []
    got = {k: [] for k in ("value", "rests", "cosine", "norm")}
    for t in range(STEPS + 1):
        values, risks = golden.risks(model)
        measured = t % what.every == 0 or t == STEPS
        if measured and what.layers:
            rests = worst_layers(golden, model, what, risks)
            got["rests"].append(entries(model, rests))
        if t == STEPS:
            got["value"].append(values[RETAIN])
            break
        gradient = lambda p, items, n: reference.gradient(model, p.weight * batch_loss(
            p.name, model, golden.reference, in_order(items, t, n), golden.parameters(p.name, p.given)))
        stays = [n for n, _ in model.named_parameters() if layer(n) in rests or layer(n) in what.freeze]
        moves = [n for n, _ in model.named_parameters() if n not in stays]
        g = gradient(what.parts[0], golden.items(what.parts[0].name), BATCH)
        if what.project:
            served = len(what.parts) > 1 and what.parts[1].name == "gd"
            newest = gradient(what.parts[1] if served else gd, golden.retain, (served and what.parts[1].batch) or BATCH)
            mean = {n: what.project * x + (1 - what.project) * (mean[n] if mean else 0) for n, x in newest.items()}
            cosine, g = projected(g, mean, moves)
            got["cosine"].append(cosine)
        for p in what.parts[1:]:
            g = {n: x + g[n] for n, x in gradient(p, golden.items(p.name), p.batch or BATCH).items()}
        before = {n: q.detach().clone() for n, q in model.named_parameters()}
        lr = rate(t, STEPS, {**what.optimizer, "warmup_steps": 6 // BATCH})
        got["norm"].append(update(model, state, g, lr, what.optimizer, stays, unreached([*what.parts, *[gd][:what.project > 0]])))
        if measured:
            moved = {n: q.detach() - before[n] for n, q in model.named_parameters()}
            got["value"].append(values[RETAIN] + product(risks[RETAIN], moved, moves))
    got["final"] = {f: q.detach().numpy() for f, (_, q) in zip(golden.file_names(), model.named_parameters())}
    return got


def settings(what, golden, ranks, tensor):
    first, *others = what.parts
    return {"task": "unlearn", "output": {"directory": "out"}, **golden.data(),
            "parallel": layout(ranks, tensor),
            "objective": {"name": first.name, **first.given, **({"direction": "u.json"} if first.name == "rmu" else {}), "regularizer": [
                {"name": p.name, "weight": p.weight, **({"batch_size": p.batch} if p.batch else {})} for p in others]},
            "optimizer": what.optimizer,
            "train": {"steps": STEPS, "batch_size": BATCH // 2, "accumulation": 2, "shuffle": False, "pair_retain": "in_order",
                      "freeze": list(what.freeze)},
            "geffect": {"every": what.every},
            "guard": {"retain": {"budget": 1e6, "of": "predicted"}, "freeze": what.layers, "project": what.project}}


def compare(checks, shown, directory, what, want):
    with h5py.File(directory / "geffect.h5") as f, h5py.File(directory / "train.h5") as train:
        pairs = {"predicted": (f["guard_value"][()], want["value"]), "norm": (train["gradient_norm"][:-1], want["norm"])}
        if what.project:
            pairs["cosine"] = train["project_cosine"][:-1], want["cosine"]
        if what.layers:
            names = labels(f["layer"])
            rests = [[float(name in row) for name in names] for row in want["rests"]]
            pairs["layers that rest"] = f["layer_rests"][()], rests
    final = safetensors(directory / "model/model.safetensors")
    checks.near(shown, pairs | {t: (final.get(t, np.nan), w) for t, w in want["final"].items()}, TOLERANCE)


def main():
    checks = Checks("guard-twin")
    if "double" not in precisions():
        checks.skip("unlearn-double is not built")
        checks.finish()
    for name in sys.argv[1:] or CASES:
        what = CASES[name]
        if not (SHARED / "golden/models" / what.model / "expected.h5").exists():
            checks.skip(f"{SHARED}/golden/models/{what.model}/expected.h5 is not there")
            continue
        golden = Case(what.model)
        want = twin(golden, what)
        if what.project:
            checks.check(min(want["cosine"]) < -0.1, f"{name}: some gradient is projected", f"{want['cosine']}")
        if what.layers:
            checks.check(len({tuple(r) for r in want["rests"]}) > 1, f"{name}: not always the same layers rest", f"{want['rests']}")
        if "tied" in name:
            checks.check(len({"lm_head" in r for r in want["rests"]}) == 2, f"{name}: the embedding rests for a while", f"{want['rests']}")
        if what.optimizer["clip"]:
            checks.check(max(want["norm"]) > what.optimizer["clip"], f"{name}: some gradient is clipped", f"{want['norm']}")
        for ranks, tensor in few(what.layouts):
            shown = f"{name}, {what.model}, data {ranks // tensor} x tensor {tensor}"
            directory = checks.directory / f"{re.sub('[ ,]', '', name)}-{ranks}-{tensor}"
            directory.mkdir()
            golden.write_direction(directory / "u.json")
            done = run_input(settings(what, golden, ranks, tensor), ranks, "double", directory)
            if checks.check(done.returncode == 0, f"{shown}: exit status {done.returncode}", done.stderr[-2000:]):
                compare(checks, shown, directory / "out", what, want)
    checks.finish()


if __name__ == "__main__":
    main()
