"""end to end: families and shapes beyond the golden ones, made here with the reference and compared with it.

    models.py [NAME ...]        of the cases below, or refused: rows that are too long, or of golden models: as they are written

Each case is a tiny model of random weights, half fitted to a few rows, compared as golden.py does, in tensors' effects, losses,
risks and the weights after an update: in double on two tensor ranks, every fifth on data 2 x tensor 2, in float on one layout of
LAYOUTS, in turn (THOROUGH=1: on all of them in both); and what was written, loaded by transformers. Needs torch and transformers (make transformers) and SHARED/reference."""
import json
import logging
import os
import sys
import warnings
from functools import partial

import h5py
import numpy as np
from harness import SHARED, Checks, error, in_turn, precisions, run_input
from with_torch import reference, torch, transformers  # before what else needs them
from generation import generate
from golden import one_run, settings, write_direction
from reference import save_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

TO_COME = set()
LAYOUTS = [(1, 1), (2, 1), (2, 2), (4, 2)]  # ranks, tensor ranks
SIZES = dict(vocab_size=300, hidden_size=32, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=256)
GPT2 = dict(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=256, embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0)
ODD = dict(hidden_size=40, num_attention_heads=5, num_key_value_heads=1, head_dim=6)
YARN = {"rope_theta": 10000.0, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LONG = {"rope_theta": 10000.0, "rope_type": "longrope"}
LINEAR = {"full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
          "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"}}
CAPS = dict(sliding_window=24, query_pre_attn_scalar=20, attn_logit_softcapping=2.0, final_logit_softcapping=4.0)
GENERATED = {"phi3", "gemma2", "gemma3_text", "mistral", "qwen2"}  # windows, caps, frequencies that change as a row grows
# name: architecture, configuration, and what write_case is told beside the defaults
CASES = {
    "llama-odd-heads": ("llama", ODD, {}),
    "mistral-grouped": ("mistral", dict(num_attention_heads=6, num_key_value_heads=3, head_dim=10, sliding_window=None),
                        dict(template="llama2")),
    "qwen2-one-kv-head-float16": ("qwen2", dict(num_key_value_heads=1, tie_word_embeddings=True), dict(dtype="float16")),
    "neox-parallel": ("gpt_neox", dict(num_attention_heads=2, rotary_pct=0.25, use_parallel_residual=True,
                                       hidden_act="gelu"), {}),
    "neox-sequential-bfloat16": ("gpt_neox", dict(rotary_pct=1.0, use_parallel_residual=False, hidden_act="gelu_new"),
                                 dict(dtype="bfloat16")),
    "phi-norms": ("phi", dict(num_key_value_heads=2, partial_rotary_factor=0.5, qk_layernorm=True, embd_pdrop=0.0,
                              resid_pdrop=0.0), {}),
    "stablelm-norms-parallel": ("stablelm", dict(num_key_value_heads=2, partial_rotary_factor=0.25, qk_layernorm=True,
                                                 use_parallel_residual=True, use_qkv_bias=True), {}),
    "stablelm-norms-one-kv-head": ("stablelm", dict(num_attention_heads=3, hidden_size=36, num_key_value_heads=1,
                                                    partial_rotary_factor=0.5, qk_layernorm=True), {}),
    "qwen3": ("qwen3", dict(num_key_value_heads=2, head_dim=12, attention_bias=True), {}),
    "qwen3-odd-heads-truncated": ("qwen3", dict(ODD, tie_word_embeddings=True), dict(max_length=60)),
    "gemma": ("gemma", dict(num_key_value_heads=1, head_dim=12, hidden_act="gelu_pytorch_tanh"), dict(old_config=True)),
    "olmo2": ("olmo2", dict(num_key_value_heads=2, attention_bias=True), dict(dtype="bfloat16")),
    "olmo2-shared-keys": ("olmo2", dict(num_attention_heads=4, num_key_value_heads=1), {}),
    "gpt2": ("gpt2", GPT2, {}),
    "gpt2-odd-heads": ("gpt2", dict(GPT2, n_embd=30, n_head=3, n_inner=50, activation_function="gelu",
                                    tie_word_embeddings=False), {}),
    "llama-own-head": ("llama", dict(num_key_value_heads=2, tie_word_embeddings=True), dict(own_head="lm_head.weight")),
    "gemma-own-head-bfloat16": ("gemma", dict(num_key_value_heads=1, head_dim=12, hidden_act="gelu_pytorch_tanh"),
                                dict(dtype="bfloat16", own_head="lm_head.weight")),
    "gpt2-own-head": ("gpt2", GPT2, dict(own_head="lm_head.weight")),
    "neox-own-head": ("gpt_neox", dict(rotary_pct=0.25, hidden_act="gelu", tie_word_embeddings=True),
                      dict(own_head="embed_out.weight")),
    "llama-biases": ("llama", dict(num_key_value_heads=2, attention_bias=True, mlp_bias=True), {}),
    "mistral-window": ("mistral", dict(num_key_value_heads=2, sliding_window=24), {}),
    "qwen2-window": ("qwen2", dict(num_key_value_heads=2, sliding_window=24, use_sliding_window=True, max_window_layers=1), {}),
    "phi3-longrope-window": ("phi3", dict(num_key_value_heads=2, sliding_window=40, original_max_position_embeddings=64,
                                          rope_parameters=LONG | {"short_factor": [1.0, 1.1, 1.3, 1.6],
                                                                  "long_factor": [1.2, 2.0, 5.0, 9.0]}), {}),
    "phi3-partial-one-kv-head-tied": ("phi3", dict(hidden_size=40, num_attention_heads=5, num_key_value_heads=1,
                                                   partial_rotary_factor=0.5, original_max_position_embeddings=70,
                                                   tie_word_embeddings=True, rope_parameters=LONG | {
                                                       "short_factor": [1.0, 1.5], "long_factor": [2.0, 7.0],
                                                       "partial_rotary_factor": 0.5}),
                                      dict(old_config=True)),
    "gemma2-biases-bfloat16": ("gemma2", CAPS | dict(num_key_value_heads=1, head_dim=12, attention_bias=True),
                               dict(dtype="bfloat16")),
    "gemma2-odd-heads-untied": ("gemma2", CAPS | ODD | dict(tie_word_embeddings=False, attn_logit_softcapping=None), {}),
    "gemma3-scaled": ("gemma3_text", dict(num_key_value_heads=1, head_dim=12, num_hidden_layers=3, sliding_window=24,
                                          query_pre_attn_scalar=20, rope_parameters=LINEAR,
                                          layer_types=["sliding_attention", "sliding_attention", "full_attention"]),
                      dict(old_config=True)),
    "gemma3-odd-heads-capped-untied": ("gemma3_text", ODD | dict(
        sliding_window=24, query_pre_attn_scalar=9, tie_word_embeddings=False, final_logit_softcapping=3.0, attention_bias=True,
        layer_types=["full_attention", "sliding_attention"]), {}),
    "llama-yarn": ("llama", dict(num_key_value_heads=2, rope_parameters=dict(YARN)), dict(old_config=True)),
    "neox-own-head-as-transformers-5-names-it": ("gpt_neox", dict(rotary_pct=0.25, hidden_act="gelu", tie_word_embeddings=True),
                                                 dict(own_head="lm_head.weight")),
}


def config(architecture, **given):
    """In place of reference.tiny_config: the sizes of SIZES unless gpt2's own are given."""
    base = {} if architecture == "gpt2" else SIZES
    return transformers.CONFIG_MAPPING[architecture](**{**base, **given})


def yarn_frequencies(c):
    """Peng et al. 2023, in float64: (inv_freq, scale of cos and sin)."""
    rope, dim = c.rope_parameters, c.head_dim
    pair = np.arange(0, dim, 2) / dim
    plain = rope["rope_theta"] ** -pair
    turning = lambda turns: dim * np.log(rope["original_max_position_embeddings"] / (2 * np.pi * turns)) / (
        2 * np.log(rope["rope_theta"]))
    low, high = max(np.floor(turning(32)), 0), min(np.ceil(turning(1)), dim - 1)
    slowed = np.clip((np.arange(dim // 2) - low) / (high - low), 0, 1)
    return torch.tensor(plain / rope["factor"] * slowed + plain * (1 - slowed)), 0.1 * np.log(rope["factor"]) + 1


def long_frequencies(c):
    """longrope, in float64: (inv_freq up to the original length, inv_freq beyond, scale of cos and sin)."""
    rope = c.rope_parameters
    head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    dim = int(head * rope.get("partial_rotary_factor", 1.0))
    plain = rope["rope_theta"] ** -(np.arange(0, dim, 2) / dim)
    factor = c.max_position_embeddings / rope["original_max_position_embeddings"]
    scale = np.sqrt(1 + np.log(factor) / np.log(rope["original_max_position_embeddings"]))
    return *(torch.tensor(plain / np.array(rope[k])) for k in ("short_factor", "long_factor")), scale


def turning(model):
    """What one row's positions become in float64: (inv_freq for a row of so many tokens, scale); None: as reference.load does."""
    c = model.config
    kind = (getattr(c, "rope_parameters", None) or {}).get("rope_type")
    if kind == "yarn":
        inv, scale = yarn_frequencies(c)
        return (lambda n: inv), scale
    if kind == "longrope":
        shorter, longer, scale = long_frequencies(c)
        return (lambda n: longer if n > c.rope_parameters["original_max_position_embeddings"] else shorter), scale
    return None


def make_exact(model):
    """What reference.load does not know of: the scales of yarn and longrope, the two lists of longrope, and the scale of gemma's
    embedding, which is kept in float32."""
    embedding = model.get_input_embeddings()
    if hasattr(embedding, "embed_scale"):
        embedding.embed_scale = torch.tensor(model.config.hidden_size, dtype=torch.float64).sqrt()
    if exact := turning(model):
        inv, scale = exact
        for m in model.modules():
            if hasattr(m, "inv_freq"):
                assert torch.allclose(inv(1), m.inv_freq.double(), rtol=1e-5) and abs(m.attention_scaling - scale) < 1e-6

                def forward(x, position_ids, **_):
                    angle = position_ids[..., None].double() * inv(int(position_ids.max()) + 1)
                    angle = torch.cat((angle, angle), -1)
                    return (scale * angle.cos()).to(x.dtype), (scale * angle.sin()).to(x.dtype)
                m.forward = forward
    return model


def old_style(where, flat=reference.old_style):
    """Of gemma3 too: two bases with names of their own, and one number for the pattern of layers."""
    path = where / "config.json"
    c = json.loads(path.read_text())
    if c["model_type"] != "gemma3_text":
        return flat(where)
    rope, types = c.pop("rope_parameters"), c.pop("layer_types")
    c["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
    c["rope_theta"] = rope["full_attention"].pop("rope_theta")
    c["rope_scaling"] = rope["full_attention"]
    c["sliding_window_pattern"] = types.index("full_attention") + 1
    path.write_text(json.dumps(c, indent=2))


def load(where):
    return make_exact(reference.exact_rotary(transformers.AutoModelForCausalLM.from_pretrained(
        where, dtype=torch.float64, attn_implementation="eager").eval()))


def save_with_head(name, model, tok, where, dtype=torch.float32):
    """As reference.save_model, and the file gets a head that is not the embedding, to which config.json ties it."""
    reference.cast(model, dtype).save_pretrained(where)
    tok.save(str(where / "tokenizer.json"))
    weights = load_file(where / "model.safetensors")
    embedding = model.get_input_embeddings().weight.detach()
    save_file(weights | {name: (1.25 * embedding + 0.01).to(dtype).contiguous()}, where / "model.safetensors", {"format": "pt"})
    return load(where)


def make_case(directory, architecture, given, options):
    known = dict(max_length=160, template="qa", dtype="float32", old_config=False, own_head=None) | options
    reference.save_model = partial(save_with_head, known["own_head"]) if known["own_head"] else save_model
    reference.write_case(directory, architecture, 1, SHARED / "data/tofu", 3, known["template"], known["max_length"], 1, 1e-3,
                         given, {"npo": {"beta": 0.05}}, known["dtype"], 6, known["old_config"])


class Said(logging.Handler):
    """What transformers warns of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def check_written(checks, name, where, expected):
    """What the program wrote, as transformers reads it, against the reference's weights after the same update."""
    said, logger = Said(), logging.getLogger("transformers")
    logger.addHandler(said)
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            where, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
        transformers.AutoTokenizer.from_pretrained(where)
    logger.setLevel(logging.ERROR)
    logger.removeHandler(said)
    wrong = said.lines + [str(w.message) for w in warned] + [f"{k}: {v}" for k, v in info.items() if v]
    checks.check(not wrong, f"{name}: loads in transformers without a warning", "; ".join(wrong)[:1000])
    other = type(model)(model.config).float().eval()
    names = dict(other.named_parameters())
    with torch.no_grad():
        for k, value in expected["trajectory/final"].items():
            names[k].copy_(torch.tensor(value[()]))
        ids = torch.tensor(expected["tokens/forget/0/ids"][()][None].astype(np.int64))
        got, want = (m(ids, use_cache=False).logits for m in (model.eval(), other))
    checks.check(error(got, want) <= 1e-5, f"{name}: logits of what was written", f"{error(got, want):.3g}")


def layouts(name, precision):
    """Those on which this model runs."""
    turn = list(CASES).index(name)
    return in_turn(LAYOUTS, turn if precision == "float" else 3 if turn % 5 == 0 else 2)


def check_generated(checks, name, where):
    """Greedy answers of what was written, on the layouts of this model in double, are those of transformers in float64."""
    text = "Who is the author, and where were her books about the sea first read by people of that town? " * 2
    prompts, longest = [text[:n] for n in (3, 40, 80, 130)], 120
    model, tok, want = load(where), Tokenizer.from_file(str(where / "tokenizer.json")), []
    for prompt in prompts:
        ids = tok.encode(prompt).ids
        with torch.no_grad():
            out = model.generate(torch.tensor([ids]), max_length=longest, do_sample=False, pad_token_id=0)[0].tolist()
        want.append([i for i in out[len(ids):] if i != 0])
    checks.check(any(want), f"{name}: transformers answers")
    for ranks, tensor in layouts(name, "double"):
        got = generate(checks, f"{name} generates {ranks}-{tensor}", where, [{"prompt": p} for p in prompts], ranks, tensor,
                       max_length=longest, slots=3)
        checks.check(got is not None and [g["ids"] for g in got] == want, f"{name}: {ranks} ranks, tensor {tensor}: generated ids",
                     f"{got} and {want}"[:2000])


def one_case(checks, name):
    architecture, given, options = CASES[name]
    case = checks.directory / name
    make_case(case, architecture, given, options)
    with h5py.File(case / "expected.h5") as expected:
        for precision in precisions():
            for ranks, tensor in layouts(name, precision):
                one_run(checks, case, precision, ranks, tensor, expected)
        written = checks.directory / "{}-double-{}-{}/out/model".format(name, *layouts(name, "double")[-1])
        if not written.exists():
            return checks.skip(f"{name}, what is written: no model in double")
        check_written(checks, name, written, expected)
        if architecture in GENERATED:
            check_generated(checks, name, written)


def golden_case(checks, name):
    """What is written of a golden model, whose config.json may be of the old style."""
    with h5py.File(SHARED / "golden/models" / name / "expected.h5") as expected:
        if "double" not in precisions():
            return checks.skip(f"{name}, what is written: no program for double")
        directory = checks.directory / f"{name}-written"  # golden.py measures it
        directory.mkdir()
        write_direction(directory, expected)
        given = settings(SHARED / "golden/models" / name, expected, 1, 1)
        done = run_input({**given, "geffect": {**given["geffect"], "every": 0}}, 1, "double", directory)
        if checks.check(done.returncode == 0, f"{name}: exit status {done.returncode}", done.stderr[-2000:]):
            check_written(checks, name, directory / "out/model", expected)


def check_refused(checks, name, given, options, changes, said):
    """A model whose rows are too long for it: a case with another configuration."""
    architecture, usual, _ = CASES[name]
    case = checks.directory / f"{name}-short"
    make_case(case, architecture, usual | given, options)
    for which in ("model", "reference"):
        path = case / which / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with h5py.File(case / "expected.h5") as expected:
        what = settings(case, expected, 1, 1)
        write_direction(case, expected)
    what["data"]["max_length"] = 160
    done = run_input(what, 1, precisions()[0], case)
    checks.check(done.returncode == 1 and said in done.stderr, f"{name}, rows that are too long", done.stderr[-500:])


def main():
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    reference.tiny_config, reference.load = config, load
    reference.old_style = old_style
    rope, first = reference.rotary_frequencies, {"yarn": yarn_frequencies, "longrope": long_frequencies}
    reference.rotary_frequencies = lambda c, layer_type=None: (
        first[c.rope_parameters["rope_type"]](c)[0] if c.rope_parameters.get("rope_type") in first else rope(c, layer_type))
    checks = Checks("models")
    golden = sorted(p.parent.name for p in (SHARED / "golden/models").glob("*/expected.h5"))
    for name in sys.argv[1:] or [*CASES, "refused", *golden]:
        torch.set_default_dtype(torch.float64)
        if name in golden:
            golden_case(checks, name)
        elif name == "refused":
            check_refused(checks, "gpt2", {"n_positions": 60}, {"max_length": 60}, {}, "the model has learned 60 positions")
        else:
            one_case(checks, name)
    checks.finish()


if __name__ == "__main__":
    main()
