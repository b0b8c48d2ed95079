"""A table of several runs side by side: risks, effects, and the scores of evaluations; or of the evaluated steps of one run."""
import csv
import json
import math
import sys

import numpy as np

from .effects import UNIT, Measured
from .run import open_runs

SCORES = ["loss", "probability", "truth_ratio", "exact_memorization", "extraction_strength", "rougeL_recall", "kl", "correct",
          "probability_of_right"]


def evaluated(run):
    """[(step, {number: value})], one for each step that was evaluated."""
    if run.evaluation is None:
        return []
    data, out = run.evaluation, []
    metrics = [m for m in SCORES if m in data.metric.values]
    for t, step in enumerate(data.step.values):
        at = data.isel(step=t)
        values = {str(n): float(v) for n, v in zip(at.number.values, at.summary.values)}
        for s in at.set.values:
            values[f"{s}: risk"] = float(at.risk.sel(set=s))
            values |= {f"{s}: {m}": float(at["mean"].sel(set=s, metric=m)) for m in metrics}
        out.append((int(step), {k: v for k, v in values.items() if math.isfinite(v)}))
    return out


def measured(run):
    """{number: value}: risks at both ends, and the effects of what was trained where they are largest."""
    if run.geffect is None or not run.geffect.sizes["step"]:
        return {}
    m = Measured(run)
    values = {"measured up to step": float(m.steps[-1])}
    if m.end < len(m.steps) - 1:
        values["stepped back to step"] = float(m.steps[m.end])
    of = " (sums over sequences)" if m.unit == UNIT["sequence_sum"] else ""  # rows of their own beside runs with means
    for name, risk in m.risk_value.items():
        values |= {f"risk {name}{of}, first": float(risk[0]), f"risk {name}{of}, last": float(risk[m.end])}
    for row in m.sources():
        if row[0].kind == "regularizer" or row[0].source == m.objectives[0]:
            what = "objective" if row[0].source == m.trained else row[0].source + " (not trained)" * (row[0].kind == "objective")
            values |= {f"strongest effect of {what} on {e.risk}{of}": float(e.total[np.nanargmax(np.abs(e.total))])
                       for e in row if np.isfinite(e.total).any()}
    return values


def split(runs):
    """Those with a complete row of geffect.h5 or evaluation.h5; the others, but where one of the former has their name."""
    those = [r for r in runs if any(d is not None and d.sizes["step"] for d in (r.geffect, r.evaluation))]
    return those, [r for r in runs if r.name not in {t.name for t in those}]


def table(runs):
    """Of runs with a complete row: [(heading, {number: value})]: a column for each name; of a single run that was evaluated one for each evaluated step."""
    if len(runs) == 1 and len(steps := evaluated(runs[0])) > 1:
        return [(f"{runs[0].name} @{step}", values) for step, values in steps]
    columns = {}
    for run in runs:  # several directories of one name make one column
        last = evaluated(run)[-1:]
        columns.setdefault(run.name, {}).update(measured(run) | (last[0][1] if last else {}))
    return list(columns.items())


def grid(columns):
    """Rows of text, the first one the headings."""
    rows = list(dict.fromkeys(k for _, values in columns for k in values))
    text = lambda values, row: f"{values[row]:.4g}" if row in values else "-"
    return [["", *(heading for heading, _ in columns)], *([row, *(text(v, row) for _, v in columns)] for row in rows)]


def print_text(rows):
    first, rest = max(len(r[0]) for r in rows), max(13, *(len(h) for h in rows[0])) + 1
    for row in rows:
        print(f"{row[0]:{first}}" + "".join(f"{x:>{rest}}" for x in row[1:]))


def print_markdown(rows):
    line = lambda row: "| " + " | ".join(x.replace("|", r"\|") for x in row) + " |"
    print(line(rows[0]) + "\n|---" + "|---:" * (len(rows[0]) - 1) + "|")
    for row in rows[1:]:
        print(line(row))


def cell(name):
    """A name in a table that a spreadsheet must not take for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name


def add_arguments(parser):
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help="output directory of a run, or a file in it; the same name twice: one column")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="with commas, all digits")
    form.add_argument("--markdown", action="store_true", help="for a document")
    form.add_argument("--json", action="store_true", help="for programs, all digits")


def run(chosen):
    runs, others = split(open_runs(chosen.runs))
    if not runs:
        raise ValueError(f"{', '.join(str(r.directory) for r in others)}: neither geffect.h5 nor evaluation.h5 holds a complete step")
    for r in others:
        print(f"unlearn-report compare: {r.name}: left out: no complete row of geffect.h5 or evaluation.h5", file=sys.stderr)
    columns = table(runs)
    if chosen.json:
        json.dump(dict(columns), sys.stdout, indent=1)
        print()
    elif chosen.csv:
        names = grid(columns)
        csv.writer(sys.stdout).writerows([map(cell, names[0]), *([cell(r[0]), *(v.get(r[0], "") for _, v in columns)] for r in names[1:])])
    else:
        (print_markdown if chosen.markdown else print_text)(grid(columns))
