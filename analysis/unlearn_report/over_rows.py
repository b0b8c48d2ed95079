"""Pictures over the rows of the forget file: weights that an objective gives them, what they do to the risks, which do most."""
import numpy as np
from matplotlib.ticker import NullLocator

from .look import COLOURS, MARKERS, WIDTH, Panel, Picture, as_text, columns_of, dress, finite, line, nth_legend, nth_line

BUCKETS = ("#9E9E9E", "#56B4E9", "#009E73", "#E69F00", "#D55E00")  # of weights, from small to large
ROWS = 12  # in the ranking


def weighted(m):
    """The objectives that weigh rows or tokens: [(name, weight [step][instance])]."""
    if "objective_weight" not in m.data:
        return []
    return [(o, w) for j, o in enumerate(m.objectives) if np.isfinite(w := m.data.objective_weight.isel(objective=j).values).any()]


def mean_of(m, name, values):
    """[step]: over rows that have a number, with the objective's weights of rows."""
    weight = m.data.instance_weight.isel(objective=m.objectives.index(name)).values
    known = np.isfinite(values)
    share = (weight * known).sum(1)
    return np.where(share > 0, (np.where(known, values, 0) @ weight) / np.where(share > 0, share, 1), np.nan)


def weights(m):
    """Over steps: how strongly rows still pull."""
    those = weighted(m)
    if not those:
        return None

    def means(a):
        for k, (name, w) in enumerate(those):
            line(a, m.steps, mean_of(m, name, w), label=name, **nth_line(k))
        a.set_ylim(0, 1.08 * max(finite([w for _, w in those]).max(initial=0), 1e-9))
        dress(a, "mean weight of the forget rows", "step", "weight (1)")

    def one(name, w):
        def on(a):
            for values in w.T:
                a.plot(m.steps, values, color=COLOURS[1], linewidth=0.8, alpha=max(0.12, min(0.7, 8 / w.shape[1])))
            line(a, m.steps, mean_of(m, name, w), color="black", linewidth=2, marker="o")
            a.set_ylim(0, 1.08 * max(finite([w]).max(initial=0), 1e-9))
            dress(a, f"{name}: each row (thin) and their mean", "step", "weight (1)")
        return on

    panels = [Panel(means)] * (len(those) > 1) + [Panel(one(*x)) for x in those]
    return Picture("weights", f"{m.run.name}: how strongly the rows still pull",
                   "npo weighs whole answers: 1 at the start, 0 once an answer is much less likely than before. wga, tnpo and their kin weigh "
                   "tokens: shown is the mean over an answer's. A weight near 0 leaves the row alone.",
                   panels, columns_of(len(panels)), nth_legend([n for n, _ in those]) if len(those) > 1 else [])


def pointwise(m, name, w, risk):
    """[step][instance]: the effect of a row over its weight; NaN where that is next to nothing."""
    e = m.data.geffect.isel(objective=m.objectives.index(name)).sel(risk=risk).sum("layer", skipna=False).values
    return np.where(w > 1e-6, e / np.where(w > 1e-6, w, 1), np.nan)


def density(values, at):
    """Gaussian kernel estimate [at], of the width that Silverman's rule gives."""
    width = max(0.9 * min(values.std(), np.subtract(*np.percentile(values, [75, 25])) / 1.34 or np.inf) * len(values) ** -0.2, 1e-3)
    return np.exp(-0.5 * ((at[:, None] - values) / width) ** 2).mean(1) / (width * np.sqrt(2 * np.pi))


def bent_axis(axis, values, width):
    """Linear within width of zero, logarithmic farther out; ticks at decades that do not touch."""
    getattr(axis.axes, f"set_{axis.axis_name}scale")("asinh", linear_width=width)
    powers = width * 10.0 ** np.arange(0, 12)
    low, high = values.min(), values.max()
    axis.set_ticks([*(-p for p in powers[::-1] if -p >= 1.5 * low), 0, *(p for p in powers if p <= 1.5 * high)])
    axis.set_minor_locator(NullLocator())


def weight_effect(m):
    """Do the weights favour rows that cost little? Effects of single rows by the weight that they get, all steps together."""
    those, u, r = weighted(m), m.side("forget"), m.side("retain")
    if not those or u is None or r is None or u == r:
        return None
    name, w = those[0]
    x, y = pointwise(m, name, w, u), pointwise(m, name, w, r)
    known = np.isfinite(x) & np.isfinite(y) & np.isfinite(w)
    if known.sum() < 3:
        return None
    x, y, w = x[known], y[known], w[known]
    edges = np.linspace(0, max(w.max(), 1e-12), 6)
    bucket = np.clip(np.digitize(w, edges) - 1, 0, 4)
    names = [f"{edges[b]:.2g} to {edges[b + 1]:.2g}: {(bucket == b).sum()} points" for b in range(5)]
    scale = lambda v: 10 ** np.floor(np.log10(np.percentile(np.abs(v), 75) or 1))  # farther from zero the axis is logarithmic

    def plane(a):
        for b in range(5):
            a.plot(x[bucket == b], y[bucket == b], linestyle="", marker=MARKERS[b], color=BUCKETS[b], markersize=4, alpha=0.6)
        bent_axis(a.xaxis, x, scale(x))
        bent_axis(a.yaxis, y, scale(y))
        a.axhline(0, color="0.35", linewidth=0.8)
        a.axvline(0, color="0.35", linewidth=0.8)
        dress(a, f"each row at each step, {name}", f"effect on “{u}” per weight (nat²)", f"effect on “{r}” per weight (nat²)")
        a.tick_params(axis="x", labelrotation=30)

    def ridges(a):
        bend, straight = lambda v: np.arcsinh(v / scale(y)), lambda v: scale(y) * np.sinh(v)
        at = np.linspace(bend(y).min() - 0.3, bend(y).max() + 0.3, 300)
        for b in range(5):
            mine = bend(y[bucket == b])
            if len(mine) > 2:
                curve = density(mine, at)
                a.fill_between(straight(at), b, b + 0.85 * curve / curve.max(), color=BUCKETS[b], alpha=0.55, linewidth=0, zorder=9 - b)
            a.plot(straight(mine), np.full(len(mine), b), linestyle="", marker="|", color="black", markersize=5, alpha=0.5, zorder=10)
        bent_axis(a.xaxis, y, scale(y))
        a.axvline(0, color="0.35", linewidth=0.8)
        a.set_yticks(range(5), [f"{edges[b]:.2g}–{edges[b + 1]:.2g}" for b in range(5)])
        dress(a, f"density of the effect on “{r}”, by weight", f"effect on “{r}” per weight (nat²)", "weight (1)")
        a.tick_params(axis="x", labelrotation=30)

    panels = [Panel(plane, WIDTH, 3.3), Panel(ridges, WIDTH, 3.3)]
    handles = nth_legend(names)
    for b, (handle, _) in enumerate(handles):
        handle.set(color=BUCKETS[b], linestyle="", marker=MARKERS[b])
    return Picture("weight-effect", f"{m.run.name}: does {name} spare the rows that cost most?",
                   "Effects of single forget rows over the weight that the objective gives them: what the row would do with weight 1. Left of "
                   "zero a row costs what must stay: there the weights should be small. All measured steps together.", panels, 2, handles)


def shorten(text, n):
    return text if len(text) <= n else text[:n - 1].rstrip() + "…"


def ranking(m):
    """[(row, e_u, e_r)] of the trained objective at the step of its largest effect on what must stay, weighted, largest |e_r| first."""
    u, r = m.place("forget"), m.place("retain") or m.place("forget")
    total = np.abs(m.find(r).total)
    at = int(np.argmax(np.where(np.isfinite(total), total, -1)))
    e = (m.data.geffect.isel(step=at, objective=0) * m.data.instance_weight.isel(objective=0)).sum("layer", skipna=False)
    e_u, e_r = e.sel(risk=u).values, e.sel(risk=r).values
    order = np.argsort(-np.abs(np.nan_to_num(e_r)), kind="stable")
    return int(m.steps[at]), u, r, [(int(m.data.instance.values[i]), e_u[i], e_r[i]) for i in order]


def instances(m):
    """The rows that do most, with their questions."""
    step, u, r, rows = ranking(m)
    share = np.nan_to_num(np.abs([x[2] for x in rows]))
    rows = rows[:ROWS]

    def on(a):
        for n, (row, e_u, e_r) in enumerate(rows):
            a.barh(n + 0.12, e_u, 0.24, color=COLOURS[0], hatch="////", edgecolor="white", linewidth=0)
            a.barh(n + 0.37, e_r, 0.24, color=COLOURS[1], linewidth=0)
            a.text(0.0, n - 0.06, as_text(shorten(f"{row}  {m.run.question('forget', row)}", 100)), transform=a.get_yaxis_transform(),
                   fontsize=7.2, va="bottom", clip_on=False)
        a.axvline(0, color="0.35", linewidth=0.8)
        a.set_ylim(len(rows) - 0.35, -0.45)
        a.set_yticks([])
        a.margins(x=0.04)
        dress(a, f"{m.objectives[0]} at step {step}", "effect of the row, weighted (nat²)   ← raises · lowers the risk →")
        a.spines["left"].set_visible(False)

    legend = nth_legend([f"on “{u}”", f"on “{r}”"])
    for (handle, _), k in zip(legend, (0, 1)):
        handle.set(linestyle="-", linewidth=6, marker="", color=COLOURS[k])
    return Picture("instances", f"{m.run.name}: the rows that do most",
                   f"Forget rows with the largest effect on “{r}” at the step where the total is largest; the number is the row of the file, from 0. " +
                   (f"These {ROWS} of {len(share)} rows make {100 * share[:ROWS].sum() / (share.sum() or 1):.0f} % of all absolute effects."
                    if len(share) > ROWS else "All rows are shown."),
                   [Panel(on, WIDTH, 0.9 + 0.36 * len(rows))], 1, legend)
