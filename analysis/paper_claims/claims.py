"""The 18 claims, each a function of one seed's runs: what it asks, as parts that hold or do not.

A docstring's first line is the claim in short; the rest is what is asked here, thresholds in brackets. They were set after a look at
the paper's figures and a first run of one seed; w is the end of the warm-up, one epoch."""
from dataclasses import dataclass

import numpy as np

NPO, RMU = ("npo-0.1", "npo-1", "npo-2"), ("rmu-first", "rmu-second", "rmu-last")
BETA = {"npo-0.1": "0.1", "npo-1": "1", "npo-2": "2"}
LAYER = {"rmu-first": "a third", "rmu-second": "two thirds", "rmu-last": "the last"}
WITH_KL = {"kl": "ga", "wga-kl": "wga", "npo-kl": "npo-1", "tnpo-kl": "tnpo", "wtnpo-kl": "wtnpo", "po-kl": "po",
           "rmu-kl": "rmu-second"}
GROUPS = ("embed", "shallow", "middle", "deep", "lm")


@dataclass
class Part:
    """Something that a claim asks: text with a {} for each number, and whether it is so; None: told, not asked."""
    text: str
    values: tuple
    holds: object = None


def part(text, values, holds=None):
    return Part(text, tuple(float(v) for v in np.atleast_1d(values)), None if holds is None else bool(holds))


def excursions(curve):
    """How often a curve rises above half of its largest magnitude."""
    high = abs(curve) > abs(curve).max() / 2
    return int(high[0]) + int((high[1:] & ~high[:-1]).sum())


def c1(runs):
    """GA: both effects stay negative, with one spike and a deep fall after it
    e_u < 0 and e_r < 0 at every step; each has one spike [10x step 0], then falls [10x] but not to 0 [0.1 %]"""
    ga = runs["ga"]
    fall = [abs(e).max() / abs(e[-1]) for e in (ga.e_u, ga.e_r)]
    spikes = [excursions(e) for e in (ga.e_u, ga.e_r)]
    blocks = abs(sum(ga[f"e_u.{g}"] for g in GROUPS[:4]))
    return [part("falls to 1/{}, 1/{}", fall, min(fall) > 10), part("not to 0", (), max(fall) < 1000),
            part("highest e_u {}, e_r {}", (ga.e_u.max(), ga.e_r.max()), max(ga.e_u.max(), ga.e_r.max()) < 0),
            part("peak {} / {} at step {}", (ga.e_u[ga.peak], ga.e_r[ga.peak], ga.peak_step)),
            part("{}x step 0", ga.height / abs(ga.e_u[0]), ga.height > 10 * abs(ga.e_u[0])),
            part("spikes {}, {}", spikes, spikes == [1, 1]),
            part("e_u without the output layer falls to 1/{}", (blocks.max() / blocks[-1]))]


def c2(runs):
    """GA: at first it forgets more than it spoils, at the spike it spoils more
    |e_u| > |e_r| during the warm-up; |e_r| > |e_u| at the spike of e_r"""
    ga = runs["ga"]
    spike, rho = int(np.argmax(abs(ga.e_r))), abs(ga.e_r / ga.e_u)
    early = rho[ga.steps <= ga.warmup].max()
    return [part("|e_r|/|e_u| at the spike {}", rho[spike], rho[spike] > 1),
            part("during the warm-up at most {}", early, early < 1)]


def c3(runs):
    """GA: a small late effect is saturation, not recovery
    the retain risk stays high [end >= 90 % of its highest, >= 10x step 0]; the sum over the steps of -lr e_r only grows"""
    ga = runs["ga"]
    risk, total = ga["risk_r"], ga.over_steps(-ga["lr"] * ga.e_r)
    return [part("retain risk ends at {} nats", risk[-1], risk[-1] >= max(0.9 * risk.max(), 10 * risk[0])),
            part("from {}, highest {}", (risk[0], risk.max())),
            part("e_r ends at {} of its peak", abs(ga.e_r[-1]) / abs(ga.e_r).max()),
            part("{} of the sum comes after the peak", 1 - total[ga.peak] / total[-1], (np.diff(total) >= 0).all())]


def c4(runs):
    """GA: 1/p explodes before the spike, and the objective falls without bound
    mean 1/p has grown by orders of magnitude at the step before the spike [100x]; the objective falls on after it"""
    ga = runs["ga"]
    mean, before = ga["inverse_confidence"], max(ga.peak - 1, 0)
    return [part("mean 1/p grows {}x before the spike", mean[before] / mean[0], mean[before] > 100 * mean[0]),
            part("{}x by the end", mean[-1] / mean[0]),
            part("objective {}, at the spike {}, at the end {}", (ga["value"][0], ga["value"][ga.peak], ga["value"][-1]),
                 (np.diff(ga["value"][ga.peak:]) < 0).all())]


def c5(runs):
    """GA, WGA, TNPO: the shallow blocks have the most of the peak
    of e_u at the peak: shallow above middle and deep in magnitude, embedding negligible [5 %]"""
    parts = []
    for name in ("ga", "wga", "tnpo"):
        group = {g: abs(runs[name][f"e_u.{g}"][runs[name].peak]) for g in GROUPS}
        share = {g: v / sum(group.values()) for g, v in group.items()}
        parts += [part(f"{name}: shallow {{}} %", 100 * share["shallow"], share["shallow"] > max(share["middle"], share["deep"])),
                  part("embedding {} %", 100 * share["embed"], share["embed"] < 0.05),
                  part("middle {} %, deep {} %, output {} %", [100 * share[g] for g in GROUPS[2:]])]
    return parts


def c6(runs):
    """GA's late effect is the output layer's; WGA's, NPO's and TNPO's vanishes there too
    ga, last third: the output layer has most of e_u [50 %], and is constant [+- 10 %]; of the others it ends below 5 % of
    their peak"""
    ga = runs["ga"]
    lm, late = ga["e_u.lm"], ga.steps > 2 * ga.length / 3
    share, spread = (lm / ga.e_u)[late].min(), abs(lm[late] / lm[late].mean() - 1).max()
    ends = {n: abs(runs[n]["e_u.lm"][-1]) / runs[n].height for n in ("wga", "npo-1", "tnpo")}
    return [part("output layer at least {} % of ga's late e_u", 100 * share, share > 0.5),
            part("constant within {} %", 100 * spread, spread < 0.1),
            *[part(f"{n} ends at {{}} % of its peak", 100 * v, v < 0.05) for n, v in ends.items()]]


def c7(runs):
    """WGA: a peak far below GA's, little of it on what stays, then nothing
    peak below GA's [10x]; rho < 0.3; at the end about 0 [5 % of the peak]"""
    ga, wga = runs["ga"], runs["wga"]
    end = max(abs(wga.e_u[-1]), abs(wga.e_r[-1])) / wga.height
    return [part("rho {}", wga.rho, wga.rho < 0.3), part("GA's {}", ga.rho),
            part("peak {}x below GA's", ga.height / wga.height, ga.height >= 10 * wga.height),
            part("ends at {} % of it", 100 * end, end < 0.05)]


def c8(runs):
    """NPO: effects end with the weights, earlier and smaller for larger beta
    effects about 0 [10 % of the peak] once the mean weight is [below 0.01]; it falls [below 0.1] no later, and the peak is smaller,
    for larger beta"""
    parts, when, height = [], [], [runs[n].height for n in NPO]
    for name in NPO:
        npo, weight = runs[name], runs[name]["weight"]
        gone = npo.first(weight < 0.01)
        left = npo.largest(gone) / npo.height if gone < np.inf else np.inf
        when.append(npo.first(weight < 0.1))
        parts += [part(f"beta {BETA[name]}: weight < 0.01 from step {{}}", gone),
                  part("then at most {} % of the peak", 100 * left, left < 0.1)]
    return [part("peaks {}, {}, {}", height, height[0] > height[1] > height[2]), *parts,
            part("weight < 0.1 from steps {}, {}, {}", when, when == sorted(when, reverse=True))]


def c9(runs):
    """NPO: a larger beta spares what stays; beta -> 0 is GA
    rho of beta 1 and 2 below that of 0.1; effects on rows of beta 0.001 are a multiple of GA's [within 10 %] at the end of
    the warm-up"""
    rho = [runs[n].rho for n in NPO]
    parts = [part("rho {}, {}, {}", rho, max(rho[1:]) < rho[0])]
    if runs.estimator == "full":
        apart = runs["ga-npo"]["apart"]
        near = apart[0] < 0.1 and apart[0] == apart.min()
        parts.append(part("beta 0.001, 0.1, 1, 2 apart from GA by {}, {}, {}, {}", apart, near))
    return parts


def c10(runs):
    """NPO's weights favour rows that cost little, but not reliably
    rank correlation of weight and -|retain PG-effect| in (0, 0.9); some rows of weight 0.2 to 0.8 are in the worst quarter of
    both effects"""
    if runs.estimator != "full":
        raise KeyError("needs every instance")
    npo = runs["npo-1"]
    rank, middle, worst = (npo[q][0] for q in ("pg_rank", "pg_middle", "pg_worst"))
    return [part("rank correlation {}", rank, 0 < rank < 0.9),
            part("{} of {} of middle weight are among the worst", (worst, middle), worst > 0)]


def c11(runs):
    """TNPO spares what stays more than NPO, NPO more than GA
    rho of tnpo below npo's of the same beta, that below ga's; e_r may turn positive after the peak"""
    tnpo, npo, ga = runs["tnpo"], runs["npo-1"], runs["ga"]
    positive = (tnpo.e_r[tnpo.peak:] > 0).mean()
    return [part("rho: TNPO {}, NPO {}", (tnpo.rho, npo.rho), tnpo.rho < npo.rho), part("GA {}", ga.rho, npo.rho < ga.rho),
            part("TNPO's e_r > 0 at {} % of the steps from its peak", 100 * positive)]


def c12(runs):
    """PO soon lowers the risk that it should raise
    e_u < 0 only at first, > 0 from within the first quarter of the schedule on [90 %]; e_r has the same signs [80 % of the
    steps]"""
    po = runs["po"]
    turn = po.first(po.e_u > 0)
    after = (po.e_u[po.steps >= turn] > 0).mean() if turn < np.inf else 0
    same = (np.sign(po.e_u) == np.sign(po.e_r)).mean()
    return [part("e_u > 0 at {} % of the steps from its turn", 100 * after, after > 0.9),
            part("at step {}", turn, turn <= po.length / 4),
            part("e_u at step 0 {}", po.e_u[0], po.e_u[0] < 0), part("largest {}", po.e_u.max(), po.e_u.max() > 0),
            part("e_r of the same sign at {} %", 100 * same, same >= 0.8)]


def c13(runs):
    """RMU depends on its layer, and is strongest at two thirds
    peaks differ [2x]; the largest removal at two thirds; at the last layer e_u > 0 after w [half of the steps]; rho of order 1
    [0.1 to 10]"""
    removal = [-runs[n].e_u.min() for n in RMU]
    height = [runs[n].height for n in RMU]
    last, rho = runs["rmu-last"], [runs[n].rho for n in RMU]
    positive = (last.e_u[last.steps > last.warmup] > 0).mean()
    return [part("largest -e_u at a third, two thirds, the last: {}, {}, {}", removal, removal[1] == max(removal)),
            part("peaks {}, {}, {}", height, max(height) > 2 * min(height)),
            part("last: e_u > 0 at {} % of the later steps", 100 * positive, positive > 0.5),
            part("rho {}, {}, {}", rho, 0.1 < min(rho) and max(rho) < 10)]


def c14(runs):
    """RMU is sensitive to c
    peaks of c 5 and 2 differ [2x]"""
    five, two = runs["rmu-second"].height, runs["rmu-c2"].height
    return [part("peaks {}x apart", five / two, not 0.5 < five / two < 2)]


def c15(runs):
    """NPO and RMU settle soon after the warm-up
    from an epoch and 5 steps after it on, effects stay small [20 % of the peak]"""
    left = {n: runs[n].largest(2 * runs[n].warmup + 5) / runs[n].height for n in NPO + RMU}
    return [part("at most {} % of the peak is left", 100 * max(left.values()), max(left.values()) < 0.2),
            *[part(f"{n} {{}} %", 100 * v) for n, v in left.items()]]


def c16(runs):
    """GD and KL work for both risks, KL more; RR hardly, and in the end against
    gd, kl: e_r > 0 at all steps > 0; e_u > 0 at the peak, which is near the objective's [w]; KL 1 to 4x GD; RR weaker than KL
    [100x], negative at the end"""
    parts, height = [], {}
    for name in ("gd", "kl", "rr"):
        run = runs[name]
        e_u, e_r = run[f"e_u:{name}"], run[f"e_r:{name}"]
        peak = int(np.argmax(abs(e_r)))
        height[name] = max(abs(e_u).max(), abs(e_r).max())
        if name == "rr":
            parts.append(part("rr ends at {} / {}", (e_u[-1], e_r[-1]), e_u[-1] < 0 and e_r[-1] < 0))
            continue
        parts += [part(f"{name}: e_r > 0 at {{}} %", 100 * (e_r[1:] > 0).mean(), (e_r[1:] > 0).all()),
                  part("peak {} / {} at step {}, the objective's at {}", (e_u[peak], e_r[peak], run.steps[peak], run.peak_step),
                       e_u[peak] > 0 and abs(run.steps[peak] - run.peak_step) <= run.warmup)]
    kl, gd, rr = (height[n] for n in ("kl", "gd", "rr"))
    return [part("KL {}x GD", kl / gd, 1 <= kl / gd <= 4), part("{}x RR", kl / rr, kl >= 100 * rr), *parts]


def c17(runs):
    """KL keeps more of what stays, at little cost in forgetting
    with every objective: extraction strength of what stays is higher with KL, that of what is forgotten at most 0.1 higher"""
    parts, more, cost = [], [], []
    for name, plain in WITH_KL.items():
        (stays, forgotten), (stays_kl, forgotten_kl) = runs.strength(plain), runs.strength(name)
        more.append(stays_kl - stays), cost.append(forgotten_kl - forgotten)
        parts.append(part(f"{plain}: {{}} -> {{}}, {{}} -> {{}}", (stays, stays_kl, forgotten, forgotten_kl)))
    return [part("at least {} more stays", min(more), min(more) > 0),
            part("at most {} more is not forgotten", max(cost), max(cost) <= 0.1), *parts]


def c18(runs):
    """With KL, WGA and WTNPO have the best trade-off
    extraction strength of what stays less that of what is forgotten: both above every other objective's (TNPO apart)"""
    trade = {name: np.subtract(*runs.strength(name)) for name in WITH_KL if name != "tnpo-kl"}
    best = max(v for n, v in trade.items() if n not in ("wga-kl", "wtnpo-kl"))
    return [part("WGA {}, WTNPO {}", (trade["wga-kl"], trade["wtnpo-kl"]), min(trade["wga-kl"], trade["wtnpo-kl"]) >= best),
            part("best of the others {}", best),
            part("GA {}, NPO {}, PO {}, RMU {}", [trade[n] for n in ("kl", "npo-kl", "po-kl", "rmu-kl")])]


CLAIMS = (c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18)


def titles(claim):
    """The claim in short, and what is asked."""
    short, _, asked = claim.__doc__.partition("\n")
    return short.strip(), " ".join(asked.split())
