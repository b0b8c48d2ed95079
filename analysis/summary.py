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
    print("".join(f"{h:>12}" for h in ["step", "risk", "total", *names]))
    for t in range(0, len(steps), every):
        numbers = [risk_value[t], effect.total[t], *(effect.group[g][t] for g in names)]
        print(f"{steps[t]:12d}" + "".join(f"{x:12.4g}" for x in numbers))


def as_json(run):
    return {"file": run.path, "title": run.title, "step": [int(s) for s in run.steps],
            "risk_value": {r: plain(v) for r, v in run.risk_value.items()},
            "effects": [{"source": e.source, "kind": e.kind, "risk": e.risk, "total": plain(e.total),
                         "groups": {g: plain(v) for g, v in e.group.items()}} for e in run.effects]}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("file", help="geffect.h5 of a run")
    arguments.add_argument("--json", action="store_true", help="the same as JSON, for programs")
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
    print(f"{chosen.file}: {len(run.steps)} measured steps")
    print("groups: " + "; ".join(f"{g}: {MEANING[g]}" for g in run.effects[0].group))
    for effect in run.effects:
        print_table(effect, run.steps, run.risk_value[effect.risk], max(1, chosen.every))


if __name__ == "__main__":
    main()
