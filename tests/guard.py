"""end to end: what a guard does to a run - where it stops, what it leaves, what a restart finds - against the same run without it.

All on a model drawn from the seed and a few rows of the demo's data, so nothing but the repository is needed."""
import shutil

import h5py
import numpy as np
from harness import ROOT, TOLERANCE, Checks, error, few, labels, layout, precisions, run_input, safetensors

DEMO = ROOT / "inputs/demo"
STEPS, RETAIN = 6, 1  # the risk that is guarded
LAYOUTS = {"double": [(1, 1), (2, 1), (4, 1), (2, 2), (4, 2)], "float": [(1, 1), (2, 2)]}  # ranks, tensor


def settings(ranks=1, tensor=1, **sections):
    """A run that spoils what is to be kept; sections replace keys of the same name."""
    base = {
        "task": "unlearn", "output": {"directory": "out"}, "model": {"path": str(DEMO / "model"), "init": "random"},
        "data": {"max_length": 60, "forget": {"path": str(DEMO / "forget05.jsonl"), "rows": 8},
                 "retain": {"path": str(DEMO / "retain95.jsonl"), "rows": 8, "held_out": 0}},
        "parallel": layout(ranks, tensor), "objective": "ga",
        "optimizer": {"lr": 1e-3, "schedule": "constant", "warmup_steps": 0},
        "train": {"steps": STEPS, "batch_size": 2, "accumulation": 2}, "geffect": {"every": 1, "fidelity": True},
    }
    for name, section in sections.items():
        base[name] = {**base[name], **section} if isinstance(base.get(name), dict) else section
    return base


def go(checks, what, input, ranks=1, precision="double", options=("--overwrite",), name="run"):
    """-> directory of the results; None where the run failed."""
    place = checks.directory / name
    place.mkdir(exist_ok=True)
    done = run_input(input, ranks, precision, place, options)
    return place / "out" if checks.check(done.returncode == 0, f"{what}: exit status {done.returncode}", done.stderr[-1500:]) else None


def arrays(path):
    with h5py.File(path) as f:
        return {k: labels(d) if d.dtype.kind == "O" else d[()] for k, d in f.items()}


def model(out):
    return safetensors(out / "model/model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all((a[k] == b[k]).all() for k in a)


class Unguarded:
    """The run without a guard, and its model after each number of updates."""

    def __init__(self, checks):
        out = go(checks, "without a guard", settings(checkpoint={"every": 1, "keep": 99}), name="plain")
        self.got, self.train = arrays(out / "geffect.h5"), arrays(out / "train.h5")
        self.risk = self.got["risk_value"][:, RETAIN]
        self.model = {0: safetensors(go(checks, "the start", settings(train={"steps": 0}), name="start") / "model/model.safetensors")}
        self.model |= {t: safetensors(out / f"checkpoint-{t}/weights/model.safetensors") for t in range(1, STEPS + 1)}

    def budget(self, step):
        """A rise that the risk passes at this step, and not before."""
        return float((self.risk[step - 1] + self.risk[step]) / 2 - self.risk[0])


def ended(checks, what, out, plain, step, model_of, verdict):
    """The files of a run that a guard ended at this step, which leaves the model after so many updates."""
    got, train, log = arrays(out / "geffect.h5"), arrays(out / "train.h5"), (out / "run.log").read_text()
    checks.check(list(got["step"]) == list(train["step"]) == list(range(step + 1)), f"{what}: steps", f"{got['step']} {train['step']}")
    checks.check((got["guard_verdict"] == [0] * step + [verdict]).all(), f"{what}: verdicts", f"{got['guard_verdict']}")
    checks.check(np.isnan(got["guard_model"][:-1]).all() and got["guard_model"][-1] == model_of, f"{what}: which model is left",
                 f"{got['guard_model']}")
    checks.check((got["guard_value"][:-1] <= got["guard_limit"][:-1]).all() and got["guard_value"][-1] > got["guard_limit"][-1],
                 f"{what}: value and limit", f"{got['guard_value']} {got['guard_limit']}")
    checks.check(all(error(got[k][:step], plain.got[k][:step]) == 0 for k in ("geffect", "risk_value", "loss")) and
                 error(train["loss"][:step], plain.train["loss"][:step]) == 0, f"{what}: until then as without a guard")
    checks.check(np.isnan(train["loss"][-1]), f"{what}: no update follows")
    checks.check(same(model(out), plain.model[model_of]), f"{what}: the model after {model_of} updates")
    checks.check(log.count(f"guard: step {step}:") == 1 and "beyond its limit" in log, f"{what}: the log says why")
    return got


def stops(checks, plain):
    out = go(checks, "stop", settings(guard={"retain": plain.budget(3)}, checkpoint={"every": 2}))
    if not out:
        return
    got = ended(checks, "stop", out, plain, 3, 3, 1)
    checks.near("stop: compared is the risk", {"value": (got["guard_value"], got["risk_value"][:, RETAIN])}, 1e-15)
    checks.check((out / "checkpoint-3/manifest.json").exists(), "stop: a checkpoint of where it stopped")
    again = go(checks, "stop, restart", settings(guard={"retain": plain.budget(3)}, checkpoint={"every": 2}), options=["--restart"])
    checks.check(again and same(model(out), plain.model[3]), "stop: a restart has nothing to do")
    longer = settings(guard={"retain": plain.budget(3)}, checkpoint={"every": 2}, train={"steps": STEPS + 1})
    out = go(checks, "stop, longer", longer, options=["--restart"])
    if out:
        ended(checks, "stop, a restart with more updates stops again", out, plain, 3, 3, 1)
    for step in (0, STEPS):
        budget = plain.risk[step] - 1e-3 if step == 0 else plain.budget(step)
        limits = "value" if step == 0 else "rise"
        given = {"guard": {"retain": {"budget": float(budget), "limits": limits}}, "checkpoint": {"every": 0 if step else 2}}
        out = go(checks, f"stop at {step}", settings(**given))
        if out:
            ended(checks, f"stop at {step}", out, plain, step, step, 1)
            left = [p.name for p in out.glob("checkpoint-*")]
            checks.check(left == ([] if step else ["checkpoint-0"]), f"stop at {step}: its checkpoint", f"{left}")


def steps_back(checks, plain):
    guard = {"retain": {"budget": plain.budget(5), "do": "step_back"}}
    out = go(checks, "step back", settings(guard=guard, checkpoint={"every": 2, "keep": 1}))
    if out:
        ended(checks, "step back", out, plain, 5, 4, 2)
        left = sorted(p.name for p in out.glob("checkpoint-*"))  # 2 was spared while 4 was not known to be within
        checks.check(left == ["checkpoint-2", "checkpoint-4"], "step back: which checkpoints are left", f"{left}")
    longer = settings(guard=guard, checkpoint={"every": 2, "keep": 1}, train={"steps": STEPS + 1})
    out = go(checks, "step back, longer", longer, options=["--restart"])
    if out:
        ended(checks, "step back, a restart with more updates comes there again", out, plain, 5, 4, 2)
        checks.check("from out/checkpoint-4" in (out / "run.log").read_text(), "step back, longer: from where it had stepped back to")
    guard = {"retain": {"budget": plain.budget(4), "do": "step_back"}}
    out = go(checks, "step back, keep 1", settings(guard=guard, checkpoint={"every": 2, "keep": 1}))
    if out:  # the checkpoint at hand is the one beyond the budget: the one before it had to be spared
        ended(checks, "step back, keep 1", out, plain, 4, 2, 2)
    short = settings(guard=guard, checkpoint={"every": 2, "keep": 1}, train={"steps": 3})  # leaves a checkpoint-3
    if go(checks, "step back, shorter", short):
        out = go(checks, "step back, another checkpoint", settings(guard=guard, checkpoint={"every": 2, "keep": 1}), options=["--restart"])
        if out:  # and that is none of those to step back to: a run that was not stopped has not got it
            ended(checks, "step back, another checkpoint", out, plain, 4, 2, 2)
    out = go(checks, "step back to the start", settings(guard={"retain": {"budget": plain.budget(2), "do": "step_back"}},
                                                        checkpoint={"every": 2}))
    if out:
        ended(checks, "step back to the start", out, plain, 2, 0, 2)
        checks.check(not list(out.glob("checkpoint-*")), "step back to the start: no checkpoint is left")


def predicts(checks, plain):
    """Stops before the update that would spoil too much: one step before the measured risk says so."""
    guard = {"retain": {"budget": plain.budget(4), "of": "predicted"}}
    out = go(checks, "predicted", settings(guard=guard))
    if not out:
        return
    got = arrays(out / "geffect.h5")
    stop = len(got["step"]) - 1
    predicted = plain.risk[:-1] + plain.got["predicted_change"][:-1, RETAIN]
    first = int(np.argmax(predicted > plain.risk[0] + plain.budget(4)))
    checks.check(stop == first <= 4, "predicted: where it stops", f"{stop} {first}")
    ended(checks, "predicted", out, plain, stop, stop, 1)
    checks.near("predicted: the risk and fidelity's prediction", {"value": (got["guard_value"], predicted[:stop + 1])}, 1e-12)


def evaluated(checks, plain):
    """The last row of evaluation.h5 is the model that is left."""
    sets = {"forget": str(DEMO / "forget05_perturbed.jsonl")}
    evaluate = {"every": 2, "rows": 4, "sets": sets, "metrics": ["probability"]}
    guard = {"retain": {"budget": plain.budget(4), "do": "step_back"}}
    out = go(checks, "evaluated", settings(guard=guard, checkpoint={"every": 2}, evaluate=evaluate))
    if not out:
        return
    got = arrays(out / "evaluation.h5")
    alone = go(checks, "evaluated alone", settings(task="evaluate", model={"path": str(out / "model"), "init": "pretrained"},
                                                   evaluate={**evaluate, "every": 0}), name="alone")
    checks.check(list(got["step"]) == [0, 2, 4], "evaluated: a row for each step", f"{got['step']}")
    if alone:
        want = arrays(alone / "evaluation.h5")
        field = next(k for k, x in want.items() if isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.ndim > 2)
        pairs = {"last row": (np.nan_to_num(got[field][-1]), np.nan_to_num(want[field][0]))}
        checks.near("evaluated: the last row is of the model that is left", pairs, 1e-12)
        checks.check(error(np.nan_to_num(got[field][0]), np.nan_to_num(want[field][0])) > 1e-6, "evaluated: which is another than the first")


EVERYTHING = {"retain": {"budget": 1e3, "of": "predicted"}, "freeze": 2, "project": 0.5}


def goes_on(checks, ranks, precision):
    """Broken off between two measurements: which layers rest, and the mean of gradients, come from the checkpoint."""
    what = f"restart, {precision}, {ranks} ranks"
    every = {"geffect": {"every": 3}, "checkpoint": {"every": 2, "keep": 9}, "guard": EVERYTHING, "objective": {
        "name": "ga", "regularizer": ["kl", "gd"]}}
    whole = go(checks, what, settings(ranks, train={"steps": 8}, **every), ranks, precision, name=f"whole-{ranks}")
    if not whole:
        return
    parts = checks.directory / f"parts-{ranks}"  # as if it had been killed behind the fourth update
    shutil.rmtree(parts, ignore_errors=True)
    shutil.copytree(whole.parent, parts)
    for late in ("checkpoint-6", "checkpoint-8", "model"):
        shutil.rmtree(parts / "out" / late)
    (parts / "out/run.finished").unlink()
    out = go(checks, what, settings(ranks, train={"steps": 8}, **every), ranks, precision, ["--restart"], name=f"parts-{ranks}")
    if not out:
        return
    checks.check("from out/checkpoint-4, as it was" in (out / "run.log").read_text(), f"{what}: it went on")
    for name in ("geffect.h5", "train.h5"):
        a, b = arrays(whole / name), arrays(out / name)
        bad = [k for k in a if k != "seconds" and (a[k] != b.get(k) if isinstance(a[k], list) else a[k].tobytes() != b[k].tobytes())]
        checks.check(not bad, f"{what}: {name} bit for bit", str(bad))
    checks.check((whole / "model/model.safetensors").read_bytes() == (out / "model/model.safetensors").read_bytes(),
                 f"{what}: the model bit for bit")
    got = arrays(whole / "geffect.h5")
    rests = {name for name, one in zip(got["layer"], got["layer_rests"][1]) if one}
    before, after = (safetensors(whole / f"checkpoint-{t}/weights/model.safetensors") for t in (4, 6))
    moved = {n for n in before if (before[n] != after[n]).any()}
    of = lambda n: n.split(".")[0] if n.startswith("lm_head") else ".".join(n.split(".")[1:3]) if ".layers." in n else \
        "embed" if "embed" in n else "norm"
    checks.check(len(rests) == 2 and {of(n) for n in before if n not in moved} == rests, f"{what}: what rests stays to the last bit",
                 f"{rests} {moved}")
    other = settings(ranks, train={"steps": 9}, **{**every, "geffect": {"every": 2}})
    done = run_input(other, ranks, precision, checks.directory / f"parts-{ranks}", ["--restart"])
    checks.check(done.returncode == 1 and "geffect.every is not what it was" in done.stderr, f"{what}: not with other measurements",
                 done.stderr)


def layouts(checks, precision):
    first = None
    for ranks, tensor in few(LAYOUTS[precision], precision):
        what = f"{precision}, {ranks} ranks, tensor {tensor}"
        out = go(checks, what, settings(ranks, tensor, guard=EVERYTHING, optimizer={"name": "sgd", "lr": 0.05, "clip": 5.0}), ranks,
                 precision)
        if not out:
            continue
        got, train = arrays(out / "geffect.h5"), arrays(out / "train.h5")
        now = {k: got[k] for k in ("guard_value", "layer_rests", "risk_value")} | {k: train[k][:-1] for k in ("project_cosine", "gradient_norm")}
        now |= model(out) if precision == "double" else {}
        batch, update = (got["gradient"].index(name) for name in ("batch", "update"))
        changed, known = train["project_cosine"][:-1] < 0, np.isfinite(got["gram"][:-1, :, batch, update]).all(axis=1)
        checks.check((known == ~changed).all() and np.isfinite(got["gram"][:-1, :, batch, batch]).all(),
                     f"{what}: a gradient that was projected has no inner product with the update", f"{changed} {known}")
        if first:
            checks.near(f"{what}: as on one", {k: (x, first[k]) for k, x in now.items()}, {"double": 1e-10, "float": 1e-3}[precision])
        else:
            first = now
            checks.check((now["project_cosine"] < 0).any() and now["layer_rests"].sum() > 2, f"{what}: it acts", f"{now['project_cosine']}")


def digests(checks):
    """The same guard in other words has the same digest, another one another; the plan says what it will do."""
    def of(guard, **sections):
        done = run_input(settings(guard=guard, checkpoint={"every": 2}, **sections), 1, precisions()[0], checks.directory, ["--check"])
        return done.stdout.splitlines()[-1], [x for x in done.stdout.splitlines() if x.startswith("guard  ")]
    same = [of(g)[0] for g in ({"retain": 0.5}, {"retain": {"budget": 5e-1, "do": "stop", "limits": "rise"}, "freeze": 0, "risk": None})]
    others = [of(g)[0] for g in ({}, {"retain": 0.25}, {"retain": {"budget": 0.5, "of": "predicted"}}, {"freeze": 1}, {"freeze": 2}, {"project": 1},
                                 {"retain": {"budget": 0.5, "do": "step_back"}}, {"retain": {"budget": 0.5, "limits": "value"}}, {"project": 0.5})]
    checks.check(same[0] == same[1] and same[0].startswith("digest: "), "the digest of one guard in two spellings", str(same))
    checks.check(len({*same, *others}) == 1 + len(others), "digests of other guards", str(others))
    checks.check(of({})[1] == [] and "stops where retain is beyond 0.5 nats above the start" in of({"retain": 0.5})[1][0], "the plan's line")


def refused(checks):
    shutil.rmtree(checks.directory / "run", ignore_errors=True)
    for what, sections, words in (
            ("step back without checkpoints", {"guard": {"retain": {"budget": 0.1, "do": "step_back"}}}, "step_back needs checkpoints"),
            ("freeze without measurements", {"guard": {"freeze": 1}, "geffect": {"every": 0}}, "geffect.every is 0"),
            ("prediction without measurements", {"guard": {"retain": {"budget": 0.1, "of": "predicted"}}, "geffect": {"every": 0}},
             "geffect.every is 0"),
            ("a budget of nothing", {"guard": {"retain": 0}}, "guard.retain.budget: expected a number above 0"),
            ("an unknown action", {"guard": {"retain": {"budget": 1, "do": "halt"}}}, "expected auto | stop | step_back"),
            ("projection without retain rows", {"guard": {"project": 1}, "data": {"retain": None}}, "data.retain.path is missing"),
            ("an unknown risk", {"guard": {"retain": 1, "risk": "retained"}}, 'geffect.risks has no "retained"')):
        for options in ([], ["--check"]):
            place = checks.directory / "run"
            place.mkdir(exist_ok=True)
            done = run_input(settings(**sections), 1, precisions()[0], place, options)
            checks.check(done.returncode == 1 and words in done.stderr and done.stderr.count("unlearn: error") == 1 and
                         "input.yaml:" in done.stderr and not (place / "out").exists(), f"{what} {options}", done.stderr)


def main():
    checks = Checks("guard")
    refused(checks)
    digests(checks)
    if "double" in precisions():
        plain = Unguarded(checks)
        checks.check((np.diff(plain.risk) > 1e-3).all(), "the retain risk rises with every update", f"{plain.risk}")
        for part in (stops, steps_back, predicts, evaluated):
            part(checks, plain)
    for precision in precisions():
        layouts(checks, precision)
        for ranks in (1, 2):
            goes_on(checks, ranks, precision)
    checks.finish()


if __name__ == "__main__":
    main()
