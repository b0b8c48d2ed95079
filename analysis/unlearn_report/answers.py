"""What several models answer to the same questions, from the directories of `task: generate`."""
from .run import open_runs


def questions(prompts):
    """What distinguishes the prompts: without the lines with which all begin and all end, as a template's are."""
    lines = [p.replace("<|", "\n<|").split("\n") for p in prompts]
    first, last, shortest = 0, 0, min(map(len, lines), default=0)
    while first < shortest and len({x[first] for x in lines}) == 1 < len(lines):
        first += 1
    while first + last < shortest and len({x[-last - 1] for x in lines}) == 1 < len(lines):
        last += 1
    return [" ".join(x[first:len(x) - last]).strip() or " ".join(x).strip() for x in lines]  # whole where nothing distinguishes it


def side_by_side(runs):
    """[(question, [(name, answer)])] of runs of `task: generate` that were asked the same."""
    given = [(r.name, r.answers()) for r in runs]
    if len({tuple(p for p, _ in answers) for _, answers in given}) != 1:
        raise ValueError(f"{', '.join(name for name, _ in given)}: were not asked the same questions")
    asked = questions([p for p, _ in given[0][1]])
    return [(q, [(name, answers[i][1]) for name, answers in given]) for i, q in enumerate(asked)]


def add_arguments(parser):
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help="output directory of a run of `task: generate`")


def run(chosen):
    runs = open_runs(chosen.runs)
    for r in runs:
        if r.answers() is None:
            raise ValueError(f"{r.directory}: has no generations.jsonl: give the directory of a run of `task: generate`")
    width = max(len(r.name) for r in runs)
    for question, answers in side_by_side(runs):
        print(question)
        for name, answer in answers:
            print(f"  {name:{width}}  {answer}")
