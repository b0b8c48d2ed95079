"""end to end: what a model's own files say, where they say it twice, against transformers; and what is no model.

Each case changes config.json or the tensors of a small model. The risk of its rows must be that of transformers, and where two
places differ the log must say so: the table of docs/MODELS.md. Tokenizers with gaps are compared with the tokenizers package. Needs
torch and transformers."""
import json
import os
import random
import shutil

import h5py
from harness import SHARED, Checks, precisions, run, run_input
from with_torch import torch, transformers

from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

TOLERANCE = 3e-6  # transformers computes rotations and norms in float32
BASE, GEMMA3 = (SHARED / "golden/models" / name for name in ("llama", "gemma3"))
THETA = 500.0
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


# ------------------------------------------------------------------------------------------------------- changes
def says(**keys):
    """Keys of config.json; without rope_theta, unless it is among them."""
    def change(config, tensors):
        config.pop("rope_theta", None)
        config.update(keys)
    return change


def renamed(name):
    def change(config, tensors):
        for old in list(tensors):
            tensors[name(old)] = tensors.pop(old)
    return change


def without(*names, **keys):
    def change(config, tensors):
        config.update(keys)
        for name in names:
            tensors.pop(name)
    return change


def both(*changes):
    def change(config, tensors):
        for c in changes:
            c(config, tensors)
    return change


def plain(name):
    return name.removeprefix("model.")


HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"
default = {"rope_type": "default", "rope_theta": THETA}
CASES = [  # name, change, words that the log must have; None: no warning at all
    ("as it is", says(rope_theta=10000.0), None),
    ("names without prefix", renamed(plain), None),
    ("names without prefix, tied", both(without(HEAD, tie_word_embeddings=True), renamed(plain)), None),
    ("tied, another head in the file", without(tie_word_embeddings=True), "weights hold one with other values"),
    ("tied, no head", without(HEAD, tie_word_embeddings=True), None),
    ("tied, the head alone", without(EMBED, tie_word_embeddings=True), None),
    ("empty rope_scaling", says(rope_scaling={}, rope_parameters=default), None),
    ("null rope_scaling", says(rope_scaling=None, rope_parameters=default), None),
    ("empty rope_parameters", says(rope_theta=THETA, rope_parameters={}), None),
    ("rope_scaling and rope_parameters", says(rope_scaling={"type": "linear", "factor": 4.0}, rope_parameters=default),
     "rope_scaling and rope_parameters differ: rope_scaling is used"),
    ("rope_theta twice", says(rope_theta=THETA, rope_parameters={**default, "rope_theta": 70.0}), "rope_theta is 500, but 70"),
    ("type and rope_type", says(rope_parameters={**default, "type": "linear", "factor": 4.0}), "type is linear, but rope_type default"),
    ("by layer, llama", says(rope_parameters={"full_attention": default}), "full_attention: is not read"),
    ("by layer and plain, llama", says(rope_parameters={**default, "full_attention": {**default, "rope_theta": 70.0}}),
     "full_attention: is not read"),
    ("original length twice", says(rope_theta=THETA, original_max_position_embeddings=32,
                                   rope_scaling={**LLAMA3, "original_max_position_embeddings": 64}),
     "original_max_position_embeddings is 32"),
    ("bos outside the vocabulary", says(rope_theta=10000.0, bos_token_id=4000), None),
    ("bos of -1", says(rope_theta=10000.0, bos_token_id=-1), None),
    ("more blocks in the file", without(num_hidden_layers=2), "does not use"),
    ("dtype twice", without(torch_dtype="float16", dtype="float32"), None),
]
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 70.0}
SHORT = {**LLAMA3, "original_max_position_embeddings": 32}
GEMMA3_CASES = [  # the same: one rotation of the blocks that see all keys, another of those with a window
    ("by layer, gemma3", says(rope_parameters={"full_attention": LINEAR, "sliding_attention": default}), None),
    ("rope_theta twice, gemma3", says(rope_theta=THETA, rope_parameters={"full_attention": LINEAR, "sliding_attention": default}),
     "rope_theta is 500, but 70"),
    ("rope_local_base_freq twice, gemma3", says(rope_local_base_freq=70.0, rope_parameters={"full_attention": LINEAR, "sliding_attention": default}),
     "rope_local_base_freq is 70, but 500"),
    ("original length, gemma3", says(rope_parameters={"full_attention": SHORT, "sliding_attention": default}), None),
    ("original length twice, gemma3", says(original_max_position_embeddings=128, rope_parameters={
        "full_attention": SHORT, "sliding_attention": default}), "original_max_position_embeddings is 128, but 32 is used"),
    ("original length twice, rope_scaling, gemma3", says(original_max_position_embeddings=128, rope_scaling=SHORT),
     "original_max_position_embeddings is 128, but 32 is used"),
    ("original length beside alone, gemma3", says(original_max_position_embeddings=32, rope_parameters={
        "full_attention": LLAMA3, "sliding_attention": default}), "original_max_position_embeddings is 32, but 256 is used"),
]


def make(directory, change, base=BASE):
    """A copy of the model with its files changed."""
    shutil.copytree(base / "model", directory)
    for path in directory.iterdir():
        os.chmod(path, 0o644)
    config, tensors = json.loads((directory / "config.json").read_text()), load_file(directory / "model.safetensors")
    change(config, tensors)
    (directory / "config.json").write_text(json.dumps(config))
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def rows(base):
    with h5py.File(base / "expected.h5") as f:
        known = json.loads(f.attrs["settings"])
        group = f["tokens/forget"]
        return known, [(group[i]["ids"][()].tolist(), group[i]["labels"][()].tolist()) for i in map(str, range(len(group)))]


def theirs(directory, sequences):
    model = transformers.AutoModelForCausalLM.from_pretrained(directory).double().eval()
    total = n = 0
    for ids, labels in sequences:
        with torch.no_grad():
            log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        for t in range(1, len(ids)):
            if labels[t] >= 0:
                total, n = total - float(log_p[t - 1, labels[t]]), n + 1
    return total / n


def settings(known, model, base=BASE, **more):
    return {"task": "geffect", "output": {"directory": "out"}, "model": {"path": str(model), **more}, "objective": "ga",
            "data": {"template": known["template"], "max_length": known["max_length"], "forget": str(base / "forget.jsonl"),
                     "retain": str(base / "retain.jsonl")}}


def read_alike(checks, precision, base, cases, numbers):
    known, sequences = rows(base)
    seen = set()
    for name, change, words in cases:
        directory = checks.directory / name.replace(" ", "-").replace(",", "")
        directory.mkdir()
        make(directory / "model", change, base)
        want = theirs(directory / "model", sequences)
        done = run_input(settings(known, directory / "model", base), 1, precision, directory)
        if not checks.check(done.returncode == 0, f"{name}: exit status {done.returncode}", done.stderr):
            continue
        with h5py.File(directory / "out/geffect.h5") as f:
            got = float(f["risk_value"][0, 0])
        checks.check(abs(got - want) <= TOLERANCE * want, f"{name}: the risk", f"{got:.9g}, transformers {want:.9g}")
        warnings = [line for line in (directory / "out/run.log").read_text().splitlines()
                    if line.startswith("warning: ") and str(directory) in line]
        checks.check(any(words in w for w in warnings) if words else not warnings, f"{name}: the log", f"{words}: {warnings}")
        seen.add(round(want, 6))
    checks.check(len(seen) >= numbers, "the cases differ", str(seen))


# --------------------------------------------------------------------------------------------- what is no model
def replaced(**files):
    """A copy of the model without the files that are None, with others."""
    def build(directory):
        shutil.copytree(BASE / "model", directory)
        for path in directory.iterdir():
            os.chmod(path, 0o644)
        for name, text in files.items():
            path = directory / name.replace("__", ".")
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(text)
        return str(directory)
    return build


def file_itself(directory):
    return replaced()(directory) + "/model.safetensors"


NO_MODEL = [
    ("weights as .bin", replaced(model__safetensors=None, pytorch_model__bin="x"),
     ["pytorch_model.bin: only safetensors", "save_pretrained", "AutoModelForCausalLM"]),
    ("an adapter", replaced(model__safetensors=None, config__json=None, adapter_config__json="{}", adapter_model__safetensors="x"),
     ["is an adapter (LoRA)", "merge_and_unload"]),
    ("an adapter as .bin", replaced(model__safetensors=None, adapter_config__json="{}", adapter_model__bin="x"), ["is an adapter (LoRA)"]),
    ("a tokenizer.model", replaced(tokenizer__json=None, tokenizer__model="x"), ["tokenizer.model, but no tokenizer.json", "AutoTokenizer"]),
    ("a name on a hub", lambda d: "microsoft/phi-1_5", ["no directory microsoft/phi-1_5", "hf download microsoft/phi-1_5 --local-dir models/phi-1_5"]),
    ("a home", lambda d: "~/models/llama", ['"~/models/llama"', "replaced by a shell"]),
    ("a variable", lambda d: "/scratch/${USER}/llama", ["${USER}", "replaced by a shell"]),
    ("a file", file_itself, ["is a file: give the directory"]),
]


def refused(checks, precision):
    known, _ = rows(BASE)
    for name, build, words in NO_MODEL:
        directory = checks.directory / ("no-" + name.replace(" ", "-"))
        directory.mkdir()
        path = build(directory / "model")
        for key in ("model.path", "model.reference"):
            if key == "model.reference" and "tokenizer" in name:
                continue
            given = settings(known, path) if key == "model.path" else settings(known, BASE / "model", reference=path)
            done = run_input(given, 1, precision, directory)
            said = [line for line in done.stderr.splitlines() if line.startswith("unlearn: error: ")]
            holds = done.returncode == 1 and len(said) == 1 and f": {key}: " in said[0] and all(w in said[0] for w in words)
            checks.check(holds, f"{name} as {key}", f"{done.returncode} {done.stderr}")
    for key in ("output.directory", "data.forget", "data.retain", "data.idk"):
        done = run(["in.yaml", f"{key}=~/x", *(["objective=po"] if key == "data.idk" else [])], 1, precision,
                   write_input(checks.directory / key, settings(known, BASE / "model")))
        checks.check(done.returncode == 1 and f"{key}: \"~/x\": ~ and $NAME" in done.stderr, f"a home as {key}", done.stderr)


# ------------------------------------------------------------------------------------------------------ tokenizers
ALPHABET = sorted(ByteLevel.alphabet())


def byte_level(draw, n_bytes, gaps):
    """A tokenizer.json with tokens for so many bytes, some merges, and three added tokens whose ids leave gaps."""
    vocab = {c: i for i, c in enumerate(draw.sample(ALPHABET, n_bytes))}
    words, merges = list(vocab), []
    for _ in range(60):
        a, b = draw.choice(words), draw.choice(words)
        if a + b not in vocab:
            vocab[a + b] = len(vocab)
            words.append(a + b)
            merges.append([a, b])
    added = [{"id": len(vocab) + i + gap, "content": c, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False} for i, (c, gap) in enumerate(zip(("<x>", "<y>", "<z>"), gaps))]
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
                       "pre_tokenizer": step, "post_processor": None, "decoder": step,
                       "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                                 "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                                 "vocab": vocab, "merges": merges}})


def tokens_alike(checks, precision):
    draw = random.Random(3)
    pieces = [*"abc deQZ#@!\n\x00\x7f\u00e9\u010b\u00ff\u4e2d\U0001f600", "<x>", "<y>", "<z>"]
    texts = ["".join(draw.choice(pieces) for _ in range(draw.randint(0, 40))) for _ in range(400)]
    for n_bytes, gaps in ((256, (0, 0, 0)), (256, (0, 3, 9)), (248, (1, 1, 1)), (150, (0, 0, 7))):
        directory = checks.directory / f"tokenizer-{n_bytes}-{sum(gaps)}"
        directory.mkdir()
        (directory / "tokenizer.json").write_text(byte_level(draw, n_bytes, gaps))
        (directory / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
        known = Tokenizer.from_file(str(directory / "tokenizer.json"))
        done = run(["--encode", directory, directory / "texts.jsonl"], 1, precision)
        got = [json.loads(line) for line in done.stdout.splitlines()]
        wrong = [t for t, g in zip(texts, got) if g["ids"] != known.encode(t).ids or g["decoded"] != known.decode(g["ids"])]
        checks.check(len(got) == len(texts) and not wrong, f"{n_bytes} bytes, gaps {gaps}", f"{done.stderr} {wrong[:3]}")


def write_input(directory, given):
    directory.mkdir()
    (directory / "in.yaml").write_text(json.dumps(given))
    return directory


def main():
    checks = Checks("model-files")
    checks.need(BASE)
    checks.need(GEMMA3)
    precision = precisions()[-1]
    transformers.utils.logging.set_verbosity_error()
    read_alike(checks, precision, BASE, CASES, 8)
    read_alike(checks, precision, GEMMA3, GEMMA3_CASES, 3)
    refused(checks, precision)
    tokens_alike(checks, precision)
    checks.finish()


if __name__ == "__main__":
    main()
