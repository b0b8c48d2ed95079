"""end to end: bad inputs are refused with one line that says where and what; odd but sound ones are not.

    bad_input.py [WORD ...]     cases whose name contains one of the words

Each case changes a sound input, its model (a copy) or its data files, and runs the program. It must end within 30 s with
the exit status of the table, print exactly one line `unlearn: error: ...` that holds the words of the table, and leave
nothing in the output directory that looks like a result."""
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
from damage import (GOLDEN, Case, both, cutting, described, evaluating, extra_word, finished, json_file, line,
                    option, raw, removing, renaming, row, setting, sound, valued, without, wordless, writing,
                    writing_after)
from harness import SHARED, Checks, precisions, run, run_input

RETAIN_LOG = SHARED / "golden/tofu_eval/lr2e-05_phi_retain90_wd0.01/eval_log_aggregated.json"
SECONDS = 30

Q = "model.layers.1.self_attn.q_proj.weight"
WEIGHTS, ROWS, INPUT = "model/model.safetensors", "forget.jsonl", "input.yaml"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 123\n"
NOTHING = {"question_start": "", "question_end": "", "answer_start": ""}
YAML = "task: unlearn\nmodel: {path: model}\ndata: {forget: forget.jsonl, retain: retain.jsonl}\noutput: {directory: out}\n"

# name, how it is spoiled, words of the message (regular expressions), exit status, ranks
TABLE = [
    # the model
    ("model directory missing", setting("model.path", "nowhere"), ["nowhere"], 1, 1),
    ("reference missing", setting("model.reference", "nowhere"), ["nowhere"], 1, 1),
    ("reference of another shape", setting("model.reference", str(SHARED / "golden/models/llama3/model")),
     ["llama3|reference"], 1, 1),
    ("no config", removing("model/config.json"), ["config.json"], 1, 1),
    ("config cut", cutting("model/config.json", 0.5), [r"config.json:\d+"], 1, 1),
    ("config without hidden_size", json_file("model/config.json", lambda c: c.pop("hidden_size")),
     ["config.json", "hidden_size"], 1, 1),
    ("config with huge layers", json_file("model/config.json", lambda c: c.update(num_hidden_layers=10**9)),
     ["config.json", "num_hidden_layers"], 1, 1),
    ("config with negative size", json_file("model/config.json", lambda c: c.update(intermediate_size=-72)),
     ["config.json", "intermediate_size"], 1, 1),
    ("unknown architecture", json_file("model/config.json", lambda c: c.update(model_type="resnet")),
     ["config.json", "resnet"], 1, 1),
    ("a mixture of experts", json_file("model/config.json", lambda c: c.update(model_type="mixtral", num_local_experts=8)),
     ["config.json", "mixtral.*is a mixture of experts"], 1, 2),
    ("a model of images and text", json_file("model/config.json", lambda c: c.update(model_type="gemma3", text_config={})),
     ["config.json", "gemma3_text"], 1, 1),
    ("layer types that do not fit", json_file("model/config.json", lambda c: c.update(model_type="gemma2", layer_types=["full_attention"])),
     ["config.json", "layer_types"], 1, 1),
    ("longrope without its lists", json_file("model/config.json", lambda c: c.update(rope_scaling={"rope_type": "longrope"})),
     ["config.json", "short_factor"], 1, 1),
    ("heads that do not divide", json_file("model/config.json", lambda c: c.update(num_attention_heads=3)),
     ["config.json", "heads"], 1, 1),
    ("unknown rope", json_file("model/config.json", lambda c: c.update(rope_scaling={"rope_type": "fancy", "factor": 2.0})),
     ["config.json", "fancy"], 1, 1),
    ("no weights", removing(WEIGHTS), ["model"], 1, 1),
    ("weights cut", cutting(WEIGHTS, 0.5), ["model.safetensors"], 1, 1),
    ("weights cut on two ranks", cutting(WEIGHTS, 0.5), ["model.safetensors"], 1, 2),
    ("weights cut in the header", cutting(WEIGHTS, 0.001), ["model.safetensors"], 1, 1),
    ("weights empty", writing(WEIGHTS, b""), ["model.safetensors"], 1, 1),
    ("weights with a huge header", writing(WEIGHTS, b"\xff" * 7 + b"\x7f{}"), ["model.safetensors"], 1, 1),
    ("weights are a pointer", writing(WEIGHTS, POINTER), ["model.safetensors: is a Git LFS pointer.*git lfs pull"], 1, 1),
    ("weights are a pointer, two ranks", writing(WEIGHTS, POINTER), ["model.safetensors: is a Git LFS pointer"], 1, 2),
    ("config is a pointer", writing("model/config.json", POINTER), ["config.json: is a Git LFS pointer"], 1, 1),
    ("config of the reference is a pointer", writing("reference/config.json", POINTER), ["config.json: is a Git LFS pointer"], 1, 1),
    ("tokenizer is a pointer", writing("model/tokenizer.json", POINTER), ["tokenizer.json: is a Git LFS pointer"], 1, 2),
    ("index is a pointer", both(removing(WEIGHTS), writing("model/model.safetensors.index.json", POINTER)),
     ["index.json: is a Git LFS pointer"], 1, 1),
    ("forget file is a pointer", writing(ROWS, POINTER), ["forget.jsonl: is a Git LFS pointer"], 1, 1),
    ("retain log is a pointer", both(evaluating(retain_logs="log.json"), writing("log.json", POINTER)),
     ["log.json: is a Git LFS pointer"], 1, 1),
    ("input is a pointer", raw(POINTER), [INPUT + ": is a Git LFS pointer"], 1, 1),
    ("shards without an index", both(renaming(WEIGHTS, "model/model-00001-of-00002.safetensors"),
     writing("model/model-00002-of-00002.safetensors", b"")), ["model-00001-of-00002.safetensors.*index.json"], 1, 1),
    ("weights of torch alone", both(renaming(WEIGHTS, "model/pytorch_model.bin"), writing("model/training_args.bin", b"")),
     ["pytorch_model.bin.*save_pretrained"], 1, 2),
    ("a tensor missing", without(Q), ["model.safetensors", Q], 1, 1),
    ("a tensor missing, two ranks", without(Q), ["model.safetensors", Q], 1, 2),
    ("a tensor of another shape", described(Q, shape=[16, 64]), ["model.safetensors", Q, "16|64"], 1, 1),
    ("a tensor of integers", described(Q, dtype="I32"), ["model.safetensors", Q, "I32"], 1, 1),
    ("a tensor past the end", described(Q, data_offsets=[10**9, 10**9 + 4096]), ["model.safetensors"], 1, 1),
    ("a weight that is NaN", valued(Q, np.nan), [Q], 1, 1),
    ("a weight that is infinite, two ranks", valued(Q, np.inf), [Q], 1, 2),
    ("index leads out of the directory", both(removing(WEIGHTS), writing("model/model.safetensors.index.json", json.dumps(
        {"metadata": {}, "weight_map": {Q: "../reference/model.safetensors"}}))), ["index.json"], 1, 1),
    # the tokenizer
    ("no tokenizer", removing("model/tokenizer.json"), ["tokenizer.json"], 1, 1),
    ("tokenizer cut", cutting("model/tokenizer.json", 0.7), [r"tokenizer.json:\d+"], 1, 1),
    ("tokenizer of an unknown kind", json_file("model/tokenizer.json", lambda t: t["model"].update(type="Magic")),
     ["tokenizer.json", "Magic"], 1, 1),
    ("tokenizer larger than the embedding", extra_word, [r"tokenizer.json|forget.jsonl:2", "320"], 1, 1),
    # data files
    ("forget file missing", removing(ROWS), [ROWS], 1, 1),
    ("forget file is a directory", setting("data.forget", "model"), ["model"], 1, 1),
    ("forget file is a device", setting("data.forget", "/dev/zero"), ["/dev/zero"], 1, 1),
    ("forget file empty", writing(ROWS, ""), [ROWS], 1, 1),
    ("forget file of empty lines", writing(ROWS, "\n\n\n"), [ROWS], 1, 1),
    ("row without the key", row(3, answer=None), [ROWS + ":3", "answer"], 1, 1),
    ("row without the key, two ranks", row(3, answer=None), [ROWS + ":3", "answer"], 1, 2),
    ("row with a number for text", row(4, question=7), [ROWS + ":4", "question"], 1, 1),
    ("row that is no JSON", line(ROWS, 5, '{"question": "a", "answer": '), [ROWS + ":5"], 1, 1),
    ("row that is a list", line(ROWS, 2, "[1, 2]"), [ROWS + ":2"], 1, 1),
    ("file that is one array", writing(ROWS, json.dumps([{"question": "a", "answer": "b"}] * 3)),
     [ROWS + ": is one JSON array, not JSON Lines"], 1, 1),
    ("file that is one array over lines, two ranks", writing(ROWS, json.dumps([{"question": "a", "answer": "b"}], indent=1)),
     [ROWS + ": is one JSON array, not JSON Lines"], 1, 2),
    ("refusals that are one array", both(setting("data.idk", "idk.json"), setting("objective", {"name": "po"}),
     writing("idk.json", '["No.", "Never."]')), ["idk.json: is one JSON array, not JSON Lines"], 1, 1),
    ("prompts that are one array", both(setting("task", "generate"), setting("generate", {"prompts": "prompts.json"}),
     writing("prompts.json", '[{"prompt": "a"}]')), ["prompts.json: is one JSON array, not JSON Lines"], 1, 2),
    ("row with NaN for text", line(ROWS, 2, '{"question": "a", "answer": NaN}'), [ROWS + ':2: "answer" is NaN, not text'], 1, 2),
    ("config with NaN for a size", writing_after("model/config.json", r'"hidden_size": \d+', '"hidden_size": NaN'),
     ["config.json: hidden_size: NaN cannot be used"], 1, 1),
    ("row in Latin-1", writing(ROWS, b'{"question": "\xe9", "answer": "b"}\n'), [ROWS + ":1"], 1, 1),
    ("other keys asked for", setting("data.forget", {"path": ROWS, "answer": "reply"}), [ROWS + ":1", "reply"], 1, 1),
    ("retain row without the key", line("retain.jsonl", 2, '{"question": "a"}'), ["retain.jsonl:2", "answer"], 1, 1),
    ("no forget file given", setting("data.forget", None), ["data.forget"], 1, 1),
    ("no retain file given", setting("data.retain", None), ["data.retain"], 1, 1),
    ("more rows held out than there are", setting("data.retain.held_out", 100), ["held_out|retain.jsonl"], 1, 1),
    # layouts
    ("layout of another number of ranks", setting("parallel", {"data": 3, "tensor": 1}), ["parallel|data|ranks"], 1, 2),
    ("tensor degree above the heads", setting("parallel", {"data": 1, "tensor": 5}), ["tensor", "heads"], 1, 5),
    ("more data ranks than rows in a global batch", setting("parallel", {"data": 3, "tensor": 1}), ["data", "batch"], 1, 3),
    ("more data ranks than rows of a batch that is too small", both(setting("parallel", {"data": 3, "tensor": 1}),
     setting("train.batch_size", 1)), ["data", "batch has 1 row: give train.batch_size x accumulation at least 3 rows, or "], 1, 3),
    ("more data ranks than rows in the file", both(setting("parallel", {"data": 3, "tensor": 1}), setting("train.batch_size", 50),
     setting("data.forget", {"path": "forget.jsonl", "rows": 2})), ["data", "batch has 2 rows, which are all that there are: these 3 processes with "], 1, 3),
    # the output directory
    ("output holds a finished run", finished, ["out", "overwrite"], 1, 1),
    ("output holds a finished run, two ranks", finished, ["out", "overwrite"], 1, 2),
    ("output is a file", writing("out", "here"), ["out"], 1, 1),
    ("output below a file", setting("output.directory", "forget.jsonl/out"), ["forget.jsonl"], 1, 1),
    # the input file
    ("input missing", lambda c: c.options.append("nowhere.yaml"), ["nowhere.yaml"], 1, 1),
    ("unknown key", raw(YAML + "trian: {steps: 2}\n"), [INPUT + ":5:1", "trian", "train"], 1, 1),
    ("unknown key inside", raw(YAML + "train: {step: 2}\n"), [INPUT + ":5:9", "step"], 1, 1),
    ("unknown key, two ranks", raw(YAML + "trian: {steps: 2}\n"), [INPUT + ":5:1", "trian"], 1, 2),
    ("key twice", raw(YAML + "seed: 1\nseed: 2\n"), [INPUT + ":6", "seed"], 1, 1),
    ("text for a number", raw(YAML + "train: {steps: many}\n"), [INPUT + ":5:16", "steps"], 1, 1),
    ("number with a tail", raw(YAML + "optimizer: {lr: 0.5x}\n"), [INPUT + ":5:17", "lr"], 1, 1),
    ("negative rate", raw(YAML + "optimizer: {lr: -1}\n"), [INPUT + ":5", "lr"], 1, 1),
    ("rate NaN", raw(YAML + "optimizer: {lr: .nan}\n"), [INPUT + ":5", "lr"], 1, 1),
    ("batch of none", raw(YAML + "train: {batch_size: 0}\n"), [INPUT + ":5", "batch_size"], 1, 1),
    ("list for a mapping", raw(YAML + "train: [1, 2]\n"), [INPUT + ":5", "train"], 1, 1),
    ("two documents", raw(YAML + "---\nseed: 1\n"), [INPUT + ":[56]"], 1, 1),
    ("tab", raw(YAML + "train:\n\tsteps: 2\n"), [INPUT + ":6"], 1, 1),
    ("unknown task", raw(YAML.replace("unlearn", "forget", 1)), [INPUT + ":1:7", "task"], 1, 1),
    ("empty input", raw(""), [INPUT], 1, 1),
    ("unknown objective", setting("objective.name", "nope"), [INPUT, "nope"], 1, 1),
    ("parameter of another objective", setting("objective.alpha", 1.0), [INPUT, "alpha"], 1, 1),
    ("objective out of range", setting("objective.beta", -1.0), [INPUT, "beta"], 1, 1),
    ("regularizer as objective", setting("objective", {"name": "kl"}), [INPUT, "kl"], 1, 1),
    ("objective as regularizer", setting("objective.regularizer", [{"name": "npo"}]), [INPUT, "npo"], 1, 1),
    ("unknown template", setting("data.template", "chatty"), [INPUT, "chatty"], 1, 1),
    ("risk on a file that is not there", setting("geffect.risks", {"unlearn": {"data": "nowhere.jsonl"}}),
     ["nowhere.jsonl"], 1, 1),
    ("rows held out of the forget file", setting("geffect.risks", {"unlearn": {"data": "forget", "from": "held_out"}}),
     [INPUT, "held_out"], 1, 1),
    ("risk on held-out rows where there are none", setting("geffect.risks", {"r": {"data": "retain", "from": "held_out"}}),
     [INPUT, '"r"', "held out"], 1, 1),
    ("risk on rows without a label", both(setting("geffect.risks", {"unlearn": "forget", "r": "long.jsonl"}),
     writing("long.jsonl", json.dumps({"question": "why " * 400, "answer": "so"}) + "\n")), ["long.jsonl", '"r"', "label"], 1, 2),
    ("no row with a label", both(setting("data.max_length", 4), setting("geffect.every", 0)), [ROWS, "label"], 1, 2),
    ("a guard of an unknown action", setting("guard", {"stop": 3}), [INPUT + r':\d+:\d+: unknown key "stop" in guard'], 1, 1),
    ("a guard that does what nobody knows", setting("guard", {"retain": {"budget": 1, "do": "step_bak"}}),
     [INPUT + r":\d+:\d+: guard.retain.do", "did you mean step_back"], 1, 2),
    ("a budget of nothing", setting("guard", {"retain": 0}), [INPUT + r":\d+:\d+: guard.retain.budget: expected a number above 0"], 1, 1),
    ("a way to keep a budget, and none", setting("guard", {"retain": {"do": "stop"}}), [INPUT + r":\d+:\d+: guard.retain.budget is missing"],
     1, 1),
    ("a budget without measurements", both(setting("guard", {"retain": 1}), setting("geffect.every", 0)),
     [INPUT + r":\d+:\d+: guard.retain.budget", "geffect.every is 0"], 1, 2),
    ("a prediction without measurements", both(setting("guard", {"retain": {"budget": 1, "of": "predicted"}}), setting("geffect.every", 0)),
     [INPUT + r":\d+:\d+: guard.retain.budget", "geffect.every is 0"], 1, 1),
    ("layers that rest without measurements", both(setting("guard", {"freeze": 1}), setting("geffect.every", 0)),
     [INPUT + r":\d+:\d+: guard.freeze.layers", "geffect.every is 0"], 1, 1),
    ("a step back without checkpoints", setting("guard", {"retain": {"budget": 1, "do": "step_back"}}),
     [INPUT + r":\d+:\d+: guard.retain.do: step_back needs checkpoints"], 1, 2),
    ("checkpoints of unknown risk", both(setting("guard", {"retain": {"budget": 1, "do": "step_back"}}), both(
        setting("checkpoint.every", 3), setting("geffect.every", 2))), [INPUT + r":\d+:\d+: checkpoint.every: 3 is no multiple"], 1, 1),
    ("more layers that rest than there are", setting("guard", {"freeze": {"layers": 6}}),
     [INPUT + r":\d+:\d+: guard.freeze.layers: 6 may rest, of 6"], 1, 2),
    ("a guard of another risk", setting("guard", {"retain": 1, "risk": "retian"}), [INPUT + r":\d+:\d+: guard.risk", "did you mean retain"],
     1, 1),
    ("a projection without retain rows", both(setting("guard", {"project": 1}), setting("data.retain", None)),
     ["data.retain.path is missing"], 1, 1),
    ("epochs beyond any count", both(setting("train", {"epochs": 1e300}), lambda c: None), [INPUT, "epochs"], 1, 1),
    ("reference that turns otherwise", json_file("reference/config.json", lambda c: c.update(rope_theta=77.0)),
     ["reference", "config.json"], 1, 2),
    ("curvature of what is no update", both(setting("task", "geffect"), setting("geffect.curvature", True)),
     [INPUT, "geffect.curvature", "no update"], 1, 1),
    ("window longer than the run", both(setting("geffect.curvature", {"window": 9}), setting("optimizer.name", "sgd")),
     [INPUT, "geffect.curvature.window", "9 updates", "2 of the run"], 1, 1),
    ("window of another optimiser", setting("geffect.curvature", {"window": 2}), [INPUT, "optimizer.name: sgd"], 1, 1),
    ("window of half an update", setting("geffect.curvature", {"window": 0.5}), [INPUT, "geffect.curvature.window", "0.5"], 1, 1),
    ("objective measured twice", setting("geffect.objectives", ["ga", "ga"]), [INPUT, "ga", "twice"], 1, 1),
    ("pairs with more rows than the file has", setting("geffect.pairs", {"with": "retain", "rows": 1000}),
     [INPUT, "geffect.pairs.rows: 1000", "retain.jsonl has [0-9]+", "or all"], 1, 2),
    ("pairs with a file that is not known", raw(YAML + "geffect: {pairs: {with: forgot}}\n"),
     [INPUT + ":5:25", "did you mean forget"], 1, 1),
    ("pairs without a measurement", both(setting("task", "finetune"), setting("geffect", {"pairs": "retain"})),
     [INPUT, "geffect.pairs", "nothing is measured"], 1, 1),
    ("pairs that are never measured", setting("geffect", {"every": 0, "pairs": True}), [INPUT, "geffect.pairs", "geffect.every"], 1, 1),
    ("pairs with rows without a label", both(setting("geffect", {"every": 1,
     "risks": {"unlearn": "forget"}, "pairs": {"with": "retain", "rows": 1}}), writing("retain.jsonl",
     json.dumps({"question": "why " * 1000, "answer": "so"}) + "\n" + json.dumps({"question": "why", "answer": "so"}) + "\n")),
     ["retain.jsonl", "geffect.pairs", "label"], 1, 2),
    ("regularizer measured as objective", setting("geffect.objectives", ["ga", "kl"]), [INPUT, "kl"], 1, 2),
    # training like other tools
    ("unknown preset", raw(YAML + "preset: open_unlerning\n"), [INPUT + ":5:9", "preset", "did you mean open_unlearning"], 1, 1),
    ("preset by a list", raw(YAML + "preset: [tofu]\n"), [INPUT + ":5:9", "preset"], 1, 1),
    ("unknown decay", raw(YAML + "optimizer: {decay: matrises}\n"), [INPUT + ":5:20", "decay", "did you mean matrices"], 1, 1),
    ("unknown way to combine", raw(YAML + "train: {combine: micro_bach}\n"), [INPUT + ":5:18", "combine", "did you mean micro_batch"], 1, 1),
    ("negative weight of the objective", raw(YAML + "objective: {name: npo, weight: -1}\n"), [INPUT + ":5:32", "objective.weight"], 1, 1),
    ("dual that steps back", raw(YAML + "objective: {name: pdu, regularizer: [{name: gd, dual: {step_size: -1}}]}\n"),
     [INPUT + ":5:67", "dual.step_size"], 1, 1),
    ("dual that is misspelt", raw(YAML + "objective: {name: pdu, regularizer: [{name: gd, dual: {stepsize: 1}}]}\n"),
     [INPUT + ":5:56", "stepsize", 'did you mean "step_size"'], 1, 1),
    ("dual that moves never", raw(YAML + "objective: {name: pdu, regularizer: [{name: gd, dual: {update: epocs, step_size: 1}}]}\n"),
     [INPUT + ":5:64", "dual.update", "did you mean epoch"], 1, 1),
    ("dual of a negative loss", raw(YAML + "objective: {name: pdu, regularizer: [{name: gd, dual: {eps: -1, step_size: 1}}]}\n"),
     [INPUT + ":5:61", "dual.eps"], 1, 1),
    ("dual with a warm-up of a word", raw(YAML + "objective: {name: pdu, regularizer: [{name: gd, dual: {warmup_epochs: one, step_size: 1}}]}\n"),
     [INPUT + ":5:71", "dual.warmup_epochs"], 1, 2),
    ("dual without its step", raw(YAML + "objective: {name: pdu, regularizer: {name: gd, dual: {eps: 0.3, warmup_epochs: 5}}}\n"),
     [INPUT + ":5:54: dual.step_size is missing"], 1, 2),
    ("a risk's key for rows read by another", setting("geffect.risks", {"para": {"data": "retain", "answer": "paraphrased_answer"}}),
     [INPUT + r':\d+:\d+: risk "para": answer: paraphrased_answer: .*data.retain.answer: answer;.*path'], 1, 2),
    ("a risk's question for forget rows", setting("geffect.risks", {"para": {"data": "forget", "question": "ask"}}),
     [INPUT + r':\d+:\d+: risk "para": question: ask: .*data.forget.question: question;'], 1, 1),
    ("two dual weights", setting("objective", {"name": "ga", "regularizer": [{"name": "gd", "dual": 1.0}, {"name": "kl", "dual": 1.0}]}),
     [INPUT + r":\d+", "gd and kl both have a dual weight"], 1, 1),
    ("retain rows that cannot be cut", both(setting("train", {"steps": 2, "batch_size": 1, "accumulation": 2, "combine": "micro_batch"}),
     setting("objective.regularizer", [{"name": "gd", "batch_size": 3}])), [INPUT + r":\d+", "batch_size of gd is 3", "multiple"], 1, 2),
    ("unknown positions", raw(YAML + "objective: {name: undial, positions: labeled}\n"), [INPUT + ":5:38", "positions of undial", "labelled or all"], 1, 1),
    ("positions that are a number", setting("objective", {"name": "pdu", "positions": 3}), [INPUT, "positions of pdu", "before or all"], 1, 1),
    ("positions of another objective", setting("objective.positions", "all"), [INPUT, 'npo has no parameter "positions"'], 1, 1),
    ("unknown way to combine rows", setting("objective", {"name": "rmu", "combine": "row"}), [INPUT, "combine of rmu", "tokens, rows or crossed"], 1, 1),
    ("direction that is half a unit", setting("objective", {"name": "rmu", "unit": 0.5}), [INPUT, "unit of rmu", "false or true"], 1, 1),
    ("misspelt parameter with a word", setting("objective", {"name": "rmu", "postions": "all"}), [INPUT, 'no parameter "postions"', "positions"], 1, 1),
    ("direction that is no JSON", both(setting("objective", {"name": "rmu", "direction": "u.json"}), writing("u.json", "[1,\n x]")),
     [INPUT + r":\d+:\d+: direction: u.json:2:2: "], 1, 2),
    ("preset beyond the model", both(setting("preset", "open_unlearning"), setting("objective", {"name": "rmu"})),
     ["preset open_unlearning: layer of rmu is 8", "1 to 3"], 1, 1),
    ("preset with a wrong section", both(setting("preset", "tofu"), setting("optimizer", [1])), [INPUT + r":\d+", "optimizer"], 1, 1),
    # evaluation
    ("evaluate without sets", both(evaluating(), setting("evaluate.sets", None)), [INPUT, "evaluate.sets"], 1, 1),
    ("evaluate with no set", evaluating(sets={}), [INPUT, "evaluate.sets"], 1, 1),
    ("evaluate.every without sets", setting("evaluate", {"every": 2}), [INPUT + r":\d+", "evaluate.sets"], 1, 2),
    ("set missing", evaluating(sets={"forget": "nowhere.jsonl"}), ["nowhere.jsonl"], 1, 1),
    ("set missing, two ranks", evaluating(sets={"forget": "nowhere.jsonl"}), ["nowhere.jsonl"], 1, 2),
    ("set row without an answer", both(evaluating(), row(3, answer=None)), [ROWS + ":3", "answer"], 1, 2),
    ("set row with a number for an answer", both(evaluating(), row(2, answer=7)), [ROWS + ":2", "answer"], 1, 1),
    ("set row with two answers", both(evaluating(), row(2, answer=["a", "b"])), [ROWS + ":2", "answer"], 1, 1),
    ("set row without a question", both(evaluating(), row(2, question=None)), [ROWS + ":2", "question"], 1, 1),
    ("set row that is no JSON", both(evaluating(), line(ROWS, 2, '{"question": ')), [ROWS + ":2"], 1, 1),
    ("set row whose prompt is empty", both(evaluating(metrics="all"), setting("data.template", NOTHING), row(2, question="")),
     [ROWS + ":2: the prompt has no tokens"], 1, 2),
    ("a list of paraphrases", both(evaluating(), row(2, paraphrased_answer=["a", "b"])), [ROWS + ":2", "paraphrased_answer.*only one"], 1, 2),
    ("wrong answers that are no list", both(evaluating(), row(2, perturbed_answer=7)), [ROWS + ":2", "perturbed_answer"], 1, 1),
    ("wrong answers that are no texts", both(evaluating(), row(2, perturbed_answer=["a", 7])),
     [ROWS + ":2", "perturbed_answer", "2"], 1, 1),
    ("wrong answers that are none", both(evaluating(), row(2, perturbed_answer=[])), [ROWS + ":2", "perturbed_answer"], 1, 1),
    ("unknown metric", evaluating(metrics=["loss", "bleu"]), [INPUT + r":\d+", "bleu", "rougeL_recall"], 1, 2),
    ("no metric", evaluating(metrics=[]), [INPUT + r":\d+:\d+: evaluate.metrics: names no score"], 1, 2),
    ("no metric beside training", setting("evaluate", {"every": 1, "sets": {"forget": ROWS}, "metrics": []}),
     [INPUT + r":\d+:\d+: evaluate.metrics: names no score"], 1, 1),
    ("metric that no set has", evaluating(metrics=["truth_ratio"]), [INPUT + r":\d+", "truth_ratio", "perturbed"], 1, 1),
    ("metric against no reference", both(evaluating(metrics=["kl"]), setting("model.reference", None)),
     [INPUT + r":\d+", "kl", "model.reference"], 1, 1),
    ("retain log missing", evaluating(retain_logs="nowhere.json"), ["nowhere.json"], 1, 2),
    ("retain log that is none", evaluating(retain_logs="model/config.json"), ["config.json"], 1, 1),
    ("retain log of other rows", evaluating(retain_logs=str(RETAIN_LOG)), ["eval_log_aggregated.json", "300", "6"], 1, 2),
    ("retain log without a forget set", evaluating(sets={"retain": "retain.jsonl"}, retain_logs=str(RETAIN_LOG)),
     [INPUT + r":\d+", "evaluate.sets.forget"], 1, 1),
    ("retain log of open-unlearning without its rows", both(evaluating(retain_logs="log.json"), writing(
        "log.json", '{"forget_truth_ratio": {"agg_value": 0.5}}')), ["log.json: forget_truth_ratio: has no value_by_index"], 1, 2),
    ("retain log of open-unlearning with other rows", both(evaluating(retain_logs="log.json"), writing(
        "log.json", '{"forget_truth_ratio": {"value_by_index": {"0": {"score": 1}}}}')), ["log.json: has 1 rows", "6"], 1, 1),
    ("retain log of open-unlearning with an area of 2", both(evaluating(retain_logs="log.json"), writing(
        "log.json", '{"mia_min_k": {"agg_value": 2}}')), ["log.json: mia_min_k: agg_value"], 1, 1),
    ("retain log of another set", both(evaluating(retain_logs="log.json"), writing(
        "log.json", '{"mia_min_k": {"agg_value": 0.5}}')), ["log.json: has neither forget_truth_ratio nor"], 1, 1),
    ("unknown variant", evaluating(variant="open_unlernaing"), [INPUT + r":\d+:\d+: evaluate.variant", "did you mean open_unlearning"], 1, 1),
    ("unknown benchmark", evaluating(benchmark="muze"), [INPUT + r":\d+:\d+: evaluate.benchmark", "did you mean muse"], 1, 2),
    ("rows of one token", evaluating(row_length=1), [INPUT + r":\d+:\d+: evaluate.row_length"], 1, 1),
    ("rows of a length in words", evaluating(row_length="all"), [INPUT + r":\d+:\d+: evaluate.row_length", "auto"], 1, 1),
    ("a key for the length of rows", evaluating(row_lenght=10), [INPUT + r":\d+:\d+", 'did you mean "row_length"'], 1, 1),
    ("an area beyond 1", evaluating(privleak_auc=1.5), [INPUT + r":\d+:\d+: evaluate.privleak_auc", "0 to 1, or auto"], 1, 1),
    ("a set that MUSE does not have", evaluating(benchmark="muse", sets={"verbmem_forgot": ROWS}),
     [INPUT + r":\d+:\d+: evaluate.sets", "did you mean verbmem_forget"], 1, 2),
    ("MUSE's set without its keys", evaluating(benchmark="muse", sets={"verbmem_forget": ROWS}), [ROWS + ":1", "prompt", "gt"], 1, 2),
    ("MUSE's texts without texts", evaluating(benchmark="muse", sets={"privleak_forget": ROWS}), [ROWS + ":1", '"text"'], 1, 1),
    ("MUSE's examples without answers", both(evaluating(benchmark="muse", sets={"knowmem_forget": ROWS, "knowmem_forget_icl": "x.jsonl"}),
     writing("x.jsonl", '\n{"question": "?"}\n')), ["x.jsonl:2: an example needs"], 1, 2),
    ("MUSE's examples alone", both(evaluating(benchmark="muse", sets={"knowmem_forget_icl": "x.jsonl"}),
     writing("x.jsonl", '{"question": "?", "answer": "!"}\n')), [INPUT + r":\d+:\d+: evaluate.sets: .*only examples"], 1, 2),
    ("MUSE as one array", both(evaluating(benchmark="muse", sets={"verbmem_forget": "x.json"}),
     writing("x.json", '[{"prompt": "a", "gt": "b"}]')), ["x.json: is one JSON array.*jq"], 1, 1),
    ("a score that MUSE does not have", evaluating(benchmark="muse", sets={"privleak_forget": ROWS}, metrics=["truth_ratio"]),
     [INPUT + r":\d+:\d+: evaluate.metrics", "truth_ratio"], 1, 1),
    ("a score of choices without choices", evaluating(metrics=["correct"]), [INPUT + r":\d+:\d+: evaluate.metrics", "correct"], 1, 1),
    ("choices that are none", evaluating(benchmark="wmdp", sets={"bio": ROWS}), [ROWS + ":1", '"choices" is not a list'], 1, 2),
    ("a right choice that there is not", both(evaluating(benchmark="wmdp", sets={"bio": "x.jsonl"}), writing(
        "x.jsonl", '{"question": "?", "choices": ["a", "b"], "answer": 2}\n')), ["x.jsonl:1", '"answer".*0 to 1'], 1, 1),
    ("a right choice by its letter", both(evaluating(benchmark="wmdp", sets={"bio": "x.jsonl"}), writing(
        "x.jsonl", '{"question": "?", "choices": ["a", "b"], "answer": "A"}\n')), ["x.jsonl:1", '"answer".*0 to 1'], 1, 1),
    ("a choice that is a number", both(evaluating(benchmark="wmdp", sets={"bio": "x.jsonl"}), writing(
        "x.jsonl", '{"question": "?", "choices": ["a", 7], "answer": 0}\n')), ["x.jsonl:1", '"choices".*entry 2'], 1, 1),
    ("WMDP with a retain log", both(evaluating(benchmark="wmdp", sets={"bio": "x.jsonl"}, retain_logs="log.json"), writing(
        "x.jsonl", '{"question": "?", "choices": ["a", "b"], "answer": 1}\n'), writing("log.json", '{"mia_min_k": {"agg_value": 0.5}}')),
     [INPUT + r":\d+:\d+: evaluate.retain_logs"], 1, 2),
    ("a padding token that is a number", both(evaluating(variant="open_unlearning"), writing("model/tokenizer_config.json", '{"pad_token": 3}')),
     ["tokenizer_config.json: pad_token"], 1, 2),
    # the command line
    ("no arguments", lambda c: setattr(c, "options", None), [], 2, 1),
    ("no arguments, two ranks", lambda c: setattr(c, "options", None), [], 2, 2),
    ("unknown option", option("--frobnicate"), ["frobnicate"], 2, 1),
    ("unknown option, two ranks", option("--frobnicate"), ["frobnicate"], 2, 2),
    ("an override before the input", lambda c: setattr(c, "options", ["optimizer.lr=1e-6", "nowhere.yaml"]),
     ["nowhere.yaml: stands behind optimizer.lr=1e-6: the input file comes first"], 2, 2),
    ("encode of two files", lambda c: setattr(c, "options", ["--encode", "model", ROWS, "retain.jsonl"]), ["retain.jsonl: --encode reads one"], 2, 1),
    ("encode behind an input", lambda c: setattr(c, "options", [INPUT, "--encode", "model", ROWS]), ["input.yaml: --encode reads one"], 2, 2),
    ("two inputs", option("other.yaml"), ["other.yaml|input"], 2, 1),
    ("override of an unknown key", option("train.step=3"), ["train.step"], 1, 1),
    ("override out of range", option("train.batch_size=0"), ["batch_size"], 1, 1),
    ("encode without a file", lambda c: setattr(c, "options", ["--encode", "model"]), [], 2, 1),
    ("encode of a character without a token", both(json_file("model/tokenizer.json", wordless),
     writing("a.jsonl", '{"text": "a"}\n\n{"text": "\\u4e2d"}\n'),
     lambda c: setattr(c, "options", ["--encode", "model", "a.jsonl"])), ["a.jsonl:3: ", r"U\+4E2D"], 1, 1),
    ("encode of one array", both(writing("a.json", '[{"text": "a"}]'),
     lambda c: setattr(c, "options", ["--encode", "model", "a.json"])), ["a.json: is one JSON array, not JSON Lines"], 1, 1),
    ("encode of a missing file", lambda c: setattr(c, "options", ["--encode", "model", "nowhere.jsonl"]), ["nowhere"], 1, 1),
]


def command(case):
    """The program's arguments: options, the input, overrides. None: no arguments at all."""
    if case.options is None:
        return []
    if "--encode" in case.options or "nowhere.yaml" in case.options:
        return case.options
    first = [o for o in case.options if o.startswith("--")]
    return [*first, "input.yaml", *[o for o in case.options if not o.startswith("--")]]


def bad(checks, entry):
    name, damage, words, status, ranks = entry
    case = Case(checks.directory / re.sub(r"\W+", "-", name))
    damage(case)
    (case / "input.yaml").write_text(case.text if case.text is not None else json.dumps(case.input, indent=1))
    before = results(case)
    done = run(command(case), ranks, precisions()[0], case.directory, SECONDS)
    lines = [s for s in done.stderr.splitlines() if s.startswith("unlearn: error: ")]
    wrong = []
    if done.returncode != status:
        wrong.append(f"exit status {done.returncode}, not {status}")
    if len(lines) != 1:
        wrong.append(f"{len(lines)} error lines")
    wrong += [f"no {w!r}" for w in words if not any(re.search(w, s) for s in lines)]
    if results(case) != before:
        wrong.append(f"left {results(case)}")
    if "Sanitizer" in done.stderr or "runtime error" in done.stderr:
        wrong.append("the sanitizer complains")
    return checks.check(not wrong, name, "; ".join(wrong) + "\n  " + done.stderr.strip()[-1500:].replace("\n", "\n  "))


def results(case):
    """What looks like a result, with its time: a finished run stays as it was."""
    return {str(p.relative_to(case.directory)): p.stat().st_mtime_ns
            for p in case.directory.glob("out/*") if p.name in ("model", "geffect.h5", "train.h5", "evaluation.h5", "TOFU_EVAL.json", "input.yaml")}


# -------------------------------------------------------------------------------------------------- odd but sound
def rows_without_labels(checks, ranks):
    """A question that fills max_length leaves no answer: the row stays, with loss, effect and weight 0, and one warning."""
    what = f"rows whose answer is cut away, {ranks} ranks"
    case = Case(checks.directory / f"cut-{ranks}")
    both(row(2, question="why " * 300), row(5, question="how " * 300))(case)
    done = run_input(case.input, ranks, precisions()[0], case.directory)
    if not checks.check(done.returncode == 0, what, done.stderr[-1500:]):
        return
    with h5py.File(case / "out/geffect.h5") as f:
        weight, loss, effect = f["instance_weight"][()], f["instance_loss"][()], f["geffect"][()]
    checks.check(effect.shape[-1] == 6 and (weight[:, [1, 4]] == 0).all() and (weight[:, [0, 2, 3, 5]] > 0).all()
                 and abs(weight.sum() - 1) < 1e-12, f"{what}: weights", str(weight))
    checks.check((loss[..., [1, 4]] == 0).all() and (effect[..., [1, 4]] == 0).all() and np.isfinite(effect).all()
                 and (effect[..., 0] != 0).any(), f"{what}: losses and effects", str(loss))
    log = (case / "out/run.log").read_text()
    said = {s.strip() for s in log.splitlines() if re.search(r"\b2\b.*(answer|label)", s) and "warning" in s.lower()}
    checks.check(len(said) == 1 and "forget.jsonl" in next(iter(said)), f"{what}: one warning with the count", log[-3000:])


def odd_rows(checks):
    """CRLF, a byte order mark, blank lines, escapes, other keys, an empty answer, no last newline, and where nobody looks
    numbers that JSON does not have: the same losses. What config.json held of them goes on to the new model."""
    case = Case(checks.directory / "odd")
    rows = [json.loads(s) for s in (case / ROWS).read_text().splitlines()]
    odd = {"x": [1, float("inf")], "y": 10**30}
    text = "\r\n\r\n".join(json.dumps({**odd, **r, "z": float("nan")}, ensure_ascii=True) for r in rows)
    (case / "odd.jsonl").write_bytes(text.encode())
    losses = []
    for name, forget in (("plain", ROWS), ("odd", "odd.jsonl")):
        if name == "odd":
            json_file("model/config.json", lambda c: c.update(note=odd))(case)
            json_file("model/tokenizer.json", lambda t: (t.update(note=odd), t["model"].update(unk_token=None, note=odd)))(case)
        case.set("data.forget", forget)
        case.set("output.directory", name)
        done = run_input(case.input, 1, precisions()[0], case.directory)
        if not checks.check(done.returncode == 0, f"odd rows: {name}", done.stderr[-1500:]):
            return
        with h5py.File(case / name / "geffect.h5") as f:
            losses.append(f["instance_loss"][()])
    checks.check(np.array_equal(*losses), "odd rows give the same losses")
    note = json.loads((case / "odd/model/config.json").read_text()).get("note")
    checks.check(note == odd, "what nobody reads of config.json is in the new one", str(note))


def words_of_the_program(checks):
    """--help and --version succeed and say something, on standard output."""
    for word in ("--help", "--version"):
        for ranks in (1, 2):
            done = run([word], ranks, precisions()[0], checks.directory, SECONDS)
            checks.check(done.returncode == 0 and "unlearn" in done.stdout and not done.stderr, f"{word}, {ranks} ranks",
                         done.stdout[-300:] + done.stderr[-300:])


def main():
    checks = Checks("bad")
    checks.need(GOLDEN)
    words = sys.argv[1:]
    wanted = [e for e in TABLE if not words or any(w in e[0] for w in words)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(lambda e: bad(checks, e), wanted))
    if not words:
        rows_without_labels(checks, 1)
        rows_without_labels(checks, 2)
        odd_rows(checks)
        words_of_the_program(checks)
    checks.finish()


if __name__ == "__main__":
    main()
