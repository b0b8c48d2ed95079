#!/usr/bin/env python3
"""What a run did to each risk, step by step and by depth, from its geffect.h5.

One table per objective (and regulariser) and risk: the total G-effect and its share in each group of layers. Negative: a
step on this objective raises that risk, which is wanted for what is to be forgotten; positive: it lowers the risk.
"""
import argparse
import json
import signal
import sys

from effects import MEANING, Run, plain


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
        print(f"risk {name}: {value[0]:.4g} at step {run.steps[0]}, {value[-1]:.4g} at step {run.steps[-1]} (nats per answer token)")
    for e in run.effects:
        peak = max(range(len(run.steps)), key=lambda t: abs(e.total[t]) if e.total[t] == e.total[t] else 0)
        parts = ", ".join(f"{g} {v[peak]:.3g}" for g, v in e.group.items())
        print(f"effect of {e.source} on {e.risk}: strongest at step {run.steps[peak]}: {e.total[peak]:.4g} = {parts}")


def as_json(run):
    return {"file": run.path, "title": run.title, "step": [int(s) for s in run.steps],
            "risk_value": {r: plain(v) for r, v in run.risk_value.items()},
            "changes": [{"risk": c.risk, "actual": plain(c.actual), "predicted": plain(c.aware), "plain": plain(c.plain)}
                        for c in run.changes],
            "effects": [{"source": e.source, "kind": e.kind, "risk": e.risk, "total": plain(e.total),
                         "standard_error": None if e.standard_error is None else plain(e.standard_error),
                         "groups": {g: plain(v) for g, v in e.group.items()}} for e in run.effects]}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("file", help="geffect.h5 of a run")
    arguments.add_argument("--json", action="store_true", help="the same as JSON, for programs")
    arguments.add_argument("--brief", action="store_true", help="a few lines: risks before and after, strongest effects")
    arguments.add_argument("--every", type=int, default=1, metavar="N", help="print every N-th measured step only")
    chosen = arguments.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it quietly
    try:
        run = Run(chosen.file)
    except (OSError, KeyError, ValueError) as problem:
        sys.exit(f"summary.py: error: {chosen.file}: {problem}")
    if chosen.json:
        json.dump(as_json(run), sys.stdout, indent=1)
        print()
        return
    if chosen.brief:
        print_brief(run)
        return
    print(f"{chosen.file}: {len(run.steps)} measured steps")
    print("groups: " + "; ".join(f"{g}: {MEANING[g]}" for g in run.effects[0].group))
    for effect in run.effects:
        print_table(effect, run.steps, run.risk_value[effect.risk], max(1, chosen.every))
    for change in run.changes:
        print_change(change, run.steps, max(1, chosen.every))


if __name__ == "__main__":
    main()
