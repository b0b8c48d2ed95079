#!/usr/bin/env python3
"""Writes a Hugging Face directory of a model as large as real ones, with random weights: what a machine can hold and how fast it is
does not depend on what a model knows.  Python's standard library and numpy; every run writes the same bytes.

    make_large.py DIRECTORY [--blocks N] [--words N] [--seed N]

The shape is Llama-3.2-1B's: 16 blocks of width 2,048, 32 heads on 8 keys and values, 128,256 words, tied: 1.24 billion parameters, 2.5 GB
in bfloat16. The tokenizer is of as many words: bytes, pairs and fours of letters, and whatever else it takes; not one that was learnt."""
import argparse
import itertools
import json
import string
from pathlib import Path

import numpy as np

END = "<|end_of_text|>"
WIDTH, HEADS, KEYS, HEAD, COLUMNS = 2048, 32, 8, 64, 8192
RANGE = 0.02


def byte_names():
    """What byte-level BPE calls the 256 bytes: printable ones themselves, the others the first characters from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = itertools.count(256)
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]


def tokenizer(words):
    names = byte_names()
    vocabulary = {END: 0} | {name: i + 1 for i, name in enumerate(names)}
    merges = []
    space, letters = names[ord(" ")], string.ascii_lowercase
    pairs = [a + b for a in (space, *letters) for b in letters]
    candidates = itertools.chain((tuple(p) for p in pairs), itertools.product(pairs, pairs[len(letters):]))
    for a, b in candidates:
        if len(vocabulary) >= words:
            break
        if a + b not in vocabulary:
            merges.append([a, b])
            vocabulary[a + b] = len(vocabulary)
    if len(vocabulary) < words:
        raise SystemExit(f"make_large.py: --words: at most {len(vocabulary)}")
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    end = {"id": 0, "content": END, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [end], "normalizer": None, "pre_tokenizer": level,
            "post_processor": None, "decoder": level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocabulary, "merges": merges}}


def config(blocks, words):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False, "mlp_bias": False,
            "hidden_act": "silu", "hidden_size": WIDTH, "intermediate_size": COLUMNS, "num_attention_heads": HEADS,
            "num_key_value_heads": KEYS, "head_dim": HEAD, "num_hidden_layers": blocks, "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "rope_scaling": None, "tie_word_embeddings": True, "vocab_size": words,
            "initializer_range": RANGE, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "torch_dtype": "bfloat16"}


def tensors(blocks, words):
    """Names and shapes, in the order in which they are written."""
    yield "model.embed_tokens.weight", (words, WIDTH)
    for i in range(blocks):
        at = f"model.layers.{i}."
        yield at + "input_layernorm.weight", (WIDTH,)
        yield at + "self_attn.q_proj.weight", (HEADS * HEAD, WIDTH)
        yield at + "self_attn.k_proj.weight", (KEYS * HEAD, WIDTH)
        yield at + "self_attn.v_proj.weight", (KEYS * HEAD, WIDTH)
        yield at + "self_attn.o_proj.weight", (WIDTH, HEADS * HEAD)
        yield at + "post_attention_layernorm.weight", (WIDTH,)
        yield at + "mlp.gate_proj.weight", (COLUMNS, WIDTH)
        yield at + "mlp.up_proj.weight", (COLUMNS, WIDTH)
        yield at + "mlp.down_proj.weight", (WIDTH, COLUMNS)
    yield "model.norm.weight", (WIDTH,)


def bfloat16(x):
    """The bits of x, to nearest even."""
    u = x.view(np.uint32)
    return ((u + 0x7FFF + (u >> 16 & 1)) >> 16).astype(np.uint16)


def write_weights(path, shapes, seed):
    header, at = {}, 0
    for name, shape in shapes:
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    random = np.random.Generator(np.random.SFC64(seed))
    with open(path, "wb") as f:
        f.write(len(head).to_bytes(8, "little") + head)
        for _, shape in shapes:
            for first in range(0, shape[0], 4096):
                part = (min(4096, shape[0] - first), *shape[1:])
                x = random.standard_normal(part, np.float32) * np.float32(RANGE) if len(shape) > 1 else np.ones(part, np.float32)
                f.write(bfloat16(x).tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--words", type=int, default=128256)
    parser.add_argument("--seed", type=int, default=42)
    a = parser.parse_args()
    a.directory.mkdir(parents=True, exist_ok=True)
    (a.directory / "config.json").write_text(json.dumps(config(a.blocks, a.words), indent=2) + "\n")
    (a.directory / "tokenizer.json").write_text(json.dumps(tokenizer(a.words), ensure_ascii=False) + "\n")
    (a.directory / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}) + "\n")
    write_weights(a.directory / "model.safetensors", list(tensors(a.blocks, a.words)), a.seed)


if __name__ == "__main__":
    main()
