"""Every picture is drawn from every kind of run, shows the numbers of the file, and loses nothing at its edges."""
import io
import shutil
import warnings

import h5py
import numpy as np
import pytest
from conftest import command
from PIL import Image
from unlearn_report import figures, look, over_rows, over_steps
from unlearn_report.effects import Measured
from unlearn_report.run import Run, open_runs

NAMES = {
    "everything": {"story", "compared", "effects-npo", "effects-ga", "effects-gd", "layers-npo", "layers-ga", "layers-gd", "instances", "weights", "weight-effect", "fidelity", "tokens", "pairs", "curvature", "training"},
    "plain": {"story", "effects-ga", "layers-ga", "instances", "training"},
    "single": {"story", "compared", "effects-ga", "effects-npo", "layers-ga", "layers-npo", "instances", "weights", "weight-effect"},
}
NAMES["trajectory"] = NAMES["single"]


@pytest.mark.parametrize("kind", NAMES)
def test_a_run_has_the_pictures_of_its_numbers_and_none_is_cut_off(runs, kind):
    pictures = figures.of_one(Measured(Run(getattr(runs, kind))))
    assert {p.name for p in pictures} == NAMES[kind]
    for picture in pictures if kind != "trajectory" else ():  # drawn as single is
        assert picture.caption and picture.title
        figure = look.compose(picture)
        figure.draw_without_rendering()
        inside, box = figure.bbox.padded(3), figure.get_tightbbox().transformed(figure.dpi_scale_trans)
        assert inside.x0 <= box.x0 and inside.y0 <= box.y0 and box.x1 <= inside.x1 and box.y1 <= inside.y1, (kind, picture.name, inside, box)
        assert all(a.get_title(loc="left") for a in figure.axes[:len(picture.panels)] if a.get_label() != "<colorbar>"), picture.name


def test_the_story_draws_the_totals_of_the_file(runs):
    m = Measured(Run(runs.everything))
    picture = over_steps.story(m)
    assert picture.columns == 3 and len(picture.panels) == 3 * 3  # risks, npo, gd; ga was not trained
    for panel, expected in zip(picture.panels, [*m.risk_value.values(), *(e.total for e in m.effects[:3] + m.effects[-3:])]):
        x, y = look.alone(panel).axes[0].lines[0].get_data()
        assert np.array_equal(x, m.steps) and np.array_equal(y, expected)


def test_axes_have_the_unit_of_the_risks(runs):
    for run, unit in ((runs.everything, "nat per token"), (runs.plain, "nat per sequence")):
        assert f"({unit})" in look.alone(over_steps.story(Measured(Run(run))).panels[0]).axes[0].get_ylabel()
    measured = [Measured(Run(runs.everything)) for _ in range(3)]
    measured[0].unit = measured[2].unit = "nat per sequence"
    picture = over_steps.tradeoff(measured)  # sums and means have no axis in common
    axes = look.alone(picture.panels[0]).axes[0]
    assert "(nat per sequence)" in axes.get_xlabel() and "(nat per sequence)" in axes.get_ylabel() and len(picture.legend) == 2
    assert "another unit: everything." in picture.caption
    assert over_steps.tradeoff(measured[:2]) is None


def test_wanted_is_below_zero_for_what_is_forgotten_and_above_for_what_stays(runs):
    m = Measured(Run(runs.everything))
    spans = [look.alone(p).axes[0].patches for p in over_steps.story(m).panels[3:6]]
    assert [len(s) for s in spans] == [1, 0, 1]
    assert spans[0][0].get_y() < 0 and spans[0][0].get_y() + spans[0][0].get_height() == 0 and spans[2][0].get_y() == 0


def test_ranges_cut_the_same_curves_closer():
    values = np.array([0.1, -100.0, 0.2, 0.15, -0.3, 0.1])
    assert look.ranges([values]) == [100, 0.3]


def test_curves_differ_in_grey_and_for_any_colour_vision():
    groups = [look.group_line(g) for g in look.GROUP_LINE]
    assert len({str(g["linestyle"]) for g in groups}) == len({g["color"] for g in groups}) == 5
    nth = [look.nth_line(k) for k in range(7)]
    assert len({str(n["linestyle"]) for n in nth}) == len({n["marker"] for n in nth}) == len({n["color"] for n in nth}) == 7
    many = [look.nth_line(k) for k in range(343)]
    assert len({tuple(map(str, n.values())) for n in many}) == 343
    assert len({(str(n["linestyle"]), n["marker"]) for n in many[:49]}) == len({(n["color"], n["marker"]) for n in many[:49]}) == 49
    grey = [look.SIGNED(x)[:3] @ np.array([0.299, 0.587, 0.114]) for x in (0.0, 0.25, 0.5, 1.0)]
    assert grey[0] < grey[1] < grey[2] and grey[3] > grey[0] + 0.15  # the darkest is negative; above zero cells have a +


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind, counts", [(UserWarning, True), (RuntimeWarning, True), (DeprecationWarning, False), (FutureWarning, False),
                                          (PendingDeprecationWarning, False)])
def test_a_doubtful_picture_is_a_fault_and_an_old_library_is_none(kind, counts):
    with pytest.raises(kind) if counts else warnings.catch_warnings(), look.strictly():
        warnings.warn("the layout collapsed", kind)
    with look.strictly():
        warnings.warn("'x' is deprecated: use y", UserWarning)  # as numpy's VisibleDeprecationWarning, which is of this kind


def test_a_small_png_keeps_every_colour(runs):
    picture = over_rows.weight_effect(Measured(Run(runs.everything)))
    figure, raw = look.compose(picture), io.BytesIO()
    figure.savefig(raw, dpi=100)
    before, after = (np.asarray(Image.open(b).convert("RGB")).astype(int) for b in (raw, io.BytesIO(look.png(figure, 100))))
    assert np.abs(before - after).max() < 40
    for colour in over_rows.BUCKETS:  # of lines and areas, not of their edges
        exact = [int(colour[i:i + 2], 16) for i in (1, 3, 5)]
        assert np.abs(after[(before == exact).all(-1)] - exact).max(initial=0) <= 7, colour


def test_cells_above_zero_are_marked(runs):
    m = Measured(Run(runs.everything))
    axes = look.alone(over_steps.layers(m, 2).panels[2]).axes[0]
    values = m.find("retain", "gd").by_layer.values
    most = max(np.abs(e.by_layer.values).max() for e in m.sources()[2])
    assert len(axes.lines[0].get_xdata()) == (values > most / 10**look.DECADES).sum() > 0


def test_several_runs_are_set_side_by_side(runs):
    measured = [Measured(r) for r in open_runs([f"a={runs.everything}", f"b={runs.trajectory}", f"c={runs.single}"])]
    names = [p.name for p in figures.of_several(measured)]
    assert names == ["tradeoff", "compared"] and figures.of_several(measured[:1]) == []
    assert [p.name for p in figures.of_several([measured[0], Measured(Run(runs.plain))])] == ["compared"]  # it has no retain risk


def test_numbers_that_are_not_finite_do_no_harm(runs, tmp_path):
    shutil.copytree(runs.everything, tmp_path / "nan")
    with h5py.File(tmp_path / "nan/geffect.h5", "r+") as f:
        f["geffect"][2] = np.nan
        f["risk_value"][2] = np.nan
        f["objective_weight"][:] = np.nan
        f["actual_change"][:] = np.nan
    names = {p.name for p in figures.of_one(Measured(Run(tmp_path / "nan")))}
    assert names == NAMES["everything"] - {"weights", "weight-effect"}
    figures.draw([Run(tmp_path / "nan")], tmp_path / "out", "svg", ("story", "layers-npo"))


def test_many_risks_have_a_column_each_that_is_not_cut_off(runs):
    run = Run(runs.everything)
    run.geffect = run.geffect.isel(risk=[0, 1, 2, 0, 1, 2, 0, 1]).assign_coords(risk=[f"a rather long risk {k}" for k in range(8)])
    m = Measured(run)
    story, ranges = over_steps.story(m), over_steps.total_ranges(m, 0)
    assert story.columns == 8 and len(ranges.panels) % 9 == 0 and len({str(look.nth_line(k)) for k in range(7)}) == 7
    figure = look.compose(story)
    figure.draw_without_rendering()
    titles = [a.title_bbox if hasattr(a, "title_bbox") else a._left_title.get_window_extent() for a in figure.axes[:8]]
    assert all(a.x1 < b.x0 for a, b in zip(titles, titles[1:])), "titles run into each other"


def test_the_command_writes_files(runs, tmp_path):
    paths = command("figures", runs.plain, "-o", tmp_path / "one", "--only", "story", "--only", "inst").split()
    assert paths == [str(tmp_path / f"one/{n}.png") for n in ("story", "instances")]
    assert (tmp_path / "one/story.png").read_bytes()[:4] == b"\x89PNG"
    paths = command("figures", f"a={runs.plain}", f"b/c={runs.plain}", "-o", tmp_path / "two", "--only", "story", "--format", "svg").split()
    assert paths == [str(tmp_path / f"two/{n}/story.svg") for n in ("a", "b-c")]
    paths = command("figures", f"a={runs.plain}", runs.taught, "-o", tmp_path / "two", "--only", "training").split()
    assert paths == [str(tmp_path / f"two/{n}/training.png") for n in ("a", "taught")]
    assert "no picture has such a name" in command("figures", runs.plain, "--only", "nothing", "-o", tmp_path / "none", status=1)
    assert not (tmp_path / "none").exists()
    command("tokens", runs.everything, "--top", "2", "--picture", tmp_path / "tokens.png")
    assert (tmp_path / "tokens.png").stat().st_size > 10_000
