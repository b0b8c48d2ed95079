"""Pictures over the steps of a run: risks and effects, by group of layers, at several ranges, layer by layer; what updates did."""
import numpy as np
from matplotlib.ticker import MaxNLocator, NullLocator

from .look import (COLOURS, MARKERS, SIGN, TOTAL, WIDTH, Panel, Picture, columns_of, dress, finite, group_legend, group_line, layer_ticks, limits,
                   line, log_colours, map_height, nth_legend, nth_line, ranges, signed_axis, signed_map, step_edges, wanted)

REGULARISER = " (regulariser)"
PURPOSE = {"forget": "to be forgotten", "retain": "to be kept", "": "other rows"}


def log_if_wide(axes, values):
    if len(values) and values.min() > 0 and values.max() > 30 * values.min():
        axes.set_yscale("log")
        axes.set_ylim(values.min() / 1.3, values.max() * 1.3)
        axes.yaxis.set_minor_locator(NullLocator())
    elif len(values):
        axes.set_ylim(0, 1.08 * max(values.max(), 1e-12))


def story(m):
    """A column for each risk: the risk itself, and below what the objective and each regulariser do to it."""
    k, panels = len(m.risks), []
    everything = finite(list(m.risk_value.values()))

    def risk(r):
        def draw(a):
            line(a, m.steps, m.risk_value[r], color="black", marker="o", linestyle="-")
            log_if_wide(a, everything)
            dress(a, f"risk “{r}”: {PURPOSE[m.run.meant(r)]}", "step", f"risk ({m.unit})\n← known · forgotten →")
        return draw

    def effect(e, curves, name):
        def draw(a):
            line(a, m.steps, e.total, **TOTAL)
            for group, values in e.group.items():
                line(a, m.steps, values, zorder=3, **group_line(group))
            signed_axis(a, curves)
            wanted(a, m.run.meant(e.risk))
            dress(a, f"effect of {name} on “{e.risk}”", "step", SIGN)
        return draw

    width = max(2.9, min(WIDTH, 17 / k))
    panels += [Panel(risk(r), width, 2.2) for r in m.risks]
    for row in m.sources():
        if row[0].kind == "objective" and row[0].source != m.objectives[0]:
            continue  # measured beside it, not trained: compared() has these
        curves = [c for e in row for c in (e.total, *e.group.values())]
        name = row[0].source if row[0].source == m.trained else {
            "regularizer": "the regulariser {}", "objective": "{}, not trained,"}[row[0].kind].format(row[0].source)
        panels += [Panel(effect(e, curves, name), width, 2.6) for e in row]
    return Picture("story", f"{m.run.name}: risks, and what each step does to them",
                   "A G-effect e = ⟨∇R, ∇L⟩ says what a small step on L does to the risk R: it changes R by -lr·e. Below zero the step "
                   "raises the risk (forgets), above it lowers the risk (learns). Grey: what unlearning wants. Panels of a row have one "
                   "scale, logarithmic away from zero where values differ much.", panels, k, group_legend(m.effects[0].group))


def total_ranges(m, j):
    """Effects of the j-th source at several ranges of y: the totals on all risks, then by group on each."""
    row, panels, widest = m.sources()[j], [], 1
    source = row[0].source

    def draw(title, curves, bound, nth):
        def on(a):
            for values, style in curves:
                line(a, m.steps, values, **style)
            a.axhline(0, color="0.35", linewidth=0.8, zorder=1)
            values = finite([c for c, _ in curves])
            a.set_ylim(*limits(values[np.abs(values) <= bound]))
            dress(a, title if nth == 0 else f"the same, |e| up to {bound:.2g}", "step", SIGN if nth == 0 else None)
        return on

    sets = [(f"totals of {source} on each risk", [(e.total, nth_line(k)) for k, e in enumerate(row)])]
    for e in row:
        sets.append((f"{source} on “{e.risk}”, by group of layers",
                     [(e.total, TOTAL), *((v, group_line(g)) for g, v in e.group.items())]))
    bounds = [ranges([c for c, _ in curves]) for _, curves in sets]
    widest = max(map(len, bounds))
    for (title, curves), own in zip(sets, bounds):
        own = own + own[-1:] * (widest - len(own)) if widest > 1 else own
        panels += [Panel(draw(title, curves, b, n)) for n, b in enumerate(own[:widest])]
    return Picture(f"effects-{source}", f"{m.run.name}: effects of {source} at {'several ranges' if widest > 1 else 'their full range'}",
                   "The same curves from the left to the right at ever smaller ranges of y; what leaves a range is cut off there. Below zero: "
                   "a step raises the risk; above: lowers it.", panels, widest,
                   nth_legend([f"total on “{r}”" for r in m.risks]) + group_legend(row[0].group))


def layers(m, j):
    """A map layer x step of the j-th source for each risk."""
    row = m.sources()[j]
    names = list(row[0].by_layer.layer.values)
    norm = log_colours(np.array([e.by_layer.values for e in row]))

    def draw(e):
        def on(a):
            signed_map(a, step_edges(m.steps), np.arange(len(names) + 1) - 0.5, e.by_layer.values.T, norm, "nat²")
            layer_ticks(a, names)
            dress(a, f"{e.source} on “{e.risk}”", "step")
            a.grid(False)
        return on

    return Picture(f"layers-{row[0].source}", f"{m.run.name}: where {row[0].source} acts, layer by layer",
                   "Blue: a step raises the risk through this layer (forgets); orange with +: lowers it (learns). One scale of colours for all "
                   "risks, logarithmic away from zero. The input is at the bottom, the output at the top.",
                   [Panel(draw(e), WIDTH, map_height(names)) for e in row], columns_of(len(row)))


def fidelity(m):
    """Predicted against measured change of each risk, by the updates that were measured."""
    if not m.changes:
        return None
    second = m.data.get("predicted_change_second")
    panels = []

    def draw(k, c):
        def on(a):
            kinds = [("first order, the optimiser's step", c.aware, 0), ("first order, plain SGD", c.plain, 1)]
            if second is not None:
                kinds.append(("second order, the optimiser's step", second.isel(risk=k).values, 2))
            known = np.isfinite(c.actual)
            for label, values, n in kinds:
                r2 = c.r_squared(values)
                a.plot(c.actual[known], values[known], color=COLOURS[n], marker=MARKERS[n], linestyle="", markersize=5,
                       markerfacecolor=COLOURS[n] if n != 1 else "none", label=f"{label}: R² {r2:.2f}" if np.isfinite(r2) else label)
            both = finite([c.actual[known], c.aware[known]])
            low, high = limits(both)
            a.plot([low, high], [low, high], color="0.5", linewidth=0.9, zorder=0)
            a.set_xlim(low, high)
            a.set_ylim(low - 0.25 * (high - low), high + 0.35 * (high - low))
            a.legend(fontsize=7, frameon=False, loc="upper left")
            a.xaxis.set_major_locator(MaxNLocator(5))
            a.ticklabel_format(style="sci", scilimits=(-2, 4))
            a.xaxis.offsetText.set_fontsize(7.5)
            a.yaxis.offsetText.set_fontsize(7.5)
            a.yaxis.offsetText.set_x(-0.12)
            dress(a, f"change of the risk “{c.risk}” by an update", "measured (nat)", "predicted (nat)")
        return on

    panels = [Panel(draw(k, c), WIDTH, 3.3) for k, c in enumerate(m.changes)]
    return Picture("fidelity", f"{m.run.name}: do the risks change as the effects say?",
                   "Each point is one measured update. On the grey line the prediction is exact. Plain SGD: the change that the G-effect itself "
                   "predicts at the same learning rate; the optimiser (AdamW) makes other and larger steps. R² below zero: worse than their mean.",
                   panels, columns_of(len(panels)))


def training(run):
    """Loss and its parts, size of the gradient, learning rate."""
    if run.train is None or run.train.sizes["step"] < 2:
        return None
    data, steps = run.train, run.train.step.values
    losses = [("loss", "sum that is minimised")] + [(v, v.removeprefix("loss_")) for v in data if v.startswith("loss_")]
    norms = [("gradient_norm", "whole")] + [(v, v.removeprefix("gradient_norm_")) for v in data if v.startswith("gradient_norm_")]

    def draw(names, title, unit):
        def on(a):
            for k, (v, label) in enumerate(names):
                line(a, steps, data[v].values, label=label, **nth_line(k))
            dress(a, title, "step", unit)
            if len(names) > 1:
                a.legend(fontsize=7.5, frameon=False)
        return on

    panels = [Panel(draw(losses, "loss of the batches", "nat"), height=2.5),
              Panel(draw(norms, "norm of the gradient", "nat"), height=2.5),
              Panel(draw([("lr", "")], "learning rate", None), height=2.5)]
    return Picture("training", f"{run.name}: the training itself", "Each update's own batch; losses are not multiplied by their weights, the sum is.",
                   panels, 3)


def compared(measured):
    """Objectives side by side: those of one run on the same weights, or those that several runs trained."""
    several = len(measured) > 1
    curves = {}  # label: {risk: (steps, total)}
    for m in measured:
        for row in m.sources():
            if not several or row[0].source == m.trained:
                label = m.run.name if several else row[0].source + (REGULARISER if row[0].kind == "regularizer" else "")
                curves[label] = {e.risk: (m.steps, e.total) for e in row}
    risks = [r for r in measured[0].risks if all(r in c for c in curves.values())]
    if len(curves) < 2 or not risks or not several and len(measured[0].objectives) == len(measured[0].regularizers) == 1:
        return None  # those two stand in the story, one above the other
    meant = measured[0].run.meant

    def draw(r):
        def on(a):
            for k, c in enumerate(curves.values()):
                line(a, *c[r], **nth_line(k))
            signed_axis(a, [c[r][1] for c in curves.values()])
            wanted(a, meant(r))
            dress(a, f"effects on the risk “{r}”", "step", SIGN)
        return on

    panels = [Panel(draw(r)) for r in risks]
    u, r = measured[0].side("forget"), measured[0].side("retain")
    if u in risks and r in risks and u != r:
        panels.append(Panel(ratio(curves, u, r)))
    what = "trained by several runs" if several else "measured on the same weights"
    return Picture("compared", f"objectives side by side, {what}",
                   "Below zero: a step raises the risk; above: lowers it; grey: what unlearning wants. Sizes of different losses are not comparable "
                   "(a loss may be multiplied by any number): signs and the quotient are.", panels, columns_of(len(panels)), nth_legend(curves))


def ratio(curves, u, r):
    def on(a):
        for k, (label, c) in enumerate(curves.items()):
            if label.endswith(REGULARISER):  # pulls the other way: nothing is bought
                continue
            steps, e_u = c[u]
            e_r = c[r][1]
            known = np.abs(e_u) > 1e-3 * np.abs(e_u[np.isfinite(e_u)]).max(initial=0)  # beyond that the quotient is of noise
            line(a, steps[known], e_r[known] / np.abs(e_u[known]), **nth_line(k))
        a.axhline(0, color="0.35", linewidth=0.8, zorder=1)
        a.set_yscale("symlog", linthresh=0.1, linscale=0.4)
        a.yaxis.set_minor_locator(NullLocator())
        wanted(a, "retain")
        dress(a, f"price: e on “{r}” over |e on “{u}”|", "step", "quotient (1)\n← costs · helps what stays →")
    return on


def tradeoff(measured):
    """Several runs as paths: what is forgotten against what it costs."""
    if len(measured) < 2:
        return None
    u, r = measured[0].side("forget"), measured[0].side("retain")
    unit, those = measured[0].unit, [m for m in measured if u in m.risks and r in m.risks]
    others, those = [m.run.name for m in those if m.unit != unit], [m for m in those if m.unit == unit]
    if u is None or r is None or u == r or len(those) < 2:
        return None

    def on(a):
        for k, m in enumerate(those):
            x, y = m.risk_value[u], m.risk_value[r]
            line(a, x, y, **nth_line(k) | {"markevery": [m.end], "markersize": 7})
        a.plot(those[0].risk_value[u][0], those[0].risk_value[r][0], marker="*", color="black", markersize=11, linestyle="", label="start")
        for set_scale, name in ((a.set_xscale, u), (a.set_yscale, r)):
            values = finite([m.risk_value[name] for m in those])
            if values.min(initial=1) > 0 and values.max(initial=1) > 10 * values.min(initial=1):
                set_scale("log")
        a.legend(fontsize=7.5, frameon=False, loc="upper left")
        dress(a, "what forgetting costs", f"risk “{u}” ({unit}): forgotten →", f"risk “{r}” ({unit})\nkept ← → lost")

    return Picture("tradeoff", "what is forgotten against what it costs",
                   "Each run is a path from the star; the marker is the model that it leaves, its last measured step but where a guard stepped back. "
                   "Best is to the right and low." +
                   (f" Left out, as their risks have another unit: {', '.join(others)}." if others else ""),
                   [Panel(on, WIDTH + 1, 3.6)], 1, nth_legend([m.run.name for m in those]))
