#!/usr/bin/env python3
"""Holds the claims of arXiv 2502.19301 against the runs of inputs/claims.sh: a table in Markdown, or the curves as a picture.

    e_u, e_r: the effects of the objective trained on the risk of what is to be forgotten, and of what is to be kept
    peak:     the measured step where the larger of |e_u| and |e_r| is largest;  rho = |e_r|/|e_u| there
    w, T:     the end of the warm-up, which is one epoch, and of the schedule, in updates

A claim is a function: its docstring is the claim, with the threshold in brackets; it returns what was measured and a verdict. Each is asked
twice: of full sets, and of the moving averages over micro-batches of four with which the paper's code estimates its gradients.
"""
import argparse
import sys
from pathlib import Path

import h5py
import numpy as np

from unlearn_report.effects import GROUPS
from unlearn_report.effects import Measured as Effects
from unlearn_report.run import Run

NPO, RMU = ("npo-0.1", "npo-1", "npo-2"), ("rmu-first", "rmu-second", "rmu-last")
WITH_KL = {"kl": "ga", "wga-kl": "wga", "npo-kl": "npo-1", "tnpo-kl": "tnpo", "wtnpo-kl": "wtnpo", "po-kl": "po", "rmu-kl": "rmu-second"}
ESTIMATORS = {"": "full sets", "-ma": "moving average"}


# ------------------------------------------------------------------------------------------------------------ reading
class Measured(Effects):
    """A run, and what the claims ask of it. Effects are those of the objective trained, or of one named, or of a regulariser."""

    def __init__(self, directory):
        super().__init__(Run(f"{directory}/geffect.h5"))
        with h5py.File(f"{directory}/geffect.h5") as f:
            n = len(self.steps)
            self.layers, self.instance = list(f["layer"].asstr()[:]), f["geffect"][:n]  # [step, objective, risk, layer, instance]
            self.instance_weight, self.token_weight = f["instance_weight"][:], f["objective_weight"][:n]
            self.value = f["instance_loss"][:n, 0] @ self.instance_weight[0]
            self.inverse_confidence = f["inverse_confidence"][:n]
        with h5py.File(f"{directory}/train.h5") as f:
            self.lr = np.nan_to_num(f["lr"][:])
        self.warmup, self.length = int(np.argmax(self.lr)), int(self.steps[-1])
        self.e_u, self.e_r = self.effect("unlearn"), self.effect("retain")
        self.peak = int(np.argmax(np.maximum(abs(self.e_u), abs(self.e_r))))
        self.peak_step, self.height = int(self.steps[self.peak]), max(abs(self.e_u[self.peak]), abs(self.e_r[self.peak]))
        self.rho = abs(self.e_r[self.peak] / self.e_u[self.peak])

    def find(self, risk, source=None):
        return next(e for e in self.effects if e.risk == risk and e.source == (source or self.objectives[0]))

    def effect(self, risk, source=None):
        return self.find(risk, source).total

    def largest(self, from_step=0):
        """The largest |e_u| or |e_r| at this step or later."""
        late = self.steps >= from_step
        return max(abs(self.e_u[late]).max(initial=0), abs(self.e_r[late]).max(initial=0))

    def first(self, holds):
        """The first step at which something holds; infinity where it never does."""
        return int(self.steps[np.argmax(holds)]) if holds.any() else np.inf

    def mean_weight(self, objective=0):
        return self.token_weight[:, objective] @ self.instance_weight[objective]

    def risk_nth(self, risk):
        return self.risks.index(risk)


class Runs:
    """The runs of one setting and estimator, read when first asked for; a missing one is a KeyError."""

    def __init__(self, directory, estimator):
        self.directory, self.estimator, self.read = Path(directory), estimator, {}

    def extraction(self, name):
        """Extraction strength of the run's model: mean over rows of what stays, and of what is forgotten."""
        path = self.directory / name / "evaluation" / "evaluation.h5"
        if self.estimator or not path.exists():
            raise KeyError("an estimator changes no model" if self.estimator else f"evaluation of {name}")
        with h5py.File(path) as f:
            sets, metric = list(f["set"].asstr()[:]), list(f["metric"].asstr()[:]).index("extraction_strength")
            return [f["mean"][0, sets.index(s), metric] for s in ("retain", "forget")]

    def __getitem__(self, name):
        if name not in self.read:
            directory = self.directory / (name + self.estimator)
            if not (directory / "geffect.h5").exists() or not (directory / "train.h5").exists():
                raise KeyError(name + self.estimator)
            self.read[name] = Measured(directory)
        return self.read[name]


def judge(*parts):
    """What was measured and the verdict, of parts (text, whether it is as claimed)."""
    return "; ".join(text if holds else text + " (no)" for text, holds in parts), \
        "holds" if all(holds for _, holds in parts) else "does not hold"


def say(values):
    return ", ".join(f"{v:.3g}" for v in values)


def excursions(curve):
    """How often a curve rises above half of its largest magnitude."""
    high = abs(curve) > abs(curve).max() / 2
    return int(high[0]) + int((high[1:] & ~high[:-1]).sum())


def distance(x, y):
    """Of x from the nearest multiple of y, relative to x."""
    return np.linalg.norm(x - (x @ y) / (y @ y) * y) / max(np.linalg.norm(x), 1e-300)


def ranks(x):
    """Ranks of values, equal ones share their mean."""
    _, inverse, count = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[inverse]


# ----------------------------------------------------------------------------------------------------------- the claims
def c1(runs):
    """GA: e_u < 0 and e_r < 0 at every step; each has one spike [>= 10x step 0], then falls [> 10x] but not to 0 [> 0.1 %]"""
    ga = runs["ga"]
    fall = [abs(e).max() / abs(e[-1]) for e in (ga.e_u, ga.e_r)]
    spikes = [excursions(e) for e in (ga.e_u, ga.e_r)]
    blocks = sum(ga.find("unlearn").group[g] for g in ("embed", "shallow", "middle", "deep"))
    return judge((f"highest e_u {ga.e_u.max():.3g}, e_r {ga.e_r.max():.3g}", max(ga.e_u.max(), ga.e_r.max()) < 0),
                 (f"peak {ga.e_u[ga.peak]:.3g} / {ga.e_r[ga.peak]:.3g} at step {ga.peak_step}, {ga.height / abs(ga.e_u[0]):.3g}x step 0",
                  ga.height > 10 * abs(ga.e_u[0])),
                 (f"spikes {spikes[0]}, {spikes[1]}", spikes == [1, 1]),
                 (f"falls {fall[0]:.3g}x, {fall[1]:.3g}x (e_u without the output layer {abs(blocks).max() / abs(blocks[-1]):.3g}x)",
                  min(fall) > 10),
                 (f"ends at {ga.e_u[-1]:.3g} / {ga.e_r[-1]:.3g}", max(fall) < 1000))


def c2(runs):
    """GA: |e_u| > |e_r| during the warm-up; at the spike of e_r |e_r| > |e_u|"""
    ga = runs["ga"]
    early, spike = ga.steps <= ga.warmup, int(np.argmax(abs(ga.e_r)))
    rho = abs(ga.e_r / ga.e_u)
    return judge((f"|e_r|/|e_u| up to step {ga.warmup}: {say(rho[early])}", rho[early].max() < 1),
                 (f"at step {ga.steps[spike]}: {rho[spike]:.3g}", rho[spike] > 1))


def c3(runs):
    """GA: a small late effect is saturation, not recovery: the retain risk stays high [end >= 90 % of its highest, >= 10x step 0]"""
    ga = runs["ga"]
    risk = ga.risk_value["retain"]
    rate = np.interp(ga.steps, np.arange(len(ga.lr)), ga.lr) * -ga.e_r
    total = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(ga.steps))])
    after = 1 - total[ga.peak] / total[-1]
    return judge((f"retain risk {risk[0]:.3g} -> {risk[-1]:.3g} nats, highest {risk.max():.3g}",
                  risk[-1] >= max(0.9 * risk.max(), 10 * risk[0])),
                 (f"e_r ends at {abs(ga.e_r[-1]) / abs(ga.e_r).max():.2g} of its peak", True),
                 (f"its sum over the steps, -lr e_r, only grows, {after:.2g} of it after the peak", (np.diff(total) >= 0).all()))


def c4(runs):
    """GA: the inverse confidence has grown by orders of magnitude before the spike [>= 100x]; the objective falls on without bound"""
    ga = runs["ga"]
    confidence = np.nanmean(ga.inverse_confidence, axis=1)
    return judge((f"mean 1/p: {confidence[0]:.3g} at step 0, {confidence[ga.peak - 1]:.3g} at step {ga.steps[ga.peak - 1]}, "
                  f"{confidence[-1]:.3g} at the end", confidence[ga.peak - 1] > 100 * confidence[0]),
                 (f"objective {ga.value[0]:.3g}, at the spike {ga.value[ga.peak]:.3g}, at the end {ga.value[-1]:.3g}",
                  (np.diff(ga.value[ga.peak:]) < 0).all()))


def c5(runs):
    """GA, WGA, TNPO at the peak: shallow above middle and deep in magnitude; embed negligible [< 5 %]"""
    parts = []
    for name in ("ga", "wga", "tnpo"):
        group = {g: abs(v[runs[name].peak]) for g, v in runs[name].find("unlearn").group.items()}
        share = {g: v / sum(group.values()) for g, v in group.items()}
        text = ", ".join(f"{g} {100 * share.get(g, 0):.0f} %" for g in GROUPS)
        parts.append((f"{name} e_u: {text}", share["shallow"] > max(share["middle"], share["deep"]) and share["embed"] < 0.05))
    return judge(*parts)


def c6(runs):
    """GA in the last third: lm the largest group [> 50 %], constant [+- 10 %]; WGA, NPO, TNPO: lm vanishes [< 5 % of the peak]"""
    ga = runs["ga"]
    lm, late = ga.find("unlearn").group["lm"], ga.steps > 2 * ga.length / 3
    share, spread = (lm / ga.e_u)[late], (lm[late] / lm[late].mean() - 1)
    ends = {n: abs(runs[n].find("unlearn").group["lm"][-1]) / runs[n].height for n in ("wga", "npo-1", "tnpo")}
    return judge((f"lm {100 * share.min():.0f} to {100 * share.max():.0f} % of e_u, within {100 * abs(spread).max():.2g} %",
                  share.min() > 0.5 and abs(spread).max() < 0.1),
                 ("lm at the end, of the peak: " + ", ".join(f"{n} {100 * v:.2g} %" for n, v in ends.items()), max(ends.values()) < 0.05))


def c7(runs):
    """WGA: peak much smaller than GA's [>= 10x]; rho < 0.3; then about 0 [< 5 % of the peak at the end]"""
    ga, wga = runs["ga"], runs["wga"]
    end = max(abs(wga.e_u[-1]), abs(wga.e_r[-1])) / wga.height
    return judge((f"peak {wga.height:.3g} at step {wga.peak_step}, {ga.height / wga.height:.3g}x below GA's", ga.height >= 10 * wga.height),
                 (f"rho {wga.rho:.2g} (GA {ga.rho:.2g})", wga.rho < 0.3), (f"at the end {100 * end:.2g} %", end < 0.05))


def c8(runs):
    """NPO: effects about 0 [< 10 % of the peak] once the mean weight is [< 0.01]; it falls [below 0.1] earlier, and the peak is smaller,
    for larger beta"""
    parts, when = [], []
    for name in NPO:
        npo, weight = runs[name], runs[name].mean_weight()
        when.append(npo.first(weight < 0.1))
        gone = npo.first(weight < 0.01)
        left = npo.largest(gone) / npo.height if gone < np.inf else np.inf
        parts.append((f"{name}: weight < 0.01 from step {gone}, then at most {100 * left:.2g} % of the peak", left < 0.1))
    height = [runs[name].height for name in NPO]
    return judge(*parts, (f"weight < 0.1 from steps {say(when)}", when == sorted(when, reverse=True)),
                 (f"peaks {say(height)}", height == sorted(height, reverse=True)))


def c9(runs):
    """NPO: rho falls as beta grows [that of 1 and 2 below that of 0.1]; beta -> 0 approaches GA [within 10 % at 0.001, at the end
    of the warm-up]"""
    rho = [runs[n].rho for n in NPO]
    parts = [(f"rho at beta 0.1, 1, 2: {say(rho)}", max(rho[1:]) < rho[0])]
    if not runs.estimator:
        ga = runs["ga-npo"]
        t = int(np.flatnonzero(ga.steps <= ga.warmup)[-1])
        sums = ga.instance[t, 0, 0].sum(0) * ga.instance_weight[0]  # of sequences, up to a factor
        apart = [distance(npo.sum(0), sums) for npo in ga.instance[t, 1:, 0]]
        parts.append((f"ga's effects on instances at step {ga.steps[t]} and npo's with beta 0.001, 0.1, 1, 2: apart by {say(apart)}",
                      apart[0] < 0.1 and apart[0] == min(apart)))
    return judge(*parts)


def c10(runs):
    """NPO's weights favour instances of small |retain PG-effect|, not reliably [rank correlation in (0, 0.9); some of weight 0.2 to 0.8
    are in the worst quarter of both]"""
    if runs.estimator:
        raise KeyError("needs every instance")
    npo = runs["npo-1"]
    at = [t for t, w in enumerate(npo.mean_weight()) if 0.05 < w < 0.99]
    if not at:
        raise KeyError("no step with a mean weight of 0.05 to 0.99")
    weight = npo.token_weight[at, 0].ravel()
    pg = npo.instance[at, npo.objectives.index("ga")].sum(axis=2) * npo.instance_weight[npo.objectives.index("ga")]
    pg_u, pg_r = pg[:, npo.risk_nth("unlearn")].ravel(), pg[:, npo.risk_nth("retain")].ravel()
    rank = np.corrcoef(ranks(weight), ranks(-abs(pg_r)))[0, 1]
    bad = (pg_u < np.quantile(pg_u, 0.25)) & (pg_r < np.quantile(pg_r, 0.25))
    middle = (weight > 0.2) & (weight < 0.8)
    return judge((f"rank correlation of weight and -|PG-effect| over {len(weight)} instances at steps {say(npo.steps[at])}: {rank:.2g}",
                  0 < rank < 0.9),
                 (f"{(bad & middle).sum()} of {middle.sum()} of middle weight are among the worst", (bad & middle).sum() > 0))


def c11(runs):
    """TNPO: rho smaller than NPO's at the same beta, that smaller than GA's; e_r may turn positive after the peak"""
    tnpo, npo, ga = runs["tnpo"], runs["npo-1"], runs["ga"]
    positive = int((tnpo.e_r[tnpo.peak:] > 0).sum())
    return judge((f"rho: TNPO {tnpo.rho:.2g}, NPO {npo.rho:.2g}, GA {ga.rho:.2g}", tnpo.rho < npo.rho < ga.rho),
                 (f"e_r > 0 at {positive} of {len(tnpo.steps) - tnpo.peak} steps from the peak, {tnpo.peak_step}", True))


def c12(runs):
    """PO: e_u < 0 only at first, > 0 from within the first quarter of the schedule; e_r has the same signs [at 80 % of the steps]"""
    po = runs["po"]
    turn = po.first(po.e_u > 0)
    after = (po.e_u[po.steps >= turn] > 0).mean() if turn < np.inf else 0
    same = (np.sign(po.e_u) == np.sign(po.e_r)).mean()
    return judge((f"e_u at step 0: {po.e_u[0]:.3g}", po.e_u[0] < 0),
                 (f"first > 0 at step {turn}, then at {100 * after:.0f} % of the steps", turn <= po.length / 4 and after > 0.9),
                 (f"largest {po.e_u.max():.3g}", po.e_u.max() > 0), (f"same sign of e_r at {100 * same:.0f} %", same >= 0.8))


def c13(runs):
    """RMU depends on the layer [peaks 2x apart]: two thirds the largest removal; last layer e_u > 0 after w;
    rho of order 1 [0.1 to 10]"""
    first, second, last = (runs[n] for n in RMU)
    removal = [-r.e_u.min() for r in (first, second, last)]
    positive = (last.e_u[last.steps > last.warmup] > 0).mean()
    rho = [r.rho for r in (first, second, last)]
    return judge((f"largest removal -e_u at a third, two thirds, last: {say(removal)}", removal[1] == max(removal)),
                 (f"peaks {say([r.height for r in (first, second, last)])}",
                  max(r.height for r in (first, second, last)) > 2 * min(r.height for r in (first, second, last))),
                 (f"last layer: e_u > 0 at {100 * positive:.0f} % of the steps after the warm-up", positive > 0.5),
                 (f"rho {say(rho)}", 0.1 < min(rho) and max(rho) < 10))


def c14(runs):
    """RMU is sensitive to c [peaks of c 5 and 2 apart by 2x]"""
    five, two = runs["rmu-second"], runs["rmu-c2"]
    return judge((f"peaks {five.height:.3g}, {two.height:.3g}", not 0.5 < five.height / two.height < 2),)


def c15(runs):
    """NPO, RMU: effects settle near 0 within an epoch and 5 steps after the warm-up [largest later |e| < 20 % of the peak]"""
    parts = []
    for name in NPO + RMU:
        left = runs[name].largest(2 * runs[name].warmup + 5) / runs[name].height
        parts.append((f"{name} {100 * left:.2g} %", left < 0.2))
    return judge(*parts)


def c16(runs):
    """Regularisers: GD and KL have e_r > 0 at all steps > 0, e_u > 0 at the peak, which is near the objective's [within w]; KL 1 to 4x GD;
    RR >= 100x weaker than KL, in the end negative"""
    parts, height = [], {}
    for name in ("gd", "kl", "rr"):
        run = runs[name]
        e_u, e_r = run.effect("unlearn", name), run.effect("retain", name)
        peak = int(np.argmax(abs(e_r)))
        height[name] = max(abs(e_u).max(), abs(e_r).max())
        if name == "rr":
            parts.append((f"rr ends at {e_u[-1]:.3g} / {e_r[-1]:.3g}", e_u[-1] < 0 and e_r[-1] < 0))
            continue
        parts += [(f"{name}: e_r > 0 at {100 * (e_r[1:] > 0).mean():.0f} %", (e_r[1:] > 0).all()),
                  (f"peak {e_u[peak]:.3g} / {e_r[peak]:.3g} at step {run.steps[peak]}, the objective's at {run.peak_step}",
                   e_u[peak] > 0 and abs(run.steps[peak] - run.peak_step) <= run.warmup)]
    return judge(*parts, (f"KL {height['kl'] / height['gd']:.2g}x GD", 1 <= height["kl"] / height["gd"] <= 4),
                 (f"KL {height['kl'] / height['rr']:.3g}x RR", height["kl"] >= 100 * height["rr"]))


def c17(runs):
    """Adding KL raises the extraction strength of what stays, at little cost in that of what is forgotten [<= 0.1 higher]"""
    parts = []
    for name, plain in WITH_KL.items():
        (stays, forgotten), (stays_kl, forgotten_kl) = runs.extraction(plain), runs.extraction(name)
        parts.append((f"{plain} {stays:.3f} -> {stays_kl:.3f}, {forgotten:.3f} -> {forgotten_kl:.3f}",
                      stays_kl > stays and forgotten_kl <= forgotten + 0.1))
    return judge(("stays, forgotten: before any {:.2f}, {:.2f}".format(*runs.extraction("finetune")), True), *parts)


def c18(runs):
    """With KL, WGA and WTNPO have the best trade-off [extraction strength of what stays less that of what is forgotten]"""
    trade = {name: np.subtract(*runs.extraction(name)) for name in WITH_KL if name != "tnpo-kl"}
    best = max(v for n, v in trade.items() if n not in ("wga-kl", "wtnpo-kl"))
    names = sorted(trade, key=trade.get, reverse=True)
    return judge((", ".join(f"{n} {trade[n]:.2f}" for n in names), min(trade["wga-kl"], trade["wtnpo-kl"]) >= best))


CLAIMS = (c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18)


# ----------------------------------------------------------------------------------------------------- table and picture
def ask(claim, runs):
    try:
        return claim(runs)
    except KeyError as missing:
        return str(missing.args[0]), "not measured"


def table(directory):
    """The claims in Markdown, a row each; what was not as claimed ends with (no)."""
    sets = [Runs(directory, suffix) for suffix in ESTIMATORS]
    lines = ["| | claim [what is asked here] | " + " | ".join(ESTIMATORS.values()) + " |", "|---" * (2 + len(sets)) + "|"]
    for claim in CLAIMS:
        answers = [ask(claim, runs) for runs in sets]
        cells = [f"**{verdict}**: {text}".replace("|", "\\|") for text, verdict in answers]
        says = " ".join(claim.__doc__.split()).replace("|", "\\|")
        lines.append(f"| {claim.__name__.upper()} | {says} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


PANELS = ("ga", "wga", *NPO, "tnpo", "wtnpo", "po", *RMU, "gd", "kl", "rr")
CURVE = {"unlearn": ("$e_u$", "#E69F00", "-"), "retain": ("$e_r$", "#0B3C6F", (0, (5, 1.5)))}  # the paper's gold and navy


def draw(directory):
    """e_u and e_r against the step, a pair of panels for each objective and regulariser: full sets, moving average."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from unlearn_report.look import signed_axis

    sets = [Runs(directory, suffix) for suffix in ESTIMATORS]
    figure, panels = plt.subplots(-(-len(PANELS) // 2), 4, figsize=(12, 13), sharex=True, layout="constrained")
    for nth, name in enumerate(PANELS):
        pair, curves = panels[nth // 2, 2 * (nth % 2):2 * (nth % 2) + 2], []
        for a, runs, estimator in zip(pair, sets, ESTIMATORS.values()):
            a.set_title(f"{name}, {estimator}", fontsize=9, loc="left")
            a.spines[["top", "right"]].set_visible(False)
            try:
                run = runs[name]
            except KeyError:
                continue
            a.axvline(run.warmup, color="0.8", linewidth=0.8)
            for risk, (label, color, style) in CURVE.items():
                curves.append(run.effect(risk, name if name in run.regularizers else None))
                a.plot(run.steps, curves[-1], color=color, linestyle=style, linewidth=1.6, label=label)
        if curves:
            pair[1].sharey(pair[0])
            for a in pair:
                signed_axis(a, curves)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    figure.supxlabel("step (grey line: end of the warm-up, one epoch)", fontsize=9)
    figure.supylabel("G-effect (nat²):  ← raises · lowers the risk →", fontsize=9)
    return figure


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("directory", help="outputs/claims/SETTING, of inputs/claims.sh")
    arguments.add_argument("--picture", metavar="FILE", help="draws the curves into this file in place of the table")
    chosen = arguments.parse_args()
    try:
        if chosen.picture:
            draw(chosen.directory).savefig(chosen.picture, dpi=80)
        else:
            print(table(chosen.directory))
    except (OSError, ValueError) as problem:
        sys.exit(f"claims.py: error: {problem}")


if __name__ == "__main__":
    main()
