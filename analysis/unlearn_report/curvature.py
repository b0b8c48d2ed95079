"""How good a straight line was: changes of the risks by each measured update to first and second order, and as they were; and
those of windows of updates. From the geffect.h5 of a run with geffect.curvature and geffect.fidelity."""
import numpy as np
from matplotlib.colors import CenteredNorm

from .look import WIDTH, Panel, Picture, dress, finite, layer_ticks, line, map_height, save, signed_map, step_edges
from .run import open_runs

FIRST, SECOND, ACTUAL = "predicted_change", "predicted_change_second", "actual_change"
WINDOW = ("window_first_order", "window_corrected", "window_second_order", "window_measured")


def read(run):
    """steps, risks, layers, {variable: values}; no values where the run had no curvature."""
    data = run.geffect
    run.must_read("geffect.h5")
    if data is None or "second_order" not in data:
        raise ValueError(f"{run.directory}: has no second order of the risks: run with geffect.curvature: true, see docs/CURVATURE.md")
    got = {k: data[k].values for k in (FIRST, SECOND, ACTUAL, "second_order", "second_order_by_layer", *WINDOW) if k in data}
    return data.step.values, list(data.risk.values), list(data.layer.values), got


def table(steps, risks, names, got):
    names = [n for n in names if n in got]
    print("  step  risk      " + "".join(f"{n.removeprefix('predicted_').removeprefix('window_'):>16}" for n in names))
    for t, step in enumerate(steps):
        for k, risk in enumerate(risks):
            values = [got[n][t, k] for n in names]
            if np.isfinite(values).any():
                print(f"{step:6d}  {risk:<10}" + "".join(f"{v:16.6g}" for v in values))


def picture(of):
    steps, risks, layers, got = read(of)
    styles = {ACTUAL: ("#000000", "-", "o", "as it was"), FIRST: ("#0072B2", "--", "s", "first order"),
              SECOND: ("#D55E00", ":", "^", "second order")}
    if len(steps) < 2:
        return None

    def changes(k):
        def on(a):
            for name, (colour, dash, marker, label) in styles.items():
                if name in got:
                    line(a, steps, got[name][:, k], color=colour, linestyle=dash, marker=marker, label=label)
            a.axhline(0, color="0.35", linewidth=0.8, zorder=1)
            a.legend(fontsize=7.5, frameon=False)
            dress(a, f"change of the risk “{risks[k]}” by one update", "step", "nat")
        return on

    def parts(k):
        def on(a):
            parts = got["second_order_by_layer"][:, k].T
            signed_map(a, step_edges(steps), np.arange(len(layers) + 1) - 0.5, parts, CenteredNorm(halfrange=np.abs(finite([parts])).max(initial=0) or 1))
            layer_ticks(a, layers)
            dress(a, f"its second order on “{risks[k]}” (nat)", "step")
            a.grid(False)
        return on

    n = len(risks)
    return Picture("curvature", f"{of.name}: how straight a line the risks follow",
                   "Where the second order changes little, the G-effects of a step say what it did. Below: in which layer the risk bends along "
                   "the update; orange with +: upwards, blue: downwards.",
                   [Panel(changes(k)) for k in range(n)] + [Panel(parts(k), WIDTH, map_height(layers)) for k in range(n)], n)


def add_arguments(parser):
    parser.add_argument("run", metavar="[NAME=]RUN", help="output directory of a run, or its geffect.h5")
    parser.add_argument("--picture", metavar="FILE", help="draws into a PNG, PDF or SVG")


def run(chosen):
    of = open_runs([chosen.run])[0]
    steps, risks, _, got = read(of)
    table(steps, risks, (FIRST, "second_order", SECOND, ACTUAL), got)
    if WINDOW[0] in got:
        print("\nwindows of updates that end at")
        table(steps, risks, WINDOW, got)
    if chosen.picture:
        drawn = picture(of)
        if drawn is None:
            raise ValueError(f"{chosen.run}: a picture needs two measured steps")
        save(drawn, chosen.picture)
        print(chosen.picture)
