"""What the paper could not see, as quantities of a run at its measured steps: which tokens of the answers carry an effect, which rows
pay, how far the risks bend along an update. Of NAME-seen, a training that is measured once more with geffect.tokens, pairs and
curvature; TENTH and HALF say what is called large and cheap. Shares are of the sum over tokens, or over pairs of rows, as the risks
weigh these."""
import re

import numpy as np

from .fidelity import rank_correlation

TENTH, HALF, UNLIKELY = 0.1, 0.5, 0.01
RISKS = {"u": "unlearn", "r": "retain"}


def largest_tenth(values):
    """Share of the sum of magnitudes that the largest tenth of them has."""
    sizes = np.sort(abs(values))[::-1]
    return sizes[:max(round(TENTH * len(sizes)), 1)].sum() / max(sizes.sum(), 1e-300)


def cheapest_half(gain, cost):
    """Share of the whole cost that half of the gain has at least, if what is taken may be chosen, the cheapest first; 0.5: no choice."""
    useful = gain > 0
    gain, price = gain[useful], cost[useful] / gain[useful]
    order = np.argsort(price, kind="stable")
    before = np.concatenate([[0], np.cumsum(gain[order])])
    part = np.clip((HALF * before[-1] - before[:-1]) / gain[order], 0, 1)  # the last one in part
    return (part * (price * gain)[order]).sum() / cost.sum()


def words(text):
    return set(re.findall(r"\w+", text.lower()))


def overlap(a, b):
    return len(a & b) / max(len(a | b), 1)


def tokens(run):
    """Of ga, so of any weights that are given to tokens afterwards: what each token of the answers does to either risk."""
    data, weight = run.tokens, run.geffect.instance_weight.values[0]
    row, nll, risks = data.instance.values.astype(int), data.token_nll.values, list(data.risk.values)
    share = weight[row] / np.bincount(row)[row]
    u, r = (data.token_effect.values[:, risks.index(name)] * share for name in RISKS.values())  # [step, token]
    given = np.array([bool(words(t)) and t.strip().lower() in run.question("forget", int(i)).lower()
                      for t, i in zip(data.token_text.values, row)])
    unlikely, got = nll > -np.log(UNLIKELY), {}
    for short, effect in (("u", u), ("r", r)):
        got[f"token_tenth_{short}"] = [largest_tenth(e) for e in effect]
        got[f"token_unlikely_{short}"] = [e[x].sum() / e.sum() for e, x in zip(effect, unlikely)]
        got[f"token_given_{short}"] = [abs(e[given]).sum() / abs(e).sum() for e in effect]
    return got | {"token_unlikely": unlikely.mean(axis=1), "token_given": [given.mean()],
                  "token_same": [np.corrcoef(a, b)[0, 1] for a, b in zip(u, r)],
                  "token_cheap": [cheapest_half(a, b) for a, b in zip(u, r)]}


def pairs(run):
    """Of the objective trained: how unevenly the retain risk is paid for, how much of it cancels, and whether rows with like questions
    pay."""
    data = run.geffect
    effect = data.pair_effect.values[:, 0].sum(axis=1)  # [step, forget row, retain row]
    effect = effect * data.instance_weight.values[0][:, None] * data.pair_weight.values
    asked = [[words(run.question(side, int(i))) for i in rows]
             for side, rows in (("forget", data.instance.values), ("retain", data.pair_instance.values))]
    alike = np.array([[overlap(a, b) for b in asked[1]] for a in asked[0]])
    return {"pair_net": [abs(e.sum()) / abs(e).sum() for e in effect],
            "pair_payers": [largest_tenth(np.minimum(e.sum(axis=0), 0)) for e in effect],
            "pair_causes": [largest_tenth(np.minimum(e.sum(axis=1), 0)) for e in effect],
            "pair_alike": [rank_correlation(alike.ravel(), -e.ravel()) for e in effect]}


def seen(run):
    """{quantity: [step]} of a run that measured all of it."""
    data = run.geffect
    got = {"step": data.step.values} | tokens(run) | pairs(run)
    effect = (data.geffect * data.instance_weight).isel(objective=0).sum(("layer", "instance"))
    for short, risk in RISKS.items():
        got[f"e_{short}"] = effect.sel(risk=risk).values
        for name, field in (("first", "predicted_change"), ("second", "second_order"), ("actual", "actual_change")):
            got[f"{name}_{short}"] = data[field].sel(risk=risk).values[:-1]
    return got


NUMBERS = {"utility": "model_utility", "quality": "forget_quality", "truth_u": "forget_truth_ratio", "rouge_u": "forget_rouge",
           "probability_u": "forget_probability", "probability_r": "retain_probability", "rouge_r": "retain_rouge",
           "truth_r": "retain_truth_ratio"}


def published(evaluation):
    """{quantity: [evaluated step]} of the numbers that TOFU's tables have."""
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in evaluation["number"][:]]
    return {short: evaluation["summary"][:, names.index(name)] for short, name in NUMBERS.items()}
