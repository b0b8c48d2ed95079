"""end to end: how risks bend along updates: the second-order terms and those of a window of updates.

On a model drawn from the seed and a few rows of the demo's data; what derivatives say is compared with what longer and shorter
steps of sgd did."""
import numpy as np
from harness import Checks, precisions
from measures import Place

LAYOUTS = [(1, 1), (2, 1), (2, 2), (4, 2)]  # ranks, tensor
FIELDS = ("second_order", "second_order_by_layer", "predicted_change_second")


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


def layouts(checks, place):
    runs = [place.run(checks, f"layout {n} {tensor}", settings(place, 1e-2, n, tensor, 2), n) for n, tensor in LAYOUTS]
    if all(runs):
        for (n, tensor), run in zip(LAYOUTS[1:], runs[1:]):
            checks.near(f"{n} ranks, tensor {tensor}", {f: (run[f][:-1], runs[0][f][:-1]) for f in FIELDS}, 1e-10)


def refused(checks, place):
    for what, section, words in (
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
        refused(checks, place)
    checks.finish()


if __name__ == "__main__":
    main()
