"""end to end: task evaluate and evaluate.every against the reference's numbers, scipy, and each other.

    evaluation.py [WORD ...]       parts whose name contains one of the words"""
import json
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
from check_files import check_file
from harness import ROOT, SHARED, Checks, few, labels, layout, precisions, run, run_input
from scipy.stats import ks_2samp, mannwhitneyu

GOLDEN, TOFU = SHARED / "golden/evaluation", SHARED / "data/tofu"
LOGS = SHARED / "golden/tofu_eval"
SETS = {"forget": "forget01_perturbed", "retain": "retain_perturbed", "real_authors": "real_authors_perturbed",
        "world_facts": "world_facts_perturbed"}
PARTS = {"retain": "eval_log.json", "real_authors": "eval_real_author_wo_options.json",
         "world_facts": "eval_real_world_wo_options.json", "forget": "eval_log_forget.json"}
LAYOUTS = {"double": [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2)], "float": [(1, 1), (2, 2)]}  # ranks, tensor
LIKELIHOOD = {"double": 1e-10, "float": 2e-5}  # relative to the largest of an array; the issue asks for 1e-6
DECIDED = {"double": 1e-12, "float": 0.05}     # what depends on which token is the likeliest: in float a tie may turn


def evaluation(rows=8, **keys):
    return {"rows": rows, "max_length": 300, "sets": {k: str(TOFU / f"{f}.json") for k, f in SETS.items()}, **keys}


def settings(evaluate, model=GOLDEN / "model", ranks=1, tensor=1, **keys):
    return {"task": "evaluate", "output": {"directory": "out"}, "model": {"path": str(model)},
            "data": {"template": "qa", "max_length": 300}, "evaluate": evaluate,
            "parallel": layout(ranks, tensor), **keys}


def read(directory):
    """{(set, metric): [step, row]}, and the fields by name."""
    with h5py.File(directory / "evaluation.h5") as f:
        got = {k: f[k][()] for k in ("step", "summary", "risk", "mean", "left_out", "rows")}
        sets, metrics, x = labels(f["set"]), labels(f["metric"]), f["evaluation"][()]
        got["number"] = dict(zip(labels(f["number"]), got["summary"][-1]))
        for k, s in enumerate(sets):
            for j, m in enumerate(metrics):
                got[s, m] = x[:, k, :int(got["rows"][k]), j]
                got["mean", s, m], got["left out", s, m] = got["mean"][-1, k, j], got["left_out"][-1, k, j]
    return got


def done_well(checks, done, what):
    return checks.check(done.returncode == 0, f"{what}: exit status {done.returncode}", done.stderr[-2000:])


# ------------------------------------------------------------------------------------------- against the reference
def pairs(got, expected, names):
    detail = {"exact_memorization", "extraction_strength", "zlib", "min_k", "min_k++"}
    rows = {"loss": "nll", "paraphrased_loss": "paraphrased", "rougeL_recall": "rouge", "perturbed_loss": "perturbed"}
    out = {}
    for s in SETS:
        for m in names:
            want = expected["detail"][s][m] if m in detail else expected["per_row"][s][rows[m]]
            out[f"{s} {m}"] = got[s, m][-1], np.mean(want, 1) if m == "perturbed_loss" else want
    return out


def texts(checks, what, directory, expected):
    """What was generated, and through it the ids: equal texts of equal numbers of tokens."""
    log = json.loads((directory / "eval_log_aggregated.json").read_text())
    got = read(directory)
    for s, part in PARTS.items():
        generated = [log[part]["generated_text"][str(i)][1] for i in range(8)]
        checks.check(generated == expected["detail"][s]["generated"], f"{what}: answers of {s}", str(generated))
        n = [len(ids) for ids in expected["detail"][s]["generated_ids"]]
        checks.check(list(got[s, "generated_tokens"][-1]) == n, f"{what}: tokens of the answers of {s}")


def golden(checks):
    expected = json.loads((GOLDEN / "expected.json").read_text())
    for precision in precisions():
        first = None
        for ranks, tensor in few(LAYOUTS[precision], precision):
            what = f"{precision}, data {ranks // tensor} x tensor {tensor}"
            directory = checks.directory / f"{precision}-{ranks}-{tensor}"
            directory.mkdir()
            evaluate = evaluation()
            evaluate["sets"]["holdout"] = str(TOFU / "holdout01.json")
            done = run_input(settings(evaluate, ranks=ranks, tensor=tensor), ranks, precision, directory, timeout=300)
            if not done_well(checks, done, what):
                continue
            got = read(directory / "out")
            checks.near(f"{what}: likelihoods", pairs(got, expected, ("loss", "paraphrased_loss", "perturbed_loss", "zlib",
                                                                     "min_k", "min_k++")), LIKELIHOOD[precision])
            checks.near(f"{what}: decided", pairs(got, expected, ("exact_memorization", "extraction_strength",
                                                                 "rougeL_recall")), DECIDED[precision])
            numbers = {f"{s} {k}": (got["number"][f"{s}_{k}"], v) for s in SETS for k, v in expected["utility"][s].items()}
            numbers["utility"] = got["number"]["model_utility"], expected["utility"]["model_utility"]
            checks.near(f"{what}: numbers", numbers, 1e-9 if precision == "double" else 1e-3)
            if precision == "double":
                texts(checks, what, directory / "out", expected)
            attacks(checks, what, got)
            first = first or got
            checks.near(f"{what}: as on one rank", {str(k): (got[k], first[k]) for k in first if k[0] in ("forget", "holdout")
                        and np.isfinite(first[k]).all() and precision == "double"} or {"": (0, 0)}, 1e-10)


def attacks(checks, what, got):
    """Areas against scipy's: the number of pairs that stand the right way round."""
    for m, name in (("loss", "loss"), ("zlib", "zlib"), ("min_k", "min_k"), ("min_k++", "min_k++"), ("gradnorm", "gradnorm")):
        x, y = got["forget", m][-1], got["holdout", m][-1]
        area = mannwhitneyu(y, x).statistic / (len(x) * len(y))
        checks.check(abs(got["number"][f"auc_{name}"] - area) < 1e-12, f"{what}: auc of {name}", str(got["number"]))
    leak = 100 * (0.5 - got["number"]["auc_min_k"]) / (0.5 + 1e-10)
    checks.check(abs(got["number"]["privleak"] - leak) < 1e-9, f"{what}: privleak")


# --------------------------------------------------------------------------------------------------- retain logs
def quality(checks):
    """Forget quality and relative differences against the first 60 rows of a published log, as scipy has it."""
    path = LOGS / "lr2e-05_phi_retain90_wd0.01/eval_log_aggregated.json"
    if not path.exists():
        return checks.skip(f"{path} is not there")
    log = json.loads(path.read_text())
    e = log["eval_log_forget.json"] = {k: dict(list(v.items())[:60]) if isinstance(v, dict) else v for k, v in log["eval_log_forget.json"].items()}
    path = checks.directory / "retain_log.json"
    path.write_text(json.dumps(log))
    evaluate = {"rows": 60, "metrics": ["truth_ratio_for_quality", "truth_ratio", "probability"], "retain_logs": str(path),
                "sets": {"forget": str(TOFU / "forget10_perturbed.json")}}
    done = run_input(settings(evaluate), 1, precisions()[0], checks.directory, timeout=300)
    if not done_well(checks, done, "retain logs"):
        return
    got = read(checks.directory / "out")
    wrong = np.array(list(e["average_perturb_loss"].values())).mean(1)
    other = np.exp(wrong - np.array(list(e["avg_paraphrased_loss"].values())))
    test = ks_2samp(got["forget", "truth_ratio_for_quality"][-1], other)
    checks.near("forget quality", {"p": (got["number"]["forget_quality"], test.pvalue),
                                   "statistic": (got["number"]["ks_statistic"], test.statistic)}, 1e-9)
    p = np.exp(-np.array(list(e["avg_gt_loss"].values()))).mean()
    mine = got["forget", "probability"][-1].mean()
    checks.near("relative difference", {"": (got["number"]["forget_probability_relative"], 100 * (mine - p) / (p + 1e-10))}, 1e-9)
    checks.check(not (checks.directory / "out/model").exists() and
                 json.loads((checks.directory / "out/TOFU_SUMMARY.json").read_text())["forget_quality"] ==
                 got["number"]["forget_quality"], "TOFU_SUMMARY.json has the forget quality")
    digest = lambda: run(["--check", "input.yaml"], 1, precisions()[0], checks.directory).stdout.split("digest: ")[-1]
    before = digest()
    e["avg_paraphrased_loss"]["0"] += 0.01
    path.write_text(json.dumps(log))
    checks.check(re.fullmatch(r"\w{16}\n", before) and before != digest(), "the digest knows what the other model's log says", before)


def own(checks):
    """A model against its own logs, in either format: the samples are the same, so the quality is 1 and nothing differs."""
    whole = [json.loads(s) for s in (TOFU / "forget01_perturbed.json").read_text().splitlines()[:8]]
    few_wrong = [dict(r) for r in whole]
    for i, n in ((2, 3), (3, 1)):
        few_wrong[i]["perturbed_answer"] = few_wrong[i]["perturbed_answer"][:n]
    few_wrong[5]["perturbed_answer"] = None
    del few_wrong[6]["perturbed_answer"]
    no_paraphrase = [{k: v for k, v in r.items() if k != "paraphrased_answer"} for r in few_wrong]
    cases = (("few metrics", whole, ["truth_ratio", "probability"], 0), ("few wrong answers", few_wrong, ["truth_ratio", "probability"], 2),
             ("no paraphrase", no_paraphrase, ["truth_ratio"], 2), ("no truth ratio", few_wrong, ["truth_ratio_for_quality"], 2))
    for what, rows, metrics, left_out in cases:
        directory = checks.directory / what.replace(" ", "-")
        directory.mkdir()
        (directory / "f.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        evaluate = {"metrics": metrics, "sets": {"forget": "f.jsonl"}}
        if not done_well(checks, run_input(settings(evaluate), 1, precisions()[0], directory), f"own logs: {what}"):
            continue
        (directory / "out").rename(directory / "first")
        if left_out:
            lists = json.loads((directory / "first/TOFU_EVAL.json").read_text()).get("forget_Q_A_PERT_Prob", {"value_by_index": {}})
            lists = {k: v["prob"] for k, v in lists["value_by_index"].items()}
            checks.check([x and len(x) for x in lists.values()] == [5, 5, 3, 1, 5, None, None, 5], f"own logs: {what}: lists", str(lists))
        for log in ("eval_log_aggregated.json", "TOFU_EVAL.json"):
            evaluate["retain_logs"] = f"first/{log}"
            done = run_input(settings(evaluate), 1, precisions()[0], directory, ["--overwrite"])
            if not done_well(checks, done, f"own logs: {what}: {log}"):
                continue
            number = read(directory / "out")["number"]
            relative = [number[f"forget_{k}_relative"] for k in ("truth_ratio", "probability") if k in metrics]
            checks.check(number["forget_quality"] == 1 and number["ks_statistic"] == 0 and np.all(np.abs(relative) <= 1e-6),
                         f"own logs: {what}: {log}", str(number))
            lack = re.findall(r"(\d+) of 8 rows, .*lack a finite value", (directory / "out/run.log").read_text())
            checks.check(set(lack) == ({str(left_out)} if left_out else set()), f"own logs: {what}: {log}: rows left out", str(lack))


# ------------------------------------------------------------------------------------------------ inside training
def training(**evaluate):
    return {"task": "unlearn", "output": {"directory": "out"}, "model": {"path": str(GOLDEN / "model")},
            "data": {"template": "qa", "max_length": 200, "forget": {"path": str(TOFU / "forget01.json"), "rows": 8},
                     "retain": {"path": str(TOFU / "retain99.json"), "rows": 8, "held_out": 0}},
            "objective": {"name": "npo", "regularizer": {"name": "kl"}}, "optimizer": {"lr": 2e-4, "warmup_steps": 0},
            "train": {"steps": 5, "batch_size": 2, "accumulation": 1}, "geffect": {"every": 2},
            "evaluate": {"max_length": 80, "rows": 4, "sets": evaluation()["sets"], **evaluate}}


def compared(checks, what, first, second):
    """unlearn-report compare prints what the files hold, side by side."""
    words = [sys.executable, str(ROOT / "analysis/unlearn-report"), "compare", "--json", f"a={first}", f"b={second / 'evaluation.h5'}"]
    done = subprocess.run(words, capture_output=True, text=True)
    table, got = json.loads(done.stdout or "{}"), read(first)
    checks.check(list(table) == ["a", "b"] and table["a"]["model_utility"] == got["number"]["model_utility"] and
                 abs(table["b"]["forget: loss"] / got["mean", "forget", "loss"] - 1) < 1e-5, f"{what}: compared", done.stderr)
    done = subprocess.run(words[:3] + [str(first)], capture_output=True, text=True)
    checks.check(re.match(r" +out @0 +out @2 +out @4 +out @5\n", done.stdout), f"{what}: compared by steps", done.stdout[:300])


def same_bytes(a, b):
    with h5py.File(a) as f, h5py.File(b) as g:
        return set(f) == set(g) and all(np.array_equal(f[k][()], g[k][()], equal_nan=f[k].dtype.kind == "f") for k in f
                                        if k != "seconds")


def inside(checks):
    """Steps 0, 2, 4 and the last; nothing of it shows in training; the last is the evaluation of the exported model."""
    for precision in precisions():
        for ranks in ((1,) if precision == "float" else (2,)):
            what, directory = f"{precision}, {ranks} ranks", checks.directory / f"inside-{precision}-{ranks}"
            for name, every in (("with", 2), ("without", 0)):
                (directory / name).mkdir(parents=True)
                done = run_input(training(every=every), ranks, precision, directory / name, timeout=300)
                if not done_well(checks, done, f"{what}: training {name} evaluation"):
                    return
            a, b = directory / "with/out", directory / "without/out"
            for f in ("train.h5", "geffect.h5"):
                checks.check(same_bytes(a / f, b / f), f"{what}: {f} is the same with evaluation and without")
            checks.check((a / "model/model.safetensors").read_bytes() == (b / "model/model.safetensors").read_bytes(),
                         f"{what}: the model is the same with evaluation and without")
            checks.check(not (b / "evaluation.h5").exists(), f"{what}: no evaluation, no file")
            got = read(a)
            checks.check(list(got["step"]) == [0, 2, 4, 5], f"{what}: steps", str(got["step"]))
            for s in SETS:
                checks.check(abs(got[s, "kl"][0]).max() < 1e-6 and got[s, "kl"][-1].min() > 0
                             and abs(got[s, "reference"][0]).max() < 1e-6, f"{what}: {s} against the reference, first and last")
                checks.near(f"{what}: {s} against the reference", {"": (got[s, "reference"][-1], got[s, "loss"][-1] - got[s, "loss"][0])},
                            1e-10 if precision == "double" else 1e-3)
            exported = training()
            again = settings({**exported["evaluate"]}, model=a / "model", ranks=ranks)
            again["model"]["reference"], again["data"]["max_length"] = str(GOLDEN / "model"), 200
            (directory / "again").mkdir()
            if not done_well(checks, run_input(again, ranks, precision, directory / "again", timeout=300), f"{what}: exported"):
                return
            other = read(directory / "again/out")
            keys = [k for k in got if k[0] in SETS]
            compared(checks, what, a, directory / "again/out")
            checks.check(all(np.array_equal(np.isnan(got[k][-1]), np.isnan(other[k][-1])) for k in keys), f"{what}: NaN at places")
            checks.near(f"{what}: as of the exported model", {str(k): (np.nan_to_num(got[k][-1]), np.nan_to_num(other[k][-1]))
                                                             for k in keys}, 1e-12 if precision == "double" else 1e-5)


# ------------------------------------------------------------------------------------------- what has no number
def reference(checks):
    """The divergence is the same from a copy of the reference's weights and from what was kept of them."""
    directory = checks.directory / "reference"
    directory.mkdir()
    if not done_well(checks, run_input({**training(), "checkpoint": {"dtype": "full"}}, 1, precisions()[-1], directory), "reference"):
        return
    (directory / "out").rename(directory / "first")
    got = {}
    for kept in ("weights", "values"):
        again = settings(evaluation(rows=5, metrics=["kl", "reference"]), model=directory / "first/model", ranks=2, tensor=1)
        again["model"].update(reference=str(GOLDEN / "model"), reference_as=kept)
        if not done_well(checks, run_input(again, 2, precisions()[-1], directory, ["--overwrite"]), f"reference as {kept}"):
            return
        got[kept] = read(directory / "out")
    checks.near("reference as weights and as values", {f"{s} {m}": (got["values"][s, m], got["weights"][s, m])
                                                       for s in SETS for m in ("kl", "reference")}, 1e-10 if precisions()[-1] == "double"
                else 1e-4)
    checks.check(min(got["values"][s, "kl"].min() for s in SETS) > 0, "the models differ")


def holes(checks):
    """Rows without labels, without keys: named, counted, left out of means; no zero stands in for them."""
    directory = checks.directory / "holes"
    directory.mkdir()
    rows = [json.loads(s) for s in (TOFU / "forget01_perturbed.json").read_text().splitlines()[:6]]
    rows[1]["question"] = "why " * 400
    del rows[3]["perturbed_answer"], rows[4]["paraphrased_answer"]
    rows[5]["paraphrased_question"] = None
    (directory / "f.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    evaluate = {"max_length": 300, "sets": {"forget": "f.jsonl"}}
    done = run_input(settings(evaluate, ranks=2), 2, precisions()[0], directory, timeout=300)
    if not done_well(checks, done, "rows without numbers"):
        return
    got, log = read(directory / "out"), (directory / "out/run.log").read_text()
    expect = {"loss": {1}, "min_k": {1}, "gradnorm": {1}, "exact_memorization": {1}, "perturbed_loss": {1, 3},
              "paraphrased_loss": {1, 4}, "truth_ratio": {1, 3, 4}, "paraphrased_extraction_strength": {5},
              "rougeL_recall": set()}
    for m, missing in expect.items():
        x = got["forget", m][-1]
        checks.check(set(np.flatnonzero(np.isnan(x))) == missing and got["left out", "forget", m] == len(missing)
                     and abs(got["mean", "forget", m] - np.nanmean(x)) < 1e-12, f"rows without {m}", str(x))
    checks.check(re.search(r"warning: .*f.jsonl: 3 of 6 rows.*row 1.*truth_ratio", log) is not None
                 and re.search(r'warning: .*f.jsonl: 1 row.*"perturbed_answer".*line 4', log) is not None,
                 "rows without numbers are named", log[-3000:])
    whole = json.loads((directory / "out/TOFU_EVAL.json").read_text())
    checks.check(whole["forget_Q_A_Prob"]["value_by_index"]["1"] == {"prob": None, "avg_loss": None}, "null, not 0")


def lengths(checks):
    """Rows that are only evaluated are cut, or too long, by evaluate.row_length; questions and answers are no long texts."""
    directory = checks.directory / "lengths"
    (directory / "gpt2").mkdir(parents=True)
    (directory / "gpt2/tokenizer.json").symlink_to(GOLDEN / "model/tokenizer.json")
    words = json.loads((GOLDEN / "model/config.json").read_text())["vocab_size"]
    (directory / "gpt2/config.json").write_text(json.dumps(dict(
        model_type="gpt2", vocab_size=words, n_embd=8, n_layer=1, n_head=2, n_positions=20)))
    cut = settings(evaluation(metrics=["loss", "truth_ratio"], row_length=12))
    done = run_input(cut, 1, precisions()[0], directory, ["--check"])
    if done_well(checks, done, "rows that are cut"):
        cuts = [s for s in done.stdout.splitlines() if s.endswith("tokens, cut")]
        checks.check(cuts and all("rows are longer than evaluate.row_length = 12 tokens" in s for s in cuts), "rows that are cut: the key",
                     str(cuts))
        checks.check(" texts in " not in done.stdout, "rows that are cut: they are no texts", done.stdout[:300])
    learned = settings(evaluation(metrics=["loss"]), model="gpt2")
    learned["model"]["init"] = "random"
    done = run_input(learned, 1, precisions()[0], directory, ["--check"])
    checks.check(done.returncode == 1 and "learned 20 positions; lower evaluate.row_length" in done.stderr, "rows beyond the positions",
                 done.stderr)
    learned["evaluate"]["row_length"] = 20
    done_well(checks, run_input(learned, 1, precisions()[0], directory, ["--check"]), "rows of as many tokens as positions")
    (directory / "x.jsonl").write_text(json.dumps({"question": "why " * 30, "answer": "so"}) + "\n" + '{"question": "?", "answer": "!"}\n')
    full = settings(evaluation(metrics=["rougeL_recall"], max_length=20, sets={"forget": "x.jsonl"}))
    for length, warned in (("total", True), ("new", False)):
        full["evaluate"]["length"] = length
        done = run_input(full, 1, precisions()[0], directory, ["--check"])
        said = "warning: x.jsonl: the prompt of 1 row has evaluate.max_length = 20 tokens or more: no room for an answer" in done.stdout
        checks.check(done.returncode == 0 and said == warned, f"prompts that leave no room, length: {length}", done.stdout + done.stderr)


def diverged(checks):
    """Logits that overflow: every number is missing, none is 0, and the program says so."""
    directory = checks.directory / "diverged"
    shutil.copytree(GOLDEN / "model", directory / "model")
    path = directory / "model/model.safetensors"
    path.chmod(0o644)
    whole = bytearray(path.read_bytes())
    n = int.from_bytes(whole[:8], "little")
    begin, end = (o + 8 + n for o in json.loads(whole[8:8 + n])["model.norm.weight"]["data_offsets"])
    whole[begin:end] = np.full((end - begin) // 4, 3e38, "<f4").tobytes()
    path.write_bytes(whole)
    if "float" not in precisions():
        return checks.skip("no program in float: numbers that overflow there")
    done = run_input(settings(evaluation(rows=2), model="model", ranks=2), 2, "float", directory, timeout=300)
    if not done_well(checks, done, "diverged"):
        return
    got = read(directory / "out")
    for s in SETS:
        for m in ("loss", "probability", "truth_ratio", "min_k++", "exact_memorization", "gradnorm", "rougeL_recall"):
            checks.check(np.isnan(got[s, m]).all() and np.isnan(got["mean", s, m]) and got["left out", s, m] == 2,
                         f"diverged: {s} {m}", str(got[s, m]))
    checks.check(np.isnan(got["number"]["model_utility"]), "diverged: no utility")
    checks.check("2 of 2 rows" in (directory / "out/run.log").read_text(), "diverged: named")


# --------------------------------------------------------------------------------------------- open-unlearning
def tokens_of(model_dir, rows):
    """log p, hit and z of the labelled tokens of (question, answer) pairs, by transformers in float64."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float64).eval()
    tok = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    out = []
    for question, answer in rows:
        prompt = len(tok.encode(f"Question: {question}\n").ids)
        ids = tok.encode(f"Question: {question}\nAnswer: {answer}").ids + [model.config.eos_token_id]
        with torch.no_grad():
            p = model(torch.tensor([ids])).logits[0, prompt - 1:-1].log_softmax(-1)
        labels = torch.tensor(ids[prompt:])
        lp = p[torch.arange(len(labels)), labels]
        mu = (p.exp() * p).sum(-1)
        var = (p.exp() * p ** 2).sum(-1) - mu ** 2
        out.append((lp.numpy(), (p.argmax(-1) == labels).numpy(), ((lp - mu) / var.clamp(min=1e-6).sqrt()).numpy()))
    return out


def lowest(x, k=0.4):
    return -np.sort(x)[:max(1, int(k * len(x)))].mean()


def strength(hit):
    k = next((k for k in range(len(hit)) if hit[k:].all()), len(hit) - 1)
    return 1 - k / len(hit)


def open_unlearning(checks):
    """The variant: without the end token, 1/n for nothing extracted, k = 0.4, geometric truth ratios, 200 new tokens."""
    try:
        import transformers  # noqa: F401
    except ImportError:
        return checks.skip("transformers is not installed: the variants of open-unlearning")
    directory = checks.directory / "open"
    directory.mkdir()
    evaluate = evaluation(variant="open_unlearning")
    evaluate["max_length"] = 20
    if not done_well(checks, run_input(settings(evaluate), 1, precisions()[-1], directory, timeout=300), "open-unlearning"):
        return
    got = read(directory / "out")
    rows = [json.loads(s) for s in (TOFU / "forget01_perturbed.json").read_text().splitlines()[:8]]
    right = tokens_of(GOLDEN / "model", [(r["question"], r["answer"]) for r in rows])
    para = tokens_of(GOLDEN / "model", [(r["question"], r["paraphrased_answer"]) for r in rows])
    wrong = [tokens_of(GOLDEN / "model", [(r["question"], a) for a in r["perturbed_answer"]]) for r in rows]
    loss = lambda t: -t[0].mean()
    ratio = np.array([np.exp(-np.mean([loss(w) for w in ws])) / (np.exp(-loss(p)) + 1e-10) for ws, p in zip(wrong, para)])
    tolerance = 2e-6 if precisions()[-1] == "double" else 2e-5  # transformers' own rotary angles are float32
    checks.near("open-unlearning: forget", {
        "loss": (got["forget", "loss"][-1], [loss(t) for t in right]),
        "memorization": (got["forget", "exact_memorization"][-1], [t[1][:-1].mean() for t in right]),
        "extraction": (got["forget", "extraction_strength"][-1], [strength(t[1][:-1]) for t in right]),
        "min_k": (got["forget", "min_k"][-1], [lowest(t[0][:-1]) for t in right]),
        "min_k++": (got["forget", "min_k++"][-1], [lowest(t[2][:-1]) for t in right]),
        "ratio": (got["forget", "truth_ratio"][-1], ratio),
        "number": (got["number"]["forget_truth_ratio"], np.minimum(ratio, 1 / (ratio + 1e-10)).mean())}, tolerance)
    checks.check(got["forget", "generated_tokens"].max() == 20, "open-unlearning: new tokens are counted",
                 str(got["forget", "generated_tokens"]))


# --------------------------------------------------------------------------------------------------------- files
TOFU_NAMES = {"forget_quality", "model_utility", "privleak", "extraction_strength", "exact_memorization", "forget_truth_ratio",
              "forget_Q_A_Prob", "forget_Q_A_ROUGE", "retain_Q_A_Prob", "retain_Q_A_ROUGE", "retain_Truth_Ratio",
              "ra_Q_A_Prob", "ra_Q_A_Prob_normalised", "ra_Q_A_ROUGE", "ra_Truth_Ratio", "wf_Q_A_Prob",
              "wf_Q_A_Prob_normalised", "wf_Q_A_ROUGE", "wf_Truth_Ratio", "mia_loss", "mia_zlib", "mia_min_k",
              "mia_min_k_plus_plus", "mia_gradnorm", "forget_Q_A_PARA_Prob", "forget_Q_A_PERT_Prob", "retain_Q_A_PARA_Prob",
              "retain_Q_A_PERT_Prob", "ra_Q_A_PERT_Prob", "wf_Q_A_PERT_Prob"}
UNKNOWN = {"forget_quality", "privleak", "mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus", "mia_gradnorm"}


def files(checks):
    import xarray
    directory = checks.directory / "files"
    directory.mkdir()
    if not done_well(checks, run_input(settings(evaluation(rows=3)), 1, precisions()[0], directory), "files"):
        return
    out = directory / "out"
    checks.check(not check_file(out / "evaluation.h5"), "evaluation.h5 is as xarray, netCDF4 and h5py expect")
    with xarray.open_dataset(out / "evaluation.h5") as d:
        x = d.evaluation.sel(set="retain", metric="loss").isel(step=-1)
        checks.check(d.evaluation.dims == ("step", "set", "row", "metric") and np.isfinite(x).all() and
                     float(d.summary.sel(number="model_utility")[-1]) >= 0 and "min_k++ [1]:" in d.attrs["metrics"],
                     "xarray opens evaluation.h5", str(d))
    whole, flat = (json.loads((out / f).read_text()) for f in ("TOFU_EVAL.json", "TOFU_SUMMARY.json"))
    checks.check(set(whole) == TOFU_NAMES, "names of TOFU_EVAL.json", str(set(whole) ^ TOFU_NAMES))
    checks.check(set(flat) == TOFU_NAMES - UNKNOWN, "names of TOFU_SUMMARY.json: no retain log and no holdout set, so neither "
                 "quality nor attacks", str(set(flat) ^ (TOFU_NAMES - UNKNOWN)))
    checks.check(all(whole[k]["agg_value"] == flat[k] for k in flat) and
                 set(whole["forget_Q_A_ROUGE"]["value_by_index"]) == {"0", "1", "2"} and
                 set(whole["forget_Q_A_ROUGE"]["value_by_index"]["0"]) == {"rouge1_recall", "rougeL_f1", "rougeL_recall", "input",
                                                                           "ground_truth", "generation"} and
                 set(whole["mia_loss"]["forget"]) == {"agg_value", "value_by_index"} and
                 len(whole["retain_Q_A_PERT_Prob"]["value_by_index"]["2"]["prob"]) == 5, "layout of TOFU_EVAL.json", json.dumps(flat))
    log = (out / "run.log").read_text()
    checks.check(re.search(r"^real_authors +3 ", log, re.M) and re.search(r"^model_utility +[\d.e-]+$", log, re.M),
                 "a page at the end of the log", log[-3000:])
    only = run_input(settings(evaluation(rows=3, metrics=["loss", "min_k"])), 1, precisions()[0], directory, ["--overwrite"])
    checks.check(only.returncode == 0 and "rougeL" not in only.stdout, "chosen metrics", only.stderr)
    with h5py.File(out / "evaluation.h5") as f:
        checks.check(labels(f["metric"]) == ["loss", "min_k"], "only the metrics asked for")
    check = run(["--check", "input.yaml"], 1, precisions()[0], directory)
    checks.check(check.returncode == 0 and re.search(r"^evaluation 4 sets, .*Gflop", check.stdout, re.M)
                 and check.stdout.strip().splitlines()[-1].startswith("digest: "), "--check", check.stdout[-1500:])


def steps(checks):
    """Several models at their steps; while a model is fine-tuned; a set of plain rows, alone."""
    directory = checks.directory / "steps"
    directory.mkdir()
    plain = {"rows": 3, "metrics": ["loss", "exact_memorization", "kl"], "sets": {"plain": str(TOFU / "holdout01.json")}}
    models = settings(plain, model="")
    models["model"] = {"path": [{"step": 0, "path": str(GOLDEN / "model")}, {"step": 7, "path": str(GOLDEN / "model")}]}
    if done_well(checks, run_input(models, 1, precisions()[0], directory), "a trajectory"):
        got = read(directory / "out")
        checks.check(list(got["step"]) == [0, 7] and np.array_equal(*got["plain", "loss"]) and
                     abs(got["plain", "kl"]).max() < 1e-6, "steps of a trajectory",
                     str(got["step"]))
    learn = training(every=2)
    learn.update(task="finetune", evaluate={"every": 2, **plain}, geffect={"every": 0})
    learn.pop("objective")
    if done_well(checks, run_input(learn, 2, precisions()[0], directory, ["--overwrite"]), "finetune"):
        got = read(directory / "out")
        checks.check(list(got["step"]) == [0, 2, 4, 5] and np.isfinite(got["plain", "loss"]).all() and
                     got["plain", "loss"][0].tolist() != got["plain", "loss"][-1].tolist(), "steps of fine-tuning", str(got["step"]))
        flat = json.loads((directory / "out/TOFU_SUMMARY.json").read_text())
        checks.check(flat == {}, "no published set", str(flat))


def main():
    checks = Checks("evaluation")
    if not GOLDEN.exists() or not TOFU.exists():
        checks.skip(f"{GOLDEN} or {TOFU} is not there")
        checks.finish()
    if not precisions():
        checks.check(False, "no program is built")
        checks.finish()
    for part in (golden, quality, own, inside, reference, holes, lengths, diverged, open_unlearning, files, steps):
        if not sys.argv[1:] or any(w in part.__name__ for w in sys.argv[1:]):
            part(checks)
    checks.finish()


if __name__ == "__main__":
    main()
