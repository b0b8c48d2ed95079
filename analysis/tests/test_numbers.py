"""What is added up and set side by side, against the files read plainly."""
import csv
import io
import json
import shutil
import subprocess

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure
from conftest import COMMAND, MODEL, PARTS, ROOT, command, finish, start
from unlearn_report import answers, compare, look, over_rows, over_steps, page, tokens
from unlearn_report.effects import GROUPS, Change, Measured, groups_of
from unlearn_report.run import Run, open_runs


@pytest.fixture(scope="module")
def m(runs):
    return Measured(Run(runs.everything))


def test_totals_are_weighted_sums_over_layers_and_instances(runs, m):
    with h5py.File(runs.everything / "geffect.h5") as f:
        for j in range(2):
            for k in range(3):
                expected = np.einsum("tli,i->t", f["geffect"][:, j, k], f["instance_weight"][j])
                assert np.allclose(m.effects[3 * j + k].total, expected, rtol=1e-12)
        expected = np.einsum("tli,i->t", f["geffect_gd"][:, 2], f["instance_weight_gd"][:])
    assert np.allclose(m.find("retain", "gd").total, expected, rtol=1e-12)
    assert m.find("retain", "gd").kind == "regularizer" and m.find("retain").source == "npo"


def test_groups_add_up_to_the_total(m):
    for e in m.effects:
        assert set(e.group) == set(GROUPS)
        assert np.allclose(sum(e.group.values()), e.total, rtol=1e-9, atol=1e-12 * np.abs(e.total).max())


def test_a_layer_and_its_tensors_are_of_one_group():
    layers = ["embed", *(f"layers.{i}" for i in range(6)), "norm", "lm_head"]
    assert groups_of(layers) == ["embed", "shallow", "shallow", "middle", "middle", "deep", "deep", "lm", "lm"]
    tensors = ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.5.input_layernorm.weight", "model.norm.weight"]
    assert groups_of(tensors) == ["embed", "shallow", "deep", "lm"]
    assert groups_of(["wte.weight", "transformer.wpe.weight", "h.0.ln_1.weight", "ln_f.weight"]) == ["embed", "embed", "shallow", "lm"]


def test_share_of_the_changes_that_a_prediction_explains():
    actual = np.array([1.0, 2.0, 3.0, np.nan])
    change = Change("retain", actual, actual, actual)
    assert change.r_squared(actual) == 1 and change.r_squared(np.full(4, 2.0)) == 0
    assert np.isnan(Change("retain", actual[:1], actual[:1], actual[:1]).r_squared(actual[:1]))


def test_ranges_show_what_a_spike_flattens():
    assert look.ranges([np.array([-1000.0, 3, 2, 1, 0])]) == [1000, 3]
    assert look.ranges([np.array([10.0, 9, 8])]) == [10] and look.ranges([np.array([np.nan, 0])]) == [0]


def test_a_row_that_was_not_committed_is_left_out(runs, tmp_path):
    shutil.copytree(runs.everything, tmp_path / "killed")
    for name in ("geffect", "tokens"):
        with h5py.File(tmp_path / "killed" / f"{name}.h5", "r+") as f:
            f["step"][-1] = -1
    m = Measured(Run(tmp_path / "killed"))
    assert list(m.steps) == [0, 1, 2, 3] and all(len(e.total) == 4 for e in m.effects)
    assert "5 measured" not in command("summary", tmp_path / "killed")


def test_what_a_run_was(runs):
    run = Run(runs.everything)
    assert run.recipe() == "npo (beta 0.5) + gd" and run.state == "finished"
    assert [run.meant(r) for r in ("unlearn", "retain", "world")] == ["forget", "retain", ""]
    first = json.loads((ROOT / "inputs/demo/forget05.jsonl").read_text().split("\n")[0])
    assert run.question("forget", 0) == first["question"] and run.question("forget", 10**6) == ""


def test_what_was_trained_is_that_of_the_input(runs, tmp_path):
    assert [Run(d).recipe() for d in (runs.taught, runs.single, runs.talk)] == ["fine-tuning", "", ""]
    (tmp_path / "input.yaml").write_text("task: unlearn\nobjective:\n  name: npo\n  weight: 2\n  regularizer:  # added\n    - name: kl\n      weight: 5\n"
                                         "      dual:\n        eps: 0\n    - name: gd\n      weight: 1\n      batch_size: auto\n  beta: 0.1  # own\n")
    assert Run(tmp_path).recipe() == "npo (weight 2, beta 0.1) + kl (weight 5) + gd"  # of a run without geffect.h5


@pytest.mark.parametrize("lines, label", [
    ("task: unlearn\nobjective:\n  name: npo", "npo"), ("task: geffect\nobjective:\n  name: npo", "ga"), ("task: unlearn\nobjective:\n  name: po", "ga"),
    ("task: unlearn\nobjective:\n  name: wga", "wga(alpha=2)")])
def test_the_trained_objective_comes_first(runs, tmp_path, lines, label):
    (tmp_path / "input.yaml").write_text(lines)
    (tmp_path / "run.log").write_text("objective  wga(alpha=2) x 3 + gd\n")
    run, data = Run(tmp_path), Run(runs.everything).geffect.assign_attrs(trained="")  # as older files have it
    labels = ["ga", "wga(alpha=20)", "wga(alpha=2)", "npo"]
    run._read = lambda _: data.isel(objective=[1, 1, 1, 0]).assign_coords(objective=labels)
    assert list(run.geffect.objective.values) == [label, *(x for x in labels if x != label)]
    assert run.geffect.geffect[:, 0].equals(run.geffect.geffect.sel(objective=label)) and Measured(run).find("retain").source == label
    assert Measured(run).trained == (None if "name: po" in lines else label)


@pytest.mark.parametrize("given, label", [("", "npo"), ("      beta: 0.50\n", "npo"), ("      beta: 2\n", None)])
def test_other_parameters_are_another_objective(tmp_path, runs, given, label):
    (tmp_path / "input.yaml").write_text(f"task: unlearn\nobjective:\n  name: npo\ngeffect:\n  objectives:\n    - name: npo\n{given}")
    (tmp_path / "run.log").write_text("objective  npo(beta=0.5) x 3 + gd\n")
    run, data = Run(tmp_path), Run(runs.everything).geffect.assign_attrs(trained="")  # as older files have it
    run._read = lambda _: data.isel(objective=[0]).assign_coords(objective=["npo"])
    assert run.trained == label
    row = "strongest effect of objective on retain" if label else "strongest effect of npo (not trained) on retain"
    assert row in compare.measured(run)
    trained = Run(runs.everything)
    assert (over_steps.compared([Measured(trained), Measured(run)]) is None) == (label is None), "no picture of what was not trained"


@pytest.mark.parametrize("said, label", [("npo(beta=2)", "npo(beta=2)"), ("none", None), (None, "npo(beta=0.5)")])
def test_the_file_says_which_objective_was_trained(tmp_path, runs, said, label):
    (tmp_path / "input.yaml").write_text("task: unlearn\nobjective:\n  name: npo\n  beta: 0.5\n")
    run, data = Run(tmp_path), Run(runs.everything).geffect
    labels = ["npo(beta=0.5)", "npo(beta=2)"]
    run._read = lambda _: data.assign_coords(objective=labels).assign_attrs(trained=said or "")
    assert run.trained == label and run.geffect.objective.values[0] == (label or labels[0])
    (tmp_path / "elsewhere").mkdir()
    alone = Run(tmp_path / "elsewhere")  # the file without its input.yaml
    alone._read = lambda _: data.assign_coords(objective=labels).assign_attrs(trained=said or "", input='{"task": "unlearn"}')
    assert alone.trained == (label or (None if said else labels[0])) and alone.recipe().split(" + ")[0] == (alone.trained or "")
    scored = Run(tmp_path / "elsewhere")
    scored._read = lambda _: data.assign_coords(objective=labels).assign_attrs(trained="none", input="# measures\ntask: geffect  # once")
    assert scored.trained == labels[0] and scored.recipe() == "" and "fidelity" not in page.absent(Measured(scored))
    (tmp_path / "input.yaml").write_text("task: unlearn\nobjective:\n  name: idk\n")
    alias = Run(tmp_path)
    alias._read = lambda _: data.assign_coords(objective=["ga", "po"]).assign_attrs(trained="")
    assert alias.trained == "po"


def test_a_story_names_what_it_shows(runs):
    axes, titles = Figure().subplots(), []
    for panel in over_steps.story(Measured(Run(runs.everything))).panels:
        panel.draw(axes)
        titles.append(axes.get_title(loc="left") or axes.get_title())
        axes.clear()
    assert [t for t in titles if t.startswith("effect")] == [f"effect of {x} on “{r}”" for x in ("npo", "the regulariser gd") for r in ("unlearn", "world", "retain")]


def test_runs_without_a_common_risk_are_not_compared(runs):
    one, other = Measured(Run(runs.everything)), Measured(Run(runs.everything))
    other.run.name, other.risks = "other", ["kept"]
    for e in other.effects:
        e.risk = "kept"
    assert over_steps.compared([one, other]) is None


def test_only_risks_on_what_must_stay_say_what_forgetting_costs(runs):
    one = Measured(Run(runs.everything))
    assert over_steps.tradeoff([one, one]) and over_rows.weight_effect(one) is not None
    one.risks.remove("retain")
    assert one.side("retain") is None and one.place("retain") == "world"
    assert over_steps.tradeoff([one, one]) is None and over_rows.weight_effect(one) is None


@pytest.mark.parametrize("setting, value, objective, says", [
    ("tokens", "true", "po", "geffect.tokens: refusals"), ("tokens", "refusals", "ga", "geffect.tokens: true"),
    ("estimator", "moving_average", "ga", "geffect.estimator: full")])
def test_tokens_tell_nothing_of_other_sets(runs, setting, value, objective, says):
    t = tokens.Tokens(Run(runs.everything))
    t.run.settings[f"geffect.{setting}"] = value
    with pytest.raises(ValueError, match=says):
        t.total(objective)


def test_a_page_asks_for_what_the_task_can_measure(runs):
    m = Measured(Run(runs.plain))
    m.changes = []
    assert "geffect.fidelity" in page.absent(m) and "geffect.curvature" in page.absent(m)
    m.run.settings["task"] = "geffect"
    assert "geffect.fidelity" not in page.absent(m) and "geffect.curvature" not in page.absent(m) and "geffect.tokens" in page.absent(m)


@pytest.mark.parametrize("key", ("held-out", '"held out: $5"'))
def test_a_risk_of_any_name_has_its_own_meaning(tmp_path, key):
    (tmp_path / "input.yaml").write_text(f"geffect:\n  risks:  # what\n    forgotten:\n      data: forget\n    {key}:\n      data: other.jsonl  # a file\n")
    assert [Run(tmp_path).meant(r) for r in ("forgotten", key.strip('"'))] == ["forget", ""]


@pytest.mark.parametrize("task, files, state", [
    ("unlearn", {"run.finished": ""}, "finished"), ("unlearn", {"run.log": "memory of a process: planned 1 MB, peak 1 MB"}, "runs"),
    ("geffect", {"run.log": "step 0\nmemory of a process: planned 1 MB, peak 1 MB\ntotal 1 s"}, "finished"),
    ("geffect", {"run.log": "memory of a process: planned 1 MB, peak 1 MB", "run.lock": ""}, "runs"),
    ("generate", {"run.log": "model\n"}, "runs"), ("evaluate", {}, "ended"), ("unlearn", {}, "not known"), ("unlearn", {"run.lock": ""}, "runs")])
def test_a_run_is_finished_where_its_files_say_so(tmp_path, task, files, state):
    for name, text in {"input.yaml": f"task: {task}\n", **files}.items():
        (tmp_path / name).write_text(text)
    run = Run(tmp_path)
    assert run.state.split(",")[0] == state and run.finished == (state != "runs")


def test_a_file_alone_says_nothing_of_how_its_run_went(runs, tmp_path):
    shutil.copy(runs.plain / "geffect.h5", tmp_path)
    assert "<dd>not known, without the run&#x27;s other files; step 4</dd>" in page.facts(Run(tmp_path / "geffect.h5"))
    assert Run(runs.plain / "geffect.h5").state == "finished"  # its directory is there
    words = [*COMMAND, "figures", tmp_path, "--only", "instances", "--follow"]
    assert subprocess.run(words, capture_output=True, text=True, timeout=60).stdout == f"{tmp_path / 'figures/instances.png'}\n"  # and ends


def test_a_file_that_is_there_but_not_read_is_not_said_to_be_missing(runs):
    alone = Measured(Run(runs.everything / "geffect.h5"))
    assert alone.run.tokens is None and "geffect.tokens" not in page.absent(alone) and "geffect.tokens" in page.absent(Measured(Run(runs.plain)))
    for words, unread in ((("tokens", runs.everything / "geffect.h5"), "tokens.h5"), (("summary", runs.everything / "tokens.h5"), "geffect.h5"),
                          (("pairs", runs.everything / "tokens.h5"), "geffect.h5"), (("curvature", runs.everything / "train.h5"), "geffect.h5")):
        text = command(*words, status=1)
        assert f"error: {runs.everything / unread}: is not read where {words[1].name} is given alone: give the directory" in text, text


@pytest.mark.parametrize("name", ("summary", "pairs", "tokens"))
def test_a_run_without_a_row_has_yet_to_measure(runs, tmp_path, name):
    file = "tokens.h5" if name == "tokens" else "geffect.h5"
    shutil.copy(runs.everything / file, tmp_path)
    with h5py.File(tmp_path / file, "r+") as f:
        f["step"][:] = -1
    assert f"{tmp_path / file}: nothing is measured yet: wait for" in command(name, tmp_path, status=1)


def test_the_other_tasks_are_finished(runs):
    assert [Run(d).state for d in (runs.single, runs.trajectory, runs.talk)] == ["finished"] * 3


def test_the_end_is_the_model_that_a_guard_has_left(runs, tmp_path):
    shutil.copytree(runs.plain, tmp_path / "stepped", ignore=shutil.ignore_patterns("model"))  # measured at 0, 2, 4
    for left, row in ((4, 2), (3, 1)):
        with h5py.File(tmp_path / "stepped/geffect.h5", "r+") as f:
            f.require_dataset("guard_model", (3,), "f8")[:] = [np.nan, np.nan, left]
            f["guard_model"].dims[0].attach_scale(f["step"])
            risk = f["risk_value"][row, 0]
        table = json.loads(command("compare", "--json", tmp_path / "stepped"))["stepped"]
        assert table["risk unlearn (sums over sequences), last"] == risk and table.get("stepped back to step") == (2 if row == 1 else None)
        assert f"{risk:.4g} at step {2 * row} (" in command("summary", "--brief", tmp_path / "stepped")
        assert f"between step 0 and step {2 * row}" in page.in_short(Measured(Run(tmp_path / "stepped")))


def test_a_path_is_marked_where_a_guard_has_left_it(runs):
    ended, stepped = (Measured(Run(runs.everything)) for _ in range(2))
    stepped.end = 2
    axes = look.alone(over_steps.tradeoff([ended, stepped]).panels[0]).axes[0]
    assert [line.get_markevery() for line in axes.lines[:2]] == [[4], [2]]


def test_settings_are_those_that_the_program_was_given(runs):
    run = Run(runs.plain)
    assert {k: run.settings[f"data.template.{k}"] for k in PARTS} == PARTS
    assert run.setting("geffect.every") == "2" and run.setting("data.retain.path") == "inputs/demo/retain95.jsonl"
    assert run.setting("model.reference", "none") == "none"


def test_compare_has_the_numbers_of_the_files(runs):
    table = json.loads(command("compare", "--json", f"a={runs.everything}", runs.plain, f"a={runs.everything / 'geffect.h5'}"))
    assert list(table) == ["a", "plain"]
    with h5py.File(runs.everything / "evaluation.h5") as f, h5py.File(runs.everything / "geffect.h5") as g:
        metric = list(f["metric"].asstr()[:]).index("extraction_strength")
        assert table["a"]["forget: extraction_strength"] == f["mean"][-1, 0, metric]
        assert table["a"]["risk retain, first"] == g["risk_value"][0, 2] and table["a"]["risk retain, last"] == g["risk_value"][-1, 2]
    assert "strongest effect of gd on retain" in table["a"] and "strongest effect of gd on retain" not in table["plain"]
    rows = list(csv.reader(io.StringIO(command("compare", "--csv", f"a={runs.everything}", runs.plain))))
    own = {k for k in table["plain"] if k.startswith("risk") or k.startswith("strongest")}
    assert own and all("(sums over sequences)" in k for k in own) and not own & set(table["a"]), "means and sums have rows of their own"
    assert rows[0] == ["", "a", "plain"] and all(float(r[1]) == table["a"][r[0]] for r in rows[1:] if r[1])
    marked = command("compare", "--markdown", f"a={runs.everything}", runs.plain).split("\n")
    assert marked[0] == "|  | a | plain |" and len(marked) == len(rows) + 2


def test_compare_has_the_scores_of_choices_by_subject(tmp_path):
    sets = {x: f"inputs/benchmarks/wmdp/{x}.jsonl" for x in ("bio", "cyber")}
    finish(start({"task": "evaluate", "model": MODEL, "evaluate": {"benchmark": "wmdp", "sets": sets}}, tmp_path / "run"))
    table = json.loads(command("compare", "--json", tmp_path / "run"))["run"]
    with h5py.File(tmp_path / "run/evaluation.h5") as f:
        for m in ("correct", "probability_of_right"):
            for k, s in enumerate(f["set"].asstr()[:]):
                assert table[f"{s}: {m}"] == f["mean"][-1, k, list(f["metric"].asstr()[:]).index(m)]


def test_compare_has_the_steps_of_one_run(runs):
    assert command("compare", runs.everything).split("\n")[0].split() == ["everything", "@0", "everything", "@2", "everything", "@4"]


def test_directories_of_one_name_are_told_apart(runs, tmp_path):
    here = tmp_path / "lr=5"
    shutil.copytree(runs.taught, here / "taught", ignore=shutil.ignore_patterns("model"))
    names = lambda *words: [r.name for r in open_runs([str(w) for w in words])]
    assert names(here / "taught", runs.taught) == [f"{here}/taught", f"{runs.taught}"]
    assert names(runs.taught, runs.taught / "train.h5", f"a={here}/taught") == ["taught", "taught", "a"]
    assert names(f"taught={runs.single}", runs.taught) == ["taught", f"{runs.taught}"]
    drawn = command("figures", here / "taught", runs.taught, "-o", tmp_path / "drawn").split()
    assert len(set(drawn)) == len(drawn) == 2
    assert "same name" in command("figures", f"a={runs.taught}", f"a={here}/taught", "-o", tmp_path / "drawn", status=1)


def test_names_are_no_formulas_or_columns_of_a_table(runs):
    assert command("compare", "--csv", f"+1={runs.plain}", f"@x={runs.single}").split("\n")[0].strip() == ",'+1,'@x"
    assert command("compare", "--markdown", f"a|b={runs.plain}").startswith(r"|  | a\|b |")


def test_compare_leaves_out_a_run_that_only_trained_and_says_so(runs, capsys):
    table = json.loads(command("compare", "--json", runs.everything, runs.taught))
    assert list(table) == [f"everything @{step}" for step in (0, 2, 4)]  # as without the other
    assert capsys.readouterr().err == "unlearn-report compare: taught: left out: no complete row of geffect.h5 or evaluation.h5\n"
    assert "neither geffect.h5 nor evaluation.h5" in command("compare", runs.taught, status=1)


def test_risks_have_the_unit_of_their_normalisation(runs):
    assert command("summary", "--brief", runs.everything).count("(nat per token)\n") == 3
    assert command("summary", "--brief", runs.plain).count("(nat per sequence)\n") == 1


def test_answers_stand_side_by_side(runs):
    text = command("answers", f"before={runs.talk}", f"after={runs.talk}")
    assert text.count("  before  ") == text.count("  after   ") == 3
    assert json.loads((ROOT / "inputs/demo/forget05.jsonl").read_text().split("\n")[0])["question"] in text


@pytest.mark.parametrize("prompts, asked", [
    (["Q\nA", "Q\nA"], ["Q A"] * 2), (["", ""], ["", ""]), (["Q\na\nA", "Q\nb\nA"], ["a", "b"]), (["a\nb", "a\nb\nb"], ["a b", "b"])])
def test_questions_are_what_distinguishes_prompts(prompts, asked):
    assert answers.questions(prompts) == asked


def test_answers_may_hold_any_letter(tmp_path):
    rows = [{"prompt": "Q", "text": f"a{c}b", "stop": "eos"} for c in "\u2028\u2029\x85"]
    (tmp_path / "generations.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    assert Run(tmp_path).answers() == [("Q", r["text"]) for r in rows]


@pytest.mark.parametrize("damage", ("truncated", "overwritten", "without a variable"))
def test_a_damaged_file_is_named(runs, tmp_path, damage):
    data = bytearray((runs.plain / "geffect.h5").read_bytes())
    for at in range(4000, 20000, 40) if damage == "overwritten" else ():
        data[at:at + 8] = b"overload"
    (tmp_path / "geffect.h5").write_bytes(data[:len(data) // 2] if damage == "truncated" else data)
    if damage == "without a variable":
        with h5py.File(tmp_path / "geffect.h5", "r+") as f:
            del f["risk_value"]
    for words in (("summary",), ("compare",), ("report", "-o", tmp_path / "page.html")):
        text = command(*words, tmp_path, status=1)
        assert text.count("\n") == 1 and f"{tmp_path / 'geffect.h5'}: cannot be read: " in text, text


def test_every_table_of_one_run(runs):
    for words in (("summary",), ("summary", "--brief"), ("pairs",), ("tokens",), ("tokens", "--text", "0"), ("curvature",)):
        assert len(command(*words, runs.everything).split("\n")) > 3, words
    assert len(json.loads(command("tokens", runs.everything, "--json", "--sweep", "wga", "alpha=0.5,1"))) == 2


def test_json_stands_alone_beside_a_picture(runs, tmp_path, capsys):
    words, picture = ("pairs", runs.everything, "--picture", tmp_path / "pairs.png"), f"{tmp_path / 'pairs.png'}\n"
    assert command(*words).startswith(picture) and not capsys.readouterr().err
    assert json.loads(command(*words, "--json"))["rows"] and capsys.readouterr().err == picture


@pytest.mark.parametrize("words, says", [
    (("summary", "nowhere"), "nowhere: there is no such directory"),
    (("summary", "inputs"), "holds no G-effects"),
    (("figures", "inputs"), "nothing is measured"),
    (("report", "inputs"), "nothing to report"),
    (("compare", "inputs"), "neither geffect.h5 nor evaluation.h5"),
    (("summary", "README.md"), "is none of geffect.h5"),
    (("tokens", "inputs"), "geffect.tokens: true"), (("pairs", "inputs"), "geffect.pairs: true"),
    (("curvature", "inputs"), "geffect.curvature: true"), (("answers", "inputs"), "generations.jsonl")])
def test_errors_are_one_line_that_says_what_to_do(words, says):
    text = command(*words, status=1)
    assert text.count("\n") == 1 and says in text and text.startswith(f"unlearn-report {words[0]}: error: "), text
