"""end to end: second-order terms of the golden models, tensor by tensor, against products of Hessians by autograd.

    curvature_torch.py [MODEL ...]

The update is the program's own, from the model that it leaves. Each model on one of the layouts, in turn; THOROUGH=1: on both."""
import sys

import h5py
from golden import MODELS, SHARED, settings
from harness import Checks, in_turn, labels, precisions, run_input, safetensors
from with_torch import reference, torch

TOLERANCE = 1e-8
LAYOUTS = [(1, 1), (4, 2)]  # ranks, tensor


def rows(expected, name):
    group = expected[f"tokens/{name}"]
    return [(group[str(i)]["ids"][()].tolist(), group[str(i)]["labels"][()].tolist()) for i in range(len(group))]


def by_autograd(model, sequences, update):
    """{name: 1/2 <u, (H u)>, of each tensor}; a tied head has no name of its own."""
    params = dict(model.named_parameters())
    loss = reference.batch_loss("nll", model, None, sequences, {})
    gradient = torch.autograd.grad(loss, list(params.values()), create_graph=True)
    along = sum((g * update[n]).sum() for n, g in zip(params, gradient))
    product = torch.autograd.grad(along, list(params.values()), allow_unused=True)
    return {n: 0.0 if h is None else float((h * update[n]).sum()) / 2 for n, h in zip(params, product)}


def check(checks, name):
    case = SHARED / "golden/models" / name
    model = reference.load(case / "model")
    own = lambda n: {"embed_out.weight": "lm_head.weight"}.get(n, n)
    want = None
    for ranks, tensor in in_turn(LAYOUTS, MODELS.index(name)) if name in MODELS else LAYOUTS:
        what = f"{name}, {ranks} ranks, tensor {tensor}"
        with h5py.File(case / "expected.h5") as expected:
            run = settings(case, expected, tensor, ranks)
            run["train"]["steps"] = 1
            run["geffect"] = {"every": 1, "resolution": "tensor", "objectives": ["ga"], "curvature": True}
            done = run_input(run, ranks, "double", checks.directory, ("--overwrite",), timeout=300)
            if not checks.check(done.returncode == 0, f"{what}: exit status {done.returncode}", done.stderr[-1500:]):
                return
            if want is None:
                after = {own(n): torch.tensor(x) for n, x in safetensors(checks.directory / "out/model/model.safetensors").items()}
                update = {n: after[n] - p.detach() for n, p in model.named_parameters()}
                want = {k: by_autograd(model, rows(expected, k), update) for k in ("forget", "retain")}
        with h5py.File(checks.directory / "out/geffect.h5") as f:
            tensors = [own(n) for n in labels(f["layer"])]
            got, total = f["second_order_by_layer"][0], f["second_order"][0]
        pairs = {}
        for k, risk in enumerate(("forget", "retain")):
            pairs[risk] = got[k], [want[risk][n] for n in tensors]
            pairs[f"{risk}, all"] = [total[k]], [sum(want[risk].values())]
        checks.near(what, pairs, TOLERANCE)
        checks.check(min(abs(total)) > 1e-9, f"{what}: there is something to compare", f"{total}")


def main():
    checks = Checks("curvature_torch")
    if "double" in precisions():
        for name in sys.argv[1:] or MODELS:
            check(checks, name)
    checks.finish()


if __name__ == "__main__":
    main()
