"""A run's directory, finished or not, as xarray data sets and what stands beside them: settings, questions, answers."""
import json
import re
from collections import Counter
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray

FILES = ("geffect", "tokens", "train", "evaluation")
GOING, UNKNOWN = "runs, or was stopped", "not known, without the run's other files"
QUOTED = r'"(?:[^"\\]|\\.)*"'
SETTING = re.compile(rf"( *)(- )?([\w./+-]+|{QUOTED}):(?: ({QUOTED}|.*?))?(?:  # .*)?$")  # one line of an input.yaml


def settings(path):
    """{"data.forget.path": text} of an input.yaml that the program has written: one key a line, by indentation; of a list by its
    element's place, "objective.regularizer.0.name"."""
    found, above, elements = {}, [], Counter()
    for line in path.read_text().split("\n") if path.exists() else ():
        if not (setting := SETTING.match(line)):
            continue
        indent, dash, key, value = setting.groups()
        depth = len(indent) // 2
        if dash:
            where = ".".join(above[:depth])
            above[depth:] = [str(elements[where])]
            elements[where] += 1
            depth += 1
        above[depth:] = [unquoted(key)]
        found[".".join(above)] = unquoted(value or "")
    return found


def parameters(text):
    """ "alpha=2,unit" of a label -> {alpha: 2, unit: ""}, of texts."""
    return dict(p.partition("=")[::2] for p in text.split(",") if p)


def equal(x, y):
    """Of two texts, as numbers where they are some; labels have six digits."""
    try:
        return abs(float(x) - float(y)) <= 1e-5 * abs(float(y))
    except ValueError:
        return x == y


def unquoted(value):
    """A scalar as the program writes it; in quotes it is JSON but for control characters, \\x0a."""
    if not value.startswith('"'):
        return value
    return json.loads(re.sub(r"\\(x[0-9a-f]{2}|.)", lambda m: f"\\u00{m[1][1:]}" if len(m[1]) == 3 else m[0], value))


@contextmanager
def reading(path):
    """What the libraries say of a damaged file, as one line that names it."""
    try:
        yield
    except (OSError, RuntimeError, KeyError) as e:
        raise ValueError(f"{path}: cannot be read: {' '.join(str(e).split())}") from e


def open_rows(path):
    """The rows that are complete: a run that writes, or was killed, may have one more, whose step is -1."""
    data = xarray.open_dataset(path, engine="h5netcdf")
    return data.isel(step=np.flatnonzero(data.step.values >= 0)) if "step" in data.dims else data


def state(directory, task):
    """finished, ended, GOING or UNKNOWN: a training run marks its end by a file, another task by the last lines of its log, when its
    lock is gone. Every run has a log before it measures: where there is none, files were taken elsewhere."""
    if (directory / "run.finished").exists():
        return "finished"
    training, log = task in (None, "unlearn", "finetune"), directory / "run.log"
    if training and log.exists() or (directory / "run.lock").exists():
        return GOING
    if not log.exists():
        return UNKNOWN if training else "ended"  # well or not
    return "finished" if re.search(r"^memory of a process: .* peak ", log.read_text(errors="replace"), re.M) else GOING


class Run:
    """geffect, tokens, train, evaluation: a data set each, None where there is no such file; open from the first use until close()."""

    def __init__(self, path, name=None):
        """path: the directory, or a file in it, which then is the only one that is read."""
        path = Path(path)
        if not path.exists():
            raise ValueError(f"{path}: there is no such directory: give the output directory of a run")
        self.directory = path if path.is_dir() else path.parent
        self.name = name or self.directory.resolve().name
        if path.is_file() and path.stem not in FILES:
            raise ValueError(f"{path}: is none of {', '.join(f + '.h5' for f in FILES)}: give the output directory of a run")
        self._only, self._open = path.name if path.is_file() else None, []
        self.settings = settings(self.directory / "input.yaml")
        self.state = state(self.directory, self.settings.get("task"))
        self.finished = self.state != GOING  # nothing more will come
        self._texts = {}

    def _read(self, *files):
        """The first of these files of the directory that exists."""
        there = [f for f in files if self._only in (None, f) and (self.directory / f).exists()]
        if not there:
            return None
        with reading(self.directory / there[0]):
            self._open.append(open_rows(self.directory / there[0]))
        return self._open[-1]

    def unread(self, name):
        """Whether the directory has a file that is not read, as another one was given alone."""
        return self._only not in (None, name) and (self.directory / name).exists()

    def must_read(self, name):
        if self.unread(name):
            raise ValueError(f"{self.directory / name}: is not read where {self._only} is given alone: give the directory, or this file")

    _effects = cached_property(lambda self: self._read("geffect.h5"))

    @cached_property
    def geffect(self):
        """With the objective that was trained as the first of the axis, wherever the input has it."""
        data = self._effects
        if data is None or "objective" not in data.dims:
            return data
        labels = [str(o) for o in data.objective.values]
        first = self.trained or labels[0]
        return data if first == labels[0] else data.isel(objective=sorted(range(len(labels)), key=lambda j: labels[j] != first))

    tokens = cached_property(lambda self: self._read("tokens.h5"))
    train = cached_property(lambda self: self._read("train.h5"))
    evaluation = cached_property(lambda self: self._read("evaluation.h5", "evaluation/evaluation.h5"))  # the second as inputs/guard.sh leaves it

    def close(self):
        for data in self._open:
            data.close()

    @property
    def data(self):
        """The first data set there is, for the attributes that all have; None without any."""
        return next((d for d in (self.geffect, self.tokens, self.evaluation, self.train) if d is not None), None)

    def setting(self, key, default=""):
        value = self.settings.get(key, "null")
        return default if value in ("null", "") else value

    @cached_property
    def trained(self):
        """The label of the trained objective among those that were measured, None where it was not; of a run that trains none, or
        where neither the file nor input.yaml says it, that of the first."""
        labels, said = [str(o) for o in self._effects.objective.values], self._effects.attrs.get("trained", "")
        name = self.setting("objective.name") if self.task == "unlearn" else ""
        if said in labels or self.task != "unlearn" or not (said or name):
            return said if said in labels else labels[0]
        return None if said else self._told(labels, "po" if name == "idk" else name)

    @property
    def task(self):
        """Of input.yaml; without it, of the input that geffect.h5 keeps, as it was read."""
        if "task" in self.settings:
            return self.settings["task"]
        given = "" if self._effects is None else str(self._effects.attrs.get("input", ""))
        task = re.search(r"""^[\s{]*["']?task["']?\s*:\s*["']?(\w+)""", given, re.M)
        return task[1] if task else "unlearn"

    def _told(self, labels, name):
        """The same of a file that does not say it."""
        log = self.directory / "run.log"  # has its parameters, defaults included
        said = re.search(r"^objective +\w+\(([^)]*)", log.read_text(errors="replace"), re.M) if log.exists() else None
        own = parameters(said[1]) if said else self._given("objective")

        def same(k):
            word, _, text = labels[k].removesuffix(")").partition("(")
            theirs = parameters(text) if text else self._given(f"geffect.objectives.{k}")
            return word == name and all(equal(own[p], v) for p, v in theirs.items() if p in own)
        return next((x for k, x in enumerate(labels) if same(k)), None)

    def recipe(self):
        """What was trained, as "npo (beta 0.5) + kl (weight 5) + gd", or fine-tuning; "" of a task that trains nothing; without input.yaml
        the names in geffect.h5, "" where that was not measured."""
        if self.task != "unlearn":  # its input.yaml has an objective too, which it does not read
            return "fine-tuning" if self.task == "finetune" else ""
        if self.setting("objective.name"):
            return " + ".join([self._loss("objective"), *(self._loss(k.removesuffix(".name")) for k in self.settings
                                                          if re.fullmatch(r"objective\.regularizer\.\d+\.name", k))])
        if self.geffect is None or "objective" not in self.geffect or self.trained is None:
            return ""
        return " + ".join([self.trained, *(v.removeprefix("geffect_") for v in self.geffect if v.startswith("geffect_"))])

    def _loss(self, key):
        """The objective or regulariser under this key, with its own parameters, and its weight where that is not 1."""
        own = self._given(key)
        parts = [f"{k} {v}" for k, v in own.items() if k not in ("regularizer", "batch_size", "dual") and (k, v) != ("weight", "1")]
        name = self.settings[f"{key}.name"]
        return f"{name} ({', '.join(parts)})" if parts else name

    def _given(self, key):
        """What the input says under this key beside a name: its scalars."""
        own = {k.removeprefix(f"{key}."): v for k, v in self.settings.items() if re.fullmatch(rf"{re.escape(key)}\.\w+", k)}
        return {k: v for k, v in own.items() if k != "name" and v not in ("null", "", "[]")}

    def meant(self, risk):
        """forget or retain: what the risk's rows are there for, by the file that it reads or else by its name; "" where neither tells."""
        data = self.setting(f"geffect.risks.{risk}.data")
        return data if data in ("forget", "retain") else {"unlearn": "forget", "forget": "forget", "retain": "retain"}.get(risk, "")

    def find(self, name):
        """A file that the input names: relative to where the run was started, here or in a directory above the run's."""
        places = (Path(), *self.directory.resolve().parents)
        return next((p / name for p in places if (p / name).is_file()), None)

    def question(self, side, row):
        """The question of a row of the forget or the retain file, as far as the file is to be had; else ""."""
        if side not in self._texts:
            file = self.find(self.setting(f"data.{side}.path", "null"))
            key = self.setting(f"data.{side}.question", "question")
            plain = self.setting(f"data.{side}.text")  # a line of plain text may be several rows
            lines = file.read_text(encoding="utf-8-sig").split("\n") if file and not plain else ()
            self._texts[side] = [str(json.loads(s).get(key, "")) for s in lines if s.strip()]
        texts = self._texts[side]
        return texts[row] if row < len(texts) else ""

    def answers(self):
        """[(prompt, answer)] of a run of `task: generate`; an answer that was cut ends in dots. None of other runs."""
        path = self.directory / "generations.jsonl"
        if not path.exists():
            return None
        try:
            rows = [json.loads(line) for line in path.read_text().split("\n") if line]
            return [(r["prompt"], r["text"].strip() + ("" if r["stop"] == "eos" else " ...")) for r in rows]
        except (ValueError, KeyError) as e:
            raise ValueError(f"{path}: is not what `task: generate` writes: {e}") from e


def open_runs(words):
    """Runs of the words PATH or NAME=PATH; directories of one name have their paths for names."""
    given = [("", word) if "=" not in word or Path(word).exists() else word.split("=", 1) for word in words]
    runs = [Run(path, name or None) for name, path in given]
    places = [(r.name, r.directory.resolve()) for r in runs]
    for (name, _), run, (own, place) in zip(given, runs, places):
        if not name and any(other == own and there != place for other, there in places):
            run.name = str(run.directory)
    return runs
