"""Odd inputs that must be read as the plain ones, for tests/hostile.py: (row of FAULTS.md, name, base settings, change). What --check
says of them must end with the same digest as for the base, unchanged."""
import json

from hostile_base import (CONFIG, HIDDEN, INDEX, ROWS, TOKENIZER, WEIGHTS, WORDS, all_of, directing, evaluating, generating, header, joined,
                          json_file, lines, logged, raw, safetensors, setting, settings, writing)
from hostile_cases import YAML, sharded


def rewritten(types=None, order=None, extra=None, dump=json.dumps, front=(), pad=0):
    """The same weights in a file that is made in another way."""
    def change(c):
        tensors = dict(c.pattern.tensors)
        names = list(tensors)
        for name, array in (extra or {}).items():
            tensors[name] = array
            names.insert(0 if name in front else len(names), name)
        kinds = {n: types(n) for n in tensors} if callable(types) else types
        if order:
            names = sorted(names, key=order)
        head, data = safetensors(tensors, kinds, names)
        text = dump(head)
        (c / WEIGHTS).write_bytes(joined((text if isinstance(text, bytes) else text.encode()) + b" " * pad, data))
    return change


def escaped(h):
    """Every letter of every name as \\u00xx."""
    name = lambda n: '"' + "".join(f"\\u{ord(ch):04X}" for ch in n) + '"'
    return "{" + ",".join(f"{name(n)}:{json.dumps(t)}" for n, t in h.items()) + "}"


def weights():
    import numpy as np
    base = settings()
    count = lambda i: {"F32": 0, "F16": 1, "BF16": 2, "F64": 3}
    for kind in ("F16", "BF16", "F64"):
        yield "D2", f"all of {kind}", base, rewritten(lambda n, k=kind: k)
    yield "D2", "of mixed types", base, rewritten(lambda n: list(count(0))[len(n) % 4])
    yield "D2", "in reverse order of names", base, rewritten(order=lambda n: [-ord(ch) for ch in n])
    yield "D2", "in the order of lengths", base, rewritten(order=len)
    yield "D2", "header in another order than the data", base, rewritten(dump=lambda h: json.dumps(dict(reversed(h.items()))))
    yield "D2", "fields in another order", base, rewritten(dump=lambda h: json.dumps({n: dict(reversed(t.items())) for n, t in h.items()}))
    yield "D2", "metadata", base, rewritten(dump=lambda h: json.dumps({"__metadata__": {"format": "pt", "é\u2028": "x" * 10000, "": ""}, **h}))
    yield "D2", "empty metadata behind", base, rewritten(dump=lambda h: json.dumps({**h, "__metadata__": {}}))
    yield "D2", "names in escapes", base, rewritten(dump=escaped)
    yield "D2", "header over lines", base, rewritten(dump=lambda h: json.dumps(h, indent=7))
    yield "D2", "header with carriage returns and tabs", base, rewritten(dump=lambda h: json.dumps(h, indent="\t").replace("\n", "\r\n"))
    yield "D2", "header padded to 1 MB", base, rewritten(pad=1 << 20)
    for pad in range(1, 8):
        yield "D2", f"data at an odd place, {pad}", base, rewritten(pad=pad)
    yield "D2", "a rotary table", base, rewritten(extra={f"model.layers.{i}.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32) for i in range(2)})
    yield "D2", "a tensor of whole numbers in front", base, rewritten(types={"position_ids": "I64"}, extra={"position_ids": np.arange(3.0)},
                                                                 front=("position_ids",))
    yield "D2", "odd bytes in front", base, header(lambda h, d: ({"x": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
              **{n: {**t, "data_offsets": [o + 3 for o in t["data_offsets"]]} for n, t in h.items()}}, b"abc" + d))
    yield "D2", "tensors without elements, and scalars", base, header(lambda h, d: (
        {"a": {"dtype": "F32", "shape": [0, 5], "data_offsets": [len(d), len(d)]}, "b": {"dtype": "F32", "shape": [], "data_offsets": [len(d), len(d) + 4]},
         **h}, d + bytes(4)))
    yield "D2", "a tensor of NaN that nobody reads", base, header(lambda h, d: (
        {"x": {"dtype": "F32", "shape": [1], "data_offsets": [len(d), len(d) + 4]}, **h}, d + b"\0\0\xc0\x7f"))
    yield "D2", "further fields", base, header(lambda h, d: {n: {**t, "note": [1, {"a": None}]} for n, t in h.items()})
    yield "D2", "in shards", base, sharded()
    yield "D2", "index without metadata", base, sharded(lambda i: i.pop("metadata") and None)
    yield "D2", "index with odd metadata", base, sharded(lambda i: i.update(metadata=[float("nan"), 10**40]))
    yield "D2", "index names what is not there", base, sharded(lambda i: i["weight_map"].update(other="gone.safetensors"))
    yield "D2", "an index beside the whole", base, writing(INDEX, "{")


def configs():
    base = settings()
    odd = {"x": [1, float("inf"), {}], "y": 10**30, "": None, "é": "\u2028", "deep": json.loads("[" * 1000 + "]" * 1000)}
    yield "D4", "further keys of config.json", base, json_file(CONFIG, lambda c: c.update(odd))
    yield "D4", "numbers beyond 64 bits that nobody reads", base, json_file(CONFIG, lambda c: c.update(a=2**70, b=-10**30, c=float("nan")))
    yield "D4", "config.json on one line in reverse", base, json_file(CONFIG, lambda c: dict(reversed(c.items())))
    yield "D4", "config.json over lines", base, lambda c: (c / CONFIG).write_text(json.dumps(json.loads((c / CONFIG).read_text()), indent=9).replace("\n", "\r\n\t"))
    yield "D4", "names of keys in escapes", base, lambda c: (c / CONFIG).write_text((c / CONFIG).read_text().replace('"hidden_size"', '"\\u0068idden\\u005fsize"'))
    yield "D4", "what is null is not given", base, json_file(CONFIG, lambda c: c.update(head_dim=None, rope_scaling=None, quantization_config=None,
                                                                                      max_window_layers=None, num_experts=None))
    yield "D4", "real with an exponent", base, lambda c: (c / CONFIG).write_text((c / CONFIG).read_text().replace("10000.0", "1.0E+4"))
    yield "D4", "whole for a real", base, json_file(CONFIG, lambda c: c.update(rope_theta=10000))
    yield "D4", "end token in a list", base, json_file(CONFIG, lambda c: c.update(eos_token_id=[0]))


def tokenizers():
    base = settings()
    pairs = lambda m: [" ".join(p) for p in m]
    yield "D5", "an added token beyond the embedding, in no row", base, json_file(TOKENIZER, lambda t: t["added_tokens"].append(
        {**t["added_tokens"][0], "id": WORDS, "content": "<image>"}))
    yield "D5", "merges as texts", base, json_file(TOKENIZER, lambda t: t["model"].update(merges=pairs(t["model"]["merges"])))
    yield "D5", "vocabulary in another order", base, json_file(TOKENIZER, lambda t: t["model"].update(vocab=dict(reversed(t["model"]["vocab"].items()))))
    yield "D5", "further keys of the tokenizer", base, json_file(TOKENIZER, lambda t: (t.update(note={"x": 10**30}), t["model"].update(note=[])) and None)
    yield "D5", "truncation and padding", base, json_file(TOKENIZER, lambda t: t.update(truncation={"max_length": 3}, padding={"pad_id": 0}))
    yield "D5", "without a version", base, json_file(TOKENIZER, lambda t: t.pop("version") and None)
    yield "D5", "a sequence of one", base, json_file(TOKENIZER, lambda t: t.update(
        pre_tokenizer={"type": "Sequence", "pretokenizers": [t["pre_tokenizer"]]}, normalizer={"type": "Sequence", "normalizers": []}))
    yield "D5", "characters in escapes", base, lambda c: (c / TOKENIZER).write_text(json.dumps(json.loads((c / TOKENIZER).read_text()), ensure_ascii=True))
    yield "D5", "characters as they are, over lines", base, lambda c: (c / TOKENIZER).write_text(
        json.dumps(json.loads((c / TOKENIZER).read_text()), ensure_ascii=False, indent=1))


def rows():
    every = "".join(json.dumps({"question": q, "answer": a}, ensure_ascii=False) + "\n" for q, a in ROWS)
    letters = lambda s: "".join(f"\\u{ord(ch):04x}" if ord(ch) < 65536 else json.dumps(ch)[1:-1] for ch in s)
    spellings = {
        "as it is": every, "CRLF": every.replace("\n", "\r\n"), "blank lines": "\n \n\r\n" + every.replace("\n", "\n\n\t\n"), "no last newline": every[:-1],
        "many last newlines": every + "\n" * 1000, "a byte order mark": b"\xef\xbb\xbf" + every.encode(), "blanks around": "".join(f" \t{s} \r\n" for s in every[:-1].split("\n")),
        "every letter in escapes": "".join(f'{{"question":"{letters(q)}","answer":"{letters(a)}"}}\n' for q, a in ROWS),
        "keys in escapes": every.replace('"question"', '"\\u0071uestion"'), "other order": "".join(json.dumps({"answer": a, "question": q}) + "\n" for q, a in ROWS),
        "further keys": lines(ROWS, id=10**30, x=[float("nan"), None, {"a": [1e999]}], note="\u2028\u2029\x85"),
        "a key of 10,000 letters": lines(ROWS, **{"k" * 10000: 1}), "nested far": lines(ROWS, x=json.loads("[" * 1500 + "]" * 1500)),
        "solidus in escapes": every.replace("/", "\\/"), "no blanks": "".join(json.dumps({"question": q, "answer": a}, separators=(",", ":")) + "\n" for q, a in ROWS),
    }
    for what, text in spellings.items():
        for name in ("forget", "retain", "risk"):
            if name == "forget" or what in ("CRLF", "a byte order mark", "further keys"):
                yield "D7", f"{name}.jsonl: {what}", settings(), writing(f"{name}.jsonl", text)
    more = lines(ROWS, paraphrased_answer="Another way.", perturbed_answer=["No.", "Never."])
    for what, text in {"CRLF": more.replace("\n", "\r\n"), "a mark": b"\xef\xbb\xbf" + more.encode(), "blank lines": more.replace("\n", "\n\n"),
                       "further keys": lines(ROWS, paraphrased_answer="Another way.", perturbed_answer=["No.", "Never."], z=10**40),
                       "no last newline": more[:-1]}.items():
        yield "D7", f"set.jsonl: {what}", evaluating(), writing("set.jsonl", text)
    asked = "".join(json.dumps({"prompt": q}) + "\n" for q, _ in ROWS)
    for what, text in {"CRLF": asked.replace("\n", "\r\n"), "blank lines": asked.replace("\n", "\n\n \n"), "no last newline": asked[:-1],
                       "a byte order mark": b"\xef\xbb\xbf" + asked.encode(), "question is null": asked.replace("{", '{"question": null, '),
                       "further keys": asked.replace("{", '{"n": 1e999, ')}.items():
        yield "D7", f"prompts.jsonl: {what}", generating(), writing("prompts.jsonl", text)
    known = {**evaluating(), "evaluate": {"benchmark": "muse", "metrics": ["loss"], "sets": {"knowmem_forget": "set.jsonl", "knowmem_forget_icl": "retain.jsonl"}}}
    for what, text in {"CRLF": every.replace("\n", "\r\n"), "a byte order mark": b"\xef\xbb\xbf" + every.encode(), "blank lines": "\n" + every.replace("\n", "\n\n")}.items():
        yield "D7", f"MUSE's examples: {what}", known, writing("retain.jsonl", text)
    refusing = settings(objective={"name": "po"})
    for what, text in {"CRLF": "I do not know.\r\nThat is beyond me.\r\n", "as objects": '{"answer": "I do not know."}\n{"x": 1, "answer": "That is beyond me."}',
                       "blank lines": "\n\nI do not know.\n\t\nThat is beyond me.", "a byte order mark": "\ufeffI do not know.\nThat is beyond me."}.items():
        yield "D7", f"idk.jsonl: {what}", refusing, writing("idk.jsonl", text)
    numbers = [(i - 8) / 8 for i in range(HIDDEN)]
    yield "D7", "a direction over lines", directing(), writing("u.json", json.dumps(numbers, indent=3).replace("\n", "\r\n"))
    yield "D7", "a direction with exponents", directing(), writing("u.json", "[" + ",".join(f"{x * 10:.17g}E-1" for x in numbers) + "]")
    yield "D7", "a log with further keys", logged(), json_file("log.json", lambda t: t.update(other=[1], more={"a": 10**40}))


# the first four lines of YAML in other words, and what follows them
def inputs():
    plain = YAML
    base = json.loads("{}")
    nested = ("task: unlearn\nmodel:\n  path: model\ndata:\n  forget: forget.jsonl\n  retain: retain.jsonl\n  max_length: 64\noutput:\n  directory: out\n")
    flow = ('{"task": "unlearn", "model": {"path": "model"}, "data": {"forget": "forget.jsonl", "retain": "retain.jsonl", "max_length": 64},'
            ' "output": {"directory": "out"}}')
    tail = {
        "1e-5 is a number": "optimizer: {lr: 1e-5}", "1.0e-5": "optimizer: {lr: 1.0e-5}", ".00001": "optimizer: {lr: .00001}", "+1E-05": "optimizer: {lr: +1E-05}",
        "whole with a point": "train: {batch_size: 4.0}", "whole with an exponent": "train: {batch_size: 4e0}", "tagged": "train: !!map {batch_size: !!int 4}",
        "null": "train: {epochs: null, steps: ~, batch_size: }", "null section": "train: null\ngeffect:\noptimizer: ~", "null in a pair": "optimizer: {betas: [null, 0.999]}",
        "null among sets": "evaluate: {sets: {x: null}}", "quoted choice": "optimizer: {schedule: 'linear'}", "folded": "optimizer:\n  schedule: >-\n    linear",
        "literal": "optimizer:\n  name: |\n    adamw", "literal that keeps": "objective: |+\n  npo\n\n", "list of one": "objective: {name: npo, regularizer: []}",
        "bare name": "objective: npo", "escape": 'objective: "\\x6epo"', "comment": "seed: 42 # a comment", "end mark": "...", "end mark and comments": "...\n# x\n",
        "block in a flow": "train: {\n  batch_size: 4\n  }", "comma at the end": "train: {batch_size: 4,}", "deep indent": "train:\n" + " " * 200 + "batch_size: 4",
        "empty flow": "train: {}\nguard: {}", "question mark": "? seed\n: 42", "quoted key": '"seed": 42', "many comments": "#\n" * 20000,
    }
    for what, text in tail.items():
        yield "D8", f"YAML: {what}", plain, raw(plain + text + ("\n" if not text.endswith("\n") else ""))
    for what, text in {"flow": flow, "JSON over lines": json.dumps(json.loads(flow), indent=4), "blocks": nested, "CRLF": nested.replace("\n", "\r\n"),
                       "old line ends": nested.replace("\n", "\r"), "mark": "\ufeff" + nested, "mark and CRLF": "\ufeff" + nested.replace("\n", "\r\n"),
                       "start mark": "---\n" + nested, "directive": "%YAML 1.1\n---\n" + nested, "no last newline": nested[:-1], "comments between":
                       nested.replace("\n", " # x\n\n"), "blanks behind": nested.replace("\n", "   \n"), "double quotes": nested.replace(": forget.jsonl", ': "forget.jsonl"'),
                       "single quotes": nested.replace(": forget.jsonl", ": 'forget.jsonl'"), "other order": "output: {directory: out}\n" + YAML.rsplit("output", 1)[0],
                       "JSON in escapes": flow.replace("forget.jsonl", "\\u0066orget.jsonl"), "tabs between": flow.replace(": ", ":\t"),
                       "text over lines": nested.replace("retain: retain.jsonl", 'retain: "retain\\\n    .jsonl"')}.items():
        yield "D8", f"input: {what}", plain, raw(text)
    assert base == {}


def paths():
    base = settings()
    for what, name in {"blanks": "a b.jsonl", "UTF-8": "caf\u00e9 \u4e2d\U0001f600.jsonl", "format signs": "%s%n%d.jsonl", "a dash": "-x.jsonl", "a colon": "a: b.jsonl",
                       "a hash": "a #b.jsonl", "quotes": "it's \"x\".jsonl", "a backslash": "a\\b.jsonl", "a shell's": "$(touch hacked);`x`.jsonl", "a star": "*.jsonl",
                       "a number's": "010", "null's": "null", "no ending": "x", "255 bytes": "x" * 255, "dots": "..x..", "a tilde": "~", "a percent": "%41",
                       "an equals sign": "a=b"}.items():
        yield "D9", f"a file with {what} in its name", base, all_of(lambda c, name=name: (c / "forget.jsonl").rename(c / name), setting("data.forget", name))
    def link(c):
        (c / "forget.jsonl").rename(c / "there")
        (c / "one").symlink_to("there")
        (c / "forget.jsonl").symlink_to("one")
    yield "D9", "a link to a link", base, link
    def linked_model(c):
        (c / "model").rename(c / "far")
        (c / "model").symlink_to("far")
    yield "D9", "a model that is a link", base, linked_model
    def linked_weights(c):
        (c / WEIGHTS).rename(c / "blob")
        (c / WEIGHTS).symlink_to("../blob")
    yield "D9", "weights that are a link out of the directory", base, linked_weights
    yield "D9", "slashes and dots", base, setting("data.forget", ".//model/..///forget.jsonl")
    yield "D9", "a slash behind the model", base, setting("model.path", "model//")
    def absolute(c):
        setting("data.forget", str(c / "forget.jsonl"))(c)
    yield "D9", "an absolute path", base, absolute
    for name in ("-", "a b=c.yaml", "%s.json", "caf\u00e9"):
        def named(c, name=name):
            c.name, c.arguments = name, ["./" + name]
        yield "D9", f"an input called {name}", base, named
    def read_only(c):
        for path in c.directory.rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
    yield "D9", "files that cannot be written", base, read_only


def legal():
    for maker in (weights, configs, tokenizers, rows, inputs, paths):
        yield from maker()
