"""end to end: rows of chat templates against transformers: the ids of apply_chat_template() of a tokenizer of each family.

The tokenizers are small and made here, each of its family's kind; the templates are written here and say what the published
ones say for one question with its answer. Rows: real ones, and odd ones: no answer, line ends and spaces at the ends, the
text of special tokens, other alphabets, more than data.max_length."""
import json
import os
import sys

from harness import SHARED, Checks, precisions, run, run_input, warnings_of

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
try:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast
except ImportError as e:
    print(f"skipped: {e}: make transformers")
    sys.exit(77)

TOFU, CHAT = SHARED / "data/tofu", SHARED / "golden/open_unlearning/chat/model"
MAX_LENGTH = 160

# ------------------------------------------------------------------------------------------------------ templates
HEADER = "'<|start_header_id|>' + {0} + '<|end_header_id|>\\n\\n'"
LLAMA3 = ("{% for m in messages %}{% set text = " + HEADER.format("m['role']") + " + m['content'] | trim + '<|eot_id|>' %}"
          "{% if loop.first %}{% set text = bos_token + text %}{% endif %}{{ text }}{% endfor %}"
          "{% if add_generation_prompt %}{{ " + HEADER.format("'assistant'") + " }}{% endif %}")
LLAMA31 = ("{{- bos_token }}\n{%- set date = date_string | default('26 Jul 2024') %}\n{%- set ns = namespace(system='') %}\n"
           "{%- if messages[0]['role'] == 'system' %}{% set ns.system = messages[0]['content'] | trim %}{% set messages = messages[1:] %}{% endif %}\n"
           "{{- " + HEADER.format("'system'") + " }}\n{{- \"Cutting Knowledge Date: December 2023\\n\" }}\n"
           "{{- \"Today Date: \" + date + \"\\n\\n\" }}\n{{- ns.system + '<|eot_id|>' }}\n{%- for m in messages %}\n"
           "    {{- " + HEADER.format("m['role']") + " + m['content'] | trim + '<|eot_id|>' }}\n{%- endfor %}\n"
           "{%- if add_generation_prompt %}\n    {{- " + HEADER.format("'assistant'") + " }}\n{%- endif %}\n")
CHATML = ("{% for m in messages %}%OWN%{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
OWN = "{% if loop.first and m['role'] != 'system' %}{{ '<|im_start|>system\\n%TEXT%<|im_end|>\\n' }}{% endif %}"
HELPFUL, QWEN = "You are a helpful assistant.", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
GEMMA = ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set prefix = messages[0]['content'] + '\\n\\n' %}"
         "{% set messages = messages[1:] %}{% else %}{% set prefix = '' %}{% endif %}{% for m in messages %}"
         "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n' + (prefix if loop.first else '') "
         "+ m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}")
PHI3 = ("{% for m in messages %}{% if m['role'] == 'system' %}{{ '<|system|>\\n' + m['content'] + '<|end|>\\n' }}"
        "{% elif m['role'] == 'user' %}{{ '<|user|>\\n' + m['content'] + '<|end|>\\n' }}"
        "{% else %}{{ '<|assistant|>\\n' + m['content'] + '<|end|>\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}")
ZEPHYR = ("{% for m in messages %}\n{% if m['role'] == 'user' %}\n{{ '<|user|>\n' + m['content'] + eos_token }}\n"
          "{% elif m['role'] == 'system' %}\n{{ '<|system|>\n' + m['content'] + eos_token }}\n"
          "{% else %}\n{{ '<|assistant|>\n' + m['content'] + eos_token }}\n{% endif %}\n"
          "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}")
SYSTEM_FIRST = ("{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\\n\\n' %}"
                "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}{{ bos_token }}")
MISTRAL = (SYSTEM_FIRST + "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + system + m['content'] + ' [/INST]' }}"
           "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}")
MISTRAL_V1 = (SYSTEM_FIRST + "{% for m in messages %}{% if m['role'] == 'user' %}{{ ' [INST] ' + system + m['content'] + ' [/INST]' }}"
              "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}")
MISTRAL_V3 = (SYSTEM_FIRST + "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + system + m['content'] + '[/INST]' }}"
              "{% else %}{{ ' ' + m['content'] | trim + eos_token }}{% endif %}{% endfor %}")
LLAMA2 = ("{% if messages[0]['role'] == 'system' %}{{ '<<SYS>>' }}{% endif %}{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}"
          "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}")


def chatml(own=None):
    return CHATML.replace("%OWN%", OWN.replace("%TEXT%", own) if own else "")


# ----------------------------------------------------------------------------------------------------- tokenizers
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def byte_level(texts, special, bos=None, normalizer=None):
    """As Llama 3 and Qwen 2: a pattern, then bytes; bos: the post-processor puts it in front."""
    t = Tokenizer(models.BPE())
    t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(WORDS), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=700, show_progress=False,
                                                     initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_special_tokens(special)
    if bos:
        t.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, t.token_to_id(bos))])
    return t


def sentence_pieces(texts, special, bos, prefix):
    """As Llama 2, Mistral, Phi 3 and Gemma: spaces as U+2581, bytes as <0x..>. prefix: how a text gets a first space."""
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    t = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    replace = normalizers.Replace(" ", "\u2581")
    t.normalizer = {"legacy": normalizers.Sequence([normalizers.Prepend("\u2581"), replace]), "none": replace}.get(prefix)
    if prefix == "first":
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=900, show_progress=False, special_tokens=["<unk>", *bytes_]))
    model = json.loads(t.to_str())
    model["added_tokens"] = [a for a in model["added_tokens"] if a["content"] == "<unk>"]  # bytes are the model's alone
    t = Tokenizer.from_str(json.dumps(model))
    t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    t.add_special_tokens(special)
    t.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, t.token_to_id(bos))])
    return t


LLAMA_TURNS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
PHI_TURNS = ["<s>", "<|endoftext|>", *(AddedToken(f"<|{w}|>", rstrip=True, normalized=False)
                                       for w in ("assistant", "end", "system", "user"))]
SYSTEM = " Be brief, and say so. "
# name: tokenizer, bos, eos, and the cases: template, the model's own, system text, further settings, further variables
FAMILIES = {
    "llama3": (lambda x: byte_level(x, LLAMA_TURNS, "<|begin_of_text|>"), "<|begin_of_text|>", "<|eot_id|>",
               [("llama3", LLAMA3, None, {}), ("llama3", LLAMA3, SYSTEM, {}), ("llama3", LLAMA31, None, {"date": "26 Jul 2024"}),
                ("llama3", LLAMA31, SYSTEM, {"date": "10 Apr 2025"})]),
    "qwen2": (lambda x: byte_level(x, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], None, normalizers.NFC()), None, "<|im_end|>",
              [("qwen2", chatml(HELPFUL), None, {}), ("qwen2.5", chatml(QWEN), None, {}), ("qwen2", chatml(HELPFUL), SYSTEM, {}),
               ("chatml", chatml(), None, {}), ("chatml", chatml(), SYSTEM, {})]),
    "gemma": (lambda x: sentence_pieces(x, ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"], "<bos>", "none"), "<bos>", "<eos>",
              [("gemma", GEMMA, None, {}), ("gemma", GEMMA, SYSTEM, {})]),
    "phi3": (lambda x: sentence_pieces(x, PHI_TURNS, "<s>", "legacy"), "<s>", "<|endoftext|>",
             [("phi3", PHI3, None, {}), ("phi3", PHI3, SYSTEM, {})]),
    "zephyr": (lambda x: sentence_pieces(x, ["<s>", "</s>"], "<s>", "legacy"), "<s>", "</s>",
               [("zephyr", ZEPHYR, None, {}), ("zephyr", ZEPHYR, SYSTEM, {})]),
    "mistral": (lambda x: sentence_pieces(x, ["<s>", "</s>"], "<s>", "first"), "<s>", "</s>",
                [("mistral", MISTRAL, None, {}), ("mistral", MISTRAL, SYSTEM, {}), ("mistral_v1", MISTRAL_V1, None, {}),
                 ("mistral_v3", MISTRAL_V3, None, {}), ("llama2_chat", LLAMA2, None, {})]),
}


# ----------------------------------------------------------------------------------------------------------- rows
def rows(special):
    real = [json.loads(s) for s in (TOFU / "forget01.json").read_text().splitlines() if s.strip()]
    real = [(r["question"], r["answer"]) for r in real][:36]
    token = " ".join(special)
    odd = [("Who?", ""), ("", "Nobody."), ("", ""), ("Who wrote it?\n", "She did.\n"), ("\n\n Who?", "\nA line.\n\nAnother.\n\n"),
           (" Who? ", "  She did.  "), ("\t\u00a0Who?\u2003\u3000", "\u0085\u2028She\x1c\u00a0"),
           (f"What is {special[0]}?", f"It is {special[-1]}, not {token}."), (special[-1], special[0]),
           ("\u00bfQui\u00e9n escribi\u00f3 \u00abLa ni\u00f1a\u00bb?", "\u5979\u5199\u7684\u3002 \U0001f600\u200d\U0001f4da e\u0301 \u00e9"),
           ("\u041a\u0442\u043e?\u200b", "\u202e\u05e2\u05d1\u05e8\u05d9\u05ea \u0e44\u0e17\u0e22"), ("[INST] Who? [/INST]", "<<SYS>> </s>"),
           ("Who? " * 300, "She did."), ("Who?", "She did. " * 300)]
    return real + odd


def messages(system, question, answer=None):
    return [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": question},
            *([] if answer is None else [{"role": "assistant", "content": answer}])]


def expected(tok, template, system, question, answer, variables):
    """-> ids, length of the prompt, as transformers has them."""
    ask = dict(chat_template=template, tokenize=True, return_dict=False, **variables)
    whole = tok.apply_chat_template(messages(system, question, answer), **ask)
    prompt = tok.apply_chat_template(messages(system, question), add_generation_prompt=True, **ask)
    return whole[:MAX_LENGTH], min(len(prompt), len(whole), MAX_LENGTH)


def one_case(checks, name, tok, model, data, case):
    kind, template, system, settings = case
    what = f"{name}: {kind}{', system text' if system else ''}{', date' if settings else ''}"
    wish = json.dumps({"name": kind, **settings, **({"system": system} if system else {})})
    done = run(["--encode", model, data, f"data.template={wish}", f"data.max_length={MAX_LENGTH}"], 1, precisions()[0])
    got = [json.loads(s) for s in done.stdout.splitlines()]
    pairs = [json.loads(s) for s in data.read_text().splitlines()]
    if not checks.check(len(got) == len(pairs) == 50, what, f"{len(got)} rows: {done.stderr.strip()}"):
        return
    wrong = []
    for i, (row, pair) in enumerate(zip(got, pairs)):
        variables = {"date_string": settings["date"]} if "date" in settings else {}
        ids, n_prompt = expected(tok, template, system, pair["question"], pair["answer"], variables)
        if row["ids"] != ids:
            wrong.append(f"row {i}: {tok.decode(row['ids'])!r} not {tok.decode(ids)!r}")
        elif len(row["prompt"]) != n_prompt or row["labels"] != len(ids) - n_prompt:
            wrong.append(f"row {i}: a prompt of {len(row['prompt'])} tokens, not {n_prompt}")
        elif row["prompt"] + row["label"] + row["end"] != tok.convert_ids_to_tokens(ids):
            wrong.append(f"row {i}: other pieces")
    checks.check(not wrong, what, "; ".join(wrong[:3]))


def config(model, vocabulary):
    """A model of this family's tokenizer: its weights are drawn, none are read."""
    (model / "config.json").write_text(json.dumps({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": vocabulary, "hidden_size": 16,
        "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5, "hidden_act": "silu"}))


def warned(model, data, template, **more):
    """The warning of --check about the model's own chat template; None: it did not run to its end."""
    settings = {"task": "finetune", "output": {"directory": "out"}, "model": {"path": str(model), "init": "random"},
                "data": {"template": template, "max_length": MAX_LENGTH, "forget": str(data)}} | more
    done = run_input(settings, 1, precisions()[0], directory=data.parent, options=["--check"])
    lines = [s for s in done.stdout.splitlines() if s.startswith("warning: ") and "chat template" in s]
    return (lines[:1] or [""])[0] if not done.returncode and "digest: " in done.stdout else None


def own_template(checks, name, model, data, case, in_config):
    """A warning where the first row has other tokens than by the model's own template, and none where it has the same."""
    kind, template, system, settings = case
    tokenizer = json.loads((model / "tokenizer_config.json").read_text())
    (model / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.pop("chat_template", None)
    if in_config:
        tokenizer["chat_template"] = [{"name": "tool", "template": "no"}, {"name": "default", "template": template}]
    else:
        (model / "chat_template.jinja").write_text(template)
    (model / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    same = warned(model, data, {"name": kind, **settings, **({"system": system} if system else {})})
    other = warned(model, data, "qa")
    checks.check(same == "", f"{name}: {kind} is the model's own", str(same))
    known = {"qwen2": "chatml", "qwen2.5": "chatml"}.get(kind, kind)
    checks.check(other and f'of the kind "{known}"' in other, f"{name}: qa is not {kind}", str(other))


def family(checks, name):
    make, bos, eos, cases = FAMILIES[name]
    texts = [json.dumps(r, ensure_ascii=False) for r in rows(["x"])]
    made = make(texts)
    tok = PreTrainedTokenizerFast(tokenizer_object=made, bos_token=bos, eos_token=eos, clean_up_tokenization_spaces=False)
    model = checks.directory / name
    tok.save_pretrained(model)
    special = [s for s in made.get_vocab() if s in {str(a.content) for a in made.get_added_tokens_decoder().values()} - {"<unk>"}]
    data = checks.directory / f"{name}.jsonl"
    data.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in rows(sorted(special))))
    config(model, len(tok))
    for i, case in enumerate(cases):
        one_case(checks, name, tok, model, data, case)
        own_template(checks, name, model, data, case, i % 2)


def missing_system(checks):
    """A system text that the model's own template writes by itself, and the chosen one does not."""
    model, data = checks.directory / "qwen2", checks.directory / "qwen2.jsonl"
    (model / "chat_template.jinja").write_text(chatml(HELPFUL))
    checks.check(warned(model, data, "qwen2") == "", "qwen2 writes the system text")
    checks.check(warned(model, data, "chatml"), "chatml does not write qwen2's system text")
    checks.check(warned(model, data, "qwen2.5") == "", "a system text of one's own is a wish")
    (model / "chat_template.jinja").write_text("{{ '<|im_start|>' }}<think>{{ '<|im_end|>' }}")
    checks.check("no kind that is known" in (warned(model, data, "qa") or ""), "plain text for a chat of no known kind")
    parts = {"question_start": "<|im_start|>user\n", "question_end": "<|im_end|>\n", "bos": "never", "eos": "never"}
    checks.check(warned(model, data, parts) == "", "a template in parts is a wish")


def prompts(checks):
    """The questions of task generate too."""
    model, data = checks.directory / "llama3", checks.directory / "llama3.jsonl"
    (model / "chat_template.jinja").write_text(LLAMA3)
    more = {"task": "generate", "generate": {"prompts": str(data), "max_length": 200}}
    checks.check(warned(model, data, "llama3", **more) == "", "prompts by the model's own template")
    checks.check("llama3" in (warned(model, data, "chatml", **more) or ""), "prompts by another template")


def by_hand(checks):
    """The chat model of the shared material: its template in parts, and by name, give the same rows and no warning."""
    model, data = CHAT, TOFU / "forget01_perturbed.json"
    header = "<|start_header_id|>{}<|end_header_id|>\n\n".format
    parts = {"question_start": header("system") + "Cutting Knowledge Date: December 2023\nToday Date: 10 Apr 2025\n\n"
             "You are a helpful assistant.<|eot_id|>" + header("user"), "question_end": "<|eot_id|>", "prompt_end": header("assistant")}
    name = {"name": "llama3", "system": "You are a helpful assistant.", "date": "10 Apr 2025"}
    digests = []
    for template in (parts, name):
        settings = {"task": "evaluate", "model": {"path": str(model)}, "output": {"directory": "out"},
                    "data": {"template": template}, "evaluate": {"rows": 5, "metrics": ["probability"], "sets": {"forget": str(data)}}}
        done = run_input(settings, 1, precisions()[0], directory=checks.directory, options=["--check"])
        digests.append(done.stdout.strip().splitlines()[-1:])
        said = warnings_of(done.stdout)
        checks.check(not done.returncode and not said, f"no warning: {template}", done.stderr + str(said))
    checks.check(digests[0] == digests[1] and digests[0], "the template by name and in parts", str(digests))


def main():
    checks = Checks("chat")
    checks.need(TOFU)
    checks.need(CHAT)
    for name in FAMILIES:
        family(checks, name)
    missing_system(checks)
    prompts(checks)
    by_hand(checks)
    checks.finish()


if __name__ == "__main__":
    main()
