"""end to end: a real model on real data: finetune stories260K on TOFU, unlearn it, read the files, load it elsewhere.

Two epochs over 40 forget and 1600 retain rows; then 12 steps of gradient ascent with effects at steps 0, 5, 10 and 12, on
one rank, on two data ranks and on two tensor ranks, which must tell the same story. Where torch and transformers are
installed (make transformers), the exported model is loaded there and must have the likelihood that the program says."""
import json
import subprocess
import sys
import time

import h5py
import numpy as np
from harness import ROOT, SHARED, Checks, error, labels, precisions, run_input

MODEL, TOFU = SHARED / "models/stories260K", SHARED / "data/tofu"
DATA = {"template": "qa", "max_length": 400, "forget": str(TOFU / "forget01.json"),
        "retain": {"path": str(TOFU / "retain99.json"), "rows": 1600}}
N_TRAINED = 40 + 1600  # finetuning teaches the held-out rows too
LAYOUTS = {"one rank": (1, 1), "two data ranks": (2, 1), "two tensor ranks": (1, 2)}
SAME_STORY = 1e-3    # float32, 12 updates from equal weights
LIKELIHOOD = 1e-4    # nats per token, against transformers in float32

FINETUNE = {
    "task": "finetune", "seed": 1, "output": {"directory": "finetuned"}, "model": {"path": str(MODEL)}, "data": DATA,
    "optimizer": {"lr": 1e-3}, "train": {"epochs": 2, "batch_size": 16, "accumulation": 1}, "geffect": {"every": 0},
}


def unlearn(data, tensor, directory):
    return {
        "task": "unlearn", "seed": 1, "output": {"directory": directory}, "model": {"path": "finetuned/model"}, "data": DATA,
        "parallel": {"data": data, "tensor": tensor}, "objective": {"name": "ga"}, "optimizer": {"lr": 1e-4, "warmup_steps": 2},
        "train": {"steps": 12, "batch_size": 4, "accumulation": 2},
        "geffect": {"every": 5, "risks": {"unlearn": {"data": "forget"}, "retain": {"data": "retain", "rows": 40}}},
    }


def start(checks, what, settings, ranks):
    begin = time.monotonic()
    done = run_input(settings, ranks, precisions()[0], checks.directory, timeout=400)
    print(f"{what}: {time.monotonic() - begin:.1f} s")
    return checks.check(done.returncode == 0, what, done.stdout[-500:] + done.stderr[-2000:])


def finetune(checks):
    if not start(checks, "finetune", FINETUNE, 2):
        return False
    with h5py.File(checks.directory / "finetuned/train.h5") as f:
        loss, lr = f["loss"][()], f["lr"][()]
    steps = 2 * N_TRAINED // 16
    checks.check(len(loss) == steps + 1 and np.isnan(loss[-1]) and np.isfinite(loss[:-1]).all(), "finetune: steps",
                 f"{len(loss)} rows, not {steps} + 1")
    checks.check(lr[0] == 0 and np.nanmax(lr) <= 1e-3 * (1 + 1e-12) and np.nanargmax(lr) == N_TRAINED // 16,
                 "finetune: warm-up over one epoch", str(lr))
    checks.check(loss[-9:-1].mean() < 0.8 * loss[:4].mean(), "finetune: the loss falls", f"{loss[:4]} {loss[-9:]}")
    return True


def read(directory):
    with h5py.File(directory / "geffect.h5") as f:
        return {k: f[k][()] for k in ("step", "geffect", "risk_value", "loss", "instance_loss", "instance_weight")} | {
            "layer": labels(f["layer"]), "risk": labels(f["risk"])}


def story(checks, got):
    """What any run of gradient ascent must show."""
    checks.check(list(got["step"]) == [0, 5, 10, 12], "measured steps", str(got["step"]))
    blocks = [f"layers.{i}" for i in range(5)]
    checks.check(got["layer"] == ["embed", *blocks, "norm", "lm_head"], "layers", str(got["layer"]))
    checks.check(got["geffect"].shape == (4, 1, 2, 8, 40) and np.isfinite(got["geffect"]).all(), "effects are finite",
                 str(got["geffect"].shape))
    total = np.einsum("tlri,ri->t", got["geffect"][:, 0, 0][:, :, None, :], got["instance_weight"])
    checks.check((total < 0).all(), "gradient ascent raises the risk on what is forgotten: e_u < 0", str(total))
    u = got["risk"].index("unlearn")
    checks.check((np.diff(got["risk_value"][:, u]) > 0).all(), "the risk on what is forgotten rises", str(got["risk_value"]))
    checks.check(np.isfinite(got["loss"][:-1]).all() and np.isnan(got["loss"][-1]), "loss", str(got["loss"]))


def same_story(checks, name, got, first):
    worst = {}
    for k, risk in enumerate(first["risk"]):
        worst[f"effect on {risk}"] = error(got["geffect"][:, 0, k], first["geffect"][:, 0, k])
        worst[f"risk {risk}"] = error(got["risk_value"][:, k], first["risk_value"][:, k])
    worst["instance loss"] = error(got["instance_loss"], first["instance_loss"])
    print(f"{name} against one rank: " + ", ".join(f"{k} {e:.2g}" for k, e in worst.items()))
    checks.check(max(worst.values()) <= SAME_STORY, f"{name}: the same story as one rank", str(worst))


def opens_elsewhere(checks, directory):
    script = ROOT / "tests/check_files.py"
    if not script.exists():
        return checks.skip(f"{script} is not there")
    done = subprocess.run([sys.executable, script, directory / "geffect.h5", directory / "train.h5"], capture_output=True, text=True)
    return checks.check(done.returncode == 0, "the files open with xarray", "\n".join(s for s in (done.stdout + done.stderr).splitlines() if not s.startswith("ok")))


def likelihood_elsewhere(checks, directory, got):
    """Mean nll of the labelled tokens of the forget rows by transformers, and the program's risk at the last step."""
    try:
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModelForCausalLM
    except ImportError as e:
        return checks.skip(f"{e}: make transformers installs what loads the exported model")
    model = AutoModelForCausalLM.from_pretrained(directory / "model", dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(directory / "model/tokenizer.json"))
    eos = json.loads((directory / "model/config.json").read_text())["eos_token_id"]
    eos = eos[0] if isinstance(eos, list) else eos
    total = count = 0
    for text in (TOFU / "forget01.json").read_text(encoding="utf-8").splitlines():
        row = json.loads(text)
        prompt = f"Question: {row['question']}\n"
        ids = tokenizer.encode(prompt + "Answer: " + row["answer"]).ids[:DATA["max_length"]]
        n_prompt = min(len(ids), len(tokenizer.encode(prompt).ids))
        ids += [eos] * (len(ids) < DATA["max_length"])
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, n_prompt - 1:-1].double()
        total += torch.nn.functional.cross_entropy(logits, torch.tensor(ids[n_prompt:]), reduction="sum").item()
        count += len(ids) - n_prompt
    mine = got["risk_value"][-1, got["risk"].index("unlearn")]
    print(f"nll of the forget rows after the last step: {mine:.7f}, by transformers {total / count:.7f}")
    return checks.check(abs(mine - total / count) <= LIKELIHOOD, "transformers finds the likelihood that the program says",
                        f"{mine} and {total / count}")


def main():
    checks = Checks("stories")
    if not (MODEL.exists() and TOFU.exists()):
        checks.skip(f"{MODEL} or {TOFU} is not there")
    elif not precisions():
        checks.check(False, "no program is built")
    elif finetune(checks):
        first = None
        for name, (data, tensor) in LAYOUTS.items():
            directory = name.replace(" ", "-")
            if not start(checks, f"unlearn, {name}", unlearn(data, tensor, directory), data * tensor):
                continue
            got = read(checks.directory / directory)
            story(checks, got)
            if first:
                same_story(checks, name, got, first)
            first = first or got
        if first:
            opens_elsewhere(checks, checks.directory / "one-rank")
            likelihood_elsewhere(checks, checks.directory / "one-rank", first)
    checks.finish()


if __name__ == "__main__":
    main()
