"""What a run did to each risk, step by step and by depth, from its geffect.h5.

One table per objective (and regulariser) and risk: the total G-effect and its share in each group of layers. Negative: a
step on this objective raises that risk, which is wanted for what is to be forgotten; positive: it lowers the risk.
"""
import json
import sys

from .effects import MEANING, Measured, plain
from .run import open_runs


def print_table(effect, steps, risk_value, every):
    names = list(effect.group)
    print(f"\n{effect.source} ({effect.kind}) on the risk {effect.risk}")
    error = [] if effect.standard_error is None else ["+-"]
    print("".join(f"{h:>12}" for h in ["step", "risk", "total", *error, *names]))
    for t in range(0, len(steps), every):
        error = [] if effect.standard_error is None else [effect.standard_error[t]]
        numbers = [risk_value[t], effect.total[t], *error, *(effect.group[g][t] for g in names)]
        print(f"{steps[t]:12d}" + "".join(f"{x:12.4g}" for x in numbers))


def print_change(change, steps, every):
    print(f"\nchange of the risk {change.risk} by the next update")
    print("".join(f"{h:>14}" for h in ["step", "actual", "predicted", "plain SGD's"]))
    for t in range(0, len(steps), every):
        if change.actual[t] == change.actual[t]:
            print(f"{steps[t]:14d}" + "".join(f"{x:14.4g}" for x in (change.actual[t], change.aware[t], change.plain[t])))
    print(f"R^2 of the prediction {change.r_squared(change.aware):.4f}, of plain SGD's {change.r_squared(change.plain):.4f}")


def print_brief(run):
    """What a reader wants first: each risk before and after, the strongest moment of each effect."""
    for name, value in run.risk_value.items():
        print(f"risk {name}: {value[0]:.4g} at step {run.steps[0]}, {value[run.end]:.4g} at step {run.steps[run.end]} ({run.unit})")
    for e in run.effects:
        peak = max(range(len(run.steps)), key=lambda t: abs(e.total[t]) if e.total[t] == e.total[t] else 0)
        parts = ", ".join(f"{g} {v[peak]:.3g}" for g, v in e.group.items())
        print(f"effect of {e.source} on {e.risk}: strongest at step {run.steps[peak]}: {e.total[peak]:.4g} = {parts}")


def as_json(run):
    return {"file": str(run.path), "title": run.title, "step": [int(s) for s in run.steps],
            "risk_value": {r: plain(v) for r, v in run.risk_value.items()},
            "changes": [{"risk": c.risk, "actual": plain(c.actual), "predicted": plain(c.aware), "plain": plain(c.plain)}
                        for c in run.changes],
            "effects": [{"source": e.source, "kind": e.kind, "risk": e.risk, "total": plain(e.total),
                         "standard_error": None if e.standard_error is None else plain(e.standard_error),
                         "groups": {g: plain(v) for g, v in e.group.items()}} for e in run.effects]}


def add_arguments(parser):
    parser.add_argument("run", metavar="[NAME=]RUN", help="output directory of a run, or its geffect.h5")
    parser.add_argument("--json", action="store_true", help="the same as JSON, for programs")
    parser.add_argument("--brief", action="store_true", help="a few lines: risks before and after, strongest effects")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="print every N-th measured step only")


def run(chosen):
    measured = Measured(open_runs([chosen.run])[0])
    if chosen.json:
        json.dump(as_json(measured), sys.stdout, indent=1)
        print()
    elif chosen.brief:
        print_brief(measured)
    else:
        print(f"{chosen.run}: {len(measured.steps)} measured steps")
        print("groups: " + "; ".join(f"{g}: {MEANING[g]}" for g in measured.effects[0].group))
        for effect in measured.effects:
            print_table(effect, measured.steps, measured.risk_value[effect.risk], max(1, chosen.every))
        for change in measured.changes:
            print_change(change, measured.steps, max(1, chosen.every))
