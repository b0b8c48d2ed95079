"""The page: whole without a network, small, right on a phone and on a desk, renewed while a run goes on."""
import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from html import escape

import h5py
import numpy as np
import pytest
from conftest import COMMAND, PLAIN, ROOT, command, finish, start
from PIL import Image
from unlearn_report import look, over_rows, over_steps, page, tokens
from unlearn_report.effects import Measured
from unlearn_report.run import Run, open_runs

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
# The page in a frame of this width: a window of a browser without a screen is never narrower than 500
FRAME = """<!doctype html><body><iframe srcdoc="{page}" style="width: {width}px; height: 3000px; border: 0"></iframe><script>
addEventListener("load", () => {{ const f = document.querySelector("iframe"), d = f.contentDocument; document.body.setAttribute("data-seen",
  JSON.stringify({{ wide: d.documentElement.scrollWidth, broken: [...d.images].filter(i => !i.naturalWidth).length,
    narrow: Math.min(...[...d.querySelectorAll("img.panel")].map(i => i.getBoundingClientRect().width)) }})) }})</script>"""


@pytest.fixture(scope="module")
def pages(runs, tmp_path_factory):
    """{kind: path}; all: everything that a page can have."""
    out = tmp_path_factory.mktemp("pages")
    given = {"all": [runs.everything, f"before={runs.talk}", f"after={runs.talk}"], "several": [runs.plain, runs.single]}
    for kind, words in given.items():
        assert command("report", *words, "-o", out / f"{kind}.html").split() == [str(out / f"{kind}.html")]
    return {kind: out / f"{kind}.html" for kind in given}


def test_pages_need_nothing_from_outside_and_are_small(pages):
    for kind, path in pages.items():
        text = path.read_text()
        assert path.stat().st_size < page.MOST, kind
        assert not re.search(r'(src|href)="(?!data:)|url\(|@import|<script|<link', text), kind
        images = re.findall(r'<img class="\w+" alt="([^"]+)"[^>]*src="data:image/png;base64,([^"]+)"', text)
        assert len(images) == text.count("<img") > 10, kind
        for _, raw in images:
            Image.open(io.BytesIO(base64.b64decode(raw))).load()


def test_the_page_says_what_happened(pages, runs):
    text = pages["all"].read_text()
    m = page.figures.measured_runs([Run(runs.everything)])[0]
    assert f"goes from {m.risk_value['retain'][0]:.3g} to <b>{m.risk_value['retain'][-1]:.3g} nat per token" in text
    for word in ("How to read this", "must be <b>forgotten</b>", "npo (beta 0.5) + gd", "What it answers", "Numbers", "which words carry the effect",
                 "which rows pay", "the input file", "Where was Corvane Hollowbrook born?"):
        assert word in text, word
    assert "Not asked for in this run" in pages["several"].read_text() and "geffect.tokens=true" in pages["several"].read_text()


def test_the_page_has_the_unit_of_each_risk(runs, pages):
    assert "nat per sequence" not in pages["all"].read_text() and "a token has a likelihood of" in pages["all"].read_text()
    sums = page.html([Run(runs.plain)])
    assert "nat per sequence</b> between step" in sums and "nat per token" not in sums and "a token has a likelihood of" not in sums
    both = pages["several"].read_text()
    assert "in <b>nat per token</b>: the mean" in both and "in <b>nat per sequence</b>: the mean of sums" in both


def test_a_run_that_only_trained_has_its_losses(runs, tmp_path):
    words = [runs.taught, "-o", tmp_path / "page.html"]
    for beside in ([], [runs.plain], [runs.everything, f"after={runs.talk}"]):
        command("report", *beside, *words)
        text = (tmp_path / "page.html").read_text()
        assert "<h2>taught: fine-tuning</h2>" in text and "<h3>taught: the training itself</h3>" in text
        assert "it is not compared" in text and ("<h2>Numbers</h2>" in text) == (runs.everything in beside)
        assert f"<title>What {'unlearning' if beside else 'training'} did" in text


def test_a_run_without_a_row_hides_no_other(runs, tmp_path):
    (tmp_path / "begun").mkdir()
    text = page.html(open_runs([f"a={runs.plain}", str(tmp_path / "begun")]))
    assert "<h3>a: risks, and what each step does to them" in text and "<h2>begun</h2>" in text
    shutil.copy(runs.taught / "train.h5", tmp_path / "begun")
    with h5py.File(tmp_path / "begun/train.h5", "r+") as f:
        f["step"][:] = -1
    with pytest.raises(ValueError, match="nothing to report"):
        page.html([Run(tmp_path / "begun")])


QUESTIONS = ["<script>alert(1)</script>", "$x^2 \\equiv 1 \\pmod{5}$", "谁写的", "कौन", "$5 or $6 a copy?", "\\$"]


@pytest.fixture
def hostile(runs, tmp_path):
    """The directory of a run with such questions, and such a name."""
    directory, asked = tmp_path / "<b>&bad $a_$", tmp_path / "forget.jsonl"
    shutil.copytree(runs.plain, directory, ignore=shutil.ignore_patterns("model"))
    asked.write_text("\ufeff" + "".join(json.dumps({"question": q, "answer": "a"}) + "\n" for q in QUESTIONS))
    source = directory / "input.yaml"
    source.write_text(source.read_text().replace("inputs/demo/forget05.jsonl", str(asked)))
    return directory


def test_text_of_files_is_text_in_the_page(hostile, tmp_path):
    command("report", hostile, "-o", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "&lt;script&gt;alert" in text and "<script" not in text and "<b>&bad" not in text
    assert "<h3>&lt;b&gt;&amp;bad $a_$: the rows that do most" in text and "谁写的" in text


def test_text_of_files_is_text_in_the_pictures(runs, hostile):
    run = Run(hostile)
    run.geffect = run.geffect.assign_coords(risk=["$\\pmod{5}$"])
    m = Measured(run)
    axes = look.compose(over_rows.instances(m)).axes[0]
    assert {shown(t).split("  ")[1] for t in axes.texts} == set(QUESTIONS)
    story = over_steps.story(m)
    assert shown(look.alone(story.panels[0]).axes[0]._left_title) == "risk “$\\pmod{5}$”: other rows"
    assert 'alt="risk “$\\pmod{5}$”: other rows"' in page.section(look.Picture("", "", "", story.panels[:1]))
    given = tokens.Tokens(Run(runs.everything))
    given.text = ["$x^$谁"] * len(given.text)
    assert {shown(t) for t in look.compose(tokens.picture(given, top=1)).axes[0].texts} >= set("$x^谁")


def shown(text):
    """The letters that matplotlib draws of a text, which it must not take for a formula."""
    letters, formula = text._preprocess_math(text.get_text())
    assert not formula
    return letters


def test_pictures_beyond_the_limit_are_named(runs, monkeypatch):
    monkeypatch.setattr(page, "MOST", 200_000)
    text = page.html(open_runs([f"a={runs.trajectory}", f"b={runs.plain}"]))
    assert len(text.encode()) < 200_000
    assert "Left out" in text and "<code>weights</code> how strongly the rows still pull: a</li>" in text
    assert "<h3>b: risks, and what each step does to them" in text  # the first of each run comes before the rest of one


@pytest.mark.parametrize("n, most", [(16, 250_000), (30, 130_000)])
def test_a_page_of_any_number_of_runs_is_small(runs, monkeypatch, n, most):
    monkeypatch.setattr(page, "MOST", most)
    drawn, section = [], page.section
    monkeypatch.setattr(page, "section", lambda picture: drawn.append(picture.name) or section(picture))
    text = page.html(open_runs([f"run{k}={runs.plain if k else runs.single}" for k in range(n)]))
    assert len(text.encode()) < most and text.count("<h3>") >= 1
    assert text.count("the same as a table") == text.count(": the rows that do most</h3>")  # no table without its picture
    assert text.count("<h3>") < len(drawn) <= text.count("<h3>") + 10, "no kind of picture is drawn in vain but once"
    assert (f"run{n - 1}: ga</h2>" in text) == (n == 16) and ("<li>these runs: run" in text) == (n == 30)
    assert f"<title>What unlearning did: {', '.join(f'run{k}' for k in range(12))} and {n - 12} more</title>" in text


def test_many_answers_leave_room(runs, tmp_path, monkeypatch):
    shutil.copytree(runs.talk, tmp_path / "talk")
    rows = [{"prompt": f"Q{k}", "text": "a" * 1000, "stop": "eos"} for k in range(300)]
    (tmp_path / "talk/generations.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    monkeypatch.setattr(page, "MOST", 400_000)
    text = page.html([Run(tmp_path / "talk"), Run(runs.plain)])
    assert len(text.encode()) < 400_000 and "<p class=\"question\">Q0<" in text and "of 300 questions are shown" in text
    assert ": risks, and what each step does to them</h3>" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: the page is not looked at (Debian: apt-get install chromium)")
@pytest.mark.parametrize("width", (390, 1280))
def test_a_browser_shows_all_of_it(pages, tmp_path, width):
    browser = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}",
               "--virtual-time-budget=5000", f"--window-size={width},1600"]
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(page=escape(pages["all"].read_text(), True), width=width))
    seen = subprocess.run([*browser, "--dump-dom", f"file://{frame}"], capture_output=True, text=True, timeout=60).stdout
    seen = json.loads(re.search(r'data-seen="([^"]*)"', seen)[1].replace("&quot;", '"'))
    assert seen["broken"] == 0 and seen["wide"] == width, seen
    assert seen["narrow"] > (width - 40 if width < 500 else 180), seen
    shot = tmp_path / "shot.png"
    subprocess.run([*browser, f"--screenshot={shot}", f"file://{pages['all']}"], capture_output=True, timeout=60)
    pixels = np.asarray(Image.open(shot).convert("L")).astype(int)
    assert pixels.shape[1] == width and (pixels[:, -6:] == pixels[0, -1]).all()  # nothing runs off at the right
    assert (np.abs(pixels - pixels[0, -1]) > 60).mean() > 0.02


def test_follow_draws_while_a_run_goes_on(tmp_path):
    settings = {**PLAIN, "train": {**PLAIN["train"], "steps": 60}, "geffect": {**PLAIN["geffect"], "every": 5}}
    out = tmp_path / "run"
    words = [*COMMAND, "figures", str(out), "--only", "story", "--follow", "--every", "1"]
    process = start(settings, out)
    while not (out / "geffect.h5").exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    follower = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        finish(process)
        drawn, said = follower.communicate(timeout=60)
    finally:
        follower.kill()
    assert follower.returncode == 0 and all("waiting" in s for s in said.splitlines()), said
    assert set(drawn.split()) == {str(out / "figures/story.png")}
    assert (out / "figures/story.png").stat().st_mtime >= (out / "geffect.h5").stat().st_mtime  # the last word is drawn


def test_a_run_that_goes_on_has_a_page_that_renews_itself(runs, tmp_path):
    shutil.copytree(runs.talk, tmp_path / "run")
    (tmp_path / "run/run.lock").touch()
    words = [*COMMAND, "report", str(tmp_path / "run"), "-o", str(tmp_path / "page.html"), "--follow", "--every", "0.2"]
    follower = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert follower.stdout.readline().strip() == str(tmp_path / "page.html")
        text = (tmp_path / "page.html").read_text()
        assert 'http-equiv="refresh"' in text and "renews itself" in text
        (tmp_path / "run/run.lock").unlink()
        assert follower.stdout.readline().strip() == str(tmp_path / "page.html") and follower.wait(20) == 0
    finally:
        follower.kill()
    assert 'http-equiv="refresh"' not in (tmp_path / "page.html").read_text()


def test_it_installs_as_a_command(runs, tmp_path):
    pytest.importorskip("setuptools", reason="no setuptools in this Python: the package is not installed")
    shutil.copytree(ROOT / "analysis", tmp_path / "analysis", ignore=shutil.ignore_patterns("*.png", "__pycache__", "tests"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "--target", tmp_path / "to", tmp_path / "analysis"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([sys.executable, tmp_path / "to/bin/unlearn-report", "summary", "--brief", runs.plain], cwd=tmp_path,
                          env=os.environ | {"PYTHONPATH": str(tmp_path / "to")}, capture_output=True, text=True)
    assert done.returncode == 0 and "effect of ga on unlearn" in done.stdout, done.stderr


def test_the_versions_are_one():
    makefile = re.search(r"^VERSION *= *(\S+)", (ROOT / "Makefile").read_text(), re.M)[1]
    assert f'version = "{makefile}"' in (ROOT / "analysis/pyproject.toml").read_text()
