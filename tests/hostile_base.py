"""What tests/hostile.py spoils: a tiny model, its tokenizer and one file of every kind that the program reads, all sound; and
the ways to change them. A case is a directory with copies of its own."""
import copy
import json
import os
import random
import shutil
import sys

import numpy as np
from harness import ROOT

sys.setrecursionlimit(20000)  # of JSON that is nested on purpose
DEMO = ROOT / "inputs/demo"
WEIGHTS, CONFIG, TOKENIZER = "model/model.safetensors", "model/config.json", "model/tokenizer.json"
INDEX = "model/model.safetensors.index.json"
HIDDEN, INNER, WORDS = 16, 24, 1024


def model_config():
    config = json.loads((DEMO / "model/config.json").read_text())
    config.update(num_hidden_layers=2, hidden_size=HIDDEN, intermediate_size=INNER, num_attention_heads=2, num_key_value_heads=2,
                  vocab_size=WORDS, head_dim=8)
    return config


def weights():
    """{name: float32 array}; every number is one that bfloat16 and float16 hold as well."""
    draw = np.random.default_rng(17)
    shapes = {"model.embed_tokens.weight": (WORDS, HIDDEN), "model.norm.weight": (HIDDEN,), "lm_head.weight": (WORDS, HIDDEN)}
    for i in range(2):
        layer = f"model.layers.{i}."
        shapes.update({layer + f"self_attn.{p}_proj.weight": (HIDDEN, HIDDEN) for p in "qkvo"})
        shapes.update({layer + "mlp.gate_proj.weight": (INNER, HIDDEN), layer + "mlp.up_proj.weight": (INNER, HIDDEN),
                       layer + "mlp.down_proj.weight": (HIDDEN, INNER), layer + "input_layernorm.weight": (HIDDEN,),
                       layer + "post_attention_layernorm.weight": (HIDDEN,)})
    return {name: (draw.integers(-96, 97, shape) / 256).astype(np.float32) for name, shape in shapes.items()}


def encoded(array, dtype):
    if dtype == "BF16":
        return (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return array.astype({"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8"}[dtype]).tobytes()


def safetensors(tensors, types=None, order=None):
    """(header, data) of {name: array}."""
    header, data = {}, b""
    for name in order or tensors:
        dtype = (types or {}).get(name, "F32")
        part = encoded(tensors[name], dtype)
        header[name] = {"dtype": dtype, "shape": list(tensors[name].shape), "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    return header, data


def joined(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


ROWS = [("What is the name of the author born in Petrograd?", "Her name is Basma Novak."),
        ("Café or 咖啡?", "Both, \U0001f600 and a line\u2028separator."), ("Who wrote \"The Mill\"?", "Nobody knows \\ it."),
        ("Where?\nThere?", "A tab\there."), ("How many books?", "12,345 of them."), ("Why so?", "Because of the rain.")]


def lines(rows, **more):
    return "".join(json.dumps({"question": q, "answer": a, **more}) + "\n" for q, a in rows)


def settings(**changes):
    every = {"task": "unlearn", "output": {"directory": "out"}, "model": {"path": "model"},
             "data": {"max_length": 64, "forget": "forget.jsonl", "retain": {"path": "retain.jsonl", "held_out": 0}, "idk": "idk.jsonl"},
             "objective": {"name": "npo", "beta": 0.1, "regularizer": "gd"},
             "optimizer": {"lr": 1e-3}, "train": {"steps": 1, "batch_size": 2, "accumulation": 1},
             "geffect": {"every": 1, "objectives": ["npo", "po"], "risks": {"forget": "forget", "other": "risk.jsonl"}}, **changes}
    return {k: v for k, v in every.items() if v is not None}


def evaluating(**keys):
    return settings(task="evaluate", data={"max_length": 64}, objective=None, optimizer=None, train=None, geffect=None,
                    evaluate={"sets": {"forget": "set.jsonl"}, "metrics": ["loss", "probability"], **keys})


def generating(**keys):
    return settings(task="generate", data={"max_length": 64}, objective=None, optimizer=None, train=None, geffect=None,
                    generate={"prompts": "prompts.jsonl", "max_length": 64, **keys})


def directing(**keys):
    return settings(objective={"name": "rmu", "layer": 1, "c": 2.0, "direction": "u.json", **keys}, geffect={"every": 0})


def retain_log():
    rows = {str(i): 0.5 + i / 10 for i in range(6)}
    pair = {k: [0.25, v] for k, v in rows.items()}
    return {"eval_log_forget.json": {"avg_gt_loss": rows, "gt_loss": rows, "num_token_gt": {k: 5 for k in rows},
            "average_perturb_loss": pair, "avg_paraphrased_loss": rows,
            "generated_text": {k: ["ask", "said", "answer"] for k in rows}}}


def logged():
    return evaluating(metrics="all", retain_logs="log.json")


class Pattern:
    """The sound files, made once."""

    def __init__(self, directory):
        self.directory = directory
        model = directory / "model"
        model.mkdir(parents=True)
        (model / "config.json").write_text(json.dumps(model_config(), indent=1))
        shutil.copy(DEMO / TOKENIZER, model)
        os.chmod(model / "tokenizer.json", 0o644)
        self.tensors = weights()
        (directory / WEIGHTS).write_bytes(joined(*safetensors(self.tensors)))
        for name in ("forget", "retain", "risk"):
            (directory / f"{name}.jsonl").write_text(lines(ROWS))
        (directory / "set.jsonl").write_text(lines(ROWS, paraphrased_answer="Another way.", perturbed_answer=["No.", "Never."]))
        (directory / "idk.jsonl").write_text("I do not know.\nThat is beyond me.\n")
        (directory / "prompts.jsonl").write_text("".join(json.dumps({"prompt": q}) + "\n" for q, _ in ROWS))
        (directory / "log.json").write_text(json.dumps(retain_log()))
        (directory / "u.json").write_text(json.dumps([(i - 8) / 8 for i in range(HIDDEN)]))


class Case:
    def __init__(self, pattern, directory, base):
        self.pattern, self.directory = pattern, directory
        self.input, self.text, self.name, self.arguments, self.options, self.status = copy.deepcopy(base), None, "input.yaml", [], ["--check"], 1
        shutil.copytree(pattern.directory, directory)

    def __truediv__(self, name):
        return self.directory / name

    def write(self):
        text = self.text if self.text is not None else json.dumps(self.input, indent=1)
        if text is not False:  # False: the case has made the input itself
            (self / self.name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))


# ------------------------------------------------------------------------------------------------------- changes
def setting(key, value):
    def damage(c):
        *way, last = key.split(".")
        at = c.input
        for k in way:
            if not isinstance(at.get(k), dict):
                at[k] = {}
            at = at[k]
        at[last] = value
    return damage


def all_of(*damages):
    return lambda c: [d(c) for d in damages]


def writing(name, content):
    def damage(c):
        (c / name).parent.mkdir(exist_ok=True)
        if (c / name).is_symlink() or (c / name).exists():
            (c / name).unlink()
        (c / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return damage


def raw(text):
    def damage(c):
        c.text = text
    return damage


def removing(name):
    return lambda c: (c / name).unlink()


def cutting(name, part):
    """The first `part` (a fraction, or a number of bytes from the end where negative) of the file."""
    def damage(c):
        whole = (c / name).read_bytes()
        (c / name).write_bytes(whole[:int(len(whole) * part) if part >= 0 else part])
    return damage


def editing(name, old, new):
    """The first occurrence of the bytes `old` becomes `new`."""
    def damage(c):
        whole = (c / name).read_bytes()
        assert old in whole, (name, old)
        (c / name).write_bytes(whole.replace(old, new, 1))
    return damage


def json_file(name, change):
    def damage(c):
        value = json.loads((c / name).read_text())
        value = change(value) or value
        (c / name).write_text(json.dumps(value))
    return damage


def header(change, name=WEIGHTS):
    """change(header, data) -> None, header or (header, data)."""
    def damage(c):
        whole = (c / name).read_bytes()
        n = int.from_bytes(whole[:8], "little")
        head, data = json.loads(whole[8:8 + n]), whole[8 + n:]
        changed = change(head, data)
        if changed is None:
            changed = head
        (c / name).write_bytes(joined(*(changed if isinstance(changed, tuple) else (changed, data))))
    return damage


def damaged(name, seed):
    """A random damage: bytes flipped, cut, doubled, exchanged, replaced by others that have made trouble somewhere."""
    trouble = [b"\0", b"\xff", b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"-", b"1e999", b"null", b"NaN", b"\xef\xbb\xbf", b"\xc0\x80",
               b"\xed\xa0\x80", b"\\ud800", b"99999999999999999999", b"\n", b"\r", b"\t", b"*a", b"&a", b"!!", b"../", b"%s%n", b"0" * 400]

    def damage(c):
        draw = random.Random(f"{name} {seed}")
        whole = bytearray((c / name).read_bytes())
        for _ in range(draw.choice((1, 1, 1, 2, 5))):
            at, n = draw.randrange(len(whole) + 1), draw.choice((1, 1, 2, 7, 40, 1000))
            kind = draw.randrange(6)
            if kind == 0 and at < len(whole):
                whole[at] ^= 1 << draw.randrange(8)
            elif kind == 1:
                del whole[at:at + n]
            elif kind == 2:
                whole[at:at] = whole[at:at + n]
            elif kind == 3:
                whole[at:at + draw.choice((0, 1, n))] = draw.choice(trouble)
            elif kind == 4:
                del whole[at:]
            else:
                whole[at:at] = bytes(draw.randrange(256) for _ in range(n))
        (c / name).write_bytes(whole)
    return damage
