"""end to end: parallel.logits. However many rows of logits are held, every file is to the last bit the same: of heads with biases, caps
and tied weights, with all that reads logits; the plan and the peak of the memory fall alike, and auto holds fewer where it would not do."""
import json
import re
import subprocess

import h5py
from harness import Checks, precisions, program, run_input
from measures import Place, rows, write
from recompute import equal, results, shaped

FAMILIES = {  # with what the reference says of the rows kept, or a copy of its weights
    "llama": ({}, "values"),
    "gemma2": ({"model_type": "gemma2", "query_pre_attn_scalar": 12, "sliding_window": 16, "final_logit_softcapping": 3.0}, "weights"),
    "phi": ({"model_type": "phi", "num_key_value_heads": 4, "head_dim": None, "hidden_act": "gelu_new", "partial_rotary_factor": 0.5},
            "weights"),
}
ALL = ["ga", "npo", {"name": "rmu", "layer": 1}, "undial", "ceu", "pdu", "dpo"]
SCORES = ["loss", "kl", "gradnorm", "min_k++", "exact_memorization"]
FILES = ["geffect.h5", "tokens.h5", "train.h5", "evaluation.h5"]
SLAB = 256


def settings(place, ranks, tensor, reference, logits, shard):
    s = place.settings(ranks, tensor, "unlearn", train={"steps": 1, "batch_size": 24},
                       objective={"name": "npo", "regularizer": [{"name": "kl"}, {"name": "rr"}]},
                       geffect={"objectives": ALL, "tokens": True, "every": 1, "pairs": {"with": "retain", "rows": 4}, "curvature": True,
                                "fidelity": True, "gram": True},
                       evaluate={"every": 1, "metrics": SCORES, "max_length": 60,
                                 "sets": {"forget": "forget.jsonl", "retain": "retain.jsonl"}})
    s["model"]["reference_as"] = reference
    s["parallel"].update(logits=logits, tokens=4000, shard=shard)
    return s


def same(checks, place, family, reference, ranks, tensor, precision):
    what = f"{family}, {precision}, {ranks} ranks, tensor {tensor}, {reference}"
    found = {}
    ways = [(1, "none")]  # one slab's room
    if family == "llama":
        ways.append((600, "none"))  # some slabs kept, others in the rest of the room
    if tensor < ranks:
        ways.append((1, "full"))  # of shared states the reference's head is one more that is whole at a time
    for held, shard in ((4000, "none"), *ways):
        if not place.run(checks, f"{what}, {held}, {shard}", settings(place, ranks, tensor, reference, held, shard), ranks, precision):
            return
        found[held, shard] = results(place.directory, FILES)
        log = (place.directory / "out/run.log").read_text()
        checks.check((f"logits     {max(held, SLAB)} rows at a time: activations" in log) == (held < 4000), f"{what}, {held}: the log says so")
    with h5py.File(place.directory / "out/tokens.h5") as f:
        tokens = f["token_id"].shape[0]
    checks.check(tokens > 1.3 * SLAB * ranks // tensor, f"{what}: rows enough for two slabs of each process, {tokens} tokens")
    for way in ways:
        equal(checks, f"{what}, {way}", found[4000, "none"], found[way])


def measured(checks, place, precision):
    """With many words the peak of the memory falls by what the plan says; auto under a limit between the two."""
    planned, peak = {}, {}
    for held in (1024, SLAB):
        s = place.settings(1, 1, "unlearn", train={"steps": 1, "batch_size": 40}, objective={"name": "ga", "regularizer": "kl"},
                           geffect={"every": 0}, checkpoint={"export": False})
        s["parallel"]["logits"] = held
        done = run_input(s, 1, precision, place.directory, ["--overwrite"])
        found = re.search(r"planned ([\d.]+) MB, peak ([\d.]+) MB", (place.directory / "out/run.log").read_text())
        if not checks.check(done.returncode == 0 and found, f"many words, {held} rows", done.stderr[-1500:]):
            return
        planned[held], peak[held] = float(found.group(1)), float(found.group(2))
    fall = planned[1024] - planned[SLAB], peak[1024] - peak[SLAB]
    checks.check(fall[0] > 100 and 0.9 < fall[1] / fall[0] < 1.1, "the peak falls as the plan does", f"{planned} {peak}")
    s["parallel"].update(logits="auto", tokens=1024)  # to cut passes would cost less, where nearly all is the head
    (place.directory / "input.yaml").write_text(json.dumps(s))
    for megabytes, chosen in ((sum(planned.values()) / 2 + 150, True), (planned[1024] + 300, False)):
        limited = f"ulimit -d {int(megabytes * 1e6 / 1024)} && exec {program(precision)} --check input.yaml"
        done = subprocess.run(["sh", "-c", limited], cwd=place.directory, capture_output=True, text=True, timeout=120)
        checks.check(done.returncode == 0 and ("rows at a time, or the memory would not do" in done.stdout) == chosen,
                     f"auto with {megabytes:.0f} MB", done.stdout[-800:] + done.stderr[-500:])


def main():
    checks = Checks("logits")
    place = Place(checks)
    write(place.directory / "forget.jsonl", rows("forget05.jsonl", 20) + rows("retain95.jsonl", 24))
    write(place.directory / "retain.jsonl", rows("retain95.jsonl", 30, 80))
    for family, (changes, reference) in FAMILIES.items():
        kept = shaped(place, changes)
        precision, tensor = (precisions()[-1], 1) if family == "phi" else (precisions()[0], 2)
        same(checks, place, family, reference, 2, tensor, precision)
        (place.directory / "model/config.json").write_text(kept)
    shaped(place, {"vocab_size": 50000})
    measured(checks, place, precisions()[0])
    checks.finish()


if __name__ == "__main__":
    main()
