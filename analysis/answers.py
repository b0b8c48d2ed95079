#!/usr/bin/env python3
"""What several models answer to the same questions: answers.py NAME=DIRECTORY ..., directories of `task: generate`."""
import argparse
import json
import sys
from pathlib import Path


def read(directory):
    """Pairs of prompt and answer; an answer that was cut ends in dots."""
    path = Path(directory) / "generations.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [(r["prompt"], r["text"].strip() + ("" if r["stop"] == "eos" else " ...")) for r in rows]
    except OSError as e:
        sys.exit(f"answers.py: error: {path}: {e.strerror}")
    except (ValueError, KeyError) as e:
        sys.exit(f"answers.py: error: {path}: is not what `task: generate` writes: {e}")


def questions(prompts):
    """What distinguishes the prompts: without the lines with which all begin and all end, as a template's are."""
    lines = [p.replace("<|", "\n<|").split("\n") for p in prompts]
    first = last = 0
    while len({tuple(x[:first + 1]) for x in lines}) == 1 < len(lines):
        first += 1
    while len({tuple(x[-last - 1:]) for x in lines}) == 1 < len(lines):
        last += 1
    return [" ".join(x[first:len(x) - last]).strip() for x in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="NAME=DIRECTORY")
    runs = [(r.partition("=")[0], read(r.partition("=")[2] or r)) for r in parser.parse_args().runs]
    if len({tuple(p for p, _ in answers) for _, answers in runs}) != 1:
        sys.exit("answers.py: error: the runs were not asked the same questions")
    width = max(len(name) for name, _ in runs)
    for i, question in enumerate(questions([p for p, _ in runs[0][1]])):
        print(question)
        for name, answers in runs:
            print(f"  {name:{width}}  {answers[i][1]}")


if __name__ == "__main__":
    main()
