"""The report: one HTML page of one or several runs, pictures and style in it, without scripts."""
import base64
import re
import time
from html import escape
from pathlib import Path

import numpy as np

from . import answers, compare, figures, over_rows, over_steps
from .effects import MEANING, UNIT
from .look import alone, legend_entry, png, strictly

MOST = 1_000_000  # bytes of a page; what would pass that is named, not shown
STYLE = (Path(__file__).parent / "page.css").read_text()
ROOM = 60_000  # of these for the frame of it all and for names of what is left out
NAMES = 12  # of runs in a row
PLACES = 3  # digits


# ------------------------------------------------------------------------------------------------------------- pieces
def image(figure, text, kind="panel"):
    """An <img> with the picture in it."""
    data = base64.b64encode(png(figure, 140)).decode()
    width, height = 96 * figure.get_size_inches()
    return (f'<img class="{kind}" alt="{escape(text, True)}" width="{width:.0f}" height="{height:.0f}" '
            f'src="data:image/png;base64,{data}">')


def section(picture):
    """A picture as HTML: title, how to read it, legend, panels in as many columns as it has, on a phone in one."""
    parts = [f'<section class="picture"><h3>{escape(picture.title)}</h3><p class="how">{escape(picture.caption)}</p>']
    if picture.legend:
        entries = "".join(image(legend_entry(handle, label), label, "entry") for handle, label in picture.legend)
        parts.append(f'<div class="legend">{entries}</div>')
    parts.append(f'<div class="panels" style="--n:{min(picture.columns, len(picture.panels))}">')
    for panel in picture.panels:
        figure = alone(panel)
        parts.append(image(figure, figure.axes[0].get_title(loc="left").replace(r"\$", "$") or picture.title))
    return "".join(parts) + "</div></section>"


def html_table(rows, numbers=True):
    """rows of text, the first one the headings."""
    head = "".join(f"<th>{escape(x)}</th>" for x in rows[0])
    body = "".join("<tr>" + "".join(f"<{'th' if i == 0 else 'td'}>{escape(x)}</{'th' if i == 0 else 'td'}>" for i, x in enumerate(row)) +
                   "</tr>" for row in rows[1:])
    return f'<div class="wide"><table class="{"numbers" if numbers else "words"}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def say(x):
    return f"{x:.{PLACES}g}"


# ------------------------------------------------------------------------------------------------------------ the story
def in_short(m):
    """Sentences: what became of each risk, where effects are, what they cost."""
    out, run = [], m.run
    where = f"between step {m.steps[0]} and step {m.steps[m.end]}" if len(m.steps) > 1 else f"at step {m.steps[0]}"
    for name, risk in m.risk_value.items():
        purpose = {"forget": ", what must be <b>forgotten</b>", "retain": ", what must be <b>kept</b>"}.get(run.meant(name), "")
        first, last = risk[0], risk[m.end]
        change = f"goes from {say(first)} to <b>{say(last)} {m.unit}</b>" if len(m.steps) > 1 else f"is <b>{say(last)} {m.unit}</b>"
        known = m.unit == UNIT["token_mean"] and np.isfinite(last + first)
        likely = f": a token has a likelihood of {100 * np.exp(-last):.2g} %" + \
            (f", at first {100 * np.exp(-first):.2g} %" if len(m.steps) > 1 else "") if known else ""
        out.append(f"The risk “{escape(name)}”{purpose} {change} {where}{likely}.")
    for e in m.sources()[0]:
        size = np.where(np.isfinite(e.total), np.abs(e.total), -1)
        at = int(np.argmax(size))
        if size[at] <= 0:
            continue
        parts = {g: v[at] for g, v in e.group.items()}
        most = max(parts, key=lambda g: abs(parts[g]))
        does = "raises" if e.total[at] < 0 else "lowers"
        out.append(f"The effect of {escape(e.source)} on “{escape(e.risk)}” is strongest at step {m.steps[at]}: {say(e.total[at])} nat² "
                   f"(a step {does} this risk), most of it in the {MEANING[most]} ({say(parts[most])}).")
    return "".join(f"<li>{x}</li>" for x in out)


def absent(m):
    """What this run could have measured and did not: the key that asks for it."""
    updates = m.run.task != "geffect"
    lacks = [(m.run.tokens is None and not m.run.unread("tokens.h5"), "geffect.tokens=true", "effects of single words"),
             ("pair_effect" not in m.data, "geffect.pairs=true", "which rows pay for which"),
             (updates and not m.changes, "geffect.fidelity=true", "predicted against measured changes"),
             (updates and "second_order" not in m.data, "geffect.curvature=true", "how far a straight line goes"),
             (len(m.objectives) == 1, 'geffect.objectives="[npo, ga, wga]"', "other objectives on the same weights")]
    words = [f"<li><code>{escape(key)}</code> {text}</li>" for lack, key, text in lacks if lack]
    return f'<p>Not asked for in this run:</p><ul class="facts">{"".join(words)}</ul>' if words else ""


def facts(run):
    """Where the numbers come from."""
    a, rows = run.data.attrs, []
    last = int(run.data.step.values[-1]) if "step" in run.data.sizes and run.data.sizes["step"] else 0
    for name, value in (("trained", run.recipe()), ("model", a.get("model", "")), ("state", f"{run.state}; step {last}"),
                        ("started", a.get("history", "")), ("program", f"unlearn {a.get('version', '')} ({a.get('git_commit', '')}), {a.get('precision', '')}"),
                        ("layout", a.get("layout", "")), ("risks are", f"{a.get('normalisation', '')}; gradients: {a.get('estimator', '')}" if run.geffect is not None else ""),
                        ("files", str(run.directory))):
        if str(value).strip():
            rows.append(f"<dt>{name}</dt><dd>{escape(str(value))}</dd>")
    return f'<dl>{"".join(rows)}</dl>'


def input_file(run):
    return f'<details><summary>the input file</summary><pre>{escape(str(run.data.attrs.get("input", "")))}</pre></details>'


def ranking(m):
    """The questions of the rows that do most, as a table."""
    _, u, r, rows = over_rows.ranking(m)
    text = [[str(row), m.run.question("forget", row), say(e_u), *([say(e_r)] if r != u else [])] for row, e_u, e_r in rows[:over_rows.ROWS]]
    table = html_table([["row", "question", f"on “{u}”", *([f"on “{r}”"] if r != u else [])], *text], numbers=False)
    return f"<details><summary>the same as a table</summary>{table}</details>"


def asked(runs):
    """The answers of runs of `task: generate`, side by side, as many as a quarter of the page holds."""
    rows, size, questions = [], 0, answers.side_by_side(runs)
    for question, given in questions:
        row = (f'<div class="answer"><p class="question">{escape(question)}</p><dl>' +
               "".join(f"<dt>{escape(n)}</dt><dd>{escape(a)}</dd>" for n, a in given) + "</dl></div>")
        size += len(row.encode())
        if size > MOST / 4:
            rows.append(f"<p>{len(rows)} of {len(questions)} questions are shown; <code>unlearn-report answers</code> has all.</p>")
            break
        rows.append(row)
    return f'<section><h2>What it answers</h2>{"".join(rows)}</section>'


RISK = {"token_mean": "the mean of -log p over their tokens. 0: known by heart; ln of the vocabulary, about 7 to 12: not known at all.",
        "sequence_sum": "the mean of sums, each of -log p over the tokens of an answer. 0: known by heart; about 7 to 12 for each token, ln of the "
                        "vocabulary: not known at all."}
HOW = """<section class="read"><h2>How to read this</h2><p>The <b>risk</b> of a set of answers is how surprised the model is by them, {risk}</p><p>The
<b>G-effect</b> e = ⟨∇R, ∇L⟩ of an objective L on a risk R says what a small step on L does to that risk: it changes it by -lr·e.
<b>Below zero the step raises the risk</b> (the model forgets), above zero it lowers it (the model learns). Unlearning wants e &lt; 0 on what must
be forgotten and e ≥ 0 on what must stay; this half is grey in the pictures. Its unit is nat². Sizes of different objectives cannot be compared, signs
and shares of layers can. A row of numbers at step t describes the weights after t updates, before the next.</p></section>"""


def how(measured):
    """HOW, with what a risk is in the units of these runs."""
    units = {m.unit for m in measured}
    return HOW.format(risk=" Or ".join(f"in <b>{UNIT[n]}</b>: {text}" for n, text in RISK.items() if UNIT[n] in units))


# ------------------------------------------------------------------------------------------------------------- the page
class Page:
    """Places in the order of reading, filled in the order of importance up to MOST bytes; what finds no room
    is named: {what: [whose]}."""

    def __init__(self):
        self.places, self.left_out, self.size = [], {}, len(STYLE.encode()) + ROOM

    def place(self):
        self.places.append("")
        return len(self.places) - 1

    def put(self, place, html, what, whose="", most=0.5):
        """-> whether there was room. Words and tables have half of the page: a page of many runs has pictures, too."""
        size = len(html.encode())
        if self.size + size > most * MOST:
            self.left_out.setdefault(what, []).append(whose)
            return False
        self.places[place] += html
        self.size += size
        return True

    def draw(self, place, picture, whose="", behind=""):
        """With what belongs behind it. Where one of a run found no room, those of later runs, which are as
        large, are not drawn in vain."""
        title = re.sub(r", at step \d+$", "", picture.title.removeprefix(f"{whose}: "))
        what = f"<code>{escape(picture.name)}</code> {escape(title)}"
        if what in self.left_out:
            self.left_out[what].append(whose)
        else:
            self.put(place, section(picture) + behind, what, whose, 1)

    def named(self):
        """What was left out, as much as half of ROOM holds."""
        lines = [f"<li>{what}{': ' * any(whose)}{escape(several(whose))}</li>" for what, whose in self.left_out.items()]
        while len("".join(lines).encode()) > ROOM / 2:
            lines = [*lines[:-2], "<li>and more</li>"]
        return (f"<section><h2>Left out</h2><p>To keep this page small. <code>unlearn-report figures</code> draws the pictures, <code>compare</code> "
                f"writes the table, of any number of runs:</p><ul class='facts'>{''.join(lines)}</ul></section>") if lines else ""


def several(names):
    """The first of them, and how many there are beyond."""
    return ", ".join(names[:NAMES]) + (f" and {len(names) - NAMES} more" if len(names) > NAMES else "")


class Part:
    """Of one run, m where it measured effects: its words, pictures, and places for its heading, pictures, origin and input file."""

    def __init__(self, page, run, words, pictures, m=None):
        self.run, self.words, self.pictures, self.m = run, words, pictures, m
        self.head, self.shown, self.origin, self.input = (page.place() for _ in range(4))


def parts_of(page, measured, rest, others):
    """Of runs with effects; then of the rest with their training, which say whether they, as others, are not compared for want of
    scores."""
    parts = [Part(page, m.run, f"<ul>{in_short(m)}</ul>", figures.of_one(m, every_source=False), m) for m in measured]
    for r in rest:
        picture = over_steps.training(r)
        words = "<p>No complete row of <code>geffect.h5</code> or <code>evaluation.h5</code>: it is not compared.</p>" if r in others else ""
        if picture or words:
            parts.append(Part(page, r, words, [picture] if picture else []))
    return parts


def heading(run):
    recipe = run.recipe()
    return escape(run.name if recipe in ("", run.name) else f"{run.name}: {recipe}")


def add_words(page, parts):
    """What became of every run, then where the numbers of each come from, then the input files. -> the parts that have a heading."""
    shown = [p for p in parts if page.put(p.head, f"<section><h2>{heading(p.run)}</h2>{p.words}</section>", "these runs", p.run.name)]
    known = [p for p in shown if p.run.data is not None]
    for p in known:
        page.put(p.origin, f"<section><h2>Where this comes from</h2>{facts(p.run)}{absent(p.m) if p.m else ''}</section>",
                 "where the numbers come from", p.run.name)
    for p in known:
        page.put(p.input, input_file(p.run), "the input file", p.run.name)
    return shown


def add_pictures(page, parts):
    """The most important of every run first."""
    for nth in range(max((len(p.pictures) for p in parts), default=0)):
        for p in parts:
            if nth < len(p.pictures):
                picture = p.pictures[nth]
                page.draw(p.shown, picture, p.run.name, ranking(p.m) if picture.name == "instances" else "")


def body(runs):
    page, measured = Page(), figures.measured_runs(runs)
    talking = [r for r in runs if r.answers() is not None]
    numbers = [r for r in runs if r not in talking]
    compared, others = compare.split(numbers)
    if not compared and not talking and all(over_steps.training(r) is None for r in numbers):
        raise ValueError(f"{', '.join(str(r.directory) for r in runs)}: nothing to report: no complete row of geffect.h5 or evaluation.h5, no two of "
                         "train.h5, no answers")
    top, said, together = (page.place() for _ in range(3))
    parts = parts_of(page, measured, [r for r in numbers if all(r is not m.run for m in measured)], others)
    if len(measured) == 1:
        parts[0].head = top  # before how to read it, and its pictures behind
    if talking:
        page.put(said, asked(talking), "the answers")
    if measured:
        page.put(said, how(measured), "how to read this")
    if any(r.evaluation is not None for r in compared) or len(measured) > 1:
        page.put(said, f"<section><h2>Numbers</h2>{html_table(compare.grid(compare.table(compared)))}</section>", "the table of numbers")
    shown = add_words(page, parts)
    for picture in figures.of_several(measured):
        page.draw(together, picture)
    add_pictures(page, shown)
    return "".join(page.places) + page.named()


def html(runs, refresh=0):
    named = [r for r in runs if r.answers() is None] or runs  # what answers is known by its answers
    what = "training" if all(r.task == "finetune" for r in named) else "unlearning"
    title = f"What {what} did: " + several(list(dict.fromkeys(r.name for r in named)))
    again = f'<meta http-equiv="refresh" content="{refresh:.0f}">' if refresh else ""
    made = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">{again}'
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
            f'<p class="made">Made by unlearn-report, {made} UTC{"; this page renews itself while the run goes on" if refresh else ""}.</p>'
            f"{body(runs)}</main></body></html>\n")


def add_arguments(parser):
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help="output directory of a run: training, geffect, evaluate, generate")
    parser.add_argument("-o", "--output", default="report.html", metavar="FILE", help="the page (report.html)")


def draw_chosen(runs, chosen):
    going = chosen.follow and not all(r.finished for r in runs)
    with strictly():
        text = html(runs, max(5, chosen.every) if going else 0)
    path = Path(chosen.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")  # a browser never sees half of it
    new.write_text(text)
    new.replace(path)
    return [path]
