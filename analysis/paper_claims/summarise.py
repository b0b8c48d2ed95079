"""Reads the runs of inputs/claims.sh into one summary file, from which alone the claims are judged and the pages are made.

A line holds a curve over the measured steps, or some numbers:

    seed,rate,estimator,run,quantity,values         values: apart by blanks, five digits
    42,1,full,ga,e_r,-0.00178 -0.0032 ...

rate: factor of the setting's learning rate; estimator: full (sets) or ma (moving average), or what else was measured of the same
training: seen, scores; or again: the same from a model that was fine-tuned once more (its directories are NAME-again). Quantities of a run:

    step, lr, warmup, length    measured steps, the learning rate there, the end of the warm-up, the last update
    e_u, e_r                    effects of the objective trained on what is to be forgotten, and kept; of a regulariser: e_u:kl ...
    dual_weight                 the regulariser's weight, where it is a dual variable (pdu)
    e_u.GROUP                   the part of e_u in a group of layers (ga, wga, npo-1, tnpo)
    risk_u, risk_r              the risks
    predicted_u ..., actual_u   their change by the update after the step: first order, along the optimiser's step; as it was
    weight                      mean weight of the rows, where the objective has weights
    value, inverse_confidence   of the objective, mean over the rows (ga)
    apart                       distance of npo's effects on rows from the nearest multiple of ga's, for falling beta (ga-npo): C9
    pg_rank, pg_middle, pg_worst    of npo's weights and PG-effects of rows: C10
    evaluated, strength_u ..., probability_u ..., loss_r    steps, and mean scores of the rows there; loss of what should stay
    utility, quality, rouge_u ...       model utility, forget quality (a p-value) and their parts (scores; retrained: that model's)
    token_..., pair_..., first_u, second_u ...      at some steps: see beyond.py (seen)
    seconds                     what the run took by its own clock
"""
import re
import sys
from pathlib import Path

import h5py
import numpy as np

from unlearn_report.effects import Measured
from unlearn_report.run import Run

from . import beyond
from .fidelity import rank_correlation
from .summary import COLUMNS, Setting

RISKS = {"u": "unlearn", "r": "retain"}
SETS = {"u": "forget", "r": "retain"}
BESIDE = ("ma", "seen", "scores", "again")
BY_GROUP = ("ga", "wga", "npo-1", "tnpo")
GROUP = re.compile(r"seed(\d+)(?:-x([\d.]+))?")


def distance(x, y):
    """Of x from the nearest multiple of y, relative to x."""
    return np.linalg.norm(x - (x @ y) / (y @ y) * y) / max(np.linalg.norm(x), 1e-300)


def nearest_to_ga(f, steps, warmup):
    """How far npo's effects on rows are from a multiple of ga's, at the end of the warm-up; sums over sequences, as npo has them."""
    t = int(np.flatnonzero(steps <= warmup)[-1])
    effects = f["geffect"][t, :, 0].sum(axis=1)  # [objective, instance], ga first
    return [distance(npo, effects[0] * f["instance_weight"][0]) for npo in effects[1:]]


def weights_and_effects(f, weight, risks):
    """npo's weights of rows beside the PG-effects of ga, at the steps where the weights are neither all 1 nor all 0."""
    at = [t for t, w in enumerate(weight.mean(axis=1)) if 0.05 < w < 0.99]
    if not at:
        return {}
    pg = f["geffect"][at, 1].sum(axis=2) * f["instance_weight"][1]  # [step, risk, instance]
    pg_u, pg_r = pg[:, risks.index("unlearn")].ravel(), pg[:, risks.index("retain")].ravel()
    weight = weight[at].ravel()
    middle = (weight > 0.2) & (weight < 0.8)
    worst = (pg_u < np.quantile(pg_u, 0.25)) & (pg_r < np.quantile(pg_r, 0.25))
    return {"pg_rank": [rank_correlation(weight, -abs(pg_r))], "pg_middle": [middle.sum()],
            "pg_worst": [(middle & worst).sum()]}


def measured(directory, name):
    """{quantity: values} of geffect.h5 and train.h5."""
    of, plain = Measured(Run(directory / "geffect.h5")), name.removesuffix("-ma")
    with h5py.File(directory / "train.h5") as f:
        lr = np.nan_to_num(f["lr"][:])
        dual = f["dual_weight"][:] if "dual_weight" in f else None
    warmup, length = int(np.argmax(lr)), int(of.steps[-1])
    got = {"step": of.steps, "lr": lr[of.steps], "warmup": [warmup], "length": [length]}
    if dual is not None:  # at the end of the last update it is not recorded: that at its beginning
        got["dual_weight"] = np.nan_to_num(dual, nan=dual[-2])[of.steps]
    for short, risk in RISKS.items():
        got[f"e_{short}"], got[f"risk_{short}"] = of.find(risk).total, of.risk_value[risk]
        for regularizer in of.regularizers:
            got[f"e_{short}:{regularizer}"] = of.find(risk, regularizer).total
        for change in of.changes:
            if change.risk == risk:
                got[f"predicted_{short}"], got[f"actual_{short}"] = change.aware[:-1], change.actual[:-1]
    if plain in BY_GROUP:
        got |= {f"e_u.{g}": v for g, v in of.find("unlearn").group.items()}
    with h5py.File(directory / "geffect.h5") as f:
        n = len(of.steps)
        weight = f["objective_weight"][:n, 0]
        if np.isfinite(weight).all():
            got["weight"] = weight @ f["instance_weight"][0]
        if plain == "ga":
            got["value"] = f["instance_loss"][:n, 0] @ f["instance_weight"][0]
            got["inverse_confidence"] = np.nanmean(f["inverse_confidence"][:n], axis=1)
        if name == "ga-npo":
            got["apart"] = nearest_to_ga(f, of.steps, warmup)
        if name == "npo-1":
            got |= weights_and_effects(f, weight, of.risks)
    of.run.close()
    return got


def scores(directory, published=False):
    """{quantity: values} of evaluation.h5."""
    with h5py.File(directory / "evaluation.h5") as f:
        sets, metrics = list(f["set"].asstr()[:]), list(f["metric"].asstr()[:])
        got = {"evaluated": f["step"][:]}
        for short, of in SETS.items():
            for name, metric in (("strength", "extraction_strength"), ("probability", "probability")):
                got[f"{name}_{short}"] = f["mean"][:, sets.index(of), metrics.index(metric)]
        got["loss_r"] = f["risk"][:, sets.index(SETS["r"])]
        return got | beyond.published(f) if published else got


def seconds(complete):
    took = re.search(r"^total ([0-9.]+) s", complete.read_text(), re.MULTILINE)
    return {"seconds": [float(took[1])] if took else []}


def seen(directory):
    """{quantity: values} of a training measured once more."""
    run = Run(directory)
    got = beyond.seen(run)
    run.close()
    return got


def quantities(run, estimator):
    if estimator == "seen":
        return seen(run)
    if estimator == "scores":
        return scores(run, published=True)
    got = measured(run, run.name) if (run / "geffect.h5").exists() else {}
    return got | scores(run) if (run / "evaluation.h5").exists() else got


def rows(directory):
    """(seed, rate, estimator, run, quantity, values) of every complete run below a directory of inputs/claims.sh."""
    scored = 42  # the seed of the trainings that were scored, beside which the retrained model stands
    for complete in sorted(Path(directory).glob("seed*/*/complete")):
        run, group = complete.parent, GROUP.fullmatch(complete.parent.parent.name)
        if group:
            name, _, last = run.name.rpartition("-")
            name, estimator = (name, last) if last in BESIDE else (run.name, "full")
            scored = int(group[1]) if estimator == "scores" else scored
            for quantity, values in (quantities(run, estimator) | seconds(complete)).items():
                yield int(group[1]), group[2] or "1", estimator, name, quantity, values
    retrained = Path(directory) / "retrained-scores"
    if (retrained / "complete").exists():
        for quantity, values in scores(retrained, published=True).items():
            yield scored, "1", "scores", "retrained", quantity, values


def earlier(path):
    """{(seed, rate, estimator, run): lines} of a summary file."""
    Setting(path)  # complains of what is none
    found = {}
    for line in Path(path).read_text().splitlines()[1:]:
        found.setdefault(tuple(line.split(",", 4)[:4]), []).append(line)
    return found


def write(directory, path, add=False):
    """Makes the summary file of a setting's runs; says how many there were. add: runs that the file has and the directory has not stay."""
    runs = {}
    for *where, values in rows(directory):
        text = [str(w) for w in where]
        runs.setdefault(tuple(text[:4]), []).append(",".join(text) + "," + " ".join(f"{v:.5g}" for v in np.asarray(values, float)))
    if not runs:
        raise ValueError(f"{directory}: holds no complete run of inputs/claims.sh: give the directory with seed42 in it")
    kept = earlier(path) if add else {}
    of = sorted((kept | runs).items(), key=lambda run: run[0])
    Path(path).write_text("\n".join([",".join(COLUMNS), *(line for _, lines in of for line in lines)]) + "\n")
    print(f"{path}: {len(of)} runs" + (f", {len(of) - len(runs)} of them as they were" if add else ""), file=sys.stderr)
