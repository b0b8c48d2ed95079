#!/usr/bin/env python3
"""A GGUF file -> a model directory as Hugging Face stores it: config.json, model.safetensors (float32), tokenizer.json,
tokenizer_config.json, generation_config.json.

    gguf_model.py MODEL.gguf DIRECTORY

For Llama-like models with a byte-level BPE tokenizer (SmolLM2, TinyLlama's kin ...). Needs numpy and gguf, no torch.
Every weight is the number that the GGUF file stands for, also where that is a quantised one."""
import json
import sys
from pathlib import Path

import gguf
import numpy as np

NAMES = {  # of a block's tensors
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
OUTER = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}
# How tokenizer.ggml.pre cuts text into words before the merges: `digits` are words of their own, the rest is GPT-2's
DIGITS = {"smollm": True, "gpt-2": False, "default": False}
CONTROL = 3  # a kind of token: one that no text is cut into unless it is written out


def stop(text):
    sys.exit(f"gguf_model.py: error: {text}")


class Source:
    def __init__(self, path):
        self.path = path
        try:
            self.reader = gguf.GGUFReader(path)
        except (OSError, ValueError) as e:
            stop(f"{path}: {e}")
        self.tensors = {t.name: t for t in self.reader.tensors}
        kind = self.get("general.architecture")
        if kind != "llama":
            stop(f"{path}: architecture {kind}: only llama is read")

    def get(self, key, default=None):
        field = self.reader.get_field(key)
        return default if field is None else field.contents()

    def need(self, key):
        value = self.get(key)
        if value is None:
            stop(f"{self.path}: has no {key}")
        return value


def config(source):
    """config.json, after the keys of the llama family."""
    heads = source.need("llama.attention.head_count")
    hidden = source.need("llama.embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(source.need("tokenizer.ggml.tokens")),
        "hidden_size": hidden,
        "intermediate_size": source.need("llama.feed_forward_length"),
        "num_hidden_layers": source.need("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": source.get("llama.attention.head_count_kv", heads),
        "head_dim": source.get("llama.attention.key_length", hidden // heads),
        "max_position_embeddings": source.need("llama.context_length"),
        # stored as float32: 1e-05, not 9.999999747378752e-06
        "rms_norm_eps": float(np.format_float_scientific(np.float32(source.need("llama.attention.layer_norm_rms_epsilon")), unique=True)),
        "rope_theta": float(source.get("llama.rope.freq_base", 10000.0)),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": "output.weight" not in source.tensors,
        "bos_token_id": source.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": source.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": source.get("tokenizer.ggml.padding_token_id"),
        "torch_dtype": "float32",
    }


def unpermute(w, heads):
    """GGUF keeps the two halves of a rotated pair side by side, Hugging Face half a head apart."""
    return w.reshape(heads, w.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(w.shape)


def weights(source, c):
    """Name, float32 array of every tensor, in the order of the file."""
    for name, t in source.tensors.items():
        w = gguf.dequantize(t.data, t.tensor_type).astype(np.float32, copy=False)
        w = w.reshape([int(n) for n in t.shape][::-1])
        if name in OUTER:
            yield OUTER[name], w
        elif name == "rope_freqs.weight":
            stop(f"{source.path}: has scaled rotary frequencies, which are not read")
        else:
            _, block, part, _ = (name.split(".") + [""] * 4)[:4]
            if part not in NAMES or not name.endswith(".weight"):
                stop(f"{source.path}: tensor {name} is not one of the llama family")
            if part in ("attn_q", "attn_k"):
                w = unpermute(w, c["num_attention_heads" if part == "attn_q" else "num_key_value_heads"])
            yield f"model.layers.{block}.{NAMES[part]}.weight", w


def write_safetensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, w in tensors:
        header[name] = {"dtype": "F32", "shape": list(w.shape), "data_offsets": [at, at + w.nbytes]}
        at += w.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for _, w in tensors:
            f.write(np.ascontiguousarray(w, "<f4").tobytes())


def tokenizer(source):
    """tokenizer.json of a byte-level BPE."""
    kind, pre = source.need("tokenizer.ggml.model"), source.get("tokenizer.ggml.pre", "default")
    if kind != "gpt2" or pre not in DIGITS:
        stop(f"{source.path}: tokenizer {kind} ({pre}): only byte-level BPE of the kinds {', '.join(DIGITS)} is read")
    tokens, types = source.need("tokenizer.ggml.tokens"), source.get("tokenizer.ggml.token_type", [])
    steps = [{"type": "Digits", "individual_digits": True}] if DIGITS[pre] else []
    steps.append({"type": "ByteLevel", "add_prefix_space": bool(source.get("tokenizer.ggml.add_space_prefix", False)),
                  "trim_offsets": True, "use_regex": True})
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i, t in enumerate(types) if t == CONTROL],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {t: i for i, t in enumerate(tokens)},
                  "merges": [m.split(" ") for m in source.need("tokenizer.ggml.merges")]},
    }


def tokenizer_config(source, c):
    tokens = source.need("tokenizer.ggml.tokens")
    named = {f"{n}_token": tokens[c[f"{n}_token_id"]] for n in ("bos", "eos", "pad") if c[f"{n}_token_id"] is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": c["max_position_embeddings"],
            "add_bos_token": bool(source.get("tokenizer.ggml.add_bos_token", False)),
            "chat_template": source.get("tokenizer.chat_template"), **named}


def main(path, directory):
    source, directory = Source(path), Path(directory)
    c = config(source)
    texts = {
        "config.json": c,
        "generation_config.json": {k: c[k] for k in ("bos_token_id", "eos_token_id", "pad_token_id") if c[k] is not None},
        "tokenizer.json": tokenizer(source),
        "tokenizer_config.json": tokenizer_config(source, c),
    }
    tensors = list(weights(source, c))
    directory.mkdir(parents=True, exist_ok=True)
    write_safetensors(directory / "model.safetensors", tensors)
    for name, content in texts.items():
        (directory / name).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        stop("usage: gguf_model.py MODEL.gguf DIRECTORY")
    main(sys.argv[1], sys.argv[2])
