"""end to end: whose matrix products a run uses (parallel.products), and products in bfloat16 (precision).

    products.py [MODEL ...]       names of directories in SHARED/golden/models, for bfloat16 against float32

The choice by measurement is tested with libraries that are made slow or wrong: tests/products_shim.c, preloaded."""
import json
import os
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
from harness import ROOT, SHARED, VARIANT, Checks, error, precisions, program, run_input

MODELS = ["llama", "phi", "gemma2"]
# Of bfloat16 against float32, at the same weights: risks in nats; effects relative to the largest; Spearman's correlation of
# the effects by layer and instance of one objective and risk, of a model with hundreds of them: of the 36 that the golden
# models have, one near zero that moves among others decides.
RISK_BOUND, EFFECT_BOUND, RANK_BOUND = 1e-2, 0.05, 0.999
ROUNDING = 2e-5
MUCH = 10**6  # updates; --check says what such a run would do


def settings(case="llama", **changes):
    case = SHARED / "golden/models" / case
    section = {"task": "unlearn", "output": {"directory": "out"},
               "model": {"path": str(case / "model")},
               "data": {"template": "qa", "max_length": 60, "forget": str(case / "forget.jsonl"),
                        "retain": {"path": str(case / "retain.jsonl"), "held_out": 0}},
               "objective": {"name": "npo", "regularizer": {"name": "gd"}},
               "optimizer": {"lr": 1e-3, "schedule": "constant", "warmup_steps": 0},
               "train": {"steps": 4, "batch_size": 4, "accumulation": 1},
               "geffect": {"every": 2, "objectives": ["ga", "npo", "wga"]}}
    return {**section, **changes}


class Place:
    """A directory where runs are made; environment: of the program, besides."""

    def __init__(self, checks, name):
        self.checks, self.directory = checks, checks.directory / name
        self.directory.mkdir()

    def run(self, what, section, options=("--overwrite",), status=0, precision="float", ranks=1, **environment):
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            done = run_input(section, ranks, precision, self.directory, options)
        finally:
            os.environ.clear()
            os.environ.update(before)
        self.checks.check(done.returncode == status, f"{what}: exit status {done.returncode}, expected {status}",
                          done.stderr[-2000:])
        return done

    def log(self):
        return (self.directory / "out/run.log").read_text()

    def results(self):
        with h5py.File(self.directory / "out/geffect.h5") as f:
            return {k: f[k][()] for k in ("geffect", "geffect_gd", "risk_value", "loss", "instance_loss")} | {
                "libraries": str(f.attrs["libraries"]), "precision": str(f.attrs["precision"])}


def said(text):
    """What the log says of products, at last."""
    return next((line[11:] for line in reversed(text.splitlines()) if line.startswith("products   ")), "")


def version(**environment):
    return subprocess.run([program(), "--version"], capture_output=True, text=True, env={**os.environ, **environment}).stdout


def same(a, b):
    return all(np.array_equal(a[k], b[k], equal_nan=True) for k in a if k not in ("libraries", "precision"))


def asked_for(checks):
    """Either library by key: the same numbers but for rounding, in each layout; the files say which."""
    place, got = Place(checks, "asked"), {}
    for name in ("blas", "onednn"):
        for ranks in (1, 2):
            place.run(f"{name}, {ranks} ranks", settings(parallel={"products": name, "threads": 3 - ranks}), ranks=ranks)
            got[name, ranks] = place.results()
            checks.check("as the input says" in said(place.log()), f"{name}: the log says who asked", said(place.log()))
            checks.check(("oneDNN" in said(place.log())) == (name == "onednn"), f"{name}: the log says which", said(place.log()))
            checks.check(("oneDNN" in got[name, ranks]["libraries"]) == (name == "onednn"), f"{name}: the file says which")
    numbers = ("geffect", "geffect_gd", "risk_value", "loss")
    for case in (("blas", 2), ("onednn", 1), ("onednn", 2)):
        checks.near(f"{case[0]}, {case[1]} ranks, against the BLAS library",
                    {k: (got[case][k][0], got["blas", 1][k][0]) for k in numbers}, ROUNDING)
    place.run("onednn again", settings(parallel={"products": "onednn", "threads": 2}))
    checks.check(same(place.results(), got["onednn", 1]), "onednn again: the same bits")


def restarts(checks, shim):
    """A run goes on with the products that it began with, whatever would be chosen now."""
    place = Place(checks, "restart")
    kept = {"checkpoint": {"every": 2, "keep": 9, "export": False}}
    place.run("to be gone on with", settings(parallel={"products": "onednn"}, **kept))
    whole = place.results()
    for what, environment, words in (
            ("as it began", {}, "oneDNN"),
            ("without oneDNN", {"LD_PRELOAD": shim, "PRODUCTS_WRONG": "dnnl_sgemm"}, "the BLAS library, as in the checkpoint")):
        shutil.rmtree(place.directory / "out/checkpoint-4")
        (place.directory / "out/run.finished").unlink()
        place.run(f"goes on {what}", settings(**kept), options=("--restart",), **environment)
        log, got = place.log(), place.results()
        again = log[log.find("restart    from out/checkpoint-2"):]
        checks.check(said(log).startswith(words), f"goes on {what}: the log", said(log))
        checks.check(("to the last bit" in again) == (not environment), f"goes on {what}: whether to the last bit", again[:200])
        checks.check(("was made with products of oneDNN" in again + log) == bool(environment), f"goes on {what}: the warning")
        if not environment:
            checks.check(same(got, whole), "goes on as it began: the same bits")
        else:
            checks.near("goes on without oneDNN", {k: (got[k], whole[k]) for k in ("risk_value", "geffect")}, 1e-3)


def chosen(checks, shim):
    """The faster, where there is much to do; else always the BLAS library."""
    place = Place(checks, "chosen")
    place.run("little work", settings())
    checks.check("the BLAS library: for so little work" in said(place.log()), "little work: the BLAS library", said(place.log()))
    much = settings(train={"steps": MUCH, "batch_size": 4, "accumulation": 1}, geffect={"every": MUCH})
    for slow, wins in (("cblas_sgemm", "oneDNN"), ("dnnl_sgemm", "the BLAS library")):
        for ranks in (1, 2):
            text = place.run(f"{slow} is slow", much, options=("--check",), ranks=ranks, LD_PRELOAD=shim,
                             PRODUCTS_SLOW=slow).stdout
            checks.check(said(text).startswith(wins) and said(text).count("Gflop/s") == 1,
                         f"{slow} is slow: the other wins", text[-900:])
    text = place.run("wrong products", much, options=("--check",), LD_PRELOAD=shim, PRODUCTS_WRONG="dnnl_sgemm").stdout
    checks.check(said(text) == "the BLAS library: oneDNN's products are wrong on this processor",
                 "wrong products are not taken", said(text))


def despite_old_kernels(checks):
    """Kernels of 2004 in the BLAS library are a warning, but not where oneDNN multiplies."""
    if "Prescott" not in version(OPENBLAS_CORETYPE="Prescott"):
        checks.skip("no OpenBLAS that chooses when it starts")
        return
    place = Place(checks, "old")
    for name in ("blas", "onednn"):
        place.run(f"old kernels, {name}", settings(parallel={"products": name}), OPENBLAS_CORETYPE="Prescott")
        checks.check(("warning: products reach" in place.log()) == (name == "blas"), f"old kernels, {name}: warned or not",
                     said(place.log()))


def refused(checks, shim):
    place = Place(checks, "refused")
    wrong = {"LD_PRELOAD": shim, "PRODUCTS_WRONG": "dnnl_sgemm"}
    cases = [("wrong products", {"parallel": {"products": "onednn"}}, "float", "wrong on this processor", wrong)]
    if "double" in precisions():
        has_not = "oneDNN has no products of float64"
        cases += [("double", {"parallel": {"products": "onednn"}}, "double", f"parallel.products: {has_not}", {}),
                  ("double, bfloat16", {"precision": "bfloat16"}, "double", f"precision: {has_not}", {})]
    for what, section, precision, words, environment in cases:
        done = place.run(what, settings(**section), status=1, precision=precision, **environment)
        lines = [line for line in done.stderr.splitlines() if "unlearn: error" in line]
        checks.check(len(lines) == 1 and words in lines[0] and "input.yaml:" in lines[0], f"{what}: one line says why",
                     done.stderr[-500:])
        checks.check(not (place.directory / "out").exists(), f"{what}: nothing is written")


def ranks_of(x):
    """Ranks of the values, equal ones as they come."""
    r = np.empty(x.size)
    r[np.argsort(x, axis=None, kind="stable")] = np.arange(x.size)
    return r


def rank_correlation(a, b):
    """Spearman's, the least of those of one objective and risk."""
    return min(np.corrcoef(ranks_of(a[0, j, k]), ranks_of(b[0, j, k]))[0, 1]
               for j in range(a.shape[1]) for k in range(a.shape[2]))


def both_precisions(checks, place, what, section):
    """What `task: geffect` measures in float32 and with rounded operands; None where a run failed."""
    got = {}
    for precision in ("float32", "bfloat16"):
        only = {"task": "geffect", "train": {}, "optimizer": {}, "precision": precision}
        if place.run(f"{what}, {precision}", {**section, **only}).returncode:
            return None
        with h5py.File(place.directory / "out/geffect.h5") as f:
            got[precision] = {k: f[k][()] for k in ("geffect", "risk_value")} | {"precision": str(f.attrs["precision"])}
    checks.check("operands rounded to bfloat16" in said(place.log()), f"{what}: the log says it", said(place.log()))
    checks.check(all(("bfloat16" in got[p]["precision"]) == (p == "bfloat16") for p in got), f"{what}: the file says it")
    wide, rounded = got["float32"], got["bfloat16"]
    off = np.abs(rounded["risk_value"] - wide["risk_value"]).max()
    apart, order = error(rounded["geffect"], wide["geffect"]), rank_correlation(rounded["geffect"], wide["geffect"])
    print(f"{what}: risks {off:.2g} nats apart, effects {apart:.2g} of the largest, rank correlation {order:.5f}", flush=True)
    checks.check(0 < off <= RISK_BOUND, f"{what}: risks of bfloat16", f"{off:.2g} nats from those of float32")
    return apart, order


def narrow(checks, models):
    """Rounded operands change risks and effects by little, but something."""
    for model in models:
        got = both_precisions(checks, Place(checks, f"narrow-{model}"), model, settings(model))
        checks.check(got and 0 < got[0] <= EFFECT_BOUND, f"{model}: effects of bfloat16", f"{got}")
    stories, tofu = SHARED / "models/stories260K", SHARED / "data/tofu"
    if stories.exists() and tofu.exists():
        rows = {"max_length": 128, "forget": {"path": str(tofu / "forget05.json"), "rows": 40},
                "retain": {"path": str(tofu / "retain95.json"), "rows": 40, "held_out": 0}}
        got = both_precisions(checks, Place(checks, "stories"), "stories260K",
                              settings(model={"path": str(stories)}, data=rows, geffect={"objectives": ["ga", "npo"]}))
        checks.check(got and got[1] > RANK_BOUND, "stories260K: order of effects in bfloat16", f"{got}")
    else:
        checks.skip(f"{stories} or {tofu} is not there")
    place = Place(checks, "narrow")
    section = settings(precision="bfloat16")
    place.run("training in bfloat16", section)
    one = place.results()
    checks.check(np.isfinite(one["loss"][:-1]).all(), "training in bfloat16: losses are finite", f"{one['loss']}")
    place.run("training in bfloat16 again", section)
    checks.check(same(place.results(), one), "training in bfloat16 again: the same bits")
    place.run("training in bfloat16, two ranks", section, ranks=2)
    start = {"risks at the start": (place.results()["risk_value"][0], one["risk_value"][0])}
    checks.near("training in bfloat16, two ranks", start, 1e-3)
    place.run("no products of bfloat16 in the processor", section, DNNL_MAX_CPU_ISA="AVX512_CORE")
    checks.check("products are no faster than in float32" in place.log(),
                 "a processor without such products: the log says so", said(place.log()))


def of_many_passes(checks):
    """A gradient in bfloat16 is a sum of hundreds, each far below its last digit at the end: none may be lost."""
    stories, tofu = SHARED / "models/stories260K", SHARED / "data/tofu"
    if not stories.exists() or not tofu.exists():
        return checks.skip(f"{stories} or {tofu} is not there")
    place, got = Place(checks, "passes"), {}
    rows = {"max_length": 100, "forget": {"path": str(tofu / "forget01.json"), "rows": 4},
            "retain": {"path": str(tofu / "retain99.json"), "rows": 400, "held_out": 0}}
    for precision, ranks in (("float32", 1), ("bfloat16", 1), ("bfloat16", 2)):
        place.run(f"many passes, {precision}, {ranks}", {
            "task": "geffect", "output": {"directory": "out"}, "model": {"path": str(stories)}, "data": rows, "objective": "ga", "precision": precision,
            "geffect": {"risks": {"retain": {"data": "retain", "rows": 400}}},
            "parallel": {"tokens": 100, "data": ranks, "shard": "full" if ranks > 1 else "none"}}, ranks=ranks)
        with h5py.File(place.directory / "out/geffect.h5") as f:
            got[precision, ranks] = np.einsum("li->l", f["geffect"][0, 0, 0])
    for key in (("bfloat16", 1), ("bfloat16", 2)):
        off = np.abs(got[key] / got["float32", 1] - 1)
        checks.check(off.max() < 0.03, f"many passes, {key}: every layer's effect", f"{off}")


def at_the_reference(checks):
    """Where the model is its reference, divergences from it are nothing: a copy of weights in float32 is in float32 too."""
    place = Place(checks, "reference")
    regularizers = [{"name": "kl"}, {"name": "rr", "layer": 1}]
    for how in ("weights", "values"):
        model = {**settings("llama3")["model"], "reference_as": how}
        place.run(f"reference as {how}", settings("llama3", precision="bfloat16", model=model, train={"steps": 1, "batch_size": 4},
                                                  objective={"name": "ga", "regularizer": regularizers}))
        with h5py.File(place.directory / "out/geffect.h5") as f:
            largest = {k: np.abs(f[k][0]).max() for k in ("instance_loss_kl", "instance_loss_rr", "geffect_kl", "geffect_rr")}
        checks.check(not any(largest.values()), f"reference as {how}: nothing at the start", str(largest))


def larger(place):
    """A model of 25 million parameters, drawn from the seed: so large that its states are most of the memory."""
    model = place.directory / "model"
    shutil.copytree(ROOT / "inputs/demo/model", model)
    config = json.loads((model / "config.json").read_text())
    config.update(hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=8, head_dim=64)
    (model / "config.json").write_text(json.dumps(config))
    rows = ROOT / "inputs/demo"
    return {"task": "geffect", "output": {"directory": "out"}, "model": {"path": "model", "init": "random"},
            "data": {"template": "qa", "max_length": 48, "forget": {"path": str(rows / "forget05.jsonl"), "rows": 4},
                     "retain": {"path": str(rows / "retain95.jsonl"), "rows": 4, "held_out": 0}},
            "objective": "npo", "geffect": {"objectives": ["ga", "npo"]}, "parallel": {"tokens": 128}}


def held(checks):
    """What no update changes takes half the memory: as planned, on one process and shared by two."""
    place = Place(checks, "held")
    section, got = larger(place), {}
    for ranks, shard, precision in ((1, "none", "float32"), (1, "none", "bfloat16"), (2, "none", "bfloat16"), (2, "full", "bfloat16")):
        parallel = {**section["parallel"], "data": ranks, "shard": shard}
        what = f"{precision}, {ranks} ranks, shard {shard}"
        if place.run(what, {**section, "precision": precision, "parallel": parallel}, ranks=ranks).returncode:
            return
        planned, peak = map(float, re.findall(r"planned ([\d.]+) MB, peak ([\d.]+) MB", place.log())[0])
        states = [float(x) * int(n) for n, x in re.findall(r"^(?:states)? +(?:weights|risks) +(\d+) x ([\d.]+) MB", place.log(), re.M)]
        with h5py.File(place.directory / "out/geffect.h5") as f:
            got[ranks, shard, precision] = sum(states), peak, f["geffect"][()], f["risk_value"][()]
        checks.check(abs(peak / planned - 1) < 0.08, f"{what}: memory as planned", f"{planned} {peak}")
    wide, one, _, full = got.values()
    checks.check(one[0] == wide[0] / 2 and wide[1] - one[1] > 0.7 * (wide[0] - one[0]), "half the memory", f"{wide[:2]} {one[:2]}")
    checks.check(full[0] < 0.52 * one[0] and full[1] < one[1], "a quarter where two share it", f"{one[:2]} {full[:2]}")
    for key, (*_, effects, risks) in got.items():
        off, apart = np.abs(risks - wide[3]).max(), error(effects, wide[2])
        checks.check(off <= RISK_BOUND and apart <= EFFECT_BOUND, f"{key}: risks and effects", f"{off:.2g} {apart:.2g}")


def read_only(checks):
    """Scores and answers of weights in bfloat16."""
    place, found = Place(checks, "read"), {}
    section = {k: v for k, v in settings("llama").items() if k in ("output", "model")} | {"data": {"template": "qa"}}
    case = SHARED / "golden/models/llama"
    for precision in ("float32", "bfloat16"):
        evaluate = {"sets": {"forget": str(case / "forget.jsonl")}, "rows": 4, "max_length": 48}
        place.run(f"evaluate, {precision}", {**section, "task": "evaluate", "evaluate": evaluate, "precision": precision})
        with h5py.File(place.directory / "out/evaluation.h5") as f:
            scores = {}
            f.visititems(lambda name, d: scores.update({name: d[()]}) if isinstance(d, h5py.Dataset) and d.dtype.kind == "f" else None)
        place.run(f"generate, {precision}", {**section, "task": "generate", "generate": {"prompt": "Who wrote", "max_length": 24}, "precision": precision})
        found[precision] = scores
        checks.check(("in bfloat16" in place.log()) == (precision == "bfloat16"), f"generate, {precision}: the log says it", place.log())
    place.run("generate, onednn", {**section, "task": "generate", "generate": {"prompt": "Who wrote", "max_length": 24},
                                   "parallel": {**section.get("parallel", {}), "products": "onednn"}})
    checks.check("oneDNN" in said(place.log()), "generate, onednn: the log says which", place.log()[:600])
    off = np.abs(found["bfloat16"]["risk"] - found["float32"]["risk"]).max()
    checks.check(0 < off <= RISK_BOUND, "evaluate: risks of bfloat16", f"{off:.2g} nats from those of float32")


def main():
    checks = Checks("products")
    checks.need(SHARED / "golden/models/llama")
    if VARIANT or "float" not in precisions():
        checks.skip("the program for float without sanitizers is not there")
        checks.finish()
    if "\noneDNN " not in version():
        checks.skip("the program is built without oneDNN (Debian: libdnnl-dev)")
        checks.finish()
    shim = str(checks.directory / "shim.so")
    subprocess.run(["mpicc", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o", shim,
                    ROOT / "tests/products_shim.c", "-ldl"], check=True)
    asked_for(checks)
    restarts(checks, shim)
    chosen(checks, shim)
    despite_old_kernels(checks)
    refused(checks, shim)
    of_many_passes(checks)
    at_the_reference(checks)
    narrow(checks, sys.argv[1:] or MODELS)
    held(checks)
    read_only(checks)
    checks.finish()


if __name__ == "__main__":
    main()
