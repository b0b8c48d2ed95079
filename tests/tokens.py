"""end to end: tokens.h5. Token effects against the effects that the backward made, in every layout and for the golden models of
every family; sweeps of parameters against the program's own numbers; refusals; going on after a stop; bad input."""
import json
import shutil
import sys

import h5py
import numpy as np
from harness import ROOT, SHARED, Checks, error, few, in_turn, precisions, run_input
from measures import Place

sys.path.insert(0, str(ROOT / "analysis"))
from unlearn_report.run import Run  # noqa: E402
from unlearn_report.tokens import Tokens  # noqa: E402

DUAL = {"double": 1e-10, "float": 1e-3}
OF_TOKENS = ["ga", {"name": "wga", "alpha": 0.5}, {"name": "npo", "beta": 0.1}, "tnpo", "wtnpo", "simnpo", "satimp"]
SETTINGS = [("wga", {"alpha": 0.1}), ("wtnpo", {"beta": 1, "alpha": 0.5}), ("satimp", {"beta1": 2, "beta2": 0.5})]
ALL = [*OF_TOKENS, {"name": "rmu", "layer": 1}, {"name": "rmu", "layer": 2}, "undial", "ceu", "pdu", "po", "dpo"]
LAYOUTS = [(1, 1), (2, 1), (2, 2), (4, 2)]


def read(directory):
    with h5py.File(directory / "out/geffect.h5") as g:
        arrays = {k: g[k][()] for k in ("geffect", "instance_weight", "duality_error")}
        return Tokens(Run(directory / "out/tokens.h5")), arrays, list(g["objective"].asstr()[:])


def totals(arrays, j):
    """(step, risk) of objective j, by the backward."""
    return np.einsum("tkli,i->tk", arrays["geffect"][:, j], arrays["instance_weight"][j])


def against_backward(checks, what, directory, precision, objectives=OF_TOKENS):
    tokens, arrays, names = read(directory)
    worst = np.max(arrays["duality_error"])
    checks.check(worst <= DUAL[precision], f"{what}: duality error {worst:.2g}")
    given = {o if isinstance(o, str) else o["name"]: {} if isinstance(o, str) else {k: v for k, v in o.items() if k != "name"}
             for o in objectives}
    for j, name in enumerate(names):
        if name not in given:
            continue
        e = error(tokens.total(name, **given[name]), totals(arrays, j))
        checks.check(e <= DUAL[precision], f"{what}: {name} from its tokens", f"{e:.2g}")
    return tokens


def layouts(checks, place, precision):
    """The same tokens everywhere, of objectives of all kinds."""
    first = None
    for ranks, tensor in few(LAYOUTS, precision):
        what = f"{precision}, {ranks} ranks, tensor {tensor}"
        settings = place.settings(ranks, tensor, "unlearn", geffect={"objectives": ALL, "tokens": True, "every": 2})
        if not place.run(checks, what, settings, ranks, precision):
            continue
        tokens = against_backward(checks, what, place.directory, precision)
        first = first or tokens
        for name in ("effect", "nll"):
            e = error(getattr(tokens, name), getattr(first, name))
            checks.check(e <= DUAL[precision], f"{what}: {name} as alone", f"{e:.2g}")
        checks.check(tokens.text == first.text and (tokens.id == first.id).all(), f"{what}: the same tokens")


def columns(checks, place):
    """What stands beside the effects: text that adds up to the answers, ids, places."""
    tokens = Tokens(Run(place.directory / "out/tokens.h5"))
    answers = [json.loads(line)["answer"] for line in place.forget]
    for row, part in tokens.rows.items():
        text = "".join(tokens.text[part])
        checks.check(text == f"Answer: {answers[row]}<|endoftext|>", f"row {row}: its tokens' texts make its answer", repr(text))
        checks.check((np.diff(tokens.position[part]) > 0).all(), f"row {row}: positions rise")
    checks.check(len(tokens.rows) == len(answers), "every row has tokens")
    checks.check(np.isfinite(tokens.reference).all() and error(tokens.reference, tokens.nll[0]) < 1e-12,
                 "at the first step the model is the reference")


def sweeps(checks, place):
    """Numbers for other parameters, without running the model again."""
    tokens = Tokens(Run(place.directory / "out/tokens.h5"))
    for name, parameters in SETTINGS:
        settings = place.settings(task="unlearn", geffect={"objectives": [{"name": name, **parameters}, "npo"], "every": 2})
        got = place.run(checks, f"sweep {name}", settings)
        if got:
            e = error(tokens.total(name, **parameters), totals(got, 0))
            checks.check(e <= 1e-10, f"{name} {parameters}: from the tokens of another run", f"{e:.2g}")


def refusals(checks, place):
    settings = place.settings(geffect={"objectives": ["po", "ga"], "tokens": "refusals"})
    if place.run(checks, "refusals", settings):
        tokens = against_backward(checks, "refusals", place.directory, "double", ["po"])
        checks.check(not np.isfinite(tokens.reference).any(), "refusals: no reference")
    digests = []
    for what in ("refusals", True, True):
        done = run_input(place.settings(geffect={"objectives": ["po", "ga"], "tokens": what}), 1, "double", place.directory, ["--check"])
        digests.append(done.stdout.split("digest: ")[-1])
    checks.check(digests[0] != digests[1] == digests[2] and len(digests[1]) == 17, "the digest knows whose tokens", str(digests))


def hidden_alone(checks, place):
    """A pass for losses of hidden states alone ends below the logits: tokens come from another one, before it or behind it."""
    rmu, expected = {"name": "rmu", "layer": 1}, None
    for objectives in (["ga"], [rmu], ["ga", "po", rmu], [rmu, "po", "ga"], [rmu, "ga"]):
        what = f"tokens beside {objectives}"
        if not place.run(checks, what, place.settings(geffect={"objectives": objectives, "tokens": True})):
            continue
        tokens = against_backward(checks, what, place.directory, "double", ["ga"])
        expected = expected or tokens
        for name in ("effect", "nll"):
            e = error(getattr(tokens, name), getattr(expected, name))
            checks.check(e <= DUAL["double"], f"{what}: {name} as beside ga alone", f"{e:.2g}")


def goes_on(checks, place):
    """A run that was stopped and gone on with leaves the bytes of one that was not."""
    for steps, options in ((4, ("--overwrite",)), (2, ("--overwrite",)), (4, ("--restart",))):
        settings = place.settings(task="unlearn", train={"steps": steps}, checkpoint={"every": 2},
                                  geffect={"tokens": True, "every": 1})
        place.run(checks, f"to step {steps}", settings, options=options)
        if steps == 4 and options == ("--overwrite",):
            shutil.copy(place.directory / "out/tokens.h5", place.directory / "whole.h5")
    with h5py.File(place.directory / "whole.h5") as a, h5py.File(place.directory / "out/tokens.h5") as b:
        same = all((a[k][()] == b[k][()]).all() for k in a)
        checks.check(same and len(b["step"]) == 5, "a restart goes on with tokens.h5", f"{list(b['step'])}")


def refused(checks, place):
    for key, word in (("refusals", "no objective reads refusals"), ("all", "false | true | refusals")):
        text = place.run(checks, f"tokens: {key}", place.settings(geffect={"tokens": key}), status=1)
        checks.check(text and word in text, f"tokens: {key}: says what is wrong", str(text))
    text = place.run(checks, "no labels", place.settings(data={"max_length": 4}, geffect={"tokens": True}), status=1)
    checks.check(text and "labelled token" in text, "no labels: says what is wrong", str(text))


def families(checks):
    """The golden models, one step of task geffect each."""
    for nth, case in enumerate(sorted((SHARED / "golden/models").iterdir())):
        config = json.loads((case / "model/config.json").read_text())
        settings = {"task": "geffect", "output": {"directory": "out"},
                    "model": {"path": str(case / "model"), "reference": str(case / "reference")},
                    "data": {"forget": str(case / "forget.jsonl"), "retain": str(case / "retain.jsonl")}, "objective": "npo",
                    "geffect": {"objectives": ["ga", "npo", {"name": "rmu", "layer": 1}], "tokens": True}}
        for ranks, tensor in in_turn(((1, 1), (4, 2)), nth):
            what = f"{case.name} ({config.get('model_type')}), {ranks} ranks, tensor {tensor}"
            done = run_input({**settings, "parallel": {"tensor": tensor}}, ranks, "double", checks.directory, ("--overwrite",))
            if checks.check(done.returncode == 0, f"{what}: exit status {done.returncode}", done.stderr[-800:]):
                against_backward(checks, what, checks.directory, "double", ["ga", "npo"])


def main():
    checks = Checks("tokens")
    place = Place(checks)
    for precision in precisions():
        layouts(checks, place, precision)
    if "double" in precisions():
        for part in (columns, sweeps, refusals, hidden_alone, goes_on, refused):
            part(checks, place)
        if (SHARED / "golden/models").is_dir():
            families(checks)
        else:
            checks.skip("families: no golden models")
    checks.finish()


if __name__ == "__main__":
    main()
