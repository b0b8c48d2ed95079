"""end to end: evaluate.variant open_unlearning against what open-unlearning itself wrote for three small models.

    open_unlearning.py [WORD ...]       parts whose name contains one of the words"""
import json
import math
import sys

from harness import SHARED, Checks, precisions, run_input

GOLDEN, TOFU = SHARED / "golden/open_unlearning", SHARED / "data/tofu"
SETS = {"forget": "forget01_perturbed", "holdout": "holdout01", "retain": "retain_perturbed",
        "real_authors": "real_authors_perturbed", "world_facts": "world_facts_perturbed"}
PLAIN = {"question_start": "Question: ", "question_end": "\nAnswer: ", "answer_start": ""}
CHAT = {"question_start": "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
                          "Today Date: 10 Apr 2025\n\nYou are a helpful assistant.<|eot_id|>"
                          "<|start_header_id|>user<|end_header_id|>\n\n",
        "question_end": "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", "answer_start": ""}
MODELS = {"retained": ("retained", "mid", PLAIN, "expected/retained"), "mid": ("mid", "retained", PLAIN, "expected/mid"),
          "chat": ("chat/model", "chat/reference", CHAT, "chat/expected")}
LAYOUTS = {"double": [(1, 1), (2, 2)], "float": [(1, 1), (2, 1)]}  # ranks, tensor
MEAN = 1e-6      # relative: means, areas, summaries
ROW = 1e-5       # their rows are float32, and move by 7e-6 with the size of a batch: nats, and a probability's size
NATS = ("mia_loss", "mia_min_k", "mia_min_k_plus_plus", "mia_reference")
EXACT = 1e-12    # ROUGE and counts; texts are equal
LOGS = str(GOLDEN / "expected/retained/TOFU_EVAL.json")


def settings(name, ranks=1, tensor=1, **evaluate):
    model, reference, template, _ = MODELS[name]
    return {"task": "evaluate", "output": {"directory": "out"}, "model": {"path": str(GOLDEN / model),
                                                                          "reference": str(GOLDEN / reference)},
            "data": {"template": template}, "parallel": {"data": ranks // tensor, "tensor": tensor},
            "evaluate": {"variant": "open_unlearning", "rows": 40, "sets": {k: str(TOFU / f"{f}.json") for k, f in SETS.items()},
                         **({"retain_logs": LOGS} if name == "mid" else {}), **evaluate}}


def leaves(x, path=()):
    if isinstance(x, dict):
        for k, v in x.items():
            yield from leaves(v, (*path, k))
    elif isinstance(x, list):
        for i, v in enumerate(x):
            yield from leaves(v, (*path, i))
    else:
        yield path, x


def found(x, path):
    for k in path:
        x = x[k] if isinstance(x, list) and isinstance(k, int) and k < len(x) else x.get(k) if isinstance(x, dict) else None
    return x


def tolerance(path, want, row=ROW):
    """How far a figure may be from theirs."""
    metric, key = path[0], path[-1]
    if "value_by_index" not in path and path[1] not in ("forget", "holdout"):
        return EXACT if "ROUGE" in metric else MEAN * abs(want)
    if metric == "mia_zlib":
        return 1e-7
    if "ROUGE" in metric or metric in ("exact_memorization", "extraction_strength"):
        return EXACT if metric != "exact_memorization" else 1e-7  # a quotient in float32
    return row if "avg_loss" in path or metric in NATS else row * abs(want)


def compared(checks, what, directory, expected, double):
    """Every figure and text of both files."""
    for file in ("TOFU_SUMMARY.json", "TOFU_EVAL.json"):
        theirs, ours = json.loads((expected / file).read_text()), json.loads((directory / file).read_text())
        bad, n, worst = [], 0, 0.0
        for path, want in leaves(theirs):
            got = found(ours, path)
            n += 1
            if want is None:
                right = got is None
            elif isinstance(want, str) or not isinstance(got, (int, float)):
                right = want == got
            elif isinstance(want, (int, float)):
                allowed = tolerance(path if file != "TOFU_SUMMARY.json" else (path[0], "agg_value"), want,
                                    ROW if double else 2 * ROW)  # in float both sides round
                worst = max(worst, abs(got - want) / allowed if allowed else math.inf * (got != want) if got != want else 0)
                right = abs(got - want) <= allowed
            if not right:
                bad.append(f"{'.'.join(map(str, path))}: {got!r}, not {want!r}")
        print(f"{what}: {file}: {n} figures and texts, the worst at {worst:.2g} of what is allowed", flush=True)
        checks.check(not bad, f"{what}: {file}: {len(bad)} of {n} differ", "\n    ".join([""] + bad[:15]))
        if file == "TOFU_SUMMARY.json":
            checks.check(None not in ours.values(), f"{what}: nothing is null in the summary", str(ours))


def golden(checks):
    for precision in precisions():
        for name, (_, _, _, expected) in MODELS.items():
            for ranks, tensor in LAYOUTS[precision]:
                what = f"{name}, {precision}, data {ranks // tensor} x tensor {tensor}"
                directory = checks.directory / what.replace(" ", "-").replace(",", "")
                directory.mkdir()
                done = run_input(settings(name, ranks, tensor), ranks, precision, directory, timeout=300)
                if checks.check(done.returncode == 0, f"{what}: exit status {done.returncode}", done.stderr[-2000:]):
                    compared(checks, what, directory / "out", GOLDEN / expected, precision == "double")


def main():
    checks = Checks("open-unlearning")
    checks.need(GOLDEN)
    for part in (golden,):
        if not sys.argv[1:] or any(w in part.__name__ for w in sys.argv[1:]):
            part(checks)
    checks.finish()


if __name__ == "__main__":
    main()
