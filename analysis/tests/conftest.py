"""Small runs of the real program, made once: whatever it writes, these tests read."""
import contextlib
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "analysis"))
from unlearn_report.command import main  # noqa: E402

COMMAND = [sys.executable, str(ROOT / "analysis/unlearn-report")]
DATA = {"template": "qa", "max_length": 64, "forget": {"path": "inputs/demo/forget05.jsonl", "rows": 6},
        "retain": {"path": "inputs/demo/retain95.jsonl", "rows": 20}}
MODEL = {"path": "inputs/demo/model", "init": "random"}
RISKS = {"unlearn": {"data": "forget"}, "world": {"data": "inputs/demo/world_facts_perturbed.jsonl", "rows": 5}, "retain": {"data": "retain"}}
TRAIN = {"steps": 4, "batch_size": 3, "accumulation": 1}
EVERYTHING = {
    "task": "unlearn", "model": MODEL, "data": DATA, "train": TRAIN, "optimizer": {"lr": 3e-3, "warmup_steps": 0},
    "objective": {"name": "npo", "beta": 0.5, "regularizer": {"name": "gd"}},
    "geffect": {"every": 1, "objectives": ["npo", "ga"], "risks": RISKS, "fidelity": True, "tokens": True,
                "pairs": True, "curvature": True, "standard_error": True},
    "evaluate": {"every": 2, "rows": 2, "max_length": 40, "sets": {"forget": "inputs/demo/forget05_perturbed.jsonl"}}}
PARTS = {"question_start": "Q \\ \"  # ", "question_end": "\nA: ", "answer_start": ""}  # what its input.yaml must quote
PLAIN = {"task": "unlearn", "model": MODEL, "data": {**DATA, "template": PARTS}, "train": TRAIN, "optimizer": {"lr": 3e-3}, "objective": "ga",
         "geffect": {"every": 2, "resolution": "tensor", "normalisation": "sequence_sum", "risks": {"unlearn": {"data": "forget"}}}}
TAUGHT = {"task": "finetune", "model": MODEL, "data": DATA, "train": TRAIN, "optimizer": {"lr": 3e-3}}


def program():
    path = ROOT / "unlearn"
    if not path.exists():
        pytest.skip("the program is not built: make")
    return path


def start(settings, directory):
    """The program on its way with these settings; JSON is YAML."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    source = directory.parent / f"{directory.name}.yaml"
    source.write_text(json.dumps({**settings, "output": {"directory": str(directory)}}))
    return subprocess.Popen([program(), source], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env=os.environ | {"OMP_NUM_THREADS": "1"})


def finish(process):
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text[-2000:]


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Directories: everything; plain (no regulariser, one risk, tensors, sums); taught (only trained); single (task geffect); trajectory; talk (generate)."""
    out = tmp_path_factory.mktemp("runs")
    first = [start(EVERYTHING, out / "everything"), start(PLAIN, out / "plain"), start(TAUGHT, out / "taught")]
    for process in first:
        finish(process)
    models = [{"step": s, "path": str(out / name / "model")} for s, name in ((0, "plain"), (7, "everything"))]
    geffect = {"task": "geffect", "data": DATA, "geffect": {"objectives": ["ga", "npo"]}}
    then = [start({**geffect, "model": {"path": models[0]["path"]}}, out / "single"),
            start({**geffect, "model": {"path": models}}, out / "trajectory"),
            start({"task": "generate", "model": {"path": models[0]["path"]}, "data": {"template": "qa"},
                   "generate": {"prompts": "inputs/demo/forget05.jsonl", "rows": 3, "max_length": 30}}, out / "talk")]
    for process in then:
        finish(process)
    return SimpleNamespace(**{p.name: p for p in out.iterdir() if p.is_dir()})


def command(*words, status=0):
    """What the command prints, in this process; it must end with this status, and warn of nothing but of libraries' ages."""
    before, out, code, error = os.getcwd(), io.StringIO(), 0, ""
    os.chdir(ROOT)  # paths in a run's input are relative to where it was started
    try:
        with contextlib.redirect_stdout(out), warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", DeprecationWarning)  # an older matplotlib beside a newer pyparsing
            warnings.filterwarnings("error", category=DeprecationWarning, module="unlearn_report")
            main([str(w) for w in words])
    except SystemExit as e:
        code, error = (1, f"{e.code}\n") if isinstance(e.code, str) else (e.code, "")
    finally:
        os.chdir(before)
    assert code == status, error
    return error if status else out.getvalue()
