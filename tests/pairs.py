"""end to end: effects of instances on instances, against effects on risks of a single row, in several layouts.

On the small model of measures.py, drawn from the seed, so nothing but the repository is needed."""
import json
import subprocess
import sys

import h5py
import numpy as np
from golden import MODELS, settings, write_direction
from harness import ROOT, SHARED, Checks, few, labels, precisions, run, run_input
from measures import N_FORGET, N_RETAIN, Place, row_risks

sys.path.insert(0, str(ROOT / "analysis"))
from unlearn_report.effects import GROUPS, groups_of  # noqa: E402

LAYOUTS = {"double": [(1, 1), (2, 1), (2, 2), (3, 3), (4, 1), (4, 2)], "float": [(1, 1), (2, 2)]}  # ranks, tensor
BETWEEN_LAYOUTS = {"double": 1e-10, "float": 1e-4}
TWIN = {"double": 1e-8, "float": 1e-4}  # float: of two gradients that have little in common only rounding is left
MEASURED = ["ga", "npo", "po", {"name": "rmu", "layer": 1}, {"name": "wga", "alpha": 0.5}, "dpo", "undial"]


def grouped(effects, layers):
    """[..., layer, instance] -> [..., group, instance]"""
    groups = groups_of(layers)
    return np.stack([effects[..., [i for i, g in enumerate(groups) if g == name], :].sum(-2) for name in GROUPS], -2)


def twin(checks, place, precision, what, changes):
    """pair_effect (objective, group, instance, row) of the first measurement, from a risk for each retain row."""
    got = place.run(checks, what, place.settings(**changes, geffect={
        "objectives": MEASURED, "risks": row_risks(place, "r", place.retain)}), precision=precision)
    return got and np.moveaxis(grouped(got["geffect"][0], got["layer"]), 1, -1)


def against_twin(checks, place, precision, what, changes):
    want, first = twin(checks, place, precision, what, changes), None
    for ranks, tensor in few(LAYOUTS[precision], precision):
        where = f"{what}, {precision}, {ranks} ranks, tensor {tensor}"
        settings = place.settings(ranks, tensor, **changes, geffect={"objectives": MEASURED, "pairs": True})
        settings["parallel"]["tokens"] = 130  # several passes
        got = place.run(checks, where, settings, ranks, precision)
        if not got or want is None:
            continue
        pair = got["pair_effect"][0]
        first = pair if first is None else first
        checks.check(got["group"] == list(GROUPS), f"{where}: groups", f"{got['group']}")
        checks.check(list(got["pair_instance"]) == list(range(N_RETAIN)), f"{where}: rows", f"{got['pair_instance']}")
        on_retain = grouped(got["geffect"][0][:, got["risk"].index("retain")], got["layer"])
        weight = got["pair_weight"]
        each = lambda a, b: {f"{name}, {g}": (a[j, k], b[j, k]) for j, name in enumerate(got["objective"])
                             for k, g in enumerate(GROUPS) if np.abs(b[j, k]).max() > 1e-12 * np.abs(b[j]).max()}
        checks.near(f"{where}: as effects on single rows", each(pair, want), TWIN[precision])
        checks.near(f"{where}: their sum is the effect on the risk", each(pair @ weight, on_retain), 10 * TWIN[precision])
        checks.near(f"{where}: as in one process", each(pair, first), BETWEEN_LAYOUTS[precision])
        checks.near(f"{where}: weights", {"sum": (weight.sum(), 1.0), "tokens": (weight, place.tokens)}, 1e-12)


def values_of_the_reference(checks, place):
    """Every process needs what the reference says of all forget rows, kept or from a copy."""
    got = {}
    for how in ("values", "weights"):
        settings = place.settings(4, 1, geffect={"objectives": ["undial"], "pairs": {"with": "forget"}})
        settings["model"] = {**settings["model"], "reference_as": how}
        got[how] = place.run(checks, f"reference as {how}", settings, 4)
    if all(got.values()):
        checks.near("what the reference says, kept or computed", {"pairs": [got[h]["pair_effect"] for h in got]}, 1e-12)


def rows(checks, place):
    """N rows of a file, evenly spread; of a risk on it; all."""
    risks = {"unlearn": {"data": "forget"}, "some": {"data": "retain", "rows": 4}}
    for pairs, expected, file in (({"with": "retain", "rows": 3}, [0, 3, 6], "retain"),
                                  ({"with": "forget", "rows": 5}, [0, 2, 4, 6, 8], "forget"),
                                  ("retain", [0, 2, 4, 6], "retain"), ("forget", list(range(N_FORGET)), "forget"),
                                  ({"with": "retain", "rows": "all"}, list(range(N_RETAIN)), "retain")):
        what = f"rows of {json.dumps(pairs)}"
        got = place.run(checks, what, place.settings(geffect={"risks": risks, "pairs": pairs}))
        if got:
            with h5py.File(place.directory / "out/geffect.h5") as f:
                said = str(f["pair_instance"].attrs["long_name"])
            checks.check(list(got["pair_instance"]) == expected, what, f"{got['pair_instance']}")
            checks.check(f"the {file} file" in said, f"{what}: says whose", said)
            checks.check(got["pair_effect"].shape == (1, 1, 5, N_FORGET, len(expected)), f"{what}: shape")
            share = place.tokens[expected] / place.tokens[expected].sum() if file == "retain" else got["pair_weight"]
            checks.near(f"{what}: weights", {"weights": (got["pair_weight"], share)}, 1e-12)


def fewer_rows_than_processes(checks, place):
    """Some processes have no row, yet take part in every message."""
    got = [place.run(checks, f"two rows, {ranks} ranks", place.settings(ranks, tensor, geffect={
        "objectives": ["ga", "po"], "pairs": {"with": "retain", "rows": 2}}), ranks) for ranks, tensor in ((1, 1), (4, 1), (6, 2))]
    if all(got):
        for more in got[1:]:
            checks.near("two rows, more processes", {"pairs": (more["pair_effect"], got[0]["pair_effect"])}, 1e-10)


def symmetric(checks, place):
    """Of ga on the rows themselves: minus the Gram matrix of the rows' gradients."""
    got = place.run(checks, "pairs of forget rows", place.settings(geffect={"objectives": ["ga"], "pairs": "forget"}))
    if got:
        gram = -got["pair_effect"][0, 0].sum(0)
        checks.near("pairs of forget rows: symmetric", {"gram": (gram, gram.T)}, 1e-9)
        checks.check(np.linalg.eigvalsh(gram).min() > -1e-9 * np.trace(gram), "pairs of forget rows: no negative eigenvalue")


def training(checks, place):
    """A run with pairs is the same run; it stops and goes on bit for bit."""
    changes = {"objective": {"name": "npo", "regularizer": [{"name": "kl"}]}, "optimizer": {"name": "adamw"}}
    measure = {"every": 2, "gram": True, "fidelity": True}
    straight = lambda geffect: place.settings(2, 1, "unlearn", **changes, geffect={**measure, **geffect})
    without = place.run(checks, "without pairs", straight({}), 2)
    got = place.run(checks, "with pairs", straight({"pairs": "retain"}), 2)
    if not without or not got:
        return
    checks.check(all(np.array_equal(got[k], without[k], equal_nan=got[k].dtype.kind == "f") for k in without
                     if isinstance(without[k], np.ndarray)), "pairs change no other number")
    short = straight({"pairs": "retain"})
    short["train"]["steps"], short["checkpoint"] = 2, {"every": 2}
    place.run(checks, "to be gone on with", short, 2)
    short["train"]["steps"] = 4
    more = place.run(checks, "gone on with", short, 2, options=("--restart",))
    if more:
        checks.check(list(more["step"]) == [0, 2, 4], "gone on with: steps", f"{more['step']}")
        checks.check(np.array_equal(more["pair_effect"], got["pair_effect"]), "gone on with: pairs bit for bit")
    short["geffect"]["pairs"], short["train"]["steps"] = "forget", 6
    error = place.run(checks, "other pairs", short, 2, options=("--restart",), status=1)
    checks.check(error and "geffect.pairs" in error, "other pairs are refused", str(error))


def who_pays(checks, place):
    """unlearn-report pairs: the most negative effects, with the questions of the files."""
    got = place.run(checks, "who pays", place.settings(geffect={"pairs": "retain"}))
    script = [sys.executable, str(ROOT / "analysis/unlearn-report"), "pairs", "out/geffect.h5"]
    done = subprocess.run([*script, "--json", "--rows", "2", "--payers", "3"], cwd=place.directory, capture_output=True, text=True)
    if not got or not checks.check(done.returncode == 0, "who pays: exit status", done.stderr):
        return
    said, effect = json.loads(done.stdout), got["pair_effect"][0, 0].sum(0)
    total = effect @ got["pair_weight"]
    expected = [int(i) for i in np.argsort(total)[:2] if total[i] < 0]
    checks.check([r["row"] for r in said["rows"]] == expected, "who pays: the costliest rows", f"{said['rows']} {total}")
    for r in said["rows"]:
        payers = [int(p) for p in np.argsort(effect[r["row"]])[:3] if effect[r["row"], p] < 0]
        checks.check([p["row"] for p in r["pays"]] == payers, f"who pays for {r['row']}", f"{r['pays']}")
        checks.near(f"who pays for {r['row']}", {"effects": ([p["effect"] for p in r["pays"]], effect[r["row"], payers]),
                    "groups": ([sum(p["groups"].values()) for p in r["pays"]], effect[r["row"], payers])}, 1e-12)
        checks.check(r["text"] == json.loads(place.forget[r["row"]])["question"] and all(
            p["text"] == json.loads(place.retain[p["row"]])["question"] for p in r["pays"]), f"questions of {r['row']}", f"{r}")
    for words, option in (("no objective ga", ["--objective", "ga"]), ("no step 7", ["--step", "7"])):
        done = subprocess.run([*script, *option], cwd=place.directory, capture_output=True, text=True)
        checks.check(done.returncode == 1 and words in done.stderr, f"who pays: {words}", done.stderr)


def plan(checks, place):
    """--check tells memory and work before anything runs."""
    said = {}
    for pairs in (False, True):
        (place.directory / "plan.yaml").write_text(json.dumps(place.settings(geffect={"pairs": pairs})))
        said[pairs] = run(["--check", "plan.yaml"], 1, "double", place.directory).stdout
    work = lambda t: float(t.split("an update, ")[1].split(" Gflop")[0])
    memory = lambda t: float(t.split("memory     ")[1].split(" MB")[0])
    checks.check("pairs      10 forget rows with 9 of retain.jsonl" in said[True] and "pairs  " not in said[False],
                 "the plan has a line of pairs", said[True])
    checks.check(work(said[True]) > 1.5 * work(said[False]), "the plan counts their work", said[True])
    checks.check(memory(said[True]) > memory(said[False]) + 10, "the plan counts their memory", said[True])


def golden(checks, precision, model, ranks, tensor):
    """Summed over the retain rows with their weights: the effects that PyTorch found. Tied embeddings are one tensor there, so
    the groups that use it are compared as one."""
    what, case = f"{model}, {precision}, {ranks} ranks, tensor {tensor}", SHARED / "golden/models" / model
    with h5py.File(case / "expected.h5") as f:
        given = {**settings(case, f, tensor, ranks), "task": "geffect"}
        given["geffect"].update(resolution="layer", pairs={"with": "retain", "rows": "all"})
        names, retain = groups_of(labels(f["tensors"])), {}
        for objective in given["geffect"]["objectives"]:
            effect = f[f"objective/{objective['name']}/geffect_retain"][()]
            retain[objective["name"]] = [effect[:, [i for i, g in enumerate(names) if g == name]].sum(1) for name in GROUPS]
        write_direction(checks.directory, f)
    done = run_input(given, ranks, precision, checks.directory, ["--overwrite"])
    if not checks.check(done.returncode == 0, f"{what}: exit status {done.returncode}", done.stderr[-1500:]):
        return
    with h5py.File(checks.directory / "out/geffect.h5") as f:
        got, objectives = f["pair_effect"][0] @ f["pair_weight"][()], [o.split("(")[0] for o in labels(f["objective"])]
    tied = json.loads((case / "model/config.json").read_text()).get("tie_word_embeddings", model.startswith("gemma"))
    fold = lambda x: np.stack([x[0] + x[-1], *x[1:-1]] if tied else x)
    checks.near(f"{what}: sums are the reference's effects", {o: (fold(got[j]), fold(retain[o])) for j, o in enumerate(objectives)},
                {"double": 1e-8, "float": 1e-4}[precision])


def main():
    checks = Checks("pairs")
    place = Place(checks)
    config = place.directory / "model/config.json"
    untied = {**json.loads(config.read_text()), "num_hidden_layers": 4}  # a block in each third, and one more
    config.write_text(json.dumps(untied))
    place.tokens = place.run(checks, "tokens", place.settings(data={"forget": "retain.jsonl"}, geffect={"objectives": ["ga"]}),
                             precision=precisions()[-1])["instance_weight"][0]
    for precision in precisions():
        for tied in (False, True):
            config.write_text(json.dumps({**untied, "tie_word_embeddings": tied, "attention_bias": tied}))
            against_twin(checks, place, precision, "tied, biases" if tied else "untied", {})
        config.write_text(json.dumps(untied))
    for model in MODELS if (SHARED / "golden/models").exists() else ():
        for precision in precisions():
            golden(checks, precision, model, *{"double": (2, 2), "float": (1, 1)}[precision])
    if "double" in precisions():
        for part in (values_of_the_reference, rows, fewer_rows_than_processes, symmetric, training, who_pays, plan):
            part(checks, place)
    checks.finish()


if __name__ == "__main__":
    main()
