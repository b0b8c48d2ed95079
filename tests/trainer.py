"""end to end: trajectories under preset: open_unlearning against transformers' Trainer with that tool's losses.

    trainer.py [CASE ...]

Five updates of the 0.26 M Llama of the evaluation goldens on rows of TOFU, in double. The losses are written here from their
definitions, with the places where that tool differs from the usual: see docs/TRAINING.md. What is compared is the distance of the
final weights, over the length of the step that was made. Needs torch, transformers and accelerate."""
import copy
import json
import sys
from types import SimpleNamespace

import numpy as np
from harness import SHARED, Checks, in_turn, precisions, run_input, safetensors
from with_torch import reference, torch, transformers

try:
    import accelerate  # noqa: F401: Trainer needs it
except ImportError as e:
    print(f"skipped: {e}: make transformers")
    sys.exit(77)
from torch.nn.functional import cross_entropy, kl_div, logsigmoid
from transformers import Trainer, TrainingArguments

MODEL, TOFU = SHARED / "golden/evaluation/model", SHARED / "data/tofu"
TOLERANCE = 1e-5  # of a step
ROWS, UPDATES, LAYER, NONE = 8, 5, 3, -100
END = json.loads((MODEL / "config.json").read_text())["eos_token_id"] if MODEL.exists() else None


# ------------------------------------------------------------------------------------------------------------ rows
def lines(name, n):
    with open(TOFU / name, encoding="utf-8") as f:
        return [json.loads(next(f)) for _ in range(n)]


def encoded(tokenizer, question, answer):
    """Ids and labels; question, answer and end token as template qa has them."""
    prompt = f"Question: {question}\n"
    ids = tokenizer.encode(prompt + "Answer: " + answer).ids + [END]
    n = len(tokenizer.encode(prompt).ids)
    return ids, [NONE] * n + ids[n:]


def batch(rows):
    """Padded on the right, as open-unlearning's collator does."""
    longest = max(len(ids) for ids, _ in rows)
    pad = lambda x, filler: torch.tensor([list(r) + [filler] * (longest - len(r)) for r in x])
    return {"input_ids": pad([r[0] for r in rows], END), "labels": pad([r[1] for r in rows], NONE),
            "attention_mask": pad([[1] * len(r[0]) for r in rows], 0)}


# ---------------------------------------------------------------------------------------------------------- losses
def logits(model, x):
    return model(input_ids=x["input_ids"], attention_mask=x["attention_mask"]).logits


def token_nll(z, x):
    """[rows][positions - 1], 0 where the next token has no label; and where it has one."""
    labels = x["labels"][:, 1:]
    return cross_entropy(z[:, :-1].transpose(1, 2), labels, ignore_index=NONE, reduction="none"), labels != NONE


def mean_nll(model, x):
    nll, labelled = token_nll(logits(model, x), x)
    return nll.sum() / labelled.sum()


def sums(model, x):
    return token_nll(logits(model, x), x)[0].sum(-1)


def frozen(model, f, *rest):
    with torch.no_grad():
        return f(model, *rest)


def ga(t, x):
    return -mean_nll(t.model, x["forget"])


def npo(t, x, beta=0.1):
    rise = sums(t.model, x["forget"]) - frozen(t.before, sums, x["forget"])
    return -2 / beta * logsigmoid(beta * rise).mean()


def dpo(t, x, beta=0.1):
    rise = lambda rows: sums(t.model, rows) - frozen(t.before, sums, rows)
    return -2 / beta * logsigmoid(beta * (rise(x["forget"]) - rise(x["idk"]))).mean()


def simnpo(t, x, beta=4.5, delta=0.0):
    nll, labelled = token_nll(logits(t.model, x["forget"]), x["forget"])
    return -2 / beta * logsigmoid(beta * (nll.sum(-1) / labelled.sum(-1) - delta)).mean()


def weighted(t, x, weight):
    nll, labelled = token_nll(logits(t.model, x["forget"]), x["forget"])
    return -(weight((-nll.detach()).exp()) * nll)[labelled].mean()


def wga(t, x):
    return weighted(t, x, lambda p: p)


def satimp(t, x):
    return weighted(t, x, lambda p: p ** 5 * (1 - p))


def ceu(t, x):
    """Against the own distribution without the label; the first label of a row is left out."""
    z, labels = logits(t.model, x["forget"])[:, :-1], x["forget"]["labels"].clone()
    first = ((labels != NONE).cumsum(-1) <= 1) & (labels != NONE)
    labels[first] = NONE
    labels = labels[:, 1:]
    z, labels = z[labels != NONE], labels[labels != NONE]
    target = z.detach().scatter(-1, labels[:, None], -torch.inf).softmax(-1)
    return cross_entropy(z, target)


def undial(t, x, beta=10.0):
    """Over all positions; -100 is taken for an index, of the column at 100 before the last."""
    z, q = logits(t.model, x["forget"])[:, :-1], frozen(t.before, logits, x["forget"])[:, :-1]
    column = x["forget"]["labels"][:, 1:] % z.shape[-1]
    target = (q - beta * torch.nn.functional.one_hot(column, z.shape[-1])).softmax(-1)
    return cross_entropy(z.flatten(0, 1), target.flatten(0, 1))


def state(model, x):
    """Output of block LAYER, by a hook."""
    kept = []
    hook = model.model.layers[LAYER - 1].register_forward_hook(lambda m, i, o: kept.append(o[0] if isinstance(o, tuple) else o))
    logits(model, x)
    hook.remove()
    return kept[0]


def distance(h, target, labels):
    """[rows] divided by [rows][1]: that is [rows][rows]."""
    mask = labels != NONE
    squares = (((h - target) ** 2) * mask[..., None]).mean(2).sum(1)
    return (squares / mask.sum(-1, keepdim=True)).mean()


def rmu(t, x):
    return distance(state(t.model, x["forget"]), 2 * t.u, x["forget"]["labels"])


def pdu(t, x):
    z = logits(t.model, x["forget"])
    return ((z.max(-1)[0] - z.mean(-1)) ** 2)[x["forget"]["labels"] != NONE].mean()


def gd(t, x):
    return mean_nll(t.model, x["retain"])


def kl(t, x):
    """Over all positions."""
    now, before = (f.log_softmax(-1).flatten(0, 1) for f in (logits(t.model, x["retain"]), frozen(t.before, logits, x["retain"])))
    return kl_div(now, before, reduction="batchmean", log_target=True)


def rr(t, x):
    return distance(state(t.model, x["retain"]), frozen(t.before, state, x["retain"]), x["retain"]["labels"])


# --------------------------------------------------------------------------------------------------------- trainer
class Rows(torch.utils.data.Dataset):
    def __init__(self, forget, retain, idk):
        self.rows = [dict(zip(("forget", "retain", "idk"), r)) for r in zip(forget, retain, idk)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


class Theirs(Trainer):
    """compute_loss without the number of items, as open-unlearning's: the means of the batches are averaged."""

    def __init__(self, case, before, u, **more):
        super().__init__(**more)
        self.case, self.before, self.u = case, before, u
        self.model_accepts_loss_kwargs = False
        self.alpha = case.alpha

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def compute_loss(self, model, inputs, return_outputs=False, **_):
        self.model = model
        loss = self.case.gamma * self.case.forget(self, inputs)
        if self.case.retain:
            retain = self.case.retain(self, inputs)
            loss = loss + self.alpha * retain
            self.seen(float(retain.detach()))
        return loss

    def seen(self, retain):
        """PDU's dual variable, from after its warm-up on; upon an epoch's end it moves in a callback."""
        d = self.case.dual
        if d and d["update"] == "step" and round(self.state.epoch * 1000) // 1000 >= d["warmup_epochs"]:
            self.move(retain)

    def move(self, retain):
        self.alpha = max(0, self.alpha + self.case.dual["step_size"] * (retain - self.case.dual["eps"]))


class EndOfEpoch(transformers.TrainerCallback):
    def __init__(self, trainer):
        self.trainer = trainer

    def on_epoch_end(self, args, state, control, **_):
        t, d = self.trainer, self.trainer.case.dual
        if d["update"] == "epoch" and state.epoch >= d["warmup_epochs"]:
            with torch.no_grad():
                t.move(float(np.mean([float(t.case.retain(t, x)) for x in t.get_train_dataloader()])))


def theirs(case, rows, before, u, directory):
    model = copy.deepcopy(before)
    arguments = TrainingArguments(output_dir=str(directory), per_device_train_batch_size=case.batch[0],
                                  gradient_accumulation_steps=case.batch[1], learning_rate=1e-3, weight_decay=0.01, max_steps=UPDATES,
                                  warmup_steps=ROWS // (case.batch[0] * case.batch[1]), lr_scheduler_type="linear", report_to=[],
                                  save_strategy="no", logging_strategy="no", disable_tqdm=True, remove_unused_columns=False, use_cpu=True)
    trainer = Theirs(case, before, u, model=model, args=arguments, train_dataset=Rows(*rows),
                     data_collator=lambda items: {k: batch([i[k] for i in items]) for k in items[0]})
    if case.dual:
        trainer.add_callback(EndOfEpoch(trainer))
    trainer.train()
    return {n: p.detach().numpy() for n, p in model.named_parameters()}, trainer.alpha


# ----------------------------------------------------------------------------------------------------------- cases
def case(forget, settings, retain=None, gamma=1.0, alpha=1.0, batch=(2, 2), dual=None, regularizer=None):
    """settings: of `objective`; regularizer None: the preset's own."""
    return SimpleNamespace(forget=forget, settings=settings, retain=retain, gamma=gamma, alpha=alpha, batch=batch, dual=dual,
                           regularizer=regularizer)


def dual(**more):
    return {"step_size": 1.0, "eps": 0.0, "warmup_epochs": 0, "update": "step", **more}


def pdu_case(d, batch=(2, 2)):
    return case(pdu, {"name": "pdu"}, gd, dual=d, batch=batch, regularizer=[{"name": "gd", "weight": 1.0, "dual": d}])


RMU = {"name": "rmu", "layer": LAYER, "direction": "u.json"}
RR = {"name": "rr", "layer": LAYER, "positions": "labelled", "combine": "crossed"}
ONE = (1, 4)  # micro-batches of one row have no padding, over which undial and kl would be averaged there
CASES = {
    "ga": case(ga, {"name": "ga"}),
    "gd": case(ga, {"name": "ga"}, gd, regularizer=[{"name": "gd"}]),
    "npo": case(npo, {"name": "npo"}, gd),
    "dpo": case(dpo, {"name": "dpo"}, gd),
    "simnpo": case(simnpo, {"name": "simnpo"}, gd, gamma=0.125),
    "wga": case(wga, {"name": "wga"}, gd),
    "satimp": case(satimp, {"name": "satimp"}, gd, gamma=0.1),
    "ceu": case(ceu, {"name": "ceu"}),
    "undial": case(undial, {"name": "undial"}, batch=ONE),
    "npo + kl": case(npo, {"name": "npo"}, kl, batch=ONE, regularizer=[{"name": "kl"}]),
    "rmu": case(rmu, RMU, rr, regularizer=[RR]),
    "rmu, other weights": case(rmu, RMU, rr, alpha=5.0, regularizer=[{**RR, "weight": 5.0}], batch=(4, 1)),
    "pdu": pdu_case(dual(eps=2.0, step_size=0.5)),
    "pdu, one batch": pdu_case(dual(eps=2.0, step_size=0.5, warmup_epochs=1), (4, 1)),
    "pdu, warmed up": pdu_case(dual(eps=1.0, warmup_epochs=1)),
    "pdu, by epochs": pdu_case(dual(eps=1.5, update="epoch")),
    "pdu, by epochs, warmed up": pdu_case(dual(eps=1.5, update="epoch", warmup_epochs=2)),
}


def settings(what, directory):
    objective = dict(what.settings)
    if what.regularizer is not None:
        objective["regularizer"] = what.regularizer
    return {"preset": "open_unlearning", "task": "unlearn", "output": {"directory": "out"}, "model": {"path": str(MODEL)},
            "data": {"forget": {"path": str(TOFU / "forget01.json"), "rows": ROWS},
                     "retain": {"path": str(TOFU / "retain99.json"), "rows": ROWS, "held_out": 0},
                     "idk": {"path": str(TOFU / "idontknow.jsonl"), "draw": "in_order"}},
            "objective": objective, "optimizer": {"lr": 1e-3},
            "train": {"steps": UPDATES, "batch_size": what.batch[0], "accumulation": what.batch[1], "shuffle": False,
                      "pair_retain": "in_order"}, "geffect": {"every": 0}}


def flat(weights):
    return np.concatenate([np.ravel(weights[n]) for n in sorted(weights)])


def one_case(checks, name, rows, before, u):
    what, directory = CASES[name], checks.directory / name.replace(" ", "").replace(",", "-")
    directory.mkdir()
    (directory / "u.json").write_text(json.dumps(u.tolist()))
    want, alpha = theirs(what, rows, before, u / u.norm(), directory)
    start = {n: p.detach().numpy() for n, p in before.named_parameters()}
    step = np.linalg.norm(flat(want) - flat(start))
    for ranks in in_turn((1, 2), list(CASES).index(name)):
        done = run_input(settings(what, directory), ranks, "double", directory, ["--overwrite"])
        if not checks.check(done.returncode == 0, f"{name}, {ranks} ranks: exit status {done.returncode}", done.stderr[-2000:]):
            return
        got = safetensors(directory / "out/model/model.safetensors")
        off = np.linalg.norm(flat({n: got[n] for n in want}) - flat(want)) / step
        print(f"{name}, {ranks} ranks: {off:.2g} of a step of {step:.3g}" + (f", weight {alpha:.6g}" if what.dual else ""), flush=True)
        checks.check(off <= TOLERANCE, f"{name}, {ranks} ranks", f"{off:.3g} of the step made")


def main():
    checks = Checks("trainer")
    for path in (MODEL, TOFU):
        checks.need(path)
    if "double" not in precisions():
        checks.skip("no double precision")
        checks.finish()
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    before = reference.load(MODEL)
    forget, retain = (lines(name, ROWS) for name in ("forget01.json", "retain99.json"))
    with open(TOFU / "idontknow.jsonl", encoding="utf-8") as f:
        refusals = [line.rstrip("\n") for line in f][:ROWS]
    rows = [[encoded(tokenizer, r["question"], r["answer"]) for r in forget], [encoded(tokenizer, r["question"], r["answer"]) for r in retain],
            [encoded(tokenizer, r["question"], a) for r, a in zip(forget, refusals)]]
    u = torch.rand(before.config.hidden_size)
    for name in sys.argv[1:] or CASES:
        one_case(checks, name, rows, before, u)
    checks.finish()


if __name__ == "__main__":
    main()
