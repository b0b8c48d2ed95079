"""`unlearn-report`: one command for all that can be read from a run's files."""
import argparse
import signal
import sys
import time

from . import answers, compare, curvature, figures, page, pairs, summary, tokens
from .run import FILES, open_runs

SUMMARIES = {  # name: (module, what it does in a line)
    "summary": (summary, "tables of total effects per step, objective, risk and group of layers"),
    "compare": (compare, "a table of several runs: risks, effects, scores of evaluations"),
    "answers": (answers, "what several models answer to the same questions (task: generate)"),
    "pairs": (pairs, "which rows pay for which forgotten rows (geffect.pairs)"),
    "tokens": (tokens, "effects of single tokens; other settings of an objective without the model (geffect.tokens)"),
    "curvature": (curvature, "changes of the risks to first and second order (geffect.curvature)"),
}
DRAWN = {
    "figures": (figures, "all pictures that the files have the numbers for"),
    "report": (page, "one page with all of it: HTML, works offline, on a phone and in print"),
}


def stamp(words):
    """What changes when a run has written."""
    runs = open_runs(words)
    for r in runs:
        r.close()
    files = [r.directory / name for r in runs for name in (*(f"{kind}.h5" for kind in FILES), "generations.jsonl")]
    finished = [r.finished for r in runs]
    return all(finished), (finished, [f.stat().st_mtime_ns for f in files if f.exists()])


def draw(module, chosen):
    runs = open_runs(chosen.runs)
    try:
        for path in module.draw_chosen(runs, chosen):
            print(path, flush=True)
    finally:
        for r in runs:
            r.close()


def follow(module, chosen):
    """Draws anew whenever a run has measured, until all are finished."""
    before = None
    while True:
        try:
            finished, now = stamp(chosen.runs)
            if now != before:
                draw(module, chosen)
                before = now
        except (OSError, ValueError) as e:  # nothing is there yet, or it is just being written
            finished = False
            print(f"unlearn-report: waiting: {e}", file=sys.stderr, flush=True)
        if finished:
            return
        time.sleep(chosen.every)


def parser():
    top = argparse.ArgumentParser(prog="unlearn-report", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, text) in (DRAWN | SUMMARIES).items():
        one = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        module.add_arguments(one)
        if name in DRAWN:
            one.add_argument("--follow", action="store_true", help="draw anew whenever a run has measured, until all are finished")
            one.add_argument("--every", type=float, default=10, metavar="S", help="seconds between two looks of --follow (10)")
    return top


def main(words=None):
    chosen = parser().parse_args(words)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it quietly
    try:
        if chosen.command in DRAWN:
            (follow if chosen.follow else draw)(DRAWN[chosen.command][0], chosen)
        else:
            SUMMARIES[chosen.command][0].run(chosen)
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, KeyError, TypeError, ValueError) as e:
        sys.exit(f"unlearn-report {chosen.command}: error: {e.args[0] if isinstance(e, KeyError) else e}")
