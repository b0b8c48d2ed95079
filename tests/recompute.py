"""end to end: parallel.recompute. With activations computed again every file is to the last bit what it is with activations kept: of
every kind of block, with all that reads activations; the plan says what it saves, and auto does it where the memory would not do."""
import json
import re
import subprocess

from again import contents
from harness import Checks, precisions, program, run
from measures import Place

FAMILIES = {
    "llama": {},
    "gemma2": {"model_type": "gemma2", "query_pre_attn_scalar": 12, "sliding_window": 16},  # norms before and after
    "olmo2": {"model_type": "olmo2"},                                                      # after; over all heads together
    "qwen3": {"model_type": "qwen3", "num_hidden_layers": 3},                              # of each head
    "phi": {"model_type": "phi", "num_key_value_heads": 4, "head_dim": None, "hidden_act": "gelu_new", "partial_rotary_factor": 0.5},
    "gpt_neox": {"model_type": "gpt_neox", "use_parallel_residual": True, "rotary_pct": 0.5, "hidden_act": "gelu"},
}
ALL = ["ga", "npo", {"name": "rmu", "layer": 1}, {"name": "rmu", "layer": 2}, "undial", "dpo"]
FILES = ["geffect.h5", "tokens.h5", "train.h5"]


def shaped(place, changes):
    path = place.directory / "model/config.json"
    kept = path.read_text()
    path.write_text(json.dumps(json.loads(kept) | changes))
    return kept


def results(directory, files):
    """{file: {array or attribute: bytes}}, and the bytes of the weights, where they were written."""
    out = {name: {k: v for k, v in contents(directory / "out" / name).items() if k != "@input"} for name in files}
    if (directory / "out/model").is_dir():
        out["model"] = (directory / "out/model/model.safetensors").read_bytes()
    return out


def equal(checks, what, expected, got):
    for name, whole in expected.items():
        other = got[name]
        checks.check(whole == other and len(whole) > 5, f"{what}: {name} is the same to the last bit",
                     "" if name == "model" else ", ".join(k for k in whole if whole[k] != other.get(k)))


def settings(place, ranks, tensor, recompute):
    s = place.settings(ranks, tensor, "unlearn", train={"steps": 2}, objective={"name": "npo", "regularizer": [{"name": "kl"}]},
                       geffect={"objectives": ALL, "tokens": True, "every": 1, "pairs": {"with": "retain", "rows": 2}, "curvature": True, "fidelity": True})
    s["parallel"]["recompute"] = recompute
    return s


def same(checks, place, family, ranks, tensor, precision):
    what = f"{family}, {precision}, {ranks} ranks, tensor {tensor}"
    found = {}
    for recompute in ("none", "block"):
        if not place.run(checks, f"{what}, {recompute}", settings(place, ranks, tensor, recompute), ranks, precision):
            return
        found[recompute] = results(place.directory, FILES)
        log = (place.directory / "out/run.log").read_text()
        checks.check(("recompute  block: activations" in log) == (recompute == "block"), f"{what}: the log says whether")
    equal(checks, what, found["none"], found["block"])


def planned(checks, place, precision):
    """Less memory in the plan, and auto under a limit between the two."""
    bytes_of = {}
    wide = ["parallel.tokens=20000"]  # a BLAS library asks for 144 MB to begin with
    for recompute in ("none", "block"):
        (place.directory / "input.yaml").write_text(json.dumps(settings(place, 1, 1, recompute)))
        done = run(["--check", "input.yaml", *wide], 1, precision, place.directory)
        found = re.search(r"^memory +([\d.]+) MB a process", done.stdout, re.M)
        if not checks.check(found, f"--check, {recompute}", done.stderr[-500:]):
            return
        bytes_of[recompute] = float(found.group(1))
    checks.check(bytes_of["block"] < 0.9 * bytes_of["none"], "recomputation needs less", str(bytes_of))
    (place.directory / "input.yaml").write_text(json.dumps(settings(place, 1, 1, "auto")))
    for megabytes, chosen in ((sum(bytes_of.values()) / 2, True), (bytes_of["none"] * 1.1, False)):
        limited = f"ulimit -d {int(megabytes * 1e6 / 1024)} && exec {program(precision)} --check input.yaml {wide[0]}"
        done = subprocess.run(["sh", "-c", limited], cwd=place.directory, capture_output=True, text=True, timeout=120)
        checks.check(done.returncode == 0 and ("recompute  block, or the memory would not do" in done.stdout) == chosen,
                     f"auto with {megabytes:.0f} MB", done.stdout[-800:] + done.stderr[-500:])


def main():
    checks = Checks("recompute")
    place = Place(checks)
    for family, changes in FAMILIES.items():
        kept = shaped(place, changes)
        for precision in precisions():
            if precision == "float" or family in ("llama", "olmo2"):
                same(checks, place, family, 2, 2 if precision == "float" else 1, precision)
        (place.directory / "model/config.json").write_text(kept)
    shaped(place, {"num_hidden_layers": 24})
    planned(checks, place, precisions()[0])
    checks.finish()


if __name__ == "__main__":
    main()
