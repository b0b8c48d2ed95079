"""end to end: evaluate.variant open_unlearning against what open-unlearning itself wrote for three small models.

    open_unlearning.py [WORD ...]       parts whose name contains one of the words"""
import json
import math
import re
import shutil
import sys

import h5py
from harness import SHARED, THOROUGH, Checks, labels, layout, precisions, run_input

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
LAYOUTS = {"double": [(2, 2)], "float": [(1, 1)]}  # ranks, tensor
MEAN = 1e-6      # relative: means, areas, summaries
ROW = 2e-5       # their rows are float32: 1e-5 from the same rows in float64, in nats and of a probability's size
NATS = ("mia_loss", "mia_min_k", "mia_min_k_plus_plus", "mia_reference")
EXACT = 1e-12    # ROUGE and counts; texts are equal
LOGS = str(GOLDEN / "expected/retained/TOFU_EVAL.json")


def settings(name, ranks=1, tensor=1, **evaluate):
    model, reference, template, _ = MODELS[name]
    return {"task": "evaluate", "output": {"directory": "out"}, "model": {"path": str(GOLDEN / model),
                                                                          "reference": str(GOLDEN / reference)},
            "data": {"template": template}, "parallel": layout(ranks, tensor),
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


def tolerance(path, want):
    """How far a figure may be from theirs."""
    metric, key = path[0], path[-1]
    if "value_by_index" not in path and path[1] not in ("forget", "holdout"):
        return EXACT if "ROUGE" in metric else MEAN * abs(want)
    if metric == "mia_zlib":
        return 1e-7
    if "ROUGE" in metric or metric in ("exact_memorization", "extraction_strength"):
        return EXACT if metric != "exact_memorization" else 1e-7  # a quotient in float32
    return ROW if "avg_loss" in path or metric in NATS else ROW * abs(want)


def compared(checks, what, directory, expected):
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
                allowed = tolerance(path if file != "TOFU_SUMMARY.json" else (path[0], "agg_value"), want)
                worst = max(worst, abs(got - want) / allowed if allowed else math.inf * (got != want) if got != want else 0)
                right = abs(got - want) <= allowed
            if not right:
                bad.append(f"{'.'.join(map(str, path))}: {got!r}, not {want!r}")
        print(f"{what}: {file}: {n} figures and texts, the worst at {worst:.2g} of what is allowed", flush=True)
        checks.check(not bad, f"{what}: {file}: {len(bad)} of {n} differ", "\n    ".join([""] + bad[:15]))
        if file == "TOFU_SUMMARY.json":
            checks.check(None not in ours.values(), f"{what}: nothing is null in the summary", str(ours))


def golden(checks):
    """Every model in float, one of them in double on two processes (THOROUGH=1: every one)."""
    for precision in precisions():
        for name, (_, _, _, expected) in MODELS.items():
            if precision == "double" and name != "mid" and not THOROUGH:
                continue
            for ranks, tensor in LAYOUTS[precision]:
                what = f"{name}, {precision}, data {ranks // tensor} x tensor {tensor}"
                directory = checks.directory / what.replace(" ", "-").replace(",", "")
                directory.mkdir()
                done = run_input(settings(name, ranks, tensor), ranks, precision, directory, timeout=900)
                if checks.check(done.returncode == 0, f"{what}: exit status {done.returncode}", done.stderr[-2000:]):
                    compared(checks, what, directory / "out", GOLDEN / expected)


def named_template(checks):
    """The chat model with the named template in place of its texts is the same run: the digest is of every token."""
    directory, digest = checks.directory / "named", {}
    directory.mkdir()
    given = settings("chat")
    named = {"name": "llama3", "system": "You are a helpful assistant.", "date": "10 Apr 2025"}
    for way, made in (("its texts", given), ("its name", {**given, "data": {**given["data"], "template": named}})):
        done = run_input(made, 1, precisions()[0], directory, ["--check"])
        digest[way] = re.findall(r"^digest: (\w{16})$", done.stdout, re.M)
    checks.check(len(digest["its name"]) == 1 and digest["its name"] == digest["its texts"], "a named template is the same run", str(digest))


def own_log(checks):
    """Our own TOFU_EVAL.json of the retained model in place of theirs: the same forget quality and privleak."""
    directory = checks.directory / "own-log"
    directory.mkdir()
    sets = {k: v for k, v in settings("mid")["evaluate"]["sets"].items() if k in ("forget", "holdout")}
    metrics = ["truth_ratio", "truth_ratio_for_quality", "min_k"]
    run_input(settings("retained", sets=sets, metrics=metrics), 1, precisions()[-1], directory)
    (directory / "out").rename(directory / "retained")
    logs = {"TOFU_EVAL.json": None, "eval_log_aggregated.json": 100 * (0.5 - 0.991875) / (0.5 + 1e-10)}  # that one has no min-k
    want = json.loads((GOLDEN / "expected/mid/TOFU_SUMMARY.json").read_text())
    for log, leak in logs.items():
        again = settings("mid", sets=sets, metrics=metrics, retain_logs=str(directory / "retained" / log))
        done = run_input(again, 1, precisions()[-1], directory, ["--overwrite"])
        if checks.check(done.returncode == 0, f"own {log}: exit status {done.returncode}", done.stderr[-2000:]):
            got = json.loads((directory / "out/TOFU_SUMMARY.json").read_text())
            checks.check(abs(got["forget_quality"] / want["forget_quality"] - 1) < MEAN and
                         abs(got["privleak"] - (leak or want["privleak"])) < 1e-6 * 100, f"own {log}: quality and privleak", str(got))


# -------------------------------------------------------------------------------------- rows that the golden lacks
def twin(model_dir, template, rows, limit, pad):
    """loss, hits and log p (without the last label) of each row as that tool makes and masks it, by transformers."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float64).eval()
    tokenizer, eos = Tokenizer.from_file(str(model_dir / "tokenizer.json")), model.config.eos_token_id
    out = []
    for question, answer in rows:
        asked = template["question_start"] + question + template["question_end"]
        prompt, ids = tokenizer.encode(asked).ids[:limit], tokenizer.encode(asked + answer).ids[:limit]
        ids += [eos] * (ids[-1] != eos)
        t = torch.tensor([ids])
        with torch.no_grad():
            p = model(input_ids=t, attention_mask=(t != pad).long()).logits[0, :-1].log_softmax(-1)
        at = range(len(prompt) - 1, len(ids) - 1)
        lp = torch.stack([p[k, ids[k + 1]] for k in at]).numpy()
        hit = [int(p[k].argmax()) == ids[k + 1] for k in at]
        k = next((k for k in range(len(hit) - 1) if all(hit[k:-1])), len(hit) - 2)
        out.append({"loss": -lp.mean(), "extraction_strength": 1 - k / (len(hit) - 1) if len(hit) > 1 else 0,
                    "exact_memorization": sum(hit[:-1]) / (len(hit) - 1) if len(hit) > 1 else float("nan"),
                    "min_k": -sorted_mean(lp[:-1])})
    return out


def sorted_mean(lp):
    return sum(sorted(lp)[:max(1, int(0.4 * len(lp)))]) / max(1, int(0.4 * len(lp))) if len(lp) else 0


def odd_rows(checks):
    """Rows beyond the limit, a prompt beyond it, end tokens inside an answer and at its end, another padding token."""
    try:
        import transformers  # noqa: F401
    except ImportError as e:
        return checks.skip(f"odd rows: {e}: make transformers")
    turn = "<|eot_id|>"
    rows = [("Who?", "Nobody at all, and that for a very long time indeed"), ("why " * 60, "So."), ("What?", "Cut"),
            ("Where?", f"There{turn} and then{turn}here"), ("When?", f"Then{turn}"), (f"{turn}Who{turn}?", f"{turn}He")]
    cases = {"cut": ("mid", PLAIN, 40, "mid", None), "chat": ("chat", CHAT, 40, "chat/model", None),
             "padding": ("chat", CHAT, 10**6, "chat/model", "<unk>")}
    for name, (kind, template, limit, path, pad) in cases.items():
        directory = checks.directory / f"odd-{name}"
        directory.mkdir()
        (directory / "rows.jsonl").write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in rows))
        shutil.copytree(GOLDEN / path, directory / "model")
        config = directory / "model/tokenizer_config.json"
        config.chmod(0o644)
        config.write_text(json.dumps({**json.loads(config.read_text()), "pad_token": pad and {"content": pad}}))
        made = settings(kind, sets={"forget": "rows.jsonl"}, retain_logs=None, metrics=["loss", "exact_memorization", "extraction_strength", "min_k"])
        made["model"], made["data"]["max_length"] = {"path": "model"}, 40
        done = run_input(made, 1, precisions()[-1], directory)
        if not checks.check(done.returncode == 0, f"odd rows: {name}", done.stderr[-2000:]):
            continue
        eos = 514 if kind == "chat" else 2
        chat = kind == "chat"  # its template holds special tokens: no row is cut
        want = twin(directory / "model", template, rows, 10**6 if chat else limit, 0 if pad else eos)
        with h5py.File(directory / "out/evaluation.h5") as f:
            x, metrics = f["evaluation"][()][-1, 0], labels(f["metric"])
        for m in want[0]:
            expected = [r[m] for r in want]
            got = x[:, metrics.index(m)]
            near = [abs(g - e) < 1e-5 or (g != g and e != e) for g, e in zip(got, expected)]
            checks.check(all(near), f"odd rows: {name}: {m}", f"{list(got)}, not {expected}")


def main():
    checks = Checks("open-unlearning")
    checks.need(GOLDEN)
    for part in (golden, named_template, own_log, odd_rows):
        if not sys.argv[1:] or any(w in part.__name__ for w in sys.argv[1:]):
            part(checks)
    checks.finish()


if __name__ == "__main__":
    main()
