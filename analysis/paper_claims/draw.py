"""The pictures of the claims, of summary files: where one may trust the effects, and all curves of a setting."""
import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from unlearn_report.look import nth_line, signed_axis

from . import fidelity

CURVE = {"u": ("$e_u$", "#E69F00", "-"), "r": ("$e_r$", "#0B3C6F", (0, (5, 1.5)))}  # the paper's gold and navy
ESTIMATORS = {"full": "full sets", "ma": "moving average"}


def save(figure, path, dpi):
    """As a PNG of 64 colours: a third of the bytes."""
    whole = io.BytesIO()
    figure.savefig(whole, format="png", dpi=dpi)
    Image.open(whole).convert("RGB").quantize(64).save(path, optimize=True)


def of_setting(k):
    """Colour and marker of the k-th setting."""
    style = nth_line(k)
    return style["color"], style["marker"]


def panel(axes, title):
    axes.set_title(title, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def over_prediction(axes, settings):
    """Measured over predicted change of the retain risk by one update, along the schedule."""
    panel(axes, "One update, optimiser's own step:\nmeasured / predicted change of the retain risk")
    axes.axhline(1, color="0.35", linewidth=0.8)
    for k, setting in enumerate(settings):
        rows, (color, marker) = np.array(fidelity.stages(setting)), of_setting(k)
        if not len(rows):
            continue  # no change was predicted
        x = (rows[:, 0] + np.minimum(rows[:, 1], 5)) / 2 + 0.06 * k
        axes.errorbar(x, rows[:, 2], (rows[:, 2] - rows[:, 3], rows[:, 4] - rows[:, 2]), color=color, marker=marker,
                      markersize=5, linewidth=1.4, capsize=2, label=setting.name)
    axes.set_xlabel("epoch (the first is the warm-up)", fontsize=8)
    axes.set_ylim(0)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False)


def by_objective(axes, settings):
    """R^2 of the optimiser's own step, and the correlation of the plain effect with the change between measured steps."""
    panel(axes, "Change of the retain risk between measured steps:\n"
                "$R^2$ of the own step (open), correlation of $-lr\\,e_r$ (full)")
    for k, setting in enumerate(settings):
        found, (color, marker) = fidelity.fits(setting), of_setting(k)
        for y, name in enumerate(fidelity.PAPER):
            if name not in found:
                continue
            y = y + min(0.22, 0.66 / len(settings)) * (k - (len(settings) - 1) / 2)
            for number, face in (("between", "white"), ("plain", color)):
                v = np.maximum(found[name][number], -1)
                axes.plot([v.min(), v.max()], [y, y], color=color, linewidth=1.6)
                axes.plot(v.mean(), y, marker, color=color, markerfacecolor=face, markersize=5, linestyle="none")
    axes.set_yticks(range(len(fidelity.PAPER)), fidelity.PAPER, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(-1.05, 1.05)
    axes.axvline(0, color="0.7", linewidth=0.8)
    axes.set_xlabel("1: perfect; 0: no better than nothing; lines: all seeds", fontsize=8)


def afterwards(axes, settings, name="npo-1", without="npo-still"):
    """An effect that is over beside the risk that goes on, and one that does not."""
    panel(axes, f"{name}: $|e_r|$ of its peak (dashed), rise of the\nretain risk (solid); without momentum (dotted)")
    for k, setting in enumerate(settings):
        color, _ = of_setting(k)
        for seed in setting.seeds():
            run = seed.runs.get(name)
            if run is None:
                continue
            x, risk = fidelity.epochs(run), run["risk_r"]
            axes.plot(x, abs(run.e_r) / abs(run.e_r).max(), color=color, linestyle=(0, (4, 2)), linewidth=1)
            for other, style in ((name, "-"), (without, (0, (1, 1)))):
                if other in seed.runs:
                    rise = seed[other]["risk_r"] - risk[0]
                    axes.plot(x, rise / (risk[-1] - risk[0]), color=color, linewidth=1.4, linestyle=style)
    axes.set_xlabel("epoch", fontsize=8)


def trust(settings):
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(1, 1.25, 1))
    for draw, a in zip((over_prediction, by_objective, afterwards), axes):
        draw(a, settings)
    return figure


def curves(setting):
    """e_u and e_r against the step, panels for each objective and regulariser: full sets, and moving average where it was run; the mean
    of the seeds in the range of all."""
    estimators = {e: word for e, word in ESTIMATORS.items() if any(s.runs for s in setting.seeds(estimator=e))}
    measured = [name for name in fidelity.PAPER if any(name in s.runs for e in estimators for s in setting.seeds(estimator=e))]
    n, rows = len(estimators), -(-len(measured) // 2)
    figure = Figure(figsize=(12, 13 * max(rows, 2) / 7), layout="constrained")
    if not measured:
        figure.suptitle(f"{setting.name}: no effects were measured at its learning rate", fontsize=9)
        return figure
    panels = figure.subplots(rows, 2 * n, sharex=True, squeeze=False)
    for unused in panels.flat[n * len(measured):]:
        unused.set_axis_off()
    for nth, name in enumerate(measured):
        pair, seen = panels[nth // 2, n * (nth % 2):n * (nth % 2) + n], []
        for a, (estimator, word) in zip(pair, estimators.items()):
            panel(a, f"{name}, {word}")
            runs = [s.runs[name] for s in setting.seeds(estimator=estimator) if name in s.runs]
            for of, (label, color, style) in CURVE.items() if runs else ():
                term = f"e_{of}:{name}" if name in ("gd", "kl", "rr") else f"e_{of}"
                each = np.array([r[term] for r in runs])
                seen += list(each)
                a.plot(runs[0].steps, each.mean(axis=0), color=color, linestyle=style, linewidth=1.6, label=label)
                a.fill_between(runs[0].steps, each.min(axis=0), each.max(axis=0), color=color, alpha=0.25, linewidth=0)
            if runs:
                a.axvline(runs[0].warmup, color="0.8", linewidth=0.8)
        if seen:
            for a in pair[1:]:
                a.sharey(pair[0])
            for a in pair:
                signed_axis(a, seen)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    figure.supxlabel("step (grey line: end of the warm-up, one epoch)", fontsize=9)
    figure.supylabel("G-effect (nat²):  ← raises · lowers the risk →", fontsize=9)
    return figure
