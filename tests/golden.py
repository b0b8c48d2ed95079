"""end to end: losses, risks, effects and an AdamW trajectory of tiny models, against the float64 reference.

    golden.py [MODEL ...]       names of directories in SHARED/golden/models

One run of the program for each model, precision and layout: npo + 1.0 kl, full batch, four updates, effects of all objectives
of the model as given, which is the first row, and at the end (THOROUGH=1: at each step; trajectories.py has that of every objective). In double every model runs on one rank, on data 2 x tensor 2 and on one
more layout, in turn, so that each layout of 1 to 4 ranks meets a model or two; in float on one of the first two. THOROUGH=1:
every model on every layout in both precisions."""
import json
import sys

import h5py
import numpy as np
from harness import SHARED, THOROUGH, TOLERANCE, Checks, labels, layout, precisions, run_input, safetensors

MODELS = ["llama", "llama3", "mistral", "qwen2", "phi", "gpt_neox", "stablelm", "phi3", "gemma2", "gemma3"]
LAYOUTS = [(ranks, tensor) for ranks in (1, 2, 3, 4) for tensor in range(1, ranks + 1) if ranks % tensor == 0]
ALWAYS = [(1, 1), (4, 2)]
OTHERS = [(2, 1), (2, 2), (3, 1), (3, 3), (4, 1), (4, 4)]
BETWEEN_LAYOUTS = 1e-10  # double
RISKS = ["unlearn", "retain"]
OBJECTIVES = ["ga", "rmu", "po", "npo", "wga", "tnpo", "wtnpo", "satimp", "simnpo", "ceu", "undial"]  # po reads other rows
DIRECTION = "u.json"


def settings(case, expected, tensor, ranks):
    """The input of the run that trajectory/ of expected.h5 records."""
    known = json.loads(expected.attrs["settings"])
    npo = {"name": "npo", "beta": known["objectives"]["npo"]["beta"]}
    rows = {k: len(expected[f"tokens/{k}"]) for k in ("forget", "retain")}
    return {
        "task": "unlearn",
        "output": {"directory": "out"},
        "model": {"path": str(case / "model"), "reference": str(case / "reference")},
        "data": {"template": known["template"], "max_length": known["max_length"], "forget": str(case / "forget.jsonl"),
                 "retain": {"path": str(case / "retain.jsonl"), "held_out": 0},
                 "idk": {"path": str(case / "idk.jsonl"), "draw": "in_order"}},
        "parallel": layout(ranks, tensor),
        "objective": {**npo, "regularizer": [{"name": "kl", "weight": 1.0, "batch_size": rows["retain"]}]},
        "optimizer": {"lr": known["lr"], "weight_decay": 0.01, "decay": "all", "schedule": "constant", "warmup_steps": 0},
        "train": {"steps": len(expected["trajectory/loss"]) - 1, "batch_size": rows["forget"], "accumulation": 1,
                  "shuffle": False, "pair_retain": "in_order"},
        "geffect": {"every": 1 if THOROUGH else max(1, len(expected["trajectory/loss"]) - 1), "resolution": "tensor",
                    "objectives": [{"name": n, **known["objectives"].get(n, {}),
                                    **({"direction": DIRECTION} if n == "rmu" else {})} for n in OBJECTIVES]},
    }


def write_direction(directory, expected):
    (directory / DIRECTION).write_text(json.dumps(expected["rmu_direction"][()].tolist()))


def read(directory):
    """The arrays of geffect.h5 as float64, effects by name: effect[objective, risk] = [step, tensor, instance]."""
    with h5py.File(directory / "geffect.h5") as f:
        got = {k: f[k][()] for k in ("step", "loss", "risk_value", "instance_loss", "instance_weight", "objective_weight",
                                     "inverse_confidence", "instance")}
        got["tensor"] = labels(f["layer"])
        got["objective"], got["risk"] = labels(f["objective"]), labels(f["risk"])
        for j, objective in enumerate(got["objective"]):
            for k, risk in enumerate(got["risk"]):
                got["effect", objective.split("(")[0], risk] = f["geffect"][:, j, k]
        for k, risk in enumerate(got["risk"]):
            got["effect", "kl", risk] = f["geffect_kl"][:, k]
        got["kl loss"], got["kl weight"] = f["instance_loss_kl"][()], f["instance_weight_kl"][()]
    with h5py.File(directory / "train.h5") as f:
        got["loss of an update"] = f["loss"][()]
    return got


def mean_weights(name, expected):
    """What objective_weight is at the start, from the reference's likelihoods; None where those do not say, NaN where there is
    no weight: of objectives without one, and of rows without a label."""
    p = json.loads(expected.attrs["settings"])["objectives"].get(name)
    known = expected[f"objective/{name}/sequence_loss"][()]
    q = [np.exp(-expected[f"nll/forget/{i}"][()]) for i in range(len(known))]
    mean = lambda w: [w(x).mean() if x.size else np.nan for x in q]
    if name in ("npo", "simnpo"):  # known = -(2/beta) log sigmoid(margin), and the weight is 2 sigmoid(-margin)
        return np.where([x.size > 0 for x in q], -2 * np.expm1(-p["beta"] / 2 * known), np.nan)
    if name == "wga":
        return np.array(mean(lambda x: x ** p["alpha"]))
    if name == "satimp":
        return np.array(mean(lambda x: x ** p["beta1"] * (1 - x) ** p["beta2"]))
    return None if name in ("tnpo", "wtnpo") else np.full(len(known), np.nan)


def start_pairs(got, expected):
    """Step 0: what was measured of the model as given, and what the reference says."""
    pairs = {}
    for j, name in enumerate(OBJECTIVES):
        pairs[f"{name} loss"] = got["instance_loss"][0, j], expected[f"objective/{name}/sequence_loss"]
        pairs[f"{name} weight"] = got["instance_weight"][j], expected[f"objective/{name}/weight"]
        pairs[f"{name} loss of all"] = got["instance_weight"][j] @ got["instance_loss"][0, j], expected[f"objective/{name}/loss"]
        own, mean = mean_weights(name, expected), got["objective_weight"][0, j]
        if own is not None:
            pairs[f"where {name} has a mean weight"] = np.isnan(mean), np.isnan(own)
            pairs[f"{name} mean weight"] = np.nan_to_num(mean), np.nan_to_num(own)
    pairs["kl loss"] = got["kl loss"][0], expected["objective/kl/sequence_loss"]
    pairs["kl weight"] = got["kl weight"], expected["objective/kl/weight"]
    for name in (*OBJECTIVES, "kl"):
        for risk in RISKS:
            pairs[f"{name} effect on {risk}"] = got["effect", name, risk][0].T, expected[f"objective/{name}/geffect_{risk}"]
    for k, risk in enumerate(RISKS):
        pairs[f"risk {risk}"] = got["risk_value"][0, k], expected[f"risk/{risk}"]
    nll = [expected[f"nll/forget/{i}"][()] for i in range(len(got["instance"]))]
    labelled = np.array([x.size > 0 for x in nll])
    inverse = [np.mean(1 / np.exp(-x)) for x in nll if x.size]
    pairs["where there is an inverse confidence"] = ~np.isnan(got["inverse_confidence"][0]), labelled
    pairs["log of the inverse confidence"] = np.log(got["inverse_confidence"][0][labelled]), np.log(inverse)
    return pairs


def trajectory_pairs(got, expected):
    t, at = expected["trajectory"], got["step"]
    pairs = {"loss": (got["loss of an update"][:-1], t["loss"][:-1]), "measured loss": (got["loss"][:-1], t["loss"][at[:-1]])}
    for k, risk in enumerate(RISKS):
        pairs[f"risk {risk}"] = got["risk_value"][:, k], t[f"risk_{risk}"][at]
        pairs[f"npo effect on {risk}"] = got["effect", "npo", risk].transpose(0, 2, 1), t[f"geffect_{risk}"][at]
    return pairs


def file_names(expected):
    """The tensors of the reference as the file calls them: gpt_neox's head is embed_out there, lm_head in transformers."""
    neox = json.loads(expected.attrs["settings"])["arch"] == "gpt_neox"
    return ["embed_out.weight" if neox and t == "lm_head.weight" else t for t in labels(expected["tensors"])]


def one_run(checks, case, precision, ranks, tensor, expected):
    """-> what geffect.h5 holds, None where the run failed."""
    name = case.name
    what = f"{name}, {precision}, data {ranks // tensor} x tensor {tensor}"
    directory = checks.directory / f"{name}-{precision}-{ranks}-{tensor}"
    directory.mkdir()
    write_direction(directory, expected)
    done = run_input(settings(case, expected, tensor, ranks), ranks, precision, directory)
    if not checks.check(done.returncode == 0, f"{what}: exit status {done.returncode}", done.stderr[-2000:]):
        return None
    got, tensors, tolerance = read(directory / "out"), file_names(expected), TOLERANCE[precision]
    n_step = len(expected["trajectory/loss"])
    if not checks.check(
            sorted(got["tensor"]) == sorted(tensors) and got["risk"] == RISKS and got["objective"] == OBJECTIVES
            and list(got["step"]) == (list(range(n_step)) if THOROUGH else [0, n_step - 1]) and list(got["instance"]) == list(range(len(got["instance"])))
            and np.isnan(got["loss"][-1]), f"{what}: names and steps",
            f"{got['tensor']} {got['objective']} {got['risk']} {got['step']} {got['loss']}"):
        return got
    order = [got["tensor"].index(t) for t in tensors]
    for key in got:
        if key[0] == "effect":
            got[key] = got[key][:, order]
    checks.near(f"{what}: as given", start_pairs(got, expected), tolerance)
    checks.near(f"{what}: trajectory", trajectory_pairs(got, expected), tolerance)
    if precision == "double":
        final = safetensors(directory / "out/model/model.safetensors")
        want = expected["trajectory/final"]
        names = zip(tensors, labels(expected["tensors"]))
        checks.near(f"{what}: weights", {t: (final.get(t, np.nan), want[name]) for t, name in names}, tolerance)
    return got


def layouts(name, precision):
    """Those on which this model runs: all, or those that come to its turn."""
    turn = MODELS.index(name) if name in MODELS else 0
    if THOROUGH:
        return LAYOUTS
    return [*ALWAYS, OTHERS[turn % len(OTHERS)]] if precision == "double" else [ALWAYS[turn % len(ALWAYS)]]


def main():
    wanted = sys.argv[1:] or MODELS
    checks = Checks("golden")
    for name in wanted:
        path = SHARED / "golden/models" / name / "expected.h5"
        if not path.exists():
            checks.skip(f"{path} is not there")
            continue
        with h5py.File(path) as expected:
            for precision in precisions():
                first = None
                for ranks, tensor in layouts(name, precision):
                    got = one_run(checks, path.parent, precision, ranks, tensor, expected)
                    if first and got and precision == "double":
                        checks.near(f"{name}, data {ranks // tensor} x tensor {tensor}: as on one rank",
                                    {str(k): (np.nan_to_num(got[k]), np.nan_to_num(first[k])) for k in first
                                     if k[0] == "effect" or k in ("loss", "risk_value", "instance_loss", "kl loss")}, BETWEEN_LAYOUTS)
                    first = first or got
    if not precisions():
        checks.check(False, "no program is built")
    checks.finish()


if __name__ == "__main__":
    main()
