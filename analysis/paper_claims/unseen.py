"""What the paper could not see, in tables: of trainings that measured tokens, pairs of rows and curvature too (beyond.py), and TOFU's
scores of the others beside their effects. One seed of these, the first, for each setting."""
import numpy as np

from . import fidelity
from .text import markdown
from .verdict import number

SEEN = ("ga", "wga", "tnpo", "npo-1", "po", "rmu-second", "kl")
HEAD = """First seed, at the measured step with the largest |e_r|. Tokens: correlation over the tokens of what each does to both risks; the
least share of e_r with which half of e_u is to be had by choosing tokens (50 %: there is no choice); the share of e_r that tokens with p < 0.01
carry; that of the largest tenth. Pairs of rows: shares of what is paid by the tenth of the kept rows that pays most, and caused by the tenth of
the forgotten that costs most; rank correlation of what a pair pays with the common words of both questions. Curvature: change of the
retain risk by the next update."""
SCORES = """First seed, the objectives in the order of the retain risk's change as AdamW's own steps predict it; nats a token. Quality: the
p-value of TOFU's forget quality, against a model that never saw the forget rows; utility, probability and ROUGE-L are TOFU's; strength:
extraction strength. First line: before."""


def percent(x):
    return "-" if np.isnan(x) else f"{100 * x:.0f} %"


def plain(x):
    return "-" if np.isnan(x) else number(x)


def seen(setting):
    """[(run with effects alone, name, the same training seen)] of the first seed that has such."""
    return [(effects[name], name, of[name]) for effects, of in setting.beside("seen")[:1] for name in SEEN if {name} <= of.runs.keys() & effects.runs.keys()]


def caught(setting):
    """Of these, those whose peak does not lie between two of their steps: all this is measured less often than the effects."""
    return [of for of in seen(setting) if abs(of[2].e_r).max() >= abs(of[0].e_r).max() / 2]


def largest(run):
    return int(np.argmax(abs(run.e_r)))


# --------------------------------------------------------------------------------------------------------------- the page
MOMENTS = ("at the start", "next to the end of the warm-up", "where |e_r| is largest")
WEIGHTED = ("wga", "tnpo")  # objectives that weigh tokens


def moments(run, warmup):
    """Indices of measured steps: the first, that next to the end of the warm-up, that of the largest |e_r|."""
    return 0, 1 + int(np.argmin(abs(run.steps[1:] - warmup))), largest(run)


CHOICES = {  # of ga: quantity, what is told of it
    "token_same": ("correlation over the tokens of their effects on both risks", plain),
    "pair_net": ("of what the pairs of rows pay and gain, the share that does not cancel", percent),
    "pair_payers": ("share that the tenth of the kept rows pays that pays most", percent),
    "pair_causes": ("share that the tenth of the forgotten rows causes that costs most", percent)}


def bend(run, t):
    """Second order of the change of the retain risk by an update, as a share of the first."""
    return run["second_r"][t] / run["first_r"][t] if t < len(run["first_r"]) and run["first_r"][t] else np.nan


def at_peaks(runs):
    """Of what weighs tokens itself: what there is left to choose among where its |e_r| is largest."""
    at = [(run["token_same"][largest(run)], run["token_cheap"][largest(run)]) for run in (runs.get(name) for name in WEIGHTED) if run]
    return "; ".join(f"{plain(same)}, {percent(cheap)}" for same, cheap in at)


def left(settings):
    """The same of all settings in words."""
    told = []
    for s in settings:
        runs = {name: run for _, name, run in caught(s)}
        if all(name in runs for name in WEIGHTED):
            told.append(f"{' and '.join(percent(runs[name]['token_cheap'][largest(runs[name])]) for name in WEIGHTED)} on {s.name}")
    return ("where their effects are largest, half of the forgetting that GA would have there costs, by the cheapest tokens, at least "
            f"{', '.join(told)} of all that it costs (50 %: no choice)") if told else "not measured"


def choice(settings):
    """Of ga, as the training goes on: what weights of tokens or of rows could choose among."""
    found = [(s.name, run, moments(run, effects.warmup), {name: run for _, name, run in caught(s)})
             for s in settings for effects, name, run in seen(s) if name == "ga"]
    if not found:
        return "Not measured."
    told = lambda say: ["; ".join(say(run, t) for t in at) for _, run, at, _ in found]
    rows = [[words, *told(lambda run, t: show(run[quantity][t]))] for quantity, (words, show) in CHOICES.items()]
    rows += [["change of the retain risk by the next update: second order over first", *told(lambda run, t: percent(bend(run, t)))],
             ["WGA; TNPO, where |e_r| is largest: that correlation of tokens, and the least share of e_r with which half of e_u is to be had",
              *[at_peaks(runs) for *_, runs in found]]]
    updates = told(lambda run, t: number(run.steps[t]))
    return markdown(["GA, first seed: " + "; ".join(MOMENTS), *[f"{name} (updates {u})" for (name, *_), u in zip(found, updates)]], rows)


# ----------------------------------------------------------------------------------------------------------- the appendix
def line(run, name, t):
    u = min(t, len(run["first_r"]) - 1)
    shares = ("token_cheap", "token_unlikely_r", "token_tenth_r", "pair_payers", "pair_causes")
    return [name, number(run.steps[t]), plain(run["token_same"][t]), *[percent(run[q][t]) for q in shares], plain(run["pair_alike"][t]),
            " / ".join(number(run[f"{q}_r"][u]) for q in ("first", "second", "actual"))]


def beyond(settings):
    """Of tokens, pairs and curvature: what the trainings have at the measured step with the largest |e_r|."""
    rows = [line(run, f"{s.name}: {name}", largest(run)) for s in settings for _, name, run in caught(s)]
    head = ["", "step", "tokens: correlation of both effects", "cheapest half costs", "unlikely tokens' share", "largest tenth of tokens",
            "tenth of rows that pays most", "tenth of rows that costs most", "pairs: with alike questions",
            "one update: first / second order / measured"]
    return markdown(head, rows) if rows else "Not measured."


SCORED = {"quality": "forget quality", "utility": "model utility", "probability_u": "probability of the forgotten", "rouge_u": "ROUGE-L of the forgotten",
          "probability_r": "probability of what stays", "rouge_r": "ROUGE-L of what stays"}


def scores(settings):
    """TOFU's scores at the end of every objective that has them, beside what the effects said of the retain risk."""
    rows = []
    for s in settings:
        for trained, scored in s.beside("scores")[:1]:
            sums = fidelity.predictors(trained)
            names = sorted(set(sums) & set(scored.runs), key=lambda name: (sums[name][1], name))
            told = lambda name, end: [number(scored[name][q][end]) for q in SCORED] + [
                number(trained[name][f"strength_{of}"][end]) for of in "ur"]
            rows += [[f"{s.name}: before", "", "", "", *told(name, 0)] for name in names[:1]]
            for name in names:
                risk = trained[name]["risk_r"]
                rows.append([f"{s.name}: {name}", *map(number, (*sums[name][:2], risk[-1] - risk[0])), *told(name, -1)])
    head = ["", "sum of -lr e_r", "predicted change", "change", *SCORED.values(), "strength of the forgotten", "of what stays"]
    return markdown(head, rows) if rows else "Not measured."
