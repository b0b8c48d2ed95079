"""The claims: what a summary file keeps, the rule on seeds and rates, numbers of the first order, the pages against the summaries."""
import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from conftest import ROOT
from paper_claims import beyond, claims, draw, fidelity, grid, page, summarise, unseen, verdict
from paper_claims.claims import CLAIMS, part
from paper_claims.summary import Curves, Setting

COMMITTED = [p for p in (ROOT / "analysis/paper_claims" / f"{n}.csv" for n in page.ORDER + page.BESIDE) if p.exists()]


# ------------------------------------------------------------------------------------------------------- the summary file
def test_a_summary_keeps_the_curves_of_complete_runs(runs, tmp_path, capsys):
    for name in ("seed42/npo-1", "seed42-x0.5/npo-1", "seed7/npo-1", "rate/ga-1e-5"):
        shutil.copytree(runs.everything, tmp_path / name)
        (tmp_path / name / "evaluation.h5").unlink()
        (tmp_path / name / "complete").write_text("total 3.5 s\n")
    (tmp_path / "seed7/npo-1/complete").unlink()
    with h5py.File(tmp_path / "seed42/npo-1/train.h5", "a") as f:  # as with a dual variable
        f["dual_weight"] = [1, 2, 3, 4, np.nan]
    summarise.write(tmp_path, tmp_path / "x.csv")
    assert "2 runs" in capsys.readouterr().err
    setting = Setting(tmp_path / "x.csv")
    assert [s.seed for s in setting.seeds()] == [42] and setting.rates() == ["0.5"]
    run = setting.seeds()[0]["npo-1"]
    with h5py.File(runs.everything / "geffect.h5") as f:
        risk = list(f["risk"].asstr()[:]).index("retain")
        expected = np.einsum("tli,i->t", f["geffect"][:, 0, risk], f["instance_weight"][0])
        assert np.allclose(run.e_r, expected, rtol=1e-4)
        assert np.allclose(run["actual_r"], f["actual_change"][:-1, risk], rtol=1e-4)
        assert np.allclose(run["weight"], f["objective_weight"][:, 0] @ f["instance_weight"][0], rtol=1e-4)
    assert run["seconds"] == 3.5 and list(run.steps) == [0, 1, 2, 3, 4]
    assert list(run["dual_weight"]) == [1, 2, 3, 4, 4] and np.allclose(run.whole("r"), run.e_r + run["dual_weight"] * run["e_r:gd"])
    plain = setting.seeds("0.5")[0]["npo-1"]
    assert np.allclose(plain.whole("r"), plain.e_r + plain["e_r:gd"])


def test_runs_made_elsewhere_are_added_to_a_summary(runs, tmp_path):
    def make(directory, name, seconds):
        to = tmp_path / directory / name
        shutil.copytree(runs.everything, to)
        (to / "evaluation.h5").unlink()
        (to / "complete").write_text(f"total {seconds} s\n")

    path = tmp_path / "x.csv"
    for n, name in enumerate(("seed42/ga", "seed42/npo-1", "seed7-x2/ga")):
        make("here", name, n)
    summarise.write(tmp_path / "here", path)
    alone = path.read_text()
    for n, name in enumerate(("seed42/npo-1", "seed42-x0.5/ga")):
        make("there", name, 10 + n)
    summarise.write(tmp_path / "there", path, add=True)
    setting = Setting(path)
    assert {(s.seed, s.rate, name): run["seconds"][0] for seeds in setting.groups.values() for s in seeds for name, run in s.runs.items()} == \
        {(42, "1", "ga"): 0, (7, "2", "ga"): 2, (42, "1", "npo-1"): 10, (42, "0.5", "ga"): 11}
    summarise.write(tmp_path / "here", path)
    assert path.read_text() == alone  # without it the file is of the directory alone
    path.write_text("seed,other\n1,2\n")
    with pytest.raises(ValueError, match="is no summary file"):
        summarise.write(tmp_path / "there", path, add=True)


def test_a_directory_without_runs_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="holds no complete run"):
        summarise.write(tmp_path, tmp_path / "x.csv")


# --------------------------------------------------------------------------------------------------------------- the rule
def answer(*seeds, **rates):
    """Of parts that are so (1) or not (0), a text for each seed: "10": the first is so, the second is not."""
    return verdict.Answer(None, parts=[[part("{}", k, c == "1") for k, c in enumerate(s)] for s in seeds],
                          rates={r.strip("x").replace("_", "."): failed for r, failed in rates.items()})


FAILS = {"x0_5": True, "x2": True}


@pytest.mark.parametrize("given, expected", [
    (answer(), "not measured"),
    (answer("11", "11"), "not decided"),
    (answer("11", "11", "11"), "holds"),
    (answer("11", "11", "01", **FAILS), "not decided"),
    (answer("01", "01", "01", **FAILS), "does not hold"),
    (answer("01", "01", "00", **FAILS), "does not hold"),
    (answer("01", "10", "01", **FAILS), "not decided"),
    (answer("01", "01", **FAILS), "not decided"),
    (answer("01", "01", "01"), "not decided"),
    (answer("01", "01", "01", x0_5=True), "not decided"),
    (answer("01", "01", "01", x0_5=True, x2=False), "not decided"),
    (answer("01", "01", "01", x2=True, x4=True), "not decided"),
])
def test_the_rule_on_seeds_and_learning_rates(given, expected):
    assert given.verdict == expected


def test_the_number_shown_is_of_what_fails_most_often():
    assert verdict.key(answer("101", "100", "100")) == "1" and verdict.key(answer("11", "11")) == "0"
    assert "each seed fails" in answer("01", "10", "01").why and "at 2x" in answer("0", "0", "0", x0_5=True, x2=False).why


def test_a_number_is_shown_as_mean_and_range():
    assert verdict.spread([1, 2, 6]) == "3 (1 to 6)" and verdict.spread([2, 2]) == "2"
    assert verdict.spread([4, np.inf]) == "(4 to never)" and verdict.spread([np.inf]) == "never"


def of_seeds(name, *seeds, rates=()):
    """A setting whose claims are answered so: for each seed, a text of 1 and 0 for claims C1, C2 ..."""
    answers = [verdict.Answer(c, parts=[[part("", 0, s[k] == "1")] for s in seeds], rates={r: True for r in rates})
               for k, c in enumerate(CLAIMS[:len(seeds[0])])]
    return SimpleNamespace(name=name, seeds=lambda: seeds, rates=lambda: list(rates), answers=answers)


def test_the_count_of_claims_is_of_all_seeds_and_of_settings_that_can_fail(monkeypatch):
    monkeypatch.setattr(page, "answers", lambda s: s.answers)
    two = of_seeds("two", "110", "010")
    three = of_seeds("three", *["010"] * 3)
    whole, other = (of_seeds(n, *["010"] * 3, rates=("0.5", "2")) for n in ("whole", "other"))
    assert "2 seeds decide nothing, 1 of the 3 measured are so (C2)" in page.counted([two])
    said = page.counted([three, whole, other])
    assert "three and whole and other alike C2 holds" in said and "On whole and other alike C1, C3 fail." in said
    assert "alike" not in page.counted([two, whole])


def test_equal_peaks_are_not_smaller_ones():
    npo = {"weight": [1, 0.05, 0.001], "step": [0, 1, 2], "e_r": [0, 0, 0]}
    peaks = lambda *heights: claims.c8({n: curves(**npo, e_u=[-h, 0, 0]) for n, h in zip(claims.NPO, heights)})[0].holds
    assert peaks(3, 2, 1) and not peaks(3, 1, 1) and not peaks(1, 2, 3)


# ---------------------------------------------------------------------------------------------------------- the first order
def curves(**values):
    run = Curves("run")
    run.values = {k: np.array(v, float) for k, v in values.items()}
    return run


def test_first_order_against_measurement():
    run = curves(step=[0, 2, 4], lr=[1, 1, 1], e_r=[-1, -3, 0.01], risk_r=[1, 5, 8], predicted_r=[1, 3], actual_r=[2, 6])
    fit = fidelity.fit(run, "r")
    assert fit["bias"] == 2 and fit["update"] == pytest.approx(1 - 10 / 8)
    assert fit["between"] == pytest.approx(1 - 0 / 0.5) and fit["sign"] == 1
    assert fit["plain"] == pytest.approx(1) and fit["late"] == 0


def test_what_comes_after_an_effect_has_ended():
    run = curves(step=[0, 1, 2, 3, 4], e_r=[-1, -10, -0.5, -0.5, 0], risk_r=[0, 1, 2, 6, 10])
    assert fidelity.late(run, "r") == 0.8


def test_rank_correlation():
    assert fidelity.rank_correlation([1, 2, 30, 4], [1, 3, 100, 50]) == pytest.approx(1)
    assert fidelity.rank_correlation([1, 2, 2, 4], [4, 3, 3, 1]) == pytest.approx(-1)


# --------------------------------------------------------------------------------------------------------------- the pages
def test_every_claim_has_its_words():
    assert all(all(page.titles(c)) for c in CLAIMS) and [c.__name__ for c in CLAIMS] == [f"c{n}" for n in range(1, 19)]


def test_the_pages_are_what_the_summary_files_say():
    assert COMMITTED
    for name, text in page.pages([Setting(p) for p in COMMITTED]).items():
        assert (ROOT / "analysis" / name).read_text() == text, f"{name} is not of the summary files: analysis/paper-claims pages"


def test_what_has_few_runs_stands_in_the_appendix(tmp_path):
    few = tmp_path / f"{page.BESIDE[0]}.csv"
    few.write_text("".join(x for x in open(ROOT / "analysis/paper_claims/demo.csv") if x.startswith(("seed", "42,1,full,ga,", "42,1,full,po,"))))
    text = page.pages([Setting(ROOT / "analysis/paper_claims/demo.csv"), Setting(few)])
    assert "|  | claim | demo |\n" in text["CLAIMS.md"] and f"On {few.stem}, of which 1 seed decides nothing" in text["CLAIMS.md"]
    assert f"## {few.stem}\n" in text["CLAIMS_DETAILS.md"] and "How large the updates" not in text["CLAIMS.md"]
    few.write_text("".join(x for x in open(ROOT / "analysis/paper_claims/demo.csv") if x.startswith(("seed", "42,1,full,ga,", "42,1,full,npo-1,", "42,1,scores,npo-1,"))))
    [told] = [x for x in page.pages([Setting(ROOT / "analysis/paper_claims/demo.csv"), Setting(few)])["CLAIMS.md"].split("\n") if "How large the updates" in x]
    fits = fidelity.fits(Setting(few))
    assert f"by {fits['ga']['plain'][0]:.3g} (ga), {fits['npo-1']['plain'][0]:.3g} (npo-1)" in told and "2 objectives, one seed" in told
    before, after = Setting(few).seeds(estimator="scores")[0]["npo-1"]["utility"][[0, -1]]
    assert told.endswith(f" TOFU's model utility, {before:.3g} before, ends at {after:.3g} (npo-1).")


def test_another_fine_tuned_model_stands_beside_the_seeds(tmp_path):
    path = tmp_path / "two.csv"
    path.write_text("seed,rate,estimator,run,quantity,values\n" + "".join(
        f"{seed},1,{estimator},ga,{q},{v}\n" for seed, estimator, peak in ((42, "full", -4), (43, "full", -6), (42, "again", -9))
        for q, v in {"step": "0 2", "e_u": f"-1 {peak}", "e_r": f"0 {peak / 2}", "risk_r": f"0 {-peak}", "risk_u": "0 3"}.items()))
    [head, _, table] = page.again(Setting(path))
    assert head.endswith("model of two")
    assert table.splitlines()[-1] == "| ga, seed 42 | 0; 0 | -9; -5 (-6 to -4) | -4.5; -2.5 (-3 to -2) | 0.5; 0.5 | 9; 5 (4 to 6) | 3; 3 |"
    assert page.again(Setting(ROOT / "analysis/paper_claims/demo.csv")) == []


def test_the_pictures_are_drawn(tmp_path):
    settings = [Setting(p) for p in COMMITTED]
    for name, figure in (("trust", draw.trust(page.compared(settings))), ("curves", draw.curves(settings[0]))):
        draw.save(figure, tmp_path / f"{name}.png", 40)
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    few = next(s for s in settings if s.name in page.BESIDE)
    drawn = [a.get_title() or a.get_title(loc="left") for a in draw.curves(few).axes if a.axison]
    assert sorted(drawn) == sorted(f"{name}, full sets" for name in few.seeds()[0].runs), "no empty panels"


# ------------------------------------------------------------------------------------------------ what the paper could not see
def test_half_of_the_gain_costs_least_where_it_is_cheap():
    assert beyond.cheapest_half(np.array([1.0, 1, 1, 1]), np.array([1.0, 1, 1, 1])) == pytest.approx(0.5)
    assert beyond.cheapest_half(np.array([2.0, 2]), np.array([0.0, 4])) == pytest.approx(0)
    assert beyond.cheapest_half(np.array([1.0, 3]), np.array([1.0, 9])) == pytest.approx(0.4)
    assert beyond.largest_tenth(np.array([-5.0] + [1] * 9)) == pytest.approx(5 / 14)


def test_any_number_of_settings_has_its_picture(tmp_path):
    settings = [Setting(p) for p in COMMITTED] * 3
    curves = [bar.lines[0] for bar in draw.trust(settings).axes[0].containers]
    assert len({(c.get_color(), c.get_marker()) for c in curves}) == len(settings) > 7


LINES = {"no fidelity": lambda x: ",full," not in x or "predicted_" not in x and "actual_" not in x, "scores alone": lambda x: ",scores," in x,
         "another rate alone": lambda x: ",2,full," in x, "moving averages alone": lambda x: ",1,ma," in x}


@pytest.mark.parametrize("what", LINES)
def test_what_was_not_run_is_not_measured(tmp_path, what):
    head, *lines = (ROOT / "analysis/paper_claims/demo.csv").read_text().splitlines()
    path = tmp_path / "part.csv"
    path.write_text("\n".join([head, *filter(LINES[what], lines)]) + "\n")
    of = Setting(path)
    assert "of the objectives; lowest | not measured |" in page.pages([of])["CLAIMS.md"]
    draw.save(draw.trust([of]), tmp_path / "trust.png", 40)
    draw.save(draw.curves(of), tmp_path / "curves.png", 40)


def test_a_retrained_model_alone_has_no_grid(tmp_path):
    head, *lines = (ROOT / "analysis/paper_claims/demo.csv").read_text().splitlines()
    path = tmp_path / "retrained.csv"
    path.write_text("\n".join([head, *(x for x in lines if ",retrained," in x)]) + "\n")
    with pytest.raises(KeyError, match="the grid of ga"):
        grid.best(Setting(path))


def a_setting(tmp_path):
    """Two runs that were measured, seen and scored, and one that was only measured."""
    lines = ["seed,rate,estimator,run,quantity,values"]
    measured = {"step": "0 2 4", "e_u": "-1 -4 -1", "lr": "1 1 1", "predicted_r": "1 1", "risk_r": "1 3 6", "warmup": "2", "strength_r": "1 0.5",
                "strength_u": "1 0.25"}
    at = {"step": "0 3 4", "e_r": "-1 -2 -8", "token_same": "nan 0.5 0.9", "pair_net": "0.1 0.8 1", "pair_payers": "0.7 0.3 0.2",
          "pair_causes": "0.6 0.3 0.1", "first_r": "0 2", "second_r": "0 0.5", "actual_r": "0 2.4", "token_cheap": "0 0.3 0.5",
          "token_unlikely_r": "0 0 1", "token_tenth_r": "0 0 1", "pair_alike": "0 0 0"}
    for run, e_r in (("ga", "-1 -8 -1"), ("po", "1 20 1"), ("kl", "0 0 0"), ("wga", "-1 -8 -1")):
        lines += [f"42,1,full,{run},{q},{v}" for q, v in (measured | {"e_r": e_r}).items()]
    for run in ("ga", "po", "wga"):
        lines += [f"42,1,seen,{run},{q},{v}" for q, v in at.items()]
    for run, utility in (("ga", "0.6 0"), ("po", "0.6 0.5")):
        lines += [f"42,1,scores,{run},{q},{'0.5 0.25' if q != 'utility' else utility}" for q in unseen.SCORED]
    path = tmp_path / "tiny.csv"
    path.write_text("\n".join(lines) + "\n")
    return Setting(path)


def test_what_is_told_of_tokens_and_pairs_is_of_the_right_steps(tmp_path):
    lines = unseen.choice([a_setting(tmp_path)]).splitlines()
    assert "tiny (updates 0; 3; 4)" in lines[0] and "-; 0.5; 0.9" in lines[2] and "10 %; 80 %; 100 %" in lines[3]
    assert lines[-2].endswith("| -; 25 %; - |") and lines[-1].endswith("| 0.9, 50 % |"), "of wga alone; tnpo was not seen"
    assert unseen.left([a_setting(tmp_path)]) == "not measured", "tnpo was not seen"
    assert "27 % and 10 % on smollm2" in unseen.left([Setting(ROOT / "analysis/paper_claims/smollm2.csv")])
    table = unseen.beyond([a_setting(tmp_path)]).splitlines()
    assert [x[:25] for x in table[2:]] == ["| tiny: ga | 4 | 0.9 | 50", "| tiny: wga | 4 | 0.9 | 5"], "po's peak of 20 lies between the steps that were seen"


def test_scores_stand_beside_the_effects_of_their_seed(tmp_path):
    setting = a_setting(tmp_path)
    table = unseen.scores([setting]).splitlines()
    assert [line.split(" |")[0] for line in table[2:]] == ["| tiny: before", "| tiny: ga", "| tiny: po"]
    assert "| 18 | 3 | 5 | 0.25 | 0 | 0.25" in table[3] and "| -42 | 3 | 5 |" in table[4]
    assert list(fidelity.published(setting)) == ["ga", "po"] and fidelity.published(setting)["po"][3] == pytest.approx(0.1)
    assert fidelity.utility(setting)["kl"][3] == 0.5


def test_what_is_measured_beside_is_of_the_model_whose_runs_were_made_again(tmp_path):
    alone = a_setting(tmp_path)
    assert unseen.seen(alone)[0][0] is alone.seeds()[0]["ga"] and page.by_estimator(alone, "ga") == ""
    lines = (tmp_path / "tiny.csv").read_text().splitlines()
    again = [x.replace("full", "again").replace("-1 -8 -1", "-2 -16 -2") for x in lines if x.startswith("42,1,full,ga,")]
    averages = [f"42,1,ma,{run},{q},{v}" for run in ("ga", "po") for q, v in (("e_u", "-1 -4 -1"), ("e_r", "-1 -1 -1"))]
    (tmp_path / "tiny.csv").write_text("\n".join([*lines, *again, *averages]) + "\n")
    setting = Setting(tmp_path / "tiny.csv")
    model = setting.seeds(estimator="again")[0]
    assert [(name, effects is model["ga"]) for effects, name, _ in unseen.seen(setting)] == [("ga", True)], "po was not made again"
    assert page.by_estimator(setting, "ga") == "4; 0.25" and page.by_estimator(setting, "po") == ""
    assert "| tiny: ga | 36 | 3 | 5 |" in unseen.scores([setting]), "the sum of -lr e_r of the run made again"
    assert list(fidelity.published(setting)) == ["ga"] and list(fidelity.utility(setting)) == ["ga", "po", "kl", "wga"]


def test_other_seeds_and_names_than_the_committed_ones(tmp_path):
    """What begins with seed 7 has its retrained model and its grid; what has no training of the scored seed has no line of scores."""
    lines = (ROOT / "analysis/paper_claims/demo.csv").read_text().splitlines()
    mine, other = tmp_path / "mine.csv", tmp_path / "other.csv"
    mine.write_text("\n".join(["7," + x[3:] if x.startswith("42,") else x for x in lines]) + "\n")
    of = Setting(mine)
    assert list(grid.best(of)) == list(grid.VALUES) and "| mine |" in page.ran([of]) and "mine: ga" in unseen.scores([of])
    other.write_text("\n".join(x for x in lines if not x.startswith("42,1,full")) + "\n")
    assert unseen.scores([Setting(other)]) == "Not measured."
    (tmp_path / "no.csv").write_text("# a page\n")
    with pytest.raises(ValueError, match="is no summary file"):
        Setting(tmp_path / "no.csv")
    other.write_text("\n".join(x for x in lines if ",retrained," not in x) + "\n")
    with pytest.raises(KeyError, match="retrained"):
        grid.best(Setting(other))


def test_the_best_of_a_grid_has_forgotten_and_keeps_most():
    setting = Setting(ROOT / "analysis/paper_claims/demo.csv")
    bound = grid.threshold(setting)
    for objective, (name, rate, reached) in grid.best(setting).items():
        of = {(n, r): run for n, r, run in grid.candidates(setting, grid.VALUES[objective])}
        mine = of.pop((name, rate))
        assert reached == (mine["probability_u"][-1] <= bound)
        better = [x for x in of.values() if x["probability_u"][-1] <= bound and x["loss_r"][-1] < mine["loss_r"][-1]]
        assert not better or not reached
