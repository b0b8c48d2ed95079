"""CLAIMS.md and CLAIMS_DETAILS.md, of page.txt and summary files alone."""
from pathlib import Path
from string import Template

import numpy as np

from . import fidelity, grid, unseen
from .claims import titles
from .text import markdown
from .verdict import SEEDS, answers, key, number, spread, told

HERE = Path(__file__).resolve().parent
ORDER = ("smollm2", "stories260K", "demo")
BESIDE = ("smollm2-forget05",)  # with too few seeds and objectives for a column of the page: in the appendix
MARKS = {"holds": "**holds**", "does not hold": "**does not hold**", "not decided": "*not decided*",
         "not measured": "*not measured*"}
FACTS = {  # model; learnt first; to forget; schedule; retain risk; learning rate
    "demo": ("Llama, 4 blocks, width 128, 1.05 M parameters, untied", "20 + 380 rows of `inputs/demo`, 30 epochs", "20 rows",
             "50 updates of 2 rows, w = 10, effects every 2", "100 of 380 rows", "3e-4"),
    "stories260K": ("Llama, 5 blocks, width 64, 260 K parameters, tied embeddings", "100 + 600 rows of TOFU, 30 epochs",
                    "100 rows of forget05", "62 updates of 4 x 2 rows, w = 12, effects every 5",
                    "100 rows of those trained on, after the 400 held out", "1e-3"),
    "smollm2": ("SmolLM2-135M-Instruct: Llama, 30 blocks, width 576, tied embeddings", "40 + 600 rows of TOFU, 6 epochs, in bfloat16", "40 rows of forget01",
                "12 updates of 16 rows, w = 2, effects every 2", "60 rows", "by the rule: 5e-4"),
    "smollm2-forget05": ("that of smollm2", "200 + 600 rows of TOFU, 6 epochs, in bfloat16", "200 rows of forget05",
                         "62 updates of 16 rows, w = 12, effects every 5", "60 rows", "by the rule: 5e-5"),
}


# ------------------------------------------------------------------------------------------------------------- the page
def named(answers):
    return ", ".join(a.claim.__name__.upper() for a in answers) or "none"


def counted(settings):
    """How many claims hold, which in all settings whose seeds are enough to decide, and of which one seed would have said what another
    denies."""
    lines, decided = [], []
    for s in settings:
        of = answers(s)
        asked = [a for a in of if a.parts]
        if len(s.seeds()) < SEEDS:
            so = [a for a in asked if a.held == len(a.parts)]
            lines.append(f"On {s.name}, of which {len(s.seeds())} seed{' decides' if len(s.seeds()) == 1 else 's decide'} nothing, {len(so)} of "
                         f"the {len(asked)} measured are so ({named(so)}).")
            continue
        decided.append((s, of))
        n = {v: [a for a in of if a.verdict == v] for v in MARKS}
        split = [a for a in asked if 0 < a.held < len(a.parts)]
        told = f", the seeds disagree on {named(split)}" if split else ""
        lines.append(f"On {s.name} {len(n['holds'])} hold ({named(n['holds'])}), {len(n['does not hold'])} do not "
                     f"({named(n['does not hold'])}), {len(n['not decided'] + n['not measured'])} are not decided{told}.")
    for word, v in (("hold", "holds"), ("fail", "does not hold")):
        can = [(s, of) for s, of in decided if word == "hold" or s.rates()]  # without other rates none can fail
        names = [of[0] for of in zip(*(of for _, of in can)) if all(a.verdict == v for a in of)]
        if len(can) > 1:
            lines.append(f"On {' and '.join(s.name for s, _ in can)} alike {named(names)} {word}{'s' * (len(names) < 2)}.")
    return " ".join(lines)


def short(answer):
    """A cell of the table: verdict, and the number that shows it."""
    if answer.verdict == "not measured":
        return MARKS[answer.verdict]
    why = f" ({answer.why})" if answer.verdict == "not decided" else ""
    if answer.verdict == "holds" and answer.at(failed=True):
        why = f" (not at {answer.at(failed=True)} the rate)"
    return f"{MARKS[answer.verdict]}{why}: {key(answer)}"


def table(settings):
    found = [answers(s) for s in settings]
    rows = [[f"C{n + 1}", titles(of[0].claim)[0], *map(short, of)] for n, of in enumerate(zip(*found))]
    return markdown(["", "claim", *[s.name for s in settings]], rows)


def ran(settings):
    """What was run, on what, for how long, and what of the whole was not."""
    rows = [["model"], ["learnt first"], ["to forget"], ["schedule (w: warm-up)"], ["retain risk"], ["learning rate"], ["seeds"],
            ["moving averages"], ["other learning rates"], ["runs; their time by their own clocks, on one shared core"]]
    for s in settings:
        runs = [run for seeds in s.groups.values() for seed in seeds for run in seed.runs.values()]
        minutes = sum(run["seconds"][0] for run in runs if "seconds" in run and len(run["seconds"])) / 60
        seeds = lambda estimator: ", ".join(str(x.seed) for x in s.seeds(estimator=estimator)) or "none"
        rates = ", ".join(f"{float(r):g}x ({len(s.seeds(r)[0].runs)} runs)" for r in s.rates())
        rates = f"{rates}: seed {s.seeds(s.rates()[0])[0].seed}" if rates else "none"
        for row, text in zip(rows, (*FACTS.get(s.name, ["not known"] * 6), seeds("full"), seeds("ma"), rates, f"{len(runs)}, {minutes:.0f} min")):
            row.append(text)
    return markdown(["", *[s.name for s in settings]], rows)


def percent(values):
    return f"{spread([100 * v for v in values])} %"


def explained(fits):
    """Of the change between measured steps, by the optimiser's own step: the middle of the objectives, and the lowest."""
    if not fits:
        return "not measured"
    found = {name: 100 * np.mean(f["between"]) for name, f in fits.items()}
    low = min(found, key=found.get)
    return f"{number(np.median(list(found.values())))} %; {low} {number(found[low])} %"


def ends(setting, name):
    """Where the risks of what stays, and of what is forgotten, end."""
    found = [fidelity.fits(setting, of, (name,)) for of in "ru"]
    return "; ".join(spread(f[name]["end"]) for f in found if f)


def by_estimator(setting, name="npo-1"):
    """rho of a run with either estimator, of the trainings that have both."""
    both = [(full[name].rho, ma[name].rho) for full, ma in setting.beside("ma") if {name} <= full.runs.keys() & ma.runs.keys()]
    return "; ".join(map(spread, zip(*both)))


def first_order(settings):
    """Where first order says what the retain risk does."""
    fits, still = [fidelity.fits(s) for s in settings], [fidelity.fits(s, "r", ("npo-still",)) for s in settings]
    stages = [{a: median for a, _, median, *_ in fidelity.stages(s)} for s in settings]
    ranks = [fidelity.correlations(s) for s in settings]
    of = lambda run, name, show=spread: [show(f[run][name]) if run in f else "" for f in fits]
    rank = lambda name: ["{:.2f} ({:.2f} to {:.2f})".format(*r[name]) if r else "" for r in ranks]
    rows = [
        ["variance of its change between measured steps explained by AdamW's own step: median of the objectives; lowest", *map(explained, fits)],
        ["measured over predicted change by one update: first half of the warm-up; from the middle of the third epoch",
         *["; ".join(number(m) if m else "not measured" for m in (s.get(0), s.get(2.5))) for s in stages]],
        ["correlation of the plain -lr e_r with the change: GA", *of("ga", "plain")],
        ["... NPO, beta 1", *of("npo-1", "plain")],
        ["... PO", *of("po", "plain")],
        ["NPO, beta 1: share of its rise that comes after e_r has fallen below a tenth of the peak", *of("npo-1", "late", percent)],
        ["... without AdamW's momentum", *[percent(f["npo-still"]["late"]) if f else "" for f in still]],
        ["NPO, beta 1: where it and the forgotten's risk end, nats a token", *[ends(s, "npo-1") for s in settings]],
        ["... without AdamW's momentum", *[ends(s, "npo-still") for s in settings]],
        ["lost extraction strength of what should stay, rank correlation over the objectives: with the sum of predicted changes", *rank("aware")],
        ["... with the sum of -lr e_r", *rank("plain")],
        ["... with the largest |e_r|", *rank("peak")],
        *lost_utility(settings),
        ["|e_r|/|e_u| at NPO's peak, beta 1: full sets; the paper's moving average, same trainings", *map(by_estimator, settings)]]
    return markdown(["of the retain risk", *[s.name for s in settings]], rows)


def smaller_steps(settings):
    """What the same looks like with more rows and more, smaller updates, of the setting beside the others; nothing without it."""
    s = next((s for s in settings if s.name in BESIDE), None)
    if not s or "npo-1" not in (f := fidelity.fits(s)):
        return ""
    update, between = (min(f[name][k][0] for name in f) for k in ("update", "between"))
    plain = ", ".join(f"{number(f[name]['plain'][0])} ({name})" for name in f)
    return (f"**How large the updates are seems to decide.** On {s.name} - five times the rows and updates, a tenth of the rate; {len(f)} objectives, "
            f"one seed - first order explains {100 * update:.0f} % of what single updates change in the retain risk and {100 * between:.0f} % of what lies "
            f"between the measurements, with each objective; plain effects correlate with that by {plain}; and {percent(f['npo-1']['late'])} of "
            f"the rise with NPO comes after its effect has ended.{ends_of_utility(s)}")


def ends_of_utility(setting):
    """TOFU's model utility of a setting's one seed, before and after its trainings; nothing where it was not measured."""
    for _, scored in setting.beside("scores")[:1]:
        found = {name: run["utility"] for name, run in scored.runs.items() if name in fidelity.PAPER}
        if found:
            before = number(next(iter(found.values()))[0])
            return f" TOFU's model utility, {before} before, ends at {', '.join(f'{number(u[-1])} ({name})' for name, u in found.items())}."
    return ""


def lost_utility(settings):
    """Rank correlations with TOFU's model utility lost."""
    ranks = [fidelity.correlations(s, of=fidelity.published) for s in settings]
    rank = lambda name: ["{:.2f} ({:.2f} to {:.2f})".format(*r[name]) if r else "" for r in ranks]
    return [["lost model utility of TOFU, rank correlation over the objectives, first seed: with the sum of predicted changes", *rank("aware")],
            ["... with the sum of -lr e_r", *rank("plain")], ["... with the largest |e_r|", *rank("peak")]]


def trade_offs(settings):
    """The best of each objective's grid, and the claims that speak of trade-offs, of all settings whose grid is whole."""
    texts, rows = [], []
    for s in settings:
        try:
            chosen, seeds = grid.best(s), grid.seeds_of_best(s)
            bound = grid.threshold(s)
        except KeyError:
            continue
        texts.append(f"On {s.name} (threshold {number(bound)}): " + "; ".join(
            f"{a.claim.__name__.upper()} {MARKS[a.verdict]}, {a.held} of {len(a.parts)} seeds" for a in grid.answers(s)) + ".")
        for name, (run, rate, reached) in chosen.items():
            ends = [spread([x[name][q][-1] for x in seeds]) if seeds else "" for q in ("loss_r", "probability_u", "strength_r", "strength_u")]
            rows.append([f"{s.name}: {name}", f"{float(rate):g}x, {grid.IN_WORDS.get(run, run)}", "yes" if reached else "no", *ends])
    head = ["", "best", "down to the threshold", "loss on what stays", "probability of the forgotten", "strength of what stays",
            "of the forgotten"]
    return " ".join(texts), markdown(head, rows)


def compared(settings):
    """Those that have a column of the page."""
    return [s for s in settings if s.name not in BESIDE]


def values(settings):
    """The numbers of page.txt."""
    side = compared(settings)
    return {"answer": counted(settings), "table": table(side), "ran": ran(settings), "first_order": first_order(side), "smaller_steps": smaller_steps(settings),
            "trade_offs": trade_offs(side)[0], "choice": unseen.choice(side), "left": unseen.left(side)}


# ---------------------------------------------------------------------------------------------------------- the appendix
def whole(answer):
    """Every part over the seeds; (no: k of n) where it is not so."""
    n, texts = len(answer.parts), []
    for k, nth in enumerate(zip(*answer.parts)):
        broken = answer.broken[k]
        texts.append(told(nth) + (f" (no: {broken} of {n})" if broken else ""))
    return "; ".join(texts)


def long(answer, decides):
    if not answer.parts:
        return f"*not measured*: {answer.missing or 'not run'}"
    rates = "; ".join(f"at {float(r):g}x the rate {'it fails' if failed else 'it holds'}" for r, failed in answer.rates.items())
    head = f"{MARKS[answer.verdict]}, " * decides + f"{answer.held} of {len(answer.parts)} seeds"
    return f"{head}: {whole(answer)}" + (f". {rates[0].upper()}{rates[1:]}" if rates else "")


def details(setting):
    both = zip(answers(setting), answers(setting, "ma"))
    rows = [[full.claim.__name__.upper(), titles(full.claim)[1], long(full, True), long(ma, False)] for full, ma in both]
    return markdown(["", "what is asked", "full sets", "moving average"], rows)


def trust_table(setting):
    head = ["", "R² one update", "factor missing", "R² between", "correlation of -lr e_r", "same sign", "of -lr e_u",
            "after the effect's end"]
    retain, forget = fidelity.fits(setting, which=None), fidelity.fits(setting, "u", None)
    rows = [[name, spread(f["update"]), spread(f["bias"]), spread(f["between"]), spread(f["plain"]), percent(f["sign"]),
             spread(forget[name]["plain"]), percent(f["late"])] for name, f in retain.items()]
    return markdown(head, rows)


AGAIN = """The same from a model that was fine-tuned once more, by the same command on another processor: beside all seeds of the first model."""


def again(setting):
    """Table of what another fine-tuned model makes of runs, or nothing."""
    told = {"retain risk before": lambda run: run["risk_r"][0], "peak of e_u": lambda run: run.e_u[run.peak], "of e_r": lambda run: run.e_r[run.peak], "rho": lambda run: run.rho,
            "retain risk at the end": lambda run: run["risk_r"][-1], "risk of the forgotten": lambda run: run["risk_u"][-1]}
    rows = []
    for seed in setting.seeds(estimator="again"):
        for name, run in seed.runs.items():
            if known := [s.runs[name] for s in setting.seeds() if name in s.runs]:
                rows.append([f"{name}, seed {seed.seed}", *[f"{number(of(run))}; {spread([of(k) for k in known])}" for of in told.values()]])
    return [f"### Another fine-tuned model of {setting.name}", AGAIN, markdown(["again; all seeds", *told], rows)] if rows else []


def appendix(settings):
    parts = [(HERE / "details.txt").read_text()]
    for s in settings:
        parts += [f"## {s.name}", details(s),
                  f"![Effects on {s.name}: the mean of all seeds in the range of all](claims-curves-{s.name}.png)",
                  f"### First order against measurement on {s.name}, retain risk", trust_table(s), *again(s)]
    parts += ["## What the paper could not see", unseen.HEAD, unseen.beyond(settings), "## TOFU's scores beside the effects",
              unseen.SCORES, unseen.scores(settings), "## The best of each objective's grid", *trade_offs(settings)]
    return "\n\n".join(p.strip() for p in parts) + "\n"


def pages(settings):
    """{file: text}"""
    page = Template((HERE / "page.txt").read_text()).substitute(values(settings))
    return {"CLAIMS.md": page, "CLAIMS_DETAILS.md": appendix(settings)}
