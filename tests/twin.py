"""The reference, extended at run time: objective dpo and regulariser rr, weights of sequences, and whole runs.

Scripts import this first: without torch, transformers or SHARED/reference they end here as skipped."""
import json
import math
import os
import re
import sys
from types import SimpleNamespace

import h5py
import numpy as np
from harness import SHARED, labels
from with_torch import reference, torch, transformers

from torch.nn.functional import logsigmoid

transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
reference.DEFAULTS |= {"dpo": {"beta": 0.1}, "rr": {"layer": 1}, "pdu": {}}
reference.NORMALISATION |= {"dpo": "sequence", "rr": "position"}
LIKELIHOOD = {"gd": "nll", "po": "nll"}  # what they are of the rows that they read


def nll(model, sequence):
    with torch.no_grad():
        return reference.token_nll(model, sequence)[0]


def dpo(model, ref, pair, p):
    """The refusal preferred to the answer: -(2/beta) log sigmoid(beta ((S_o - S)(win) - (S_o - S)(lose)))."""
    lose, win = pair
    rise = lambda s: nll(ref, s).sum() - reference.token_nll(model, s)[0].sum()
    return -(2 / p["beta"]) * logsigmoid(p["beta"] * (rise(win) - rise(lose)))


POSITIONS = {"rr": "all", "pdu": "labelled", "kl": "all"}  # by default; else the ones before labels


def outputs(sequence, where):
    """The positions at which a loss is taken."""
    ids, label = sequence
    n, none = len(ids), reference.IGNORE
    taken = {"before": lambda t: t + 1 < n and label[t + 1] != none, "labelled": lambda t: label[t] != none,
             "next": lambda t: t + 1 < n, "all": lambda t: True}[where]
    return [t for t in range(n) if taken(t)]


def where(name, p):
    """Losses that compare with a label call its position `labelled` where it is predicted."""
    at = p.get("positions", POSITIONS.get(name, "before"))
    if name in ("undial", "kl"):
        return {"labelled": "before", "all": "next" if name == "undial" else "all"}.get(at, at)
    return at


def hidden(model, sequence, p):
    out = model(torch.tensor([sequence[0]]), output_hidden_states=True, use_cache=False)
    return out.hidden_states[p["layer"]][0]


def predicted(model, sequence):
    return model(torch.tensor([sequence[0]]), use_cache=False).logits[0]


def rr(model, ref, sequence, p):
    """mean over positions of mean_d (h - h_o)^2, h = hidden state `layer` as transformers count."""
    at = outputs(sequence, where("rr", p))
    with torch.no_grad():
        before = hidden(ref, sequence, p)
    return ((hidden(model, sequence, p) - before) ** 2).mean(-1)[at].mean()


def rmu(model, ref, sequence, p):
    at, u = outputs(sequence, where("rmu", p)), p["u"]
    u = u / u.norm() if p.get("unit") else u
    return ((hidden(model, sequence, p) - p["c"] * u) ** 2).mean(-1)[at].mean()


def pdu(model, ref, sequence, p):
    z = predicted(model, sequence)[outputs(sequence, where("pdu", p))]
    return ((z.max(-1)[0] - z.mean(-1)) ** 2).mean()


def undial(model, ref, sequence, p):
    """At positions without a label -100 is taken for an index, as open-unlearning's code does."""
    at = outputs(sequence, where("undial", p))
    z, q = predicted(model, sequence)[at], predicted(ref, sequence)[at].detach().clone()
    q[torch.arange(len(at)), torch.tensor([sequence[1][t + 1] for t in at]) % q.shape[-1]] -= p["beta"]
    return torch.nn.functional.cross_entropy(z, q.softmax(-1))


def kl(model, ref, sequence, p):
    at = outputs(sequence, where("kl", p))
    now, old = (f(s, sequence)[at].log_softmax(-1) for f, s in ((predicted, model), (predicted, ref)))
    return torch.nn.functional.kl_div(now, old.detach(), reduction="batchmean", log_target=True)


def loss(name, model, ref, item, p):
    """Of one item: a sequence (ids, labels); of dpo the pair (answer, refusal)."""
    own = {"dpo": dpo, "rr": rr, "pdu": pdu}.get(name)
    if "positions" in p or p.get("unit"):
        own = {"rr": rr, "rmu": rmu, "undial": undial, "kl": kl, "pdu": pdu}[name]
    if own and name != "dpo" and not outputs(item, where(name, p)):
        return sum(q.sum() for q in model.parameters()) * 0
    return own(model, ref, item, p) if own else reference.sequence_loss(LIKELIHOOD.get(name, name), model, ref, item, p)


def crossing(items, name, p):
    """combine: crossed, of a batch: the mean number of outputs of a row times the mean of its inverse."""
    n = np.array([len(outputs(i, where(name, p))) for i in items], float)
    return n[n > 0].mean() * (1 / n[n > 0]).mean() if p.get("combine") == "crossed" else 1.0


def shares(name, items, p):
    """Weights of items in a batch; a pair counts as its answer; ceu's skip is the one given, not the reference's default."""
    if name == "pdu" or "positions" in p or "combine" in p:
        n = np.array([len(outputs(i, where(name, p))) for i in items], float)
        n = n > 0 if p.get("combine") == "rows" else n
        return n / n.sum() * crossing(items, name, p)
    if name == "ceu":
        reference.DEFAULTS["ceu"]["skip"] = p["skip"]
    return reference.batch_weights(LIKELIHOOD.get(name, name), [i[0] if name == "dpo" else i for i in items])


def batch_loss(name, model, ref, items, p):
    return sum(w * loss(name, model, ref, i, p) for w, i in zip(shares(name, items, p), items))


def weight(name, model, ref, item, p):
    """The mean token weight of an item, or its sequence weight; NaN where the objective has none."""
    if name not in ("wga", "satimp", "simnpo", "npo", "dpo", "tnpo", "wtnpo"):
        return math.nan
    if name == "dpo":
        fallen = [(nll(model, s) - nll(ref, s)).sum() for s in item]
        return float(2 * torch.sigmoid(-p["beta"] * (fallen[0] - fallen[1])))
    now, before = nll(model, item), nll(ref, item)
    q, o = (-now).exp(), (-before).exp()
    if name == "npo":
        return float(2 * torch.sigmoid(-p["beta"] * (now - before).sum()))
    if name == "simnpo":
        return float(2 * torch.sigmoid(-p["beta"] * (now.mean() - p["delta"])))
    if name == "wga":
        return float((q ** p["alpha"]).mean())
    if name == "satimp":
        return float((q ** p["beta1"] * (1 - q) ** p["beta2"]).mean())
    more = p["alpha"] if name == "wtnpo" else 0
    return float((2 * q ** (p["beta"] + more) / (q ** p["beta"] + o ** p["beta"] + 1e-5)).mean())


def measure(name, model, ref, items, p, risks):
    """-> the loss of each item, and [risk, item, tensor]: products of its gradient with the gradients of the risks."""
    values, e = [], []
    for item in items:
        value = loss(name, model, ref, item, p)
        g = reference.gradient(model, value)
        values.append(float(value.detach()))
        e.append([[float((risk[n] * g[n]).sum()) for n in g] for risk in risks])
    return np.array(values), np.array(e).transpose(1, 0, 2)


class Remembered:
    """A model whose weights stay: each sequence is computed once."""

    def __init__(self, model):
        self.model, self.known = model, {}

    def __call__(self, ids, output_hidden_states=False, use_cache=False):
        key = (output_hidden_states, *ids[0].tolist())
        if key not in self.known:
            with torch.no_grad():
                self.known[key] = self.model(ids, output_hidden_states=output_hidden_states, use_cache=False)
        return self.known[key]


class Case:
    """A golden model, its reference and its rows as both sides read them."""

    def __init__(self, name):
        self.directory = SHARED / "golden/models" / name
        torch.set_default_dtype(torch.float64)
        with h5py.File(self.directory / "expected.h5") as f:
            self.settings = json.loads(f.attrs["settings"])
            self.u = f["rmu_direction"][()]
            self.tensors = labels(f["tensors"])
            read = lambda which: [(g["ids"][()].tolist(), g["labels"][()].tolist())
                                  for g in (f[f"tokens/{which}/{i}"] for i in range(len(f[f"tokens/{which}"])))]
            self.forget, self.retain, self.idk = (read(k) for k in ("forget", "retain", "idk"))
        model = reference.load(self.directory / "reference")
        self.reference, self.blocks = Remembered(model), model.config.num_hidden_layers

    def model(self):
        return reference.load(self.directory / "model")

    def items(self, name):
        return {"dpo": list(zip(self.forget, self.idk)), "po": self.idk, **dict.fromkeys(("gd", "kl", "rr"), self.retain)}.get(
            name, self.forget)

    def parameters(self, name, given):
        """Those given, the reference's own otherwise, and rmu's direction."""
        known = reference.DEFAULTS[LIKELIHOOD.get(name, name)]
        return {**known, **given, **({"u": torch.tensor(self.u)} if name == "rmu" else {})}

    def file_names(self):
        """The tensors as the files call them: gpt_neox's head is embed_out there, lm_head in transformers."""
        neox = self.settings["arch"] == "gpt_neox"
        return ["embed_out.weight" if neox and t == "lm_head.weight" else t for t in self.tensors]

    def risks(self, model):
        """Their values, and their gradients."""
        values = [batch_loss("nll", model, None, rows, {}) for rows in (self.forget, self.retain)]
        return [float(v.detach()) for v in values], [reference.gradient(model, v) for v in values]

    def write_direction(self, path):
        path.write_text(json.dumps(self.u.tolist()))

    def data(self):
        """`model` and `data` of an input file."""
        at = {k: str(self.directory / k) for k in ("model", "reference", "forget.jsonl", "retain.jsonl", "idk.jsonl")}
        return {"model": {"path": at["model"], "reference": at["reference"]},
                "data": {"template": self.settings["template"], "max_length": self.settings["max_length"],
                         "forget": at["forget.jsonl"], "retain": {"path": at["retain.jsonl"], "held_out": 0},
                         "idk": {"path": at["idk.jsonl"], "draw": "in_order"}}}


# ---------------------------------------------------------------------------------------------------- whole runs
def rate(t, steps, o):
    """Of update t + 1 as DESIGN.md says."""
    warmup = o["warmup_steps"]
    if t < warmup:
        return o["lr"] * t / warmup
    left = (steps - t) / (steps - warmup)
    return o["lr"] * {"constant": 1, "linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left))}[o["schedule"]]


def unreached(parts):
    """Whether no loss reaches a tensor: it is above all hidden states that losses act on. Such ones have no gradient in
    PyTorch, so that they do not decay."""
    tops = [p.given.get("layer", 1) if p.name in ("rmu", "rr") else math.inf for p in parts]
    block = lambda n: re.search(r"layers\.(\d+)\.", n)
    return lambda n: max(tops) < math.inf and (
        int(block(n)[1]) >= max(tops) if block(n) else n.startswith(("lm_head", "embed_out")))


def update(model, state, g, lr, o, frozen, still):
    """One update of what is not frozen, after clipping. -> the norm before it."""
    free = [(n, q) for n, q in model.named_parameters() if n not in frozen]
    norm = math.sqrt(sum(float((g[n] ** 2).sum()) for n, _ in free))
    if 0 < o["clip"] < norm:
        g = {n: x * (o["clip"] / norm) for n, x in g.items()}
    all_decay = o.get("decay") == "all"
    for matrices in (True, False):
        part = [(n, q) for n, q in free if (q.dim() > 1 and not still(n)) == matrices]
        decay = o["weight_decay"] if matrices or all_decay else 0
        if o["name"] == "adamw":
            reference.adamw(SimpleNamespace(named_parameters=lambda: part), state.setdefault(matrices, {}), g, lr, wd=decay)
        else:
            with torch.no_grad():
                for n, q in part:
                    q.mul_(1 - lr * decay).sub_(g[n], alpha=lr)
    return norm


def in_order(items, t, n):
    """Batch t of n rows in file order, wrapping."""
    return [items[(t * n + i) % len(items)] for i in range(n)]


def part(name, given, weight_in_sum=1.0, batch=None):
    return SimpleNamespace(name=name, given=given, weight=weight_in_sum, batch=batch)


def run(case, parts, steps, batch, o, frozen=()):
    """Trains on sum of weight times loss: parts[0] on forget rows, the others on retain rows. -> what the files hold:
    risk [step, risk]; of each part (its name, "effect" [step, risk, item, tensor], "loss", "weight" [step, item]); of
    each update loss, rate, norm and the value of each part; final weights by name."""
    model, ref, state = case.model(), case.reference, {}
    got = {k: [] for k in ("risk", "loss", "rate", "norm", *((p.name, k) for p in parts for k in ("effect", "loss", "weight", "batch")))}
    for t in range(steps + 1):
        values, risks = case.risks(model)
        got["risk"].append(values)
        total = 0
        for p in parts:
            settings, items = case.parameters(p.name, p.given), case.items(p.name)
            values, e = measure(p.name, model, ref, items, settings, risks)
            got[p.name, "effect"].append(e)
            got[p.name, "loss"].append(values)
            got[p.name, "weight"].append([weight(p.name, model, ref, i, settings) for i in items])
            if t < steps:
                value = batch_loss(p.name, model, ref, in_order(items, t, p.batch or batch), settings)
                got[p.name, "batch"].append(float(value.detach()))
                total = total + p.weight * value
        if t < steps:
            got["loss"].append(float(total.detach()))
            got["rate"].append(rate(t, steps, o))
            got["norm"].append(update(model, state, reference.gradient(model, total), got["rate"][-1], o, frozen,
                                      unreached(parts)))
    got = {k: np.array(v) for k, v in got.items()}
    got["final"] = {f: q.detach().numpy() for f, (_, q) in zip(case.file_names(), model.named_parameters())}
    return got
