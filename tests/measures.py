"""end to end: what is measured beside the effects themselves, each against a twin made of plain effects or of the formula.

All on a model drawn from the seed and a few rows of the demo's data, so nothing but the repository is needed."""
import json
import shutil

import h5py
import numpy as np
from harness import ROOT, TOLERANCE, Checks, few, labels, layout, precisions, run_input, safetensors

DEMO = ROOT / "inputs/demo"
N_FORGET, N_RETAIN = 10, 9
LAYOUTS = {"double": [(1, 1), (2, 1), (2, 2)], "float": [(1, 1), (2, 2)]}  # ranks, tensor


def rows(name, n, skip=0):
    return (DEMO / name).read_text().splitlines()[skip:skip + n]


def write(path, lines):
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


class Place:
    """A directory with a small model, its rows, and one file for each row."""

    def __init__(self, checks):
        self.directory = checks.directory
        shutil.copytree(DEMO / "model", self.directory / "model")
        config = json.loads((self.directory / "model/config.json").read_text())
        config.update(hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                      num_key_value_heads=2, head_dim=12, initializer_range=0.2)
        (self.directory / "model/config.json").write_text(json.dumps(config))
        self.forget, self.retain = rows("forget05.jsonl", N_FORGET), rows("retain95.jsonl", N_RETAIN)
        write(self.directory / "forget.jsonl", self.forget)
        write(self.directory / "retain.jsonl", self.retain)

    def settings(self, ranks=1, tensor=1, task="geffect", **sections):
        """An input on this model; sections replace keys of the same name."""
        settings = {
            "task": task,
            "output": {"directory": "out"},
            "model": {"path": "model", "init": "random"},
            "data": {"forget": "forget.jsonl", "retain": {"path": "retain.jsonl", "held_out": 0}, "max_length": 60,
                     "idk": str(DEMO / "idk.jsonl")},
            "parallel": layout(ranks, tensor),
            "objective": "npo",
            "optimizer": {"name": "sgd", "lr": 1e-3, "schedule": "constant", "warmup_steps": 0},
            "train": {"steps": 4, "batch_size": 5, "accumulation": 1, "shuffle": False, "pair_retain": "in_order"},
        }
        for name, section in sections.items():
            settings[name] = {**settings[name], **section} if isinstance(settings.get(name), dict) else section
        return settings

    def run(self, checks, what, settings, ranks=1, precision="double", options=("--overwrite",), status=0):
        """Runs it. -> the arrays of geffect.h5 by name, None where the run failed."""
        done = run_input(settings, ranks, precision, self.directory, options)
        if not checks.check(done.returncode == status, f"{what}: exit status {done.returncode}", done.stderr[-1500:]):
            return None
        if status:
            return done.stderr
        with h5py.File(self.directory / "out/geffect.h5") as f:
            got = {k: labels(d) if d.dtype.kind == "O" else d[()] for k, d in f.items()}
            got["attributes"] = dict(f.attrs)
        return got


def total(got):
    """(step, objective, risk): effects summed over layers and weighted instances."""
    return np.einsum("tjkli,ji->tjk", got["geffect"], got["instance_weight"])


def row_risks(place, name, lines):
    """One risk for each line."""
    return {f"{name}{i}": {"data": write(place.directory / f"{name}{i}.jsonl", [line])} for i, line in enumerate(lines)}


MEASURED = ["ga", "npo", "po", {"name": "wga", "alpha": 0.5}, "dpo"]


def normalisation(checks, place, precision, ranks, tensor):
    what = f"{precision}, {ranks} ranks, tensor {tensor}"
    mean = place.run(checks, what, place.settings(ranks, tensor, geffect={"objectives": MEASURED}), ranks, precision)
    summed = place.run(checks, what, place.settings(ranks, tensor, geffect={"objectives": MEASURED,
                                                                          "normalisation": "sequence_sum"}), ranks, precision)
    if not mean or not summed:
        return
    factor = summed["risk_value"] / mean["risk_value"]
    checks.check((factor > 2).all(), f"{what}: a sum over a sequence is more than a mean", f"{factor}")
    checks.near(f"{what}: the sum is the mean times the tokens of a row",
                {"effects": (summed["geffect"], mean["geffect"] * factor[0][None, None, :, None, None])}, TOLERANCE[precision])
    checks.check(summed["attributes"]["normalisation"] in ("sequence_sum", b"sequence_sum"), f"{what}: the file says so")


def micro_batches(n):
    """Rows and shares of the batches of four: g_1, then 0.6 g + 0.4 g_b."""
    batches = [range(i, min(i + 4, n)) for i in range(0, n, 4)]
    share = [(0.4 if b else 1.0) * 0.6 ** (len(batches) - 1 - b) for b in range(len(batches))]
    return batches, share


def moving_average(checks, place, precision, ranks, tensor):
    """The average of gradients of micro-batches, from runs whose risks are those micro-batches."""
    what = f"moving average, {precision}, {ranks} ranks, tensor {tensor}"
    got = place.run(checks, what, place.settings(ranks, tensor, geffect={"objectives": MEASURED, "estimator": "moving_average"}),
                    ranks, precision)
    parts, shares = {}, {}
    for name, lines in (("unlearn", place.forget), ("retain", place.retain)):
        for b, (batch, share) in enumerate(zip(*micro_batches(len(lines)))):
            parts[f"{name}{b}"] = {"data": write(place.directory / f"{name}{b}.jsonl", [lines[i] for i in batch])}
            shares[f"{name}{b}"] = share
    twin = place.run(checks, what, place.settings(ranks, tensor, geffect={"objectives": MEASURED, "risks": parts}), ranks,
                     precision)
    if not got or not twin:
        return
    pairs = {}
    for k, risk in enumerate(got["risk"]):
        mine = [i for i, name in enumerate(twin["risk"]) if name.startswith(risk)]
        share = np.array([shares[twin["risk"][i]] for i in mine])
        pairs[f"effects on {risk}"] = got["geffect"][:, :, k], np.einsum("tjkli,k->tjli", twin["geffect"][:, :, mine], share)
        pairs[f"risk {risk}"] = got["risk_value"][:, k], twin["risk_value"][:, mine] @ share
    for j, name in enumerate(got["objective"]):
        weight = np.zeros(N_FORGET)
        for batch, share in zip(*micro_batches(N_FORGET)):
            mass = twin["instance_weight"][j, list(batch)]
            weight[list(batch)] = share * mass / mass.sum()
        pairs[f"weights of {name}"] = got["instance_weight"][j], weight
    checks.near(f"{what}: micro-batches in file order", pairs, TOLERANCE[precision])
    drawn = place.run(checks, what, place.settings(ranks, tensor, train={"shuffle": True},
                                                   geffect={"estimator": "moving_average"}), ranks, precision)
    if drawn:
        checks.near(f"{what}: an order from the seed has the same shares", {"sum": (drawn["instance_weight"].sum(), 1.0)}, 1e-12)
        checks.check(not np.allclose(np.argsort(drawn["instance_weight"][0]), np.argsort(got["instance_weight"][0])),
                     f"{what}: another order")


def standard_error(checks, place, precision, ranks, tensor):
    """From the effects on single rows; the risk's total effect is their weighted mean."""
    what = f"standard error, {precision}, {ranks} ranks, tensor {tensor}"
    got = place.run(checks, what, place.settings(ranks, tensor, geffect={"objectives": MEASURED, "standard_error": True}),
                    ranks, precision)
    twin = place.run(checks, what, place.settings(ranks, tensor, geffect={
        "objectives": MEASURED, "risks": {**row_risks(place, "u", place.forget), **row_risks(place, "r", place.retain)}}),
        ranks, precision)
    summed = place.run(checks, what, place.settings(ranks, tensor, geffect={
        "objectives": MEASURED, "standard_error": True, "normalisation": "sequence_sum"}), ranks, precision)
    if not got or not twin or not summed:
        return
    x = total(twin)[0]  # (objective, row)
    tokens = {"unlearn": twin["instance_weight"][twin["objective"].index("ga")], "retain": place.tokens}
    pairs = {"retain risk": (twin["risk_value"][0, N_FORGET:] @ place.tokens, got["risk_value"][0, 1])}
    for k, (risk, mine) in enumerate((("unlearn", slice(0, N_FORGET)), ("retain", slice(N_FORGET, None)))):
        w = tokens[risk] / tokens[risk].sum()
        n, e = len(w), x[:, mine] @ w
        error = np.sqrt(n / (n - 1) * ((w * (x[:, mine] - e[:, None])) ** 2).sum(1))
        pairs[f"effect on {risk}"] = total(got)[0, :, k], e
        pairs[f"error of {risk}"] = got["standard_error"][0, :, k], error
        sums = x[:, mine] * summed["risk_value"][0, k] / got["risk_value"][0, k] * n * w  # effects on the sum of one row
        pairs[f"error of sums, {risk}"] = summed["standard_error"][0, :, k], sums.std(1, ddof=1) / n ** 0.5
    checks.near(what, pairs, 20 * TOLERANCE[precision])  # sums of terms of both signs


def gram(checks, place, precision, ranks, tensor):
    """Of a run of sgd with two regularisers: linear in the gradients, and the totals of effects are in it."""
    what = f"gram, {precision}, {ranks} ranks, tensor {tensor}"
    lr = 1e-3
    got = place.run(checks, what, place.settings(
        ranks, tensor, "unlearn", objective={"name": "ga", "regularizer": [{"name": "gd", "weight": 0.5}, {"name": "kl"}]},
        optimizer={"lr": lr}, geffect={"every": 1, "gram": True, "fidelity": True}), ranks, precision)
    pairs = place.run(checks, f"{what}, dpo", place.settings(ranks, tensor, objective="dpo", geffect={"gram": True}), ranks,
                      precision)
    if not got or not pairs:
        return
    checks.near(f"{what}: dpo, which reads each row twice", {
        risk: (pairs["gram"].sum(1)[:, 0, pairs["gradient"].index(risk)], total(pairs)[:, 0, k])
        for k, risk in enumerate(pairs["risk"])}, 10 * TOLERANCE[precision])
    names = got["gradient"]
    at = {name: i for i, name in enumerate(names)}
    checks.check(names == ["objective", "batch", "regularizer", "unlearn", "retain", "update"], f"{what}: labels", f"{names}")
    g, whole = got["gram"], got["gram"].sum(1)
    checks.check(np.isnan(g[-1][:, at["update"]]).all() and np.isnan(g[-1][:, at["batch"]]).all()
                 and np.isfinite(g[:-1]).all(), f"{what}: the last row has no update")
    checks.near(f"{what}: symmetric", {"gram": (g[:-1], g[:-1].swapaxes(2, 3))}, 1e-15)
    t = TOLERANCE[precision]
    pairs = {f"effects, {risk}": (whole[:, at["objective"], at[risk]], total(got)[:, 0, k])
             for k, risk in enumerate(got["risk"])}
    pairs["ga is minus its risk"] = whole[:, at["objective"], at["unlearn"]], -whole[:, at["unlearn"], at["unlearn"]]
    pairs["predicted"] = got["predicted_change"][:-1], np.stack(
        [whole[:-1, at[r], at["update"]] for r in got["risk"]], 1)
    checks.near(f"{what}: totals", pairs, 10 * t)
    # theta_t+1 - theta_t of float weights keeps the rounding of the weights: lr 1e-3 leaves three digits fewer
    checks.near(f"{what}: sgd's update is -lr times the batch's gradient",
                {n: (whole[:-1, i, at["update"]], -lr * whole[:-1, i, at["batch"]]) for n, i in at.items() if n != "update"},
                {"double": 1e-8, "float": 2e-2}[precision])
    for step in whole[:-1]:
        checks.check(np.linalg.eigvalsh(step / np.sqrt(np.outer(step.diagonal(), step.diagonal()))).min() > -1e-4,
                     f"{what}: no negative eigenvalue")


def r_squared(predicted, actual):
    return 1 - ((predicted - actual) ** 2).sum() / ((actual - actual.mean()) ** 2).sum()


def fidelity(checks, place, precision):
    """First order: sgd's small steps do what was predicted; AdamW's do what the optimiser-aware effect says."""
    what = f"fidelity, {precision}"
    got = place.run(checks, what, place.settings(task="unlearn", objective="ga", optimizer={"lr": 5e-4}, train={"steps": 20},
                                                 geffect={"every": 1, "fidelity": True}), precision=precision)
    if got:
        for k, risk in enumerate(got["risk"]):
            r2 = r_squared(got["predicted_change"][:-1, k], got["actual_change"][:-1, k])
            print(f"{what}: sgd, {risk}: R^2 {r2:.5f} over 20 updates")
            checks.check(r2 > 0.99, f"{what}: sgd, {risk}: R^2 {r2}")
        changes = got["risk_value"][1:] - got["risk_value"][:-1]
        checks.near(f"{what}: the change is that of the measured risks", {"change": (got["actual_change"][:-1], changes)},
                    {"double": 1e-8, "float": 1e-2}[precision])
        checks.near(f"{what}: sgd: the plain prediction is the same",
                    {"plain": (got["predicted_change_plain"][:-1], got["predicted_change"][:-1])},
                    {"double": 1e-8, "float": 2e-2}[precision])
    got = place.run(checks, what, place.settings(task="unlearn", objective="ga", optimizer={"name": "adamw", "lr": 2e-4},
                                                 train={"steps": 20}, geffect={"every": 1, "fidelity": True}), precision=precision)
    if got:
        for k, risk in enumerate(got["risk"]):
            actual = got["actual_change"][:-1, k]
            aware, plain = (((got[f][:-1, k] - actual) ** 2).mean() ** 0.5
                            for f in ("predicted_change", "predicted_change_plain"))
            print(f"{what}: adamw, {risk}: rms error {aware:.3g} aware, {plain:.3g} plain, of changes {np.abs(actual).mean():.3g}")
            checks.check(aware < 0.2 * plain, f"{what}: adamw, {risk}: the optimiser-aware prediction beats the plain one")


def trajectory(checks, place, precision, ranks, tensor):
    """Models exported after 0, 2 and 4 updates, measured in one job: the rows of the run that made them."""
    what = f"trajectory, {precision}, {ranks} ranks, tensor {tensor}"
    steps = [0, 2, 4]
    measure = {"every": 2, "objectives": ["npo", "ga", "po"]}
    for step in steps:
        run = place.run(checks, what, place.settings(ranks, tensor, "unlearn", train={"steps": step}, geffect=measure), ranks,
                        precision)
        shutil.rmtree(place.directory / f"at{step}", ignore_errors=True)
        shutil.move(place.directory / "out/model", place.directory / f"at{step}")
    models = {"path": [{"step": s, "path": f"at{s}"} for s in steps], "init": "pretrained"}
    got = place.run(checks, what, place.settings(ranks, tensor, model=models, geffect=measure), ranks, precision)
    if not run or not got:
        return
    checks.check(list(got["step"]) == steps, f"{what}: steps", f"{got['step']}")
    checks.near(what, {k: (got[k], run[k]) for k in ("geffect", "risk_value", "instance_loss", "instance_weight",
                                                     "inverse_confidence")}, TOLERANCE[precision])
    echo = (place.directory / "out/input.yaml").read_text()
    checks.check("step: 4" in echo and "path: at4" in echo, f"{what}: the resolved input has all models")


def two_directions(checks, place):
    """rmu toward two files at once: told apart by their names."""
    for name, value in (("a.json", 0.5), ("b.json", -0.5)):
        write(place.directory / name, [json.dumps([value] * 48)])
    got = place.run(checks, "two directions", place.settings(geffect={
        "objectives": [{"name": "rmu", "direction": "a.json"}, {"name": "rmu", "direction": "b.json"}]}))
    checks.check(got and got["objective"] == ["rmu(layer=1,c=2,direction=a.json)", "rmu(layer=1,c=2,direction=b.json)"],
                 "two directions: labels", got and got["objective"])


def bare_names(checks, place):
    """A name alone has the settings of the objective of that name, a mapping its own."""
    trained = {"name": "npo", "beta": 0.1}
    got = place.run(checks, "bare names", place.settings(objective=trained, geffect={"objectives": ["npo", {"name": "npo"}]}))
    checks.check(got and got["objective"] == ["npo(beta=0.1)", "npo(beta=0.5)"], "bare names: labels", got and got["objective"])
    for objectives, own in ((["npo"], "npo"), ([{"name": "npo"}], "none"), ([{"name": "npo"}, "ga", "npo"], "npo(beta=0.1)"), ([], "npo")):
        got = place.run(checks, f"trained beside {objectives}", place.settings(
            task="unlearn", objective=trained, train={"steps": 1}, geffect={"every": 1, "objectives": objectives}))
        checks.check(got and got["attributes"]["trained"] in (own, own.encode()), f"which one is trained of {objectives}", got and got["attributes"]["trained"])


def refused(checks, place):
    shutil.copytree(place.directory / "at0", place.directory / "other")
    config = place.directory / "other/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rms_norm_eps": 1e-3}))
    models = lambda *steps: {"path": [{"step": s, "path": "at0"} for s in steps], "init": "pretrained"}
    for what, settings, words in (
            ("steps in disorder", place.settings(model=models(0, 2, 2)), ["model.path", "step 2 does not come after 2"]),
            ("a trajectory is trained", place.settings(task="unlearn", model=models(0, 2)), ["task geffect"]),
            ("an empty list", place.settings(model={"path": []}), ["model.path", "must not be empty"]),
            ("another model", place.settings(model={"path": [{"step": 0, "path": "at0"}, {"step": 1, "path": "other"}],
                                                    "init": "pretrained"}), ["other", "same model"]),
            ("steps where something is trained", place.settings(task="unlearn", model=models(4)), ["task geffect"]),
            ("fidelity without updates", place.settings(geffect={"fidelity": True}), ["geffect.fidelity", "no update"]),
            ("everything skipped", place.settings(geffect={"objectives": [{"name": "ceu", "skip": 1000}]}),
             ["forget.jsonl", "ceu"]),
            ("twice the same", place.settings(geffect={"objectives": ["ga", "wga", "ga"]}), ["ga stands twice"]),
            ("fidelity of an estimate", place.settings(geffect={"estimator": "moving_average", "fidelity": True}),
             ["geffect.estimator", "needs full"])):
        error = place.run(checks, what, settings, status=1)
        checks.check(error and all(w in error for w in words) and error.count("unlearn: error") == 1, what, str(error))


def freeze(checks, place):
    """What is named stays to the last bit, under AdamW with weight decay too; everything else moves."""
    before = safetensors(place.directory / "at0/model.safetensors")
    for entries, stays in ((["embed"], lambda n: "embed_tokens" in n), (["layers.0-1"], lambda n: ".layers." in n),
                           (["layers.1"], lambda n: ".layers.1." in n), (["*norm.weight"], lambda n: n.endswith("norm.weight")),
                           (["model.layers.0.mlp.up_proj.weight", "norm"],
                            lambda n: n in ("model.layers.0.mlp.up_proj.weight", "model.norm.weight"))):
        settings = place.settings(task="unlearn", objective="ga", model={"path": "at0", "init": "pretrained"},
                                  optimizer={"name": "adamw", "weight_decay": 0.1}, train={"steps": 2, "freeze": entries},
                                  geffect={"every": 2, "fidelity": True})
        got = place.run(checks, f"freeze {entries}", settings)
        after = safetensors(place.directory / "out/model/model.safetensors")
        wrong = [n for n in before if (before[n] == after[n]).all() != stays(n)]
        checks.check(not wrong, f"freeze {entries}", f"{wrong}")
        if got:
            checks.check(r_squared(got["predicted_change"][:-1].ravel(), got["actual_change"][:-1].ravel()) > 0.9,
                         f"freeze {entries}: what stays does not count in the prediction")
    for entry, words in (("layers.7", 'nothing of the model is called "layers.7"'), ("layers.1-9", "layers.1-9"),
                         ("*", "names every parameter")):
        error = place.run(checks, f"freeze {entry}", place.settings(task="unlearn", train={"freeze": [entry]}), status=1)
        checks.check(error and words in error, f"freeze {entry}: says what is wrong", str(error))


def main():
    checks = Checks("measures")
    place = Place(checks)
    place.tokens = token_counts(checks, place)
    for precision in precisions():
        for ranks, tensor in few(LAYOUTS[precision], precision):
            for part in (normalisation, moving_average, standard_error, gram, trajectory):
                part(checks, place, precision, ranks, tensor)
        fidelity(checks, place, precision)
    if "double" in precisions():
        refused(checks, place)
        two_directions(checks, place)
        bare_names(checks, place)
        freeze(checks, place)
    checks.finish()


def token_counts(checks, place):
    """Labelled tokens of every retain row: weights of ga when they are the forget rows."""
    got = place.run(checks, "tokens", place.settings(data={"forget": "retain.jsonl"}, geffect={"objectives": ["ga"]}),
                    precision=precisions()[-1])
    return got["instance_weight"][0]


if __name__ == "__main__":
    main()
