"""A sound input with its files, and ways to spoil it: what scripts of bad inputs make their cases of."""
import json
import os
import re
import shutil

import numpy as np
from harness import SHARED, precisions, run_input

GOLDEN = SHARED / "golden/models/llama"


def sound():
    return {
        "task": "unlearn", "output": {"directory": "out"},
        "model": {"path": "model", "reference": "reference"},
        "data": {"template": "llama2", "max_length": 200, "forget": "forget.jsonl",
                 "retain": {"path": "retain.jsonl", "held_out": 0}},
        "objective": {"name": "npo", "beta": 0.05, "regularizer": [{"name": "kl", "weight": 1.0}]},
        "optimizer": {"lr": 1e-3}, "train": {"steps": 2, "batch_size": 2, "accumulation": 1}, "geffect": {"every": 1},
    }


class Case:
    """A directory with a sound input, its model and data, which the case's `damage` then spoils."""

    def __init__(self, directory, golden=GOLDEN):
        self.directory, self.input, self.options, self.text = directory, sound(), [], None
        for name in ("model", "reference"):
            shutil.copytree(golden / name, directory / name)
        for name in ("forget.jsonl", "retain.jsonl", "idk.jsonl"):
            shutil.copy(golden / name, directory)
        for path in directory.rglob("*"):
            os.chmod(path, 0o755 if path.is_dir() else 0o644)

    def __truediv__(self, name):
        return self.directory / name

    def set(self, key, value):
        """set("a.b.c", v): the input's key; v None removes it."""
        *way, last = key.split(".")
        at = self.input
        for k in way:
            at = at.setdefault(k, {}) if isinstance(at.get(k), dict) else at.__setitem__(k, {}) or at[k]
        if value is None:
            at.pop(last, None)
        else:
            at[last] = value


def setting(key, value):
    return lambda c: c.set(key, value)


def removing(name):
    return lambda c: (c / name).unlink()


def renaming(name, other):
    return lambda c: (c / name).rename(c / other)


def writing(name, text):
    def damage(c):
        if isinstance(text, bytes):
            (c / name).write_bytes(text)
        else:
            (c / name).write_text(text)
    return damage


def writing_after(name, pattern, text):
    """What matches the pattern becomes `text`."""
    return lambda c: (c / name).write_text(re.sub(pattern, text, (c / name).read_text()))


def wordless(t):
    """A tokenizer without byte tokens that falls back to nothing, whose unknown token is not in its vocabulary."""
    t.update(normalizer=None, pre_tokenizer=None, post_processor=None)
    t["model"].update(unk_token="<none>", byte_fallback=False)


def cutting(name, part):
    def damage(c):
        whole = (c / name).read_bytes()
        (c / name).write_bytes(whole[:int(len(whole) * part)])
    return damage


def option(*words):
    return lambda c: c.options.extend(words)


def raw(text):
    """The input file is this text instead."""
    def damage(c):
        c.text = text
    return damage


def json_file(name, change):
    """change(parsed) alters the file in place."""
    def damage(c):
        value = json.loads((c / name).read_text())
        change(value)
        (c / name).write_text(json.dumps(value))
    return damage


def line(name, number, text):
    """Replaces line `number` (from 1) of a file; text None empties the value instead."""
    def damage(c):
        lines = (c / name).read_text().split("\n")
        lines[number - 1] = text
        (c / name).write_text("\n".join(lines))
    return damage


def tensors(change, directory="model"):
    """change(header, bytes) -> (header, bytes) of DIRECTORY/model.safetensors."""
    def damage(c):
        path = c / directory / "model.safetensors"
        whole = path.read_bytes()
        n = int.from_bytes(whole[:8], "little")
        header, data = change(json.loads(whole[8:8 + n]), bytearray(whole[8 + n:]))
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return damage


def without(name):
    """The file without one tensor, its bytes taken out as well."""
    def change(header, data):
        begin, end = header.pop(name)["data_offsets"]
        for key, t in header.items():
            if key != "__metadata__":
                t["data_offsets"] = [o - (end - begin if o >= end else 0) for o in t["data_offsets"]]
        return header, data[:begin] + data[end:]
    return tensors(change)


def described(name, **fields):
    def change(header, data):
        header[name].update(fields)
        return header, data
    return tensors(change)


def valued(name, value):
    """The tensor's third number becomes `value`."""
    def change(header, data):
        begin = header[name]["data_offsets"][0]
        data[begin + 8:begin + 12] = np.float32(value).tobytes()
        return header, data
    return tensors(change)


def finished(c):
    """A run has been here."""
    done = run_input(c.input, 1, precisions()[0], c.directory, timeout=60)
    assert done.returncode == 0, done.stderr


def extra_word(c):
    """A token that the embedding has no row for, in the vocabulary and in a row."""
    json_file("model/tokenizer.json", lambda t: t.setdefault("added_tokens", []).append(
        {"id": 320, "content": "<extra>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": False}))(c)
    row(2, answer="an <extra> word")(c)


def row(number, **fields):
    """Fields of a row of forget.jsonl; None removes one."""
    def damage(c):
        lines = (c / "forget.jsonl").read_text().splitlines()
        value = {**json.loads(lines[number - 1]), **fields}
        lines[number - 1] = json.dumps({k: v for k, v in value.items() if v is not None})
        (c / "forget.jsonl").write_text("\n".join(lines) + "\n")
    return damage


def both(*damages):
    return lambda c: [d(c) for d in damages]


def evaluating(**keys):
    """The input evaluates the forget rows instead."""
    def damage(c):
        c.set("task", "evaluate")
        c.set("evaluate", {"sets": {"forget": "forget.jsonl"}, **keys})
    return damage
