"""The malformed inputs of tests/hostile.py, as (row of FAULTS.md, name, base settings, damage, what the message names)."""
import gzip
import json
import os
import random

from hostile_base import (CONFIG, HIDDEN, INDEX, INNER, ROWS, TOKENIZER, WEIGHTS, WORDS, all_of, cutting, directing, editing, evaluating,
                          generating, header, joined, json_file, logged, raw, removing, safetensors, setting, settings, writing)

Q, NORM = "model.layers.1.self_attn.q_proj.weight", "model.layers.0.input_layernorm.weight"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 123\n"
HTML = "<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n"
DEEP = 100000

NO_JSON = {
    "empty": b"", "a blank": b" ", "a brace": b"{", "two values": b"{}{}", "closed twice": b"{}}", "single quotes": b"{'a': 1}",
    "comma at the end": b'{"a": 1,}', "no quotes": b"{a: 1}", "comment": b'{"a": 1} // no', "no comma": b'{"a": 1 "b": 2}',
    "no colon": b'{"a" 1}', "control character": b'{"a": "\x01"}', "line break in a text": b'{"a": "\n"}', "bad escape": b'{"a": "\\x"}',
    "lone surrogate": b'{"a": "\\ud800"}', "wrong order of surrogates": b'{"a": "\\udc00\\ud800"}', "latin-1": b'{"a": "\xe9"}',
    "overlong": b'{"a": "\xc0\xaf"}', "surrogate in UTF-8": b'{"a": "\xed\xa0\x80"}', "beyond Unicode": b'{"a": "\xf4\x90\x80\x80"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"), "UTF-16 without a mark": '{"a": 1}'.encode("utf-16-le"), "NUL tail": b'{"a": 1}\0\0\0',
    "NUL key": b'{"a\\u0000": 1}', "leading zero": b'{"a": 01}', "plus": b'{"a": +1}', "hexadecimal": b'{"a": 0x1}', "point": b'{"a": 1.}',
    "nan in small letters": b'{"a": nan}', "True": b'{"a": True}', "duplicate": b'{"a": 1, "a": 2}',
    "duplicate by escape": b'{"a": 1, "\\u0061": 2}', "deep list": b"[" * DEEP + b"]" * DEEP, "deep object": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep and open": b"[" * DEEP, "number": b"7", "null": b"null", "text": b'"x"', "list": b"[]", "LFS pointer": POINTER.encode(),
    "HTML": HTML.encode(), "zip": b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(40), "gzip": gzip.compress(b'{"a": 1}', mtime=0),
    "zeros": bytes(1000), "garbage": random.Random(1).randbytes(5000), "long garbage": b"x" * 10_000_000,
}
TYPES = {"null": None, "text": "x", "half": 0.5, "negative": -1, "list": [], "object": {}, "true": True, "2^31": 2**31, "2^63": 2**63,
         "2^64+16": 2**64 + 16, "NaN": float("nan")}


def no_json(row, base, name, *without, tail=b""):
    for what, text in NO_JSON.items():
        if what not in without:
            yield row, f"{name}: {what}", base, writing(name, text + tail), name.split("/")[-1]


# ------------------------------------------------------------------------------------------ safetensors: D1 and D3
def lengths():
    for what, n in {"0": 0, "1": 1, "2^31": 2**31, "2^32": 2**32, "2^40": 2**40, "2^63": 2**63, "2^64-1": 2**64 - 1, "100 MB": 10**8 + 1,
                    "past the end": "end", "all": "all", "one short": -1, "one more": 1, "big-endian": "big"}.items():
        def damage(c, n=n, what=what):
            whole = (c / WEIGHTS).read_bytes()
            true = int.from_bytes(whole[:8], "little")
            if n == "big":
                length = true.to_bytes(8, "big")
            else:
                length = {"end": len(whole) - 7, "all": len(whole) - 8}.get(n, n + true if n in (-1, 1) and what.startswith("one") else n)
                length = length.to_bytes(8, "little")
            (c / WEIGHTS).write_bytes(length + whole[8:])
        yield "D1", f"header length {what}", damage
    def sparse(c):
        with open(c / WEIGHTS, "wb") as f:
            f.write((10**8 + 8).to_bytes(8, "little") + b"{")
            f.truncate(2 * 10**8)
    yield "D1", "header of 100 MB and 8 bytes, all there", sparse


def headers():
    for what, text in NO_JSON.items():
        if what not in ("long garbage",):
            yield "D1", f"header: {what}", header(lambda h, d, text=text: (text, d))
    dumped = lambda h: json.dumps(h).encode()
    yield "D1", "header begins with a mark", header(lambda h, d: (b"\xef\xbb\xbf" + dumped(h), d))
    yield "D1", "header padded with NUL", header(lambda h, d: (dumped(h) + bytes(8), d))
    yield "D1", "header begins with a blank", header(lambda h, d: (b" " + dumped(h), d))
    yield "D1", "a name twice", header(lambda h, d: (dumped(h)[:-1] + b', "%s": %s}' % (Q.encode(), json.dumps(h[Q]).encode()), d))
    yield "D1", "a field twice", header(lambda h, d: (dumped(h).replace(b'"dtype"', b'"dtype": "F32", "dtype"', 1), d))
    for what, value in {"number": {"a": 1}, "null": {"a": None}, "list": {"a": []}, "no object": "pt", "a list": ["pt"], "nothing": None}.items():
        yield "D1", f"metadata: {what}", header(lambda h, d, value=value: ({"__metadata__": value, **h}, d))
    def many(h, d):
        for i in range(100000):
            h[f"x{i}"] = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    yield "D1", "100,000 overlapping tensors", header(many)
    yield "D1", "100,000 empty tensors beyond the end", header(lambda h, d: h.update(
        {f"x{i}": {"dtype": "F32", "shape": [0], "data_offsets": [len(d) + 1, len(d) + 1]} for i in range(100000)}))


def fields():
    def field(key, value):
        def change(h, d):
            if value is KeyError:
                del h[Q][key]
            else:
                h[Q][key] = value
        return header(change)
    for what, value in {"missing": KeyError, "null": None, "number": 32, "unknown": "F31", "small": "f32", "empty": "", "list": ["F32"],
                        "NUL": "F32\0", "long": "F" * 100000, "half": "F16", "double": "F64", "F4": "F4"}.items():
        yield "D1", f"dtype {what}", field("dtype", value)
    wrap = [2**62 + HIDDEN * HIDDEN]
    for what, value in {"missing": KeyError, "null": None, "number": HIDDEN, "text": "16,16", "object": {"0": 16}, "real": [16.0, 16.0],
                        "texts": ["16", "16"], "negative": [-16, -16], "one negative": [-16, 16], "nested": [[16, 16]], "null size": [None, 16],
                        "true": [True, 256], "wraps": wrap, "wraps to nothing": [2**32, 2**32], "2^63": [2**63, 1], "2^64+256": [2**64 + 256],
                        "1e2": [float("1e2"), 2.56], "none": [0, 16], "smaller": [16, 15], "larger": [16, 17], "many": [1] * 1000 + [256],
                        "deep": json.loads("[" * 500 + "]" * 500), "NaN": [float("nan"), 16]}.items():
        yield "D1", f"shape {what}", field("shape", value)
    for what, value in {"missing": KeyError, "null": None, "number": 0, "empty": [], "one": [0], "three": [0, 1, 2], "texts": ["0", "1024"],
                        "reals": [0.0, 1024.0], "negative": [-1024, 0], "2^63": [2**63, 2**63 + 1024], "2^64": [2**64, 2**64 + 1024],
                        "most": [2**63 - 1, 2**63 - 1], "past the end": [10**9, 10**9 + 1024], "first": [0, 1024], "object": {"a": 0},
                        "nothing": [0, 0]}.items():
        yield "D1", f"offsets {what}", field("data_offsets", value)
    yield "D1", "offsets reversed", header(lambda h, d: h[Q]["data_offsets"].reverse())
    def shift(by):
        def change(h, d):
            h[Q]["data_offsets"] = [o + by for o in h[Q]["data_offsets"]]
        return header(change)
    yield "D1", "offsets overlap", shift(-4)
    yield "D1", "offsets leave a hole", shift(4)
    def hole(h, d):
        at = h[Q]["data_offsets"][0]
        for t in h.values():
            if t["data_offsets"][0] >= at:
                t["data_offsets"] = [o + 8 for o in t["data_offsets"]]
        return h, d[:at] + bytes(8) + d[at:]
    yield "D1", "a hole before a tensor", header(hole)
    yield "D1", "a hole before all", header(lambda h, d: ({k: {**t, "data_offsets": [o + 8 for o in t["data_offsets"]]} for k, t in h.items()}, bytes(8) + d))
    yield "D1", "bytes behind the last", header(lambda h, d: (h, d + b"\0"))
    yield "D1", "a tensor that is a number", header(lambda h, d: h.update({Q: 7}))
    yield "D1", "a tensor that is a list", header(lambda h, d: h.update({Q: []}))
    yield "D1", "a tensor that is NaN", header(lambda h, d: h.update({Q: float("nan")}))


def files():
    for part in (0, 1e-5, 5e-5, 1e-3, 0.005, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999, -1, -4, -1000):
        yield "D1", f"weights cut at {part}", cutting(WEIGHTS, part)
    for what in ("LFS pointer", "HTML", "zip", "gzip", "zeros", "garbage", "empty", "number", "list"):
        yield "D1", f"weights are {what}", writing(WEIGHTS, NO_JSON[what])
    for what, text in {"pickle": b"\x80\x02}q\0." + bytes(50), "GGUF": b"GGUF\x03\0\0\0" + bytes(50), "numpy": b"\x93NUMPY\x01\0v\0{}" + bytes(60),
                       "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100), "2 bytes of header alone": b"\x02" + bytes(7) + b"{}"}.items():
        yield "D1", f"weights are {what}", writing(WEIGHTS, text)


def unfit():
    def without(name):
        return header(lambda h, d: safetensors_without(h, d, name))
    names = ["model.embed_tokens.weight", "lm_head.weight", "model.norm.weight", Q, NORM, "model.layers.0.mlp.gate_proj.weight",
             "model.layers.1.mlp.down_proj.weight", "model.layers.0.self_attn.k_proj.weight", "model.layers.0.post_attention_layernorm.weight"]
    for name in names:
        yield "D3", f"without {name}", without(name)
        yield "D3", f"{name} flat", header(lambda h, d, name=name: h[name].update(shape=[1, *h[name]["shape"]]))
        for what, change in {"NaN": b"\0\0\xc0\x7f", "inf": b"\0\0\x80\x7f", "-inf": b"\0\0\x80\xff"}.items():
            def poison(h, d, name=name, change=change):
                at = h[name]["data_offsets"][1] - 4
                return h, d[:at] + change + d[at + 4:]
            yield "D3", f"{name} holds {what}", header(poison)
    for name in ("model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.gate_proj.weight"):
        yield "D3", f"{name} transposed", header(lambda h, d, name=name: h[name]["shape"].reverse())
    for dtype in ("I32", "U32"):
        yield "D3", f"of {dtype}", header(lambda h, d, dtype=dtype: h[Q].update(dtype=dtype))
    for dtype, size in (("I64", 8), ("U64", 8), ("C64", 8), ("I16", 2), ("U8", 1), ("I8", 1), ("BOOL", 1), ("F8_E4M3", 1), ("F8_E5M2", 1)):
        def retyped(h, d, dtype=dtype, size=size):
            other, part = safetensors_without(h, d, Q)
            other[Q] = {"dtype": dtype, "shape": [HIDDEN, HIDDEN], "data_offsets": [len(part), len(part) + HIDDEN * HIDDEN * size]}
            return other, part + bytes(HIDDEN * HIDDEN * size)
        yield "D3", f"of {dtype}", header(retyped)
    yield "D3", "of another model", json_file(CONFIG, lambda c: c.update(intermediate_size=INNER + 1))
    yield "D3", "fewer layers in the file", json_file(CONFIG, lambda c: c.update(num_hidden_layers=3))
    yield "D3", "no weights", removing(WEIGHTS)
    yield "D3", "weights are a directory", all_of(removing(WEIGHTS), lambda c: (c / WEIGHTS).mkdir())
    yield "D3", "weights are a pipe", all_of(removing(WEIGHTS), lambda c: os.mkfifo(c / WEIGHTS))
    yield "D3", "weights are a device", all_of(removing(WEIGHTS), lambda c: (c / WEIGHTS).symlink_to("/dev/zero"))
    yield "D3", "weights are a link to themselves", all_of(removing(WEIGHTS), lambda c: (c / WEIGHTS).symlink_to("model.safetensors"))
    yield "D3", "weights are a link to nothing", all_of(removing(WEIGHTS), lambda c: (c / WEIGHTS).symlink_to("gone"))


def safetensors_without(h, d, name):
    begin, end = h.pop(name)["data_offsets"]
    for t in h.values():
        t["data_offsets"] = [o - (end - begin if o >= end else 0) for o in t["data_offsets"]]
    return h, d[:begin] + d[end:]


def sharded(change=None, shard=None):
    """The weights in two shards; change(index) and shard(case) spoil them."""
    def damage(c):
        tensors = c.pattern.tensors
        map_, names = {}, list(tensors)
        for k, part in enumerate((names[:7], names[7:])):
            file = f"model-0000{k + 1}-of-00002.safetensors"
            (c / "model" / file).write_bytes(joined(*safetensors({n: tensors[n] for n in part})))
            map_.update({n: file for n in part})
        index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": map_}
        if change:
            index = change(index) or index
        (c / INDEX).write_text(json.dumps(index))
        (c / WEIGHTS).unlink()
        if shard:
            shard(c)
    return damage


def indices():
    for what, name in {"above": "../model-00001-of-00002.safetensors", "absolute": "/etc/passwd", "device": "/dev/zero", "dot": ".",
                       "dots": "..", "empty": "", "below": "x/model.safetensors", "backslash": "..\\x.safetensors", "NUL": "model\0.safetensors",
                       "number": 1, "null": None, "list": ["model-00001-of-00002.safetensors"], "missing": "gone.safetensors",
                       "hidden": ".hidden", "format": "%s%n", "escape": "\x1b[31m", "long": "x" * 300, "no safetensors": "config.json",
                       "other shard": "model-00001-of-00002.safetensors", "NaN": float("nan"), "object": {}}.items():
        yield "D3", f"index: {what}", sharded(lambda i, name=name: i["weight_map"].update({Q: name}))
    for what, value in {"missing": KeyError, "null": None, "list": [], "text": "x", "empty": {}, "NaN": float("nan")}.items():
        yield "D3", f"index: map {what}", sharded(lambda i, value=value: i.pop("weight_map") and None if value is KeyError else i.update(weight_map=value))
    yield "D3", "index: without a tensor", sharded(lambda i: i["weight_map"].pop(Q) and None)
    for what, text in NO_JSON.items():
        yield "D3", f"the index is {what}", sharded(shard=writing(INDEX, text))
    first = "model/model-00001-of-00002.safetensors"
    for what, spoil in {"cut": cutting(first, 0.5), "empty": writing(first, b""), "missing": removing(first), "pointer": writing(first, POINTER),
                        "directory": all_of(removing(first), lambda c: (c / first).mkdir()), "pipe": all_of(removing(first), lambda c: os.mkfifo(c / first)),
                        "bad header": header(lambda h, d: (b"{" * 9, d), first), "tail": header(lambda h, d: (h, d + b"x"), first)}.items():
        yield "D3", f"shard: {what}", sharded(shard=spoil)


def weights_cases():
    base = settings()
    for maker, word in ((lengths, "model.safetensors"), (headers, "model.safetensors"), (fields, "model.safetensors"), (files, "model.safetensors"),
                        (unfit, "model"), (indices, "model")):
        for row, name, damage in maker():
            yield row, name, base, damage, word


# -------------------------------------------------------------------------------------------------- config.json: D4
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size", "head_dim",
         "max_position_embeddings")


def config_cases():
    base = settings()
    config = lambda **keys: json_file(CONFIG, lambda c: c.update(keys))
    yield from no_json("D4", base, CONFIG)
    for part in (0.1, 0.4, 0.8, -1, -2):
        yield "D4", f"config cut at {part}", base, cutting(CONFIG, part), "config.json"
    for key in SIZES:
        for what, value in {"0": 0, **TYPES}.items():
            if what == "null" or (key == "max_position_embeddings" and what == "2^31"):
                continue
            yield "D4", f"{key} {what}", base, config(**{key: value}), f"config.json.*{key}"
        yield "D4", f"{key} twice", base, editing(CONFIG, f'"{key}":'.encode(), f'"{key}": 1, "{key}":'.encode()), "config.json"
        escaped = f'"\\u{ord(key[0]):04x}{key[1:]}": 1, "{key}":'
        yield "D4", f"{key} twice by escape", base, editing(CONFIG, f'"{key}":'.encode(), escaped.encode()), "config.json"
    for key in SIZES[:4] + ("vocab_size", "model_type"):
        yield "D4", f"without {key}", base, json_file(CONFIG, lambda c, key=key: c.pop(key) and None), f"config.json.*{key}"
    many = {
        "model_type": ["resnet", "", 7, ["llama"], "llama\0"], "hidden_act": ["fancy", 7, None and 0, [], ""],
        "rope_theta": [0, -1, "x", [], True], "rms_norm_eps": [0, -1e-5, "x", [], 1e300],
        "rope_scaling": [{"rope_type": "fancy", "factor": 2.0}, {"rope_type": "linear"}, {"rope_type": "linear", "factor": 0}, "x",
                         7, [], {"rope_type": 7}, {"rope_type": "llama3", "factor": 8.0}, {"rope_type": "linear", "factor": -1},
                         {"rope_type": "linear", "factor": "x"}],
        "quantization_config": [{"bits": 4}, True, "x"], "eos_token_id": [-1, WORDS, 2**40, "x", [0, WORDS], ["x"], [0] * 1000, 0.5, {}, True],
        "bos_token_id": ["x", 0.5, [0]], "pad_token_id": [-2, WORDS, "x", 0.5, [0]],
        "tie_word_embeddings": ["yes", 1, [], {}], "attention_bias": ["no", 0], "mlp_bias": [[], 1], "num_experts": [8], "alibi": [True],
        "logit_scale": [0.5], "attn_logit_softcapping": [50.0], "query_pre_attn_scalar": [256], "initializer_range": [-1, "x"],
    }
    attention = {
        "gemma2": {"attn_logit_softcapping": [0, -1, "x", [], 1e300], "final_logit_softcapping": [0, -1, "x", {}, True],
                   "query_pre_attn_scalar": [0, -4, "x", []], "layer_types": ["x", [], ["sliding_attention"], {}, 7],
                   "sliding_window": [0, -1, "x", 0.5, [8]]},
        "gemma3_text": {"rope_local_base_freq": [0, -1, "x", []], "sliding_window_pattern": [0, -2, "x", 0.5],
                        "rope_parameters": ["x", 7, {"full_attention": 7}, {"sliding_attention": {"rope_type": "fancy"}}]},
        "phi3": {"rope_scaling": [{"type": "su"}, {"type": "linear", "factor": 2.0}, {"type": "longrope", "short_factor": [], "long_factor": []},
                                  {"type": "longrope", "short_factor": "x", "long_factor": 1}],
                 "original_max_position_embeddings": [0, -1, "x", 0.5]},
    }
    for family, keys in attention.items():
        for key, values in keys.items():
            for value in values:
                longrope = {"rope_scaling": {"type": "su", "short_factor": [1.0], "long_factor": [1.0]}} if key.startswith("original") else {}
                yield "D4", f"{family}: {key} {str(value)[:40]}", base, config(model_type=family, **longrope, **{key: value}), "config.json"
    for key, values in many.items():
        for value in values:
            if value is not None:
                yield "D4", f"{key} {str(value)[:40]}", base, config(**{key: value}), "config.json" if key == "rope_scaling" else f"config.json.*{key}"
    yield "D4", "heads that do not divide", base, json_file(CONFIG, lambda c: (c.pop("head_dim"), c.update(num_attention_heads=3, num_key_value_heads=3))
                                                            and None), "config.json.*heads"
    yield "D4", "heads that do not share", base, config(num_attention_heads=2, num_key_value_heads=3), "config.json.*heads"
    yield "D4", "odd heads", base, config(head_dim=7), "config.json|tensor"
    for key in ("rope_theta", "rms_norm_eps"):
        for word in (b"1e999", b"NaN", b"Infinity"):
            yield "D4", f"{key} {word.decode()}", base, json_file_text(CONFIG, key, word), f"config.json.*{key}"
    for file in (CONFIG, TOKENIZER):
        short = file.split("/")[1]
        row = "D4" if file == CONFIG else "D5"
        yield row, f"no {short}", base, removing(file), short
        yield row, f"{short} is a directory", base, all_of(removing(file), lambda c, f=file: (c / f).mkdir()), short
        yield row, f"{short} is a pipe", base, all_of(removing(file), lambda c, f=file: os.mkfifo(c / f)), short
        yield row, f"{short} is a device", base, all_of(removing(file), lambda c, f=file: (c / f).symlink_to("/dev/zero")), short


def json_file_text(name, key, word):
    """The value of the key is this word, which JSON may not have."""
    def damage(c):
        value = json.loads((c / name).read_text())
        value[key] = "@@"
        (c / name).write_bytes(json.dumps(value).encode().replace(b'"@@"', word))
    return damage


# ----------------------------------------------------------------------------------------------- tokenizer.json: D5
def tokenizer_cases():
    base = settings()
    yield from no_json("D5", base, TOKENIZER)
    for part in (0.01, 0.3, 0.9, -3):
        yield "D5", f"tokenizer cut at {part}", base, cutting(TOKENIZER, part), "tokenizer.json"
    def change(what, do):
        return "D5", f"tokenizer: {what}", base, json_file(TOKENIZER, lambda t: do(t) and None), "tokenizer.json"
    deep = {"type": "NFC"}
    for _ in range(500):
        deep = {"type": "Sequence", "normalizers": [deep]}
    deep_split = {"type": "ByteLevel"}
    for _ in range(500):
        deep_split = {"type": "Sequence", "pretokenizers": [deep_split]}
    token = {"id": 1, "content": "<x>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    split = lambda pattern, **more: {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False, **more}
    for key, values in {
        "model": [None, [], "BPE", {}, {"type": "Magic"}, {"type": 7}, {"type": "WordPiece", "vocab": {"a": 0}}, {"type": "BPE"},
                  {"type": "BPE", "vocab": {}}, {"type": "BPE", "vocab": []}, {"type": "BPE", "vocab": {"a": 0}, "merges": {}}],
        "normalizer": [7, [], "NFC", {}, {"type": "Magic"}, {"type": 7}, {"type": "Sequence"}, {"type": "Sequence", "normalizers": 7},
                       {"type": "Sequence", "normalizers": [7]}, {"type": "Replace"}, {"type": "Replace", "pattern": {"Regex": "("}, "content": ""},
                       {"type": "Replace", "pattern": "x", "content": 7}, {"type": "Prepend"}, deep],
        "pre_tokenizer": [7, [], "ByteLevel", {}, {"type": "Magic"}, {"type": 7}, {"type": "Sequence", "pretokenizers": [{}]}, split({"Regex": "("}),
                          split({"Regex": "[z-a]"}), split({"Regex": "a{99999}"}), split({"Regex": 7}), split({}), split(None),
                          split({"String": "x"}, behavior="Magic"), split({"Regex": "(?<n>"}), split({"Regex": "*"}), deep_split],
        "post_processor": [7, [], {}, {"type": "Magic"}, {"type": 7}, {"type": "TemplateProcessing"},
                           {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<none>", "type_id": 0}}], "special_tokens": {}},
                           {"type": "TemplateProcessing", "single": [{"Magic": {}}], "special_tokens": {}},
                           {"type": "TemplateProcessing", "single": "x", "special_tokens": {}},
                           {"type": "TemplateProcessing", "single": [7], "special_tokens": {}}],
        "added_tokens": [7, {}, "x", [7], [None], [{}], [{**token, "id": -1}], [{**token, "id": 0.5}], [{**token, "id": "1"}], [{**token, "id": 2**31}],
                         [{**token, "id": 2**64}], [{**token, "content": 7}], [{**token, "id": None}],
                         [{k: v for k, v in token.items() if k != "content"}], [{**token, "id": 10**9}], [{**token, "lstrip": "no"}]],
    }.items():
        for value in values:
            yield change(f"{key} {json.dumps(value)[:60]}", lambda t, key=key, value=value: t.update({key: value}))
    def merges(do):
        return lambda t: t["model"].update(merges=do(t["model"]["merges"]))
    for what, do in {"unknown left": lambda m: m + [["\u4e2d", "e"]], "unknown right": lambda m: m + [["e", "\u4e2d"]],
                     "unknown result": lambda m: m + [["Q", "Q"]], "one part": lambda m: m + [["e"]], "three parts": lambda m: m + [["e", "r", "s"]],
                     "no blank": lambda m: m + ["er"], "two blanks": lambda m: m + ["e r s"], "number": lambda m: m + [7], "null": lambda m: m + [None],
                     "of numbers": lambda m: m + [[1, 2]], "empty": lambda m: m + [[]], "empty texts": lambda m: m + [["", ""]],
                     "empty text": lambda m: m + [""], "nested": lambda m: [m], "an object": lambda m: {"e": "r"}, "a text": lambda m: "e r"}.items():
        yield change(f"merges: {what}", merges(do))
    def vocab(do):
        return lambda t: do(t["model"]["vocab"]) or True
    for what, value in {"negative": -1, "real": 5.0, "text": "5", "null": None, "2^31": 2**31, "2^63": 2**63, "2^64": 2**64, "list": [], "NaN": float("nan"),
                        "true": True, "10^12": 10**12}.items():
        yield change(f"id {what}", vocab(lambda v, value=value: v.update(e=value)))
    yield change("two tokens with one id", vocab(lambda v: v.update(e=v["r"])))
    yield change("token twice", lambda t: t["model"].update(vocab={"type": 1}))
    for key, value in {"unk_token": 7, "byte_fallback": "yes", "dropout": 0.5, "continuing_subword_prefix": "##", "end_of_word_suffix": 7,
                       "ignore_merges": 7}.items():
        yield change(f"{key} {value}", lambda t, key=key, value=value: t["model"].update({key: value}))
    # what makes ever more of a text, or takes it apart inside a character
    replace = lambda p, q: {"type": "Replace", "pattern": {"String": p}, "content": q}
    asked = writing("forget.jsonl", json.dumps({"question": "a" * 30000, "answer": "b"}) + "\n")
    for what, key, value in (
            ("a doubled 40 times", "normalizer", {"type": "Sequence", "normalizers": [replace("a", "aa")] * 40}),
            ("a megabyte for each a", "normalizer", replace("a", "x" * 1000000)),
            ("a text before the text, 200 times", "normalizer", {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "x" * 100000}] * 200}),
            ("patterns in each other", "normalizer", {"type": "Sequence", "normalizers": [replace("a", "bb"), replace("b", "aa")] * 20}),
            ("100,000 tokens around a text", "post_processor", {"type": "TemplateProcessing", "special_tokens": {"x": {"id": "x", "ids": [1] * 1000}},
                "single": [{"SpecialToken": {"id": "x"}}] * 100000 + [{"Sequence": {"id": "A"}}]}),
            ("a byte alone", "pre_tokenizer", split({"Regex": "\\C"})), ("a pattern that calls itself", "pre_tokenizer", split({"Regex": "(?R)?a"}))):
        damage = json_file(TOKENIZER, lambda t, key=key, value=value: t.update({key: value}))
        yield "D5", f"tokenizer: {what}", base, all_of(asked, damage), "tokenizer.json"
    yield "D5", "a word beyond the embedding", base, json_file(TOKENIZER, lambda t: t["model"]["vocab"].update({"xyzzy": WORDS})), "tokenizer.json.*1024"
    yield "D5", "an added token beyond the embedding", base, all_of(
        json_file(TOKENIZER, lambda t: t["added_tokens"].append({**token, "id": WORDS, "content": "<extra>"})),
        writing("forget.jsonl", '{"question": "a", "answer": "b <extra>"}\n')), "tokenizer.json.*1024"


# ------------------------------------------------------------------------------------- rows, logs, directions: D6
def row_damages(keys):
    """Texts that cannot stand as a line of a file whose rows have these keys; with the number of rows that stand before."""
    good = json.dumps(dict.fromkeys(keys, "x")).encode()
    for what, text in NO_JSON.items():
        if what not in ("empty", "a blank", "line break in a text", "long garbage", "UTF-16"):
            yield what, text.replace(b"\n", b" ")
    yield "UTF-16", "".join(map(chr, good)).encode("utf-16-le")
    yield "10 MB of garbage", b"x" * 10_000_000
    yield "mark inside", b"\xef\xbb\xbf" + good
    yield "two objects", good + good
    yield "comma behind", good + b","
    yield "only a key", good[:-1]
    for key in keys:
        rest = {k: "x" for k in keys if k != key}
        yield f"without {key}", json.dumps(rest).encode()
        yield f"{key} in capitals", json.dumps({**rest, key.upper(): "x"}).encode()
        yield f"{key} twice", good[:-1] + b', "%s": "y"}' % key.encode()
        for kind, value in {"null": None, "number": 7, "list": ["x"], "object": {"a": "x"}, "true": True, "NaN": float("nan"), "large": 10**30}.items():
            yield f"{key} {kind}", json.dumps({**rest, key: value}).encode()


def row_cases():
    both, one = ("question", "answer"), ("prompt",)
    idk = settings(objective={"name": "po"})
    for file, base, keys in (("forget.jsonl", settings(), both), ("retain.jsonl", settings(), both), ("risk.jsonl", settings(), both),
                             ("set.jsonl", evaluating(), both), ("prompts.jsonl", generating(), one), ("idk.jsonl", idk, ("answer",))):
        for i, (what, text) in enumerate(row_damages(keys)):
            if file == "idk.jsonl" and not text.startswith(b"{"):
                continue  # a line of plain text
            before = 200 if i % 10 == 0 else i % 4
            sound = (json.dumps(dict.fromkeys(keys, "x")) + "\n").encode() * before
            number = before + 1
            yield "D6", f"{file}: {what}, line {number}", base, writing(file, sound + text + b"\n" + sound[:40 if not sound else len(sound)]), \
                f"{file}(:{number}|: is (one JSON|a Git LFS|not UTF-8))"
        for what, text in {"empty": b"", "only newlines": b"\n\r\n\n", "one array": b'[{"question": "a", "answer": "b", "prompt": "c"}]',
                           "UTF-16 with a mark": '{"question": "a", "answer": "b", "prompt": "c"}\n'.encode("utf-16"),
                           "blanks": b" \t \n"}.items():
            if file != "idk.jsonl" or what != "UTF-16 with a mark" or True:
                yield "D6", f"{file}: {what}", base, writing(file, text), file
    pair = json.dumps({"question": "a", "answer": "b"}) + "\n"
    for what, value in {"number": 7, "object": {}, "empty list": [], "list of numbers": ["a", 7], "list of lists": [["a"]], "true": True}.items():
        bad = json.dumps({"question": "a", "answer": "b", "perturbed_answer": value}) + "\n"
        yield "D6", f"perturbed_answer {what}", evaluating(metrics="all"), writing("set.jsonl", pair * 2 + bad), "set.jsonl:3.*perturbed_answer"
    def hole(size):
        def damage(c):
            c.status = 3 if size < 2**36 else 1  # no memory for it; more than is ever read
            with open(c / "forget.jsonl", "r+b") as f:
                f.truncate(size)
        return damage
    if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 60 * 10**9:
        yield "D6", "a hole of 60 GB", settings(), hole(60 * 10**9), "forget.jsonl: has 60.0 GB"
    yield "D6", "a hole of 10 TB", settings(), hole(10**13), "forget.jsonl: has 10000000000000 bytes"
    yield "D6", "unlabelled everywhere", settings(data={"max_length": 2, "forget": "forget.jsonl", "retain": "retain.jsonl", "idk": "idk.jsonl"}), \
        lambda c: None, "jsonl"


def encode_cases():
    """--encode MODEL FILE, whose rows are {"text": ...}; and broken tokenizers by the same way."""
    def encoding(damage):
        def change(c):
            damage(c)
            c.options, c.arguments = [], ["--encode", "model", "text.jsonl"]
        return change
    sound = b'{"text": "a"}\n'
    for i, (what, text) in enumerate(row_damages(("text",))):
        yield "D6", f"--encode: {what}", settings(), encoding(writing("text.jsonl", sound * (i % 3) + text + b"\n" + sound)), \
            f"text.jsonl(:{i % 3 + 1}|: is (one JSON|a Git LFS|not UTF-8))"
    yield "D6", "--encode: zeros alone", settings(), encoding(writing("text.jsonl", bytes(10) + b"\n" + sound)), "text.jsonl:1"
    yield "D6", "--encode: a missing file", settings(), encoding(lambda c: None), "text.jsonl"
    yield "D6", "--encode: a device", settings(), encoding(lambda c: (c / "text.jsonl").symlink_to("/dev/zero")), "text.jsonl"
    doubling = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 40}
    yield "D5", "--encode: a decoder that doubles", settings(), encoding(all_of(
        writing("text.jsonl", sound), json_file(TOKENIZER, lambda t: t.update(decoder=doubling)))), "tokenizer.json"
    for what in ("deep list", "latin-1", "duplicate", "LFS pointer", "zip"):
        yield "D5", f"--encode, tokenizer: {what}", settings(), encoding(all_of(writing("text.jsonl", sound), writing(TOKENIZER, NO_JSON[what]))), "tokenizer.json"


def log_cases():
    yield from no_json("D6", logged(), "log.json")
    part = "eval_log_forget.json"
    def at(key, do):
        return json_file("log.json", lambda t: do(t[part], key) and None)
    for what, value in {"null": None, "list": [], "text": "x", "number": 7, "empty": {}, "NaN": float("nan")}.items():
        yield "D6", f"log: set {what}", logged(), json_file("log.json", lambda t, value=value: t.update({part: value})), "log.json"
        for key in ("avg_gt_loss", "average_perturb_loss", "avg_paraphrased_loss", "generated_text", "num_token_gt"):
            if (key, what) != ("num_token_gt", "x"):
                yield "D6", f"log: {key} {what}", logged(), at(key, lambda p, k, value=value: p.update({k: value})), "log.json"
    for key in ("avg_gt_loss", "average_perturb_loss", "avg_paraphrased_loss"):
        yield "D6", f"log: without {key}", logged(), at(key, lambda p, k: p.pop(k)), "log.json"
        yield "D6", f"log: {key} with a row less", logged(), at(key, lambda p, k: p[k].pop("3")), "log.json"
        yield "D6", f"log: {key} with another row", logged(), at(key, lambda p, k: p[k].update({"x": p[k].pop("3")})), "log.json"
        for what, value in {"text": "x", "object": {}, "list of texts": ["a", "b"], "true": True, "2^70": 2**70, "three": [1, 2, 3], "empty list": []}.items():
            yield "D6", f"log: {key} value {what}", logged(), at(key, lambda p, k, value=value: p[k].update({"3": value})), "log.json"
    for name in ("-1", "01", "x", "", "1e3", "9" * 30, "1 ", "\u0661"):
        def rename(t, name=name):
            for key in t[part]:
                t[part][key][name] = t[part][key].pop("5")
        yield "D6", f"log: a row called {name!r}", logged(), json_file("log.json", rename), "log.json"
    for what, value in {"two texts": ["a", "b"], "four": ["a"] * 4, "number": ["a", "b", 7], "text": "x", "null": None}.items():
        yield "D6", f"log: generated {what}", logged(), at("generated_text", lambda p, k, value=value: p[k].update({"3": value})), "log.json"
    def fewer(t):
        for key in t[part]:
            t[part][key].pop("5")
    yield "D6", "log: of fewer rows", logged(), json_file("log.json", fewer), "log.json.*rows"


def direction_cases():
    yield from no_json("D6", directing(), "u.json")
    for what, value in {"short": [0.5] * (HIDDEN - 1), "long": [0.5] * (HIDDEN + 1), "text": [0.5] * (HIDDEN - 1) + ["x"], "null": [0.5] * (HIDDEN - 1) + [None],
                        "nested": [[0.5]] * HIDDEN, "object": {str(i): 0.5 for i in range(HIDDEN)}, "large": [0.5] * (HIDDEN - 1) + [10**60],
                        "NaN": [float("nan")] * HIDDEN, "infinite": [float("inf")] * HIDDEN, "beyond float": [1e300] * HIDDEN,
                        "true": [True] * HIDDEN, "empty": []}.items():
        yield "D6", f"direction: {what}", directing(), writing("u.json", json.dumps(value)), "u.json"
    yield "D6", "direction: a pointer", directing(), writing("u.json", POINTER), "u.json"


# ------------------------------------------------------------------------------------------------------- input: D8
YAML = "task: unlearn\nmodel: {path: model}\ndata: {forget: forget.jsonl, retain: retain.jsonl, max_length: 64}\noutput: {directory: out}\n"
LINE = 5


def yaml_cases():
    base, here = settings(), f"input.yaml:{LINE}"
    tail = {
        "tab": "train:\n\tsteps: 2", "tab behind blanks": "train:\n  \tsteps: 2", "open quote": 'seed: "1', "open single quote": "seed: '1",
        "open brace": "train: {steps: 2", "open bracket": "train: [2", "closed twice": "train: {steps: 2}}", "bad escape": 'output: "\\q"',
        "unknown key": "trian: {steps: 2}", "unknown key inside": "train: {step: 2}", "key twice": "seed: 1\nseed: 2", "key twice inside":
        "train: {steps: 1, steps: 2}", "text for a number": "train: {steps: many}", "real for a whole": "train: {steps: 1.5}", "trailing text":
        "optimizer: {lr: 0.5x}", "comma": "optimizer:\n  lr: 1,5", "NaN": "optimizer: {lr: .nan}", "Inf": "optimizer: {lr: .inf}", "nan": "optimizer: {lr: nan}",
        "1e999": "optimizer: {lr: 1e999}", "400 digits": "train: {steps: " + "9" * 400 + "}", "400 digits of a real": "optimizer: {lr: 0." + "1" * 400 + "e}",
        "2^63": "seed: 9223372036854775808", "2^64+1": "train: {steps: 18446744073709551617}", "hexadecimal": "train: {steps: 0x10}", "octal": "train: {steps: 010}",
        "underscore": "train: {steps: 1_000}", "negative": "train: {steps: -1}", "negative rate": "optimizer: {lr: -1}", "batch of none": "train: {batch_size: 0}",
        "quoted number": "train: {steps: '2'}", "yes": "train: {shuffle: yes}", "True in capitals": "train: {shuffle: TRUE}", "list for a map": "train: [1]",
        "map for a value": "seed: {a: 1}", "list for a value": "seed: [1]", "text for a section": "train: fast", "alias": "train: *a", "anchor": "train: &a {steps: 2}",
        "alias of itself": "train: &a {steps: *a}", "merge": "train: &a {steps: 2}\noptimizer:\n  <<: *a", "merge key": "train:\n  <<: {steps: 2}",
        "tag": "train: !fast {steps: 2}", "include": "train: !include other.yaml", "python": "train: !!python/object/apply:os.system ['touch hacked']",
        "binary": "output: {directory: !!binary aGk=}", "set": "train: !!set {a}", "tag of a key": "!x train: {steps: 2}", "two documents": "---\nseed: 1",
        "document behind its end": "...\nseed: 1", "NUL in a path": 'output: {directory: "a\\0b"}', "line break in a path": 'output: {directory: "a\\nb"}',
        "escape code in a path": 'output: {directory: "\\e[31m"}', "list as a key": "[1, 2]: 3", "map as a key": "{a: 1}: 3", "no value": "? ", "directive": "%YAML 9.9\n---",
        "colon in a plain text": "output: a: b", "percent": "%", "at": "@x: 1", "backtick": "`x: 1", "betas of one": "optimizer: {betas: [0.9]}",
        "betas of three": "optimizer: {betas: [0.9, 0.9, 0.9]}", "beta of one": "optimizer: {betas: [1, 0.9]}", "wrong choice": "optimizer: {schedule: step}",
        "tokens of nothing": "geffect: {tokens: refusals}", "guard": "guard: {loss: 1}", "unknown objective": "objective: nope", "unknown parameter": "objective: {name: npo, alpha: 1}",
        "parameter out of range": "objective: {name: npo, beta: -1}", "regularizer as objective": "objective: kl", "objective as regularizer":
        "objective: {name: npo, regularizer: ga}", "empty name": 'geffect: {risks: {"": forget}}', "no risk": "geffect: {risks: {}}", "two objectives alike":
        "geffect: {objectives: [ga, ga]}", "unknown frozen": "train: {freeze: [nothing.like.it]}", "frozen number range": "train: {freeze: [layers.9-3]}",
        "unknown metric": "evaluate: {every: 1, sets: {f: set.jsonl}, metrics: [bleu]}", "layer beyond the model": "objective: {name: rmu, layer: 99}",
        "epochs of none": "train: {epochs: 0}", "epochs beyond": "train: {epochs: 1e300}", "max_length again": "data: {max_length: 4}",
        "template of another name": "evaluate: {variant: other}", "1001 risks": "geffect: {risks: {" + ", ".join(f"r{i}: forget" for i in range(1001)) + "}}",
        "no-break space": "seed:\u00a01", "full-width digit": "seed: \uff11", "deep": "train: " + "[" * DEEP, "deep map": "train: " + "{a: " * 1000,
        "wide": "train: {" + ", ".join(f"k{i}: 1" for i in range(5000)) + "}", "bytes": b"seed: \xff", "overlong": b"seed: \xc0\xaf", "control": b"seed: \x01",
        "surrogate": b"seed: \xed\xa0\x80", "NUL": b"seed: 1\0", "DEL": b"output: {directory: \"\x7f\"}", "carriage returns": "train:\r steps: x\r",
    }
    for what, text in tail.items():
        text = text if isinstance(text, bytes) else text.encode()
        yield "D8", f"YAML: {what}", base, raw(YAML.encode() + text + b"\n"), "input.yaml:[4-9]|input.yaml: .*(layer|freeze)"
    bombs = "a: &a [x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(13))
    whole = {"empty": "", "blank": " \n\n", "comment": "# nothing\n", "list": "- task: unlearn\n", "text": "unlearn", "number": "7", "null": "null", "braces": "{}",
             "aliases to 10^13 nodes": bombs, "JSON cut": json.dumps(settings())[:-1], "JSON with a comma": '{"task": "unlearn",}}', "UTF-16": YAML.encode("utf-16"),
             "UTF-16 BE": b"\xfe\xff" + YAML.encode("utf-16-be"), "latin-1": "task: unlearn\nmodel: {path: caf\xe9}\n".encode("latin-1"), "HTML": HTML, "LFS pointer": POINTER,
             "zip": NO_JSON["zip"], "zeros": bytes(1000), "garbage": random.Random(2).randbytes(3000), "over a megabyte": YAML + "# " + "x" * 1100000, "deep":
             "[" * DEEP, "deep blocks": "".join(" " * i + "a:\n" for i in range(500)), "two documents": YAML + "---\n" + YAML, "stream end": "...", "unknown task":
             YAML.replace("unlearn", "forget", 1), "no task's need": "task: unlearn\nmodel: {path: model}\n", "template twice": YAML.replace("max_length: 64",
             "template: {name: qa, answer_start: x}"), "all held out": YAML.replace("retain: retain.jsonl", "retain: {path: retain.jsonl, held_out: 99}"),
             "null model": YAML.replace("{path: model}", "null"), "a longer tail": YAML + "}"}
    for what, text in whole.items():
        yield "D8", f"input: {what}", base, raw(text), "input.yaml"


# ------------------------------------------------------------------------------------------------------- paths: D9
def path_cases():
    bases = {"data.forget": settings(), "data.retain": settings(), "geffect.risks.other": settings(), "model.path": settings(),
             "model.reference": settings(objective={"name": "npo", "regularizer": "kl"}), "data.idk": settings(objective={"name": "po"}),
             "evaluate.sets.forget": evaluating(), "evaluate.retain_logs": logged(), "generate.prompts": generating(), "objective.direction": directing()}
    def link(name, to):
        return lambda c: (c / name).symlink_to(to)
    makes = {
        "missing": (None, "gone.jsonl"), "an empty directory": (lambda c: (c / "folder").mkdir(), "folder"), "a pipe": (lambda c: os.mkfifo(c / "pipe"), "pipe"),
        "/dev/zero": (None, "/dev/zero"), "/dev/null": (None, "/dev/null"), "/dev/stdin": (None, "/dev/stdin"), "a link to itself": (link("loop", "loop"), "loop"),
        "a link to nothing": (link("dangling", "gone"), "dangling"), "a link to a device": (link("zero", "/dev/zero"), "zero"), "format signs": (None, "%s%s%n%d"),
        "below a file": (None, "idk.jsonl/x"), "a long name": (None, "x" * 300), "a long path": (None, "x/" * 3000 + "y"), "/proc/self/mem": (None, "/proc/self/mem"),
        "a shell's": (None, "$(touch hacked)"), "a pipe's": (None, "|touch hacked"), "home": (None, "~/x"), "an address": (None, "https://example.org/x.jsonl"),
    }
    for key, base in bases.items():
        for what, (make, path) in makes.items():
            if key == "objective.direction" and len(path) > 5000:
                continue
            damage = all_of(make or (lambda c: None), setting(key, path))
            yield "D9", f"{key} is {what}", base, damage, "input.yaml|" + "".join("\\" + ch if not ch.isalnum() else ch for ch in path[:100])
    base = settings()
    for what, (make, path) in makes.items():
        def other(c, make=make, path=path):
            if make:
                make(c)
            c.arguments, c.text = [path], False
        yield "D9", f"the input is {what}", base, other, "".join("\\" + ch if not ch.isalnum() else ch for ch in path[:100])
    for what, path in {"escape codes": "\x1b[31mred", "a line break": "a\nb", "a bell": "\x07"}.items():
        yield "D9", f"a path with {what}", base, setting("data.forget", path), "input.yaml.*control"
        def named(c, path=path):
            c.arguments, c.text = [path + ".yaml"], False
        yield "D9", f"an input with {what}", base, named, r"\\x(1b|0a|07)"
    for what, path in {"a file": "forget.jsonl", "below a file": "forget.jsonl/out", "a device": "/dev/null", "a long name": "x" * 300}.items():
        yield "D9", f"the output is {what}", base, all_of(setting("output.directory", path), lambda c: c.options.clear()), path[:100]


def malformed():
    for maker in (weights_cases, config_cases, tokenizer_cases, row_cases, encode_cases, log_cases, direction_cases, yaml_cases, path_cases):
        yield from maker()
