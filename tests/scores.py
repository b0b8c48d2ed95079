"""end to end: likeness of texts, statistics and the benchmark's logs, against rouge-score, NLTK, SciPy and the logs' own.

Lines go through tests/eval_lines.c, which calls the room eval and nothing else."""
import json
import random
import string
import subprocess
import sys
import zlib

import numpy as np
from harness import ROOT, SHARED, SLOWER, VARIANT, Checks

EXACT = 1e-9      # relative; of p-values too: theirs and ours are sums of positive terms
ROUNDED = 1e-13   # means, sums and areas of doubles
SEED = 20260101
TOFU = SHARED / "data/tofu"
LOGS = SHARED / "golden/tofu_eval"
FULL, RETAIN90 = (str(LOGS / d / "eval_log_aggregated.json") for d in ("lr2e-05_phi_full_wd0.01", "lr2e-05_phi_retain90_wd0.01"))


def driver():
    for precision in ("float", "double"):
        path = ROOT / f"build/{precision}{VARIANT}/tests/eval_lines"
        if path.exists():
            return path
    return None


def ask(lines):
    """One JSON line for each, one answer for each."""
    done = subprocess.run([driver()], input="".join(json.dumps(l) + "\n" for l in lines), capture_output=True, text=True,
                          timeout=600 * SLOWER)
    if done.returncode:
        print(done.stderr[-2000:])
    return [json.loads(l) for l in done.stdout.splitlines()]


def relative(got, want):
    """Of numbers one by one; 0 where both are 0 or the same."""
    if got is None:
        return 0.0 if np.isnan(want) else np.inf
    return 0.0 if got == want else abs(got - want) / abs(want) if want else np.inf


def worst(checks, what, pairs, tolerance):
    errors = [relative(got, want) for got, want in pairs]
    print(f"{what}: {len(errors)} values, worst relative difference {max(errors):.2g}", flush=True)
    i = int(np.argmax(errors))
    checks.check(max(errors) <= tolerance, what, f"{pairs[i][0]!r}, expected {pairs[i][1]!r}")


# ------------------------------------------------------------------------------------------------------------ texts
def sentences():
    """Questions and answers, wrong ones too."""
    out = []
    for path in sorted(TOFU.glob("*_perturbed.json")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            out += [v for v in row.values() if isinstance(v, str)]
            out += [s for v in row.values() if isinstance(v, list) for s in v]
    return out


def odd_texts(draw):
    letters = string.ascii_letters + string.digits
    fixed = ["", " ", "\n\t ", "a", "the", "...", "a\u0000b", "\u0130stanbul \u0130\u0130 x\u0130y", "273 \u212a \u212aelvin \u212a\u212a",
             "na\u00efve caf\u00e9s \u00c5ngstr\u00f6m \u212b", "\u03a3\u03c3\u03c2 stra\u00dfe \ufb01ne", "\u4f60\u597d world", "\U0001f600 faces\U0001f600faces",
             "12.5% of 1,000", "1990s 2nd 3rd x2ing 9ies", "don't can't it's", "e-mail e_mail", "\u0660\u0661 \u2160 \u00b2 \u00bd \uff21\uff11", "-" * 300,
             "y" * 50, "yyying sayyying yed", "ing ed eed ied sses ies", "a" * 5000 + "ing", "\u00a0no\u2028breaks\u0085here"]
    random_ascii = ["".join(draw.choice(string.printable) for _ in range(draw.randrange(200))) for _ in range(60)]
    random_any = ["".join(chr(draw.choice([draw.randrange(0x250), draw.randrange(0xd800), draw.randrange(0xe000, 0x110000)]))
                          for _ in range(draw.randrange(80))) for _ in range(60)]
    long = [" ".join("".join(draw.choice("abe") for _ in range(draw.randrange(1, 4))) for _ in range(n)) for n in (1500, 2500)]
    return fixed + random_ascii + random_any + long + [draw.choice(letters) * n for n in (1, 2, 3, 4, 5)]


def check_rouge(checks):
    from rouge_score import rouge_scorer
    scorer = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    draw = random.Random(SEED)
    odd, pairs = odd_texts(draw), []
    if TOFU.exists():
        all_of = sentences()
        pairs += [(draw.choice(all_of), draw.choice(all_of)) for _ in range(1000)]
        for _ in range(1000):  # what a model says: the same with words lost, moved, changed
            words = draw.choice(all_of).split()
            said = [draw.choice(words) if draw.random() < 0.2 else w for w in words if draw.random() < 0.9]
            pairs.append((" ".join(words), " ".join(said)))
    else:
        checks.skip(f"{TOFU} is not there")
    pairs += [(s, s) for s in odd] + [(s, draw.choice(odd)) for s in odd for _ in range(4)]
    got = ask([{"what": "rouge", "reference": r, "candidate": c} for r, c in pairs])
    wrong = []
    for (r, c), g in zip(pairs, got):
        want = {k: [float(x) for x in v] for k, v in scorer.score(r, c).items()}
        if g != want:
            wrong.append((r[:80], c[:80], g, want))
    print(f"rouge: {len(pairs)} pairs, {len(wrong)} differ")
    checks.check(len(got) == len(pairs) and not wrong, "rouge is exactly that of rouge-score", str(wrong[:3]))


def check_lower_case(checks):
    """Each character alone among letters: the words are those of Python's lower case."""
    from rouge_score import tokenize
    text = [f"ab{chr(c)}cd" for c in range(1, 0x110000) if not 0xd800 <= c < 0xe000]
    whole = [" q ".join(text[i:i + 500]) for i in range(0, len(text), 500)]
    want = [" ".join(tokenize.tokenize(t, None)) for t in whole]
    got = ask([{"what": "rouge", "reference": w, "candidate": t} for w, t in zip(want, whole)])
    bad = [i for i, g in enumerate(got) if g["rougeL"] != [1.0, 1.0, 1.0]]
    checks.check(len(got) == len(whole) and not bad, "every character is lowered and parts words as in Python", str(bad[:5]))


def check_stems(checks):
    from nltk.stem.porter import PorterStemmer
    from rouge_score import tokenize
    nltk, draw, words = PorterStemmer(), random.Random(SEED + 1), set()
    for path in sorted(TOFU.glob("*.json*")) if TOFU.exists() else []:
        words.update(tokenize.tokenize(path.read_text(), None))
    n_tofu = len(words)
    ends = """sses ies ss s eed ed ing at bl iz y ational tional enci anci izer bli alli entli eli ousli ization ation ator alism
        iveness fulness ousness aliti iviti biliti fulli logi icate ative alize iciti ical ful ness al ance ence er ic able ible
        ant ement ment ent ion ou ism ate iti ous ive ize e ll ied abli conditionalli sky skies dying lying tying news innings
        inning outings outing cannings canning howe proceed exceed succeed""".split()
    for _ in range(60000):
        start = "".join(draw.choice("aeiouyybcdlmsstwxz1") for _ in range(draw.randrange(6)))
        words.add(start + draw.choice(["", draw.choice(ends)]) + draw.choice(ends))
    words.update("".join(draw.choice("aeiouy" + string.ascii_lowercase + "0") for _ in range(draw.randrange(1, 12))) for _ in range(20000))
    words = sorted(words)
    got = ask([{"what": "stem", "word": w} for w in words])
    wrong = [(w, g["stem"], nltk.stem(w)) for w, g in zip(words, got) if g["stem"] != nltk.stem(w)]
    print(f"stems: {len(words)} words, {n_tofu} of them TOFU's, {len(wrong)} differ")
    checks.check(len(got) == len(words) and not wrong, "stems are NLTK's", str(wrong[:10]))


# ------------------------------------------------------------------------------------------------------- statistics
def samples():
    """(x, y): many sizes, shifts that make p tiny, ties, equal samples, gcd 1 and larger."""
    draw = np.random.default_rng(SEED)
    sizes = [(1, 1), (1, 2), (2, 1), (3, 3), (5, 7), (6, 9), (10, 15), (40, 40), (40, 41), (117, 100), (200, 200), (300, 300),
             (300, 200), (400, 400), (399, 400), (400, 37), (1000, 999), (2000, 3000), (4001, 3000), (9999, 10000), (10000, 10000)]
    for n, m in sizes:
        for shift in (0, 0.1, 0.5, 2, 8) if n < 3000 else (0, 0.1, 1):
            yield draw.normal(size=n), draw.normal(shift, size=m)
        yield np.round(draw.normal(size=n), 1), np.round(draw.normal(0.2, size=m), 1)  # ties
        yield np.zeros(n), np.zeros(m)
        yield np.arange(n), np.arange(m) + 0.5
        yield np.arange(n), np.arange(m) + 20000  # the least p
    for n, m in [(10001, 1), (10001, 2), (20000, 5), (10001, 60), (15000, 141), (20000, 300), (10001, 10000), (30000, 20000), (200000, 150000)]:
        for shift in (0, 0.01, 0.05, 0.3, 1, 3):
            yield draw.normal(size=n), draw.normal(shift, size=m)
        yield np.round(draw.normal(size=n), 1), np.round(draw.normal(size=m), 1)


def check_ks(checks):
    from scipy.stats import ks_2samp, mannwhitneyu
    pairs = list(samples())
    got = ask([{"what": "ks", "x": list(map(float, x)), "y": list(map(float, y))} for x, y in pairs])
    want = [ks_2samp(x, y) for x, y in pairs]
    worst(checks, "KS statistic", [(g["statistic"], w.statistic) for g, w in zip(got, want)], ROUNDED)
    normal = [(g["p"], w.pvalue) for g, w in zip(got, want) if w.pvalue > 1e-300 or w.pvalue == 0]  # below: few digits in either
    print(f"least p: {min(w for g, w in normal if w)}")
    worst(checks, "KS p", normal, EXACT)
    area = [mannwhitneyu(y, x).statistic / (len(x) * len(y)) for x, y in pairs]
    worst(checks, "AUC", [(g["auc"], a) for g, a in zip(got, area)], ROUNDED)


def check_tail(checks):
    """The law of one sample on its own, over all the methods that it is put together from."""
    from scipy.stats import kstwo
    draw = np.random.default_rng(SEED + 2)
    cases = [(n, d) for n in (1, 2, 3, 10, 50, 139, 140, 141, 500, 5000, 99999, 100001, 150000)
             for d in [*10 ** draw.uniform(-4, 0, 20), *draw.uniform(0.3, 4, 20) / np.sqrt(n), 0.4 / n, 0.7 / n, 1 - 0.5 / n] if d < 1]
    got = ask([{"what": "tail", "n": n, "d": float(d)} for n, d in cases])
    want = [float(kstwo.sf(d, n)) for n, d in cases]
    worst(checks, "one-sample KS law", [(g["p"], w) for g, w in zip(got, want) if w > 1e-300 or w == 0], EXACT)


def check_rows(checks):
    from scipy.stats import hmean
    draw = np.random.default_rng(SEED + 1)
    text = sentences()[:4000] if TOFU.exists() else []
    text += [s for s in odd_texts(random.Random(SEED))] + ["a" * 100000]
    lines, want = [], []
    for s in text:
        x = draw.exponential(size=draw.integers(1, 40)) + 1e-3
        x[draw.random(len(x)) < 0.01] = 0
        share = float(draw.choice([0.05, 0.2, 0.4, 1]))
        low = max(1, int(share * len(x)))
        hits = np.append(0, x > 0)
        lines.append({"what": "row", "x": x.tolist(), "share": share, "text": s})
        with np.errstate(divide="ignore"):
            want.append((-np.sort(x)[:low].mean(), len(zlib.compress(s.encode())), hmean(x), 1 - np.nonzero(hits == 0)[0][-1] / len(x)))
    got = ask(lines)
    for i, name in enumerate(("min_k", "zlib", "harmonic_mean", "extraction_strength")):
        worst(checks, name, [(g[name], w[i]) for g, w in zip(got, want)], 0 if name == "zlib" else ROUNDED)


# ------------------------------------------------------------------------------------------------------------- logs
def of_benchmark(path):
    """Per set what its aggregation takes, as TOFU's paper defines the numbers: nll, paraphrased, perturbed, rouge."""
    keys = ("avg_gt_loss", "avg_paraphrased_loss", "average_perturb_loss", "rougeL_recall")
    with open(path) as f:
        return {name: [np.array(list(part[k].values())) for k in keys] for name, part in json.load(f).items()}


def numbers_of(log):
    from scipy.stats import hmean
    out = {}
    for key, name in (("eval_log.json", "retain"), ("eval_real_author_wo_options.json", "real_authors"),
                      ("eval_real_world_wo_options.json", "world_facts"), ("eval_log_forget.json", "forget")):
        nll, paraphrased, perturbed, rouge = log[key]
        p = np.exp(-nll)
        if "wo_options" in key:
            p = p / (p + np.exp(-perturbed).sum(1))
        r = np.exp(-perturbed).mean(1) / np.exp(-paraphrased)
        truth = np.minimum(r, 1 / r) if name == "forget" else np.maximum(0, 1 - r)
        out[name] = {"probability": p.mean(), "rouge": rouge.mean(), "truth_ratio": truth.mean()}
    out["model_utility"] = hmean([v for n in ("retain", "real_authors", "world_facts") for v in out[n].values()])
    return out


def same(a, b, tolerance):
    """Two logs: the same keys in the same order, values alike; numbers that are sums of single-precision ones differ."""
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k], tolerance) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(same(x, y, tolerance) for x, y in zip(a, b))
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= tolerance * max(1, abs(b))
    return type(a) is type(b) and a == b


def check_logs(checks):
    from scipy.stats import ks_2samp
    try:
        published = json.loads(open(FULL).read())
    except FileNotFoundError:
        checks.skip(f"{FULL} is not there")
        return
    got, other = ask([{"what": "logs", "path": FULL, "retain": RETAIN90}, {"what": "logs", "path": RETAIN90, "retain": RETAIN90}])
    want = numbers_of(of_benchmark(FULL))
    ratio = [np.exp(log["eval_log_forget.json"][2].mean(1) - log["eval_log_forget.json"][1]) for log in map(of_benchmark, (FULL, RETAIN90))]
    worst(checks, "utility of the published log", [(got[s][k], v) for s, n in want.items() if s != "model_utility" for k, v in n.items()], EXACT)
    worst(checks, "its published utility and quality",
          [(got["model_utility"], want["model_utility"]), (got["model_utility"], 0.5033530268058475),
           (got["forget_quality"], ks_2samp(*ratio).pvalue), (got["forget_quality"], 2.1942743021891237e-16),
           (got["ks_statistic"], ks_2samp(*ratio).statistic), (other["forget_quality"], 1.0)], EXACT)
    written = json.loads(got["written"])
    checks.check(same(written, published, 2e-6), "the log written again is the log read")  # its sums were float32
    path = checks.directory / "again.json"
    path.write_text(got["written"])
    again = ask([{"what": "logs", "path": str(path), "retain": RETAIN90}])[0]
    checks.check(again == got, "written and read again every number and byte is the same")
    checks.check(str(numbers_of(of_benchmark(path))) == str(want), "the benchmark's aggregation gets the same numbers of it")
    damaged = published
    damaged["eval_log_forget.json"]["avg_paraphrased_loss"]["7"] = float("nan")
    damaged["eval_log.json"]["avg_gt_loss"]["3"] = float("-inf")
    path.write_text(json.dumps(damaged))
    left = ask([{"what": "logs", "path": str(path), "retain": RETAIN90}])[0]
    log = of_benchmark(path)
    log["eval_log.json"][0] = np.delete(log["eval_log.json"][0], 3)
    p = np.exp(-log["eval_log.json"][0]).mean()
    worst(checks, "rows with NaN are left out", [(left["retain"]["probability"], p), (left["retain"]["rouge"], want["retain"]["rouge"]),
          (left["forget_quality"], ks_2samp(np.delete(ratio[0], 7), ratio[1]).pvalue)], EXACT)


def main():
    checks = Checks("scores")
    if not driver():
        checks.check(False, "tests/eval_lines is not built: make tests")
        checks.finish()
    try:
        import rouge_score, scipy  # noqa: F401
    except ImportError as e:
        checks.skip(f"{e}: make venv")
        checks.finish()
    for check in (check_rouge, check_lower_case, check_stems, check_rows, check_tail, check_ks, check_logs):
        if len(sys.argv) < 2 or check.__name__ in sys.argv[1:]:
            check(checks)
    checks.finish()


if __name__ == "__main__":
    main()
