"""All pictures that a run has the numbers for; `figures` draws each into a file."""
from pathlib import Path

from . import curvature, over_rows, over_steps, pairs, tokens
from .effects import Measured
from .look import save, strictly


def measured_runs(runs):
    """Those with effects of at least one step."""
    return [Measured(r) for r in runs if r.geffect is not None and "geffect" in r.geffect and r.geffect.sizes["step"]]


def of_one(m, every_source=True):
    """The pictures of one run, the most important first. every_source False: ranges and layers of what was trained alone."""
    run, data = m.run, m.data
    mine = range(len(m.sources()) if every_source else 1)
    drawn = [over_steps.story(m), over_steps.compared([m]), *(over_steps.total_ranges(m, j) for j in mine),
             *(over_steps.layers(m, j) for j in mine), over_rows.instances(m), over_rows.weights(m), over_rows.weight_effect(m),
             over_steps.fidelity(m),
             tokens.picture(tokens.Tokens(run)) if run.tokens is not None and run.tokens.sizes["step"] else None,
             pairs.picture(pairs.Pairs(run)) if "pair_effect" in data else None,
             curvature.picture(run) if "second_order" in data else None, over_steps.training(run)]
    return [p for p in drawn if p is not None]


def of_several(measured):
    return [p for p in (over_steps.tradeoff(measured), over_steps.compared(measured)) if p is not None] if len(measured) > 1 else []


def draw(runs, directory, suffix, only=()):
    """Writes the pictures -> their paths: those of a run into its own directory, unless another is given. only: beginnings of names."""
    measured, paths = measured_runs(runs), []
    drawn = [(m.run, of_one(m)) for m in measured]
    drawn += [(r, [p]) for r in runs if all(r is not m.run for m in measured) and (p := over_steps.training(r))]
    if not drawn:
        raise ValueError(f"{', '.join(str(r.directory) for r in runs)}: nothing is measured: give directories with a geffect.h5, or a train.h5")
    places = [Path(directory, file_name(r.name) if len(drawn) > 1 else "") if directory else r.directory / "figures" for r, _ in drawn]
    if directory and len(set(places)) < len(places):
        raise ValueError(f"{', '.join(r.name for r, _ in drawn)}: two of the same name would write the same files: name them, NAME=RUN")
    for (_, pictures), place in zip(drawn, places):
        paths += write(pictures, place, suffix, only)
    if len(measured) > 1:
        paths += write(of_several(measured), Path(directory or "figures"), suffix, only)
    if not paths:
        raise ValueError(f"--only {' '.join(only)}: no picture has such a name: without --only all are drawn")
    return paths


def write(pictures, place, suffix, only=()):
    paths = []
    for picture in pictures:
        if only and not picture.name.startswith(tuple(only)):
            continue
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{file_name(picture.name)}.{suffix}"
        save(picture, path)
        paths.append(path)
    return paths


def file_name(name):
    """wga(alpha=0.5) as part of a file's name."""
    return "".join(c if c.isalnum() or c in "-._=" else "-" for c in name).rstrip("-")


def add_arguments(parser):
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help="output directory of a run, finished or not")
    parser.add_argument("-o", "--output", metavar="DIR", help="where to (default: figures in the run's own directory)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only pictures whose names begin so; may be repeated")
    parser.add_argument("--format", choices=("png", "pdf", "svg"), default="png")


def draw_chosen(runs, chosen):
    with strictly():
        return draw(runs, chosen.output, chosen.format, chosen.only)
