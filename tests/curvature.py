"""end to end: how risks bend along updates: the second-order terms and those of a window of updates.

On a model drawn from the seed and a few rows of the demo's data; what derivatives say is compared with what longer and shorter
steps of sgd did."""
import re
import shutil

import numpy as np
from harness import Checks, few, precisions
from measures import Place

LAYOUTS = [(1, 1), (2, 1), (2, 2), (4, 2)]  # ranks, tensor
FIELDS = ("second_order", "second_order_by_layer", "predicted_change_second")
WINDOW = ("window_first_order", "window_corrected", "window_second_order", "window_measured")


def settings(place, lr, ranks=1, tensor=1, steps=1, **sections):
    return place.settings(ranks, tensor, "unlearn", **{
        "objective": {"name": "npo", "regularizer": ["gd"]}, "optimizer": {"lr": lr}, "train": {"steps": steps},
        "geffect": {"every": 1, "fidelity": True, "curvature": True}, **sections})


def steps_of_many_lengths(checks, place):
    """The first update of sgd at rates 0.5 ... 3: R(theta - s g) at six places of one line; a polynomial has its curvature."""
    what, unit = "lengths", 5e-5
    at, change = np.arange(1, 7) / 2, []
    for s in at:
        got = place.run(checks, f"{what} {s}", settings(place, unit * s))
        if not got:
            return
        change.append(got["actual_change"][0])
        if s == 1:
            middle = got
    # change = s first + s^2 second + ...: first is known, the others are fitted
    change = np.array(change) - at[:, None] * middle["predicted_change"][0]
    fitted = np.linalg.solve(at[:, None] ** np.arange(2, 8), change)[0]
    error = np.abs(fitted / middle["second_order"][0] - 1).max()
    print(f"{what}: second order {middle['second_order'][0]}, of longer and shorter steps {fitted}: {error:.2g} apart")
    checks.check(error < 1e-5, f"{what}: half the second derivative along the step", f"{fitted} {middle['second_order'][0]}")


def adamw(checks, place, precision):
    """Along AdamW's updates, much longer than those of sgd: the second term takes most of what the first leaves."""
    what = f"adamw, {precision}"
    got = place.run(checks, what, settings(place, 3e-4, steps=8, optimizer={"name": "adamw", "lr": 3e-4}), precision=precision)
    if not got:
        return
    actual = got["actual_change"][:-1]
    first, second = (np.abs(got[f][:-1] - actual).mean() for f in ("predicted_change", "predicted_change_second"))
    print(f"{what}: of changes {np.abs(actual).mean():.3g} the first order leaves {first:.3g}, the second {second:.3g}")
    checks.check(second < 0.25 * first, f"{what}: the second order is nearer", f"{first} {second}")
    checks.check(all(np.isnan(got[f][-1]).all() for f in FIELDS), f"{what}: the last row has no update")
    pairs = {"layers": (got["second_order_by_layer"][:-1].sum(-1), got["second_order"][:-1]),
             "prediction": (got["predicted_change_second"][:-1], (got["predicted_change"] + got["second_order"])[:-1])}
    checks.near(f"{what}: sums", pairs, 1e-12)


def bystanders(checks, place):
    """Everything else in the files of a run is to the last bit what it is without."""
    runs = {}
    for what, section in (("without", {}), ("with", {"curvature": {"window": 2}})):
        runs[what] = place.run(checks, f"bystanders {what}", settings(
            place, 1e-3, train={"steps": 4}, geffect={"every": 2, "fidelity": True, **section}))
        runs[what, "model"] = (place.directory / "out/model/model.safetensors").read_bytes()
    differ = [k for k, x in runs["without"].items() if not isinstance(x, (dict, list)) and x.tobytes() != runs["with"][k].tobytes()]
    checks.check(not differ and runs["without", "model"] == runs["with", "model"], "bystanders", f"{differ}")


def layouts(checks, place):
    runs = [place.run(checks, f"layout {n} {tensor}", settings(place, 1e-2, n, tensor, 2), n) for n, tensor in few(LAYOUTS)]
    if all(runs):
        for (n, tensor), run in zip(few(LAYOUTS)[1:], runs[1:]):
            checks.near(f"{n} ranks, tensor {tensor}", {f: (run[f][:-1], runs[0][f][:-1]) for f in FIELDS}, 1e-10)


OBJECTIVES = [{"name": "npo", "regularizer": ["gd", {"name": "kl", "weight": 0.5}]}, {"name": "wga", "alpha": 0.5, "weight": 0.7},
              {"name": "dpo", "regularizer": [{"name": "rr", "layer": 1}]}, {"name": "rmu", "layer": 2}, "pdu", "ceu"]


def windows(checks, place):
    """Halving the rate, what the first order leaves falls to a quarter, what the second leaves to an eighth."""
    for objective in OBJECTIVES:
        what, left = f"window of {objective}", []
        name = objective if isinstance(objective, str) else objective["name"]
        lr = {"wga": 2e-3, "ceu": 5e-3, "rmu": 1e-4, "pdu": 1e-6}.get(name, 1e-5)
        for rate in (lr, lr / 2):
            got = place.run(checks, what, settings(
                place, rate, objective=objective, geffect={"every": 3, "curvature": {"window": 3}},
                train={"steps": 3, "shuffle": True, "freeze": ["layers.0"]}))
            if not got:
                return
            w = {f: got[f] for f in WINDOW}
            checks.check(all(np.isnan(x[0]).all() and np.isfinite(x[1:]).all() for x in w.values()), f"{what}: rows of ends")
            changes = got["risk_value"][1:] - got["risk_value"][:-1]
            checks.near(f"{what}: measured", {"change": (w["window_measured"][1:], changes)}, 1e-12)
            left.append([np.abs(w[f] - w["window_measured"])[1:] for f in WINDOW[:3]])
        first, corrected, second = (a / b for a, b in zip(*left))
        print(f"{what}: halved rates leave 1/{first.mean():.3f} of the first order, 1/{second.mean():.3f} of the second: "
              f"{left[0][0].mean():.3g}, {left[0][1].mean():.3g}, {left[0][2].mean():.3g}")
        checks.check(abs(second / 8 - 1).max() < 0.1, f"{what}: what the second order leaves is of the third", f"{second}")
        checks.check(abs(first / 4 - 1).max() < 0.1, f"{what}: what the first order leaves is of the second", f"{first}")


def window_layouts(checks, place):
    """The same on any layout, and bit for bit where a run is broken off within a window."""
    section = {"objective": OBJECTIVES[0], "geffect": {"every": 2, "curvature": {"window": 4}}, "train": {"steps": 8}}
    runs = [place.run(checks, f"window {n} {tensor}", settings(place, 1e-3, n, tensor, **section), n) for n, tensor in few(LAYOUTS)]
    if not all(runs):
        return
    ends = [2, 4]  # rows of steps 4 and 8
    for (n, tensor), run in zip(few(LAYOUTS)[1:], runs[1:]):
        checks.near(f"window, {n} ranks, tensor {tensor}", {f: (run[f][ends], runs[0][f][ends]) for f in WINDOW}, 1e-10)
    place.run(checks, "a window broken off", settings(place, 1e-3, **section, checkpoint={"every": 3, "keep": 9}))
    for step in (8, 6):
        shutil.rmtree(place.directory / f"out/checkpoint-{step}")
    (place.directory / "out/run.finished").unlink()
    again = place.run(checks, "a window gone on with", settings(place, 1e-3, **section, checkpoint={"every": 3, "keep": 9}),
                      options=("--restart",))
    if again:
        log = (place.directory / "out/run.log").read_text()
        checks.check("restart    from out/checkpoint-3" in log, "a window gone on with: it was", log[:3000])
        for f in WINDOW + FIELDS:
            checks.check(np.array_equal(again[f], runs[0][f], equal_nan=True), f"a window gone on with: {f} is the same")


def window_lost(checks, place):
    """A window that did not fit into the run before it was made longer has no row, and the log says so."""
    section = {"objective": OBJECTIVES[0], "geffect": {"every": 2, "curvature": {"window": 4}}, "checkpoint": {"every": 3, "keep": 9}}
    longer = lambda steps, *options: place.run(checks, f"a run of {steps} updates", settings(place, 1e-3, **section, train={"steps": steps}),
                                               options=options or ("--overwrite",))
    warned = lambda: re.findall(r"warning: .*curvature.window: the row of step (\d+) stays empty", (place.directory / "out/run.log").read_text())
    whole, _ = longer(12), longer(6)
    checks.check(not warned(), "a run that ends within a window: no warning", str(warned()))
    got = longer(12, "--restart")
    if whole and got:
        checks.check(warned()[:1] == ["8"] and set(warned()) == {"8"}, "a window that a longer run would have had: a warning", str(warned()))
        for f in WINDOW:
            finite = np.isfinite(got[f]).all(1)
            checks.check(list(got["step"][finite]) == [4, 12], f"a window that a longer run would have had: {f}", str(got["step"][finite]))
            checks.check(np.array_equal(got[f][finite], whole[f][finite]), f"a longer run: the other windows' {f}")


def refused(checks, place):
    window = lambda n, **more: {"geffect": {"every": 2, "curvature": {"window": n}}, **more}
    for what, section, words in (
            ("a window beyond the run", window(6, train={"steps": 4}), ["geffect.curvature.window", "more than the 4"]),
            ("a window between rows", window(3, train={"steps": 4}), ["geffect.curvature.window", "no multiple"]),
            ("a window of adamw", window(2, train={"steps": 4}, optimizer={"name": "adamw"}), ["optimizer.name: sgd"]),
            ("a window with decay", window(2, train={"steps": 4}, optimizer={"name": "sgd", "weight_decay": 0.1}), ["weight_decay"]),
            ("without updates", {"task": "geffect", "geffect": {"curvature": True}}, ["geffect.curvature", "no update"]),
            ("of an estimate", {"geffect": {"estimator": "moving_average", "curvature": True}}, ["geffect.curvature needs full"])):
        error = place.run(checks, what, {**settings(place, 1e-3), **section}, status=1)
        checks.check(error and all(w in error for w in words) and error.count("unlearn: error") == 1, what, str(error))


def main():
    checks = Checks("curvature")
    place = Place(checks)
    for precision in precisions():
        adamw(checks, place, precision)
    if "double" in precisions():
        steps_of_many_lengths(checks, place)
        layouts(checks, place)
        bystanders(checks, place)
        windows(checks, place)
        window_layouts(checks, place)
        window_lost(checks, place)
        refused(checks, place)
    checks.finish()


if __name__ == "__main__":
    main()
