"""Renews the table of docs/LAYOUT.md from the program's own plan: models that people have, on 1 to 256 nodes.

    python docs/layouts.py        in the repository, with ./unlearn built; no weights are needed, nothing is trained
The shapes are those of the published config.json files. Only the standard library is used."""
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO, PAGE = ROOT / "inputs/demo", ROOT / "docs/LAYOUT.md"
BEGIN, END = "<!-- docs/layouts.py writes what follows -->\n", "<!-- to here -->\n"


def llama(hidden, blocks, heads, kv, inner, words, tied=False, head=None):
    found = {"model_type": "llama", "hidden_size": hidden, "num_hidden_layers": blocks, "num_attention_heads": heads,
             "num_key_value_heads": kv, "intermediate_size": inner, "vocab_size": words, "tie_word_embeddings": tied,
             "max_position_embeddings": 2048, "hidden_act": "silu", "eos_token_id": 0}
    return found | ({"head_dim": head} if head else {})


MODELS = {
    "SmolLM2-135M": llama(576, 30, 9, 3, 1536, 49152, tied=True),
    "Llama-3.2-1B": llama(2048, 16, 32, 8, 8192, 128256, tied=True, head=64),
    "phi-1.5": {"model_type": "phi", "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32,
                "intermediate_size": 8192, "vocab_size": 51200, "max_position_embeddings": 2048, "hidden_act": "gelu_new",
                "partial_rotary_factor": 0.5, "tie_word_embeddings": False, "eos_token_id": 0},
    "Llama-2-7B": llama(4096, 32, 32, 32, 11008, 32000),
    "Llama-3.1-8B": llama(4096, 32, 32, 8, 14336, 128256),
    "Llama-3.1-70B": llama(8192, 80, 64, 8, 28672, 128256),
}
NODES = [1, 2, 4, 8, 16, 32, 64, 128, 256]
MACHINE = {"per_node": 2, "flops": 1.5e12, "memory": 256e9, "bandwidth": 1.5e11, "network": 2.5e10}


def make_rows(source, path, n):
    """Rows of about a hundred tokens of the demo's tokenizer, as TOFU's have with those of the models."""
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    joined = ({"question": rows[i % len(rows)]["question"],
               "answer": " ".join(rows[(i + k) % len(rows)]["answer"] for k in range(3))} for i in range(n))
    path.write_text("".join(json.dumps(r) + "\n" for r in joined))


def settings(nodes):
    return {"task": "unlearn", "model": {"path": "base", "init": "random"},
            "data": {"forget": "forget.jsonl", "retain": {"path": "retain.jsonl", "held_out": 0}},
            "plan": MACHINE | {"processes": nodes * MACHINE["per_node"]},
            "objective": {"name": "npo", "regularizer": [{"name": "gd"}]},
            "train": {"batch_size": 4, "accumulation": 8}, "checkpoint": {"export": False}}


def cell(directory, nodes):
    """The layout that the plan advises, with memory and times, or why there is none."""
    (directory / "input.yaml").write_text(json.dumps(settings(nodes)))
    done = subprocess.run([ROOT / "unlearn", "--check", "input.yaml"], cwd=directory, capture_output=True, text=True)
    if done.returncode:
        if "data ranks" in done.stderr:
            return "more ranks than rows"
        raise SystemExit(done.stderr)
    advice = re.search(r"^advice     parallel: \{data: (\d+), tensor: (\d+)(, shard: full)?\}", done.stdout, re.M)
    if not advice:
        return "no room"
    data, tensor, shard = advice.groups()
    numbers = r" +([\d.]+) +([\d.]+) +([\d.e+-]+) +([\d.e+-]+)"
    row = re.search(rf"^ +{data} x {tensor} +{'full' if shard else ''}{numbers}", done.stdout, re.M)
    memory, _, update, measurement = map(float, row.groups())
    return f"{data} x {tensor}{', full' if shard else ''}; {memory / 1e3:.3g} GB; {update:.3g} s; {measurement:.4g} s"


def table(directory):
    lines = ["| nodes | " + " | ".join(MODELS) + " |", "|---" * (len(MODELS) + 1) + "|"]
    cells = {}
    for name, shape in MODELS.items():
        (directory / "base/config.json").write_text(json.dumps(shape))
        for nodes in NODES:
            cells[name, nodes] = cell(directory, nodes)
    return lines + [f"| {n} | " + " | ".join(cells[name, n] for name in MODELS) + " |" for n in NODES]


def main():
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "base").mkdir()
        shutil.copy(DEMO / "model/tokenizer.json", directory / "base")
        make_rows(DEMO / "forget05.jsonl", directory / "forget.jsonl", 200)
        make_rows(DEMO / "retain95.jsonl", directory / "retain.jsonl", 400)
        text = "\n".join(table(directory)) + "\n"
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + text + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
