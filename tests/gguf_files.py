"""end to end: inputs/gguf_model.py: a GGUF file becomes a model directory that this program, and transformers, read alike.

The file is made here, from known weights, as llama.cpp's converter makes one: pairs of q and k side by side, one tensor in
each of several kinds of quantisation. With torch, transformers and accelerate the directory also equals their own reading."""
import json
import subprocess
import sys

import numpy as np
from harness import ROOT, Checks, error, precisions, run, run_input, safetensors

try:
    import gguf
except ImportError:
    print("skipped: no gguf: make venv")
    sys.exit(77)

BLOCKS, WIDTH, INNER, HEADS, KV = 2, 64, 96, 4, 2
NORM = ("attn_norm", "ffn_norm")
SHAPES = {"attn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH * KV // HEADS, WIDTH), "attn_v": (WIDTH * KV // HEADS, WIDTH),
          "attn_output": (WIDTH, WIDTH), "ffn_norm": (WIDTH,), "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER)}
NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj"}
KINDS = {"ffn_gate": "Q8_0", "ffn_up": "Q4_1", "attn_v": "F16"}  # the others F32
TEXTS = ["The capital of France is Paris.", "In 1984, 12345 people's  café\n\n x", "<|im_start|>user\nHi<|im_end|>", " Ω≈ç√ ½ ٣٤", ""]


def permuted(w, heads):
    """As llama.cpp stores q and k: row 2j of a head is its row j, row 2j + 1 its row j + half."""
    half = w.shape[0] // heads // 2
    out = np.empty_like(w)
    for h in range(heads):
        for j in range(half):
            out[2 * (h * half + j)] = w[2 * h * half + j]
            out[2 * (h * half + j) + 1] = w[(2 * h + 1) * half + j]
    return out


def vocabulary():
    """A byte-level BPE of special tokens, all bytes and a few merges. -> tokens, kinds, merges"""
    shown = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in shown)}
    merges = ["Ġ t", "h e", "i n", "Ġt he", "o f", "Ġ 1", "1 2"]
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters.values(), *(m.replace(" ", "") for m in merges)]
    return tokens, [3, 3, 3] + [1] * (len(tokens) - 3), merges


def write(path, change=lambda keys, tensors: None):
    """-> {Hugging Face name: the numbers that the file stands for}"""
    rng = np.random.default_rng(1)
    tokens, kinds, merges = vocabulary()
    keys = {"general.architecture": "llama", "llama.block_count": BLOCKS, "llama.context_length": 128, "llama.embedding_length": WIDTH,
            "llama.feed_forward_length": INNER, "llama.attention.head_count": HEADS, "llama.attention.head_count_kv": KV,
            "llama.rope.freq_base": 50000.0, "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.vocab_size": len(tokens),
            "llama.rope.dimension_count": WIDTH // HEADS,
            "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": kinds, "tokenizer.ggml.merges": merges, "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.padding_token_id": 2, "tokenizer.ggml.add_bos_token": False}
    tensors, truth = {}, {}
    for name, hf in (("token_embd", "model.embed_tokens"), ("output_norm", "model.norm")):
        tensors[f"{name}.weight"] = truth[f"{hf}.weight"] = rng.normal(1 if "norm" in name else 0, 0.1, (WIDTH,) if "norm" in name else (len(tokens), WIDTH)).astype("f4")
    for b in range(BLOCKS):
        for part, shape in SHAPES.items():
            w = rng.normal(1 if part in NORM else 0, 0.1, shape).astype("f4")
            heads = {"attn_q": HEADS, "attn_k": KV}.get(part)
            tensors[f"blk.{b}.{part}.weight"] = permuted(w, heads) if heads else w
            truth[f"model.layers.{b}.{NAMES[part]}.weight"] = w
    change(keys, tensors)
    out = gguf.GGUFWriter(path, keys.pop("general.architecture"))
    for key, value in keys.items():
        add = {bool: out.add_bool, int: out.add_uint32, float: out.add_float32, str: out.add_string, list: out.add_array}[type(value)]
        add(key, value)
    for name, w in tensors.items():
        kind = gguf.GGMLQuantizationType[KINDS.get(name.split(".")[2], "F32") if name.startswith("blk") else "F32"]
        data = gguf.quantize(w, kind)
        out.add_tensor(name, data, raw_dtype=kind)
        if name.startswith("blk") and kind.name != "F32":
            _, b, part, _ = name.split(".")
            truth[f"model.layers.{b}.{NAMES[part]}.weight"] = gguf.dequantize(data, kind).reshape(w.shape)
    out.write_header_to_file(), out.write_kv_data_to_file(), out.write_tensors_to_file(), out.close()
    return truth


def convert(path, directory):
    return subprocess.run([sys.executable, ROOT / "inputs/gguf_model.py", path, directory], capture_output=True, text=True, timeout=120)


def refusals(checks, d):
    def without(key):
        return lambda keys, tensors: keys.pop(key)
    cases = [("another family", lambda k, t: k.update({"general.architecture": "mamba"}), "mamba"),
             ("another tokenizer", lambda k, t: k.update({"tokenizer.ggml.model": "llama"}), "tokenizer llama"),
             ("unknown words", lambda k, t: k.update({"tokenizer.ggml.pre": "deepseek"}), "deepseek"),
             ("no blocks", without("llama.block_count"), "llama.block_count"),
             ("scaled frequencies", lambda k, t: t.update({"rope_freqs.weight": np.ones(4, "f4")}), "rotary"),
             ("a bias", lambda k, t: t.update({"blk.0.attn_q.bias": np.ones(WIDTH, "f4")}), "blk.0.attn_q.bias")]
    for name, change, word in cases:
        write(d / "bad.gguf", change)
        done = convert(d / "bad.gguf", d / "bad")
        checks.check(done.returncode == 1 and word in done.stderr and done.stderr.count("\n") == 1 and not (d / "bad").exists(), name, done.stderr)
    (d / "none.gguf").write_bytes(b"GGUFnonsense" * 9)
    for name in ("none.gguf", "absent.gguf"):
        done = convert(d / name, d / "bad")
        checks.check(done.returncode == 1 and name in done.stderr and done.stderr.count("\n") == 1, name, done.stderr)


def as_transformers(checks, d, model):
    try:
        import accelerate  # noqa: F401: its GGUF reader wants it
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as e:
        checks.skip(f"{e}: not compared with transformers' own reading")
        return
    ours = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(d, gguf_file="model.gguf", dtype=torch.float32).state_dict()
    checks.check(ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours), "weights as transformers reads them")
    tokenizer = AutoTokenizer.from_pretrained(model)
    (d / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    done = run(["--encode", model, d / "texts.jsonl"])
    ids = [json.loads(line)["ids"] for line in done.stdout.splitlines()]
    checks.check(ids == [tokenizer(t, add_special_tokens=False).input_ids for t in TEXTS], "token ids", done.stderr + str(ids))


def main():
    checks = Checks("gguf")
    if not precisions():
        checks.check(False, "no program is built")
        checks.finish()
    d = checks.directory
    truth = write(d / "model.gguf")
    done = convert(d / "model.gguf", d / "model")
    if checks.check(done.returncode == 0, "a GGUF file is converted", done.stderr):
        found = safetensors(d / "model/model.safetensors")
        checks.check(found.keys() == truth.keys(), "names", str(found.keys() ^ truth.keys()))
        wrong = [k for k in truth if k not in found or error(found[k], truth[k]) != 0]
        checks.check(not wrong, "every weight is the number that the file stands for", str(wrong))
        config = json.loads((d / "model/config.json").read_text())
        checks.check(config["rms_norm_eps"] == 1e-5 and config["rope_theta"] == 50000 and config["tie_word_embeddings"], "config.json", str(config))
        asked = {"task": "generate", "model": {"path": str(d / "model")}, "output": {"directory": "out"},
                 "generate": {"prompt": "The capital", "max_length": 12}}
        done = run_input(asked, 1, precisions()[0], d)
        checks.check(done.returncode == 0, "the program runs the model", done.stderr)
        as_transformers(checks, d, d / "model")
    refusals(checks, d)
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
