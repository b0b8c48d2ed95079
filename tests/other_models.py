"""end to end: the models of one run - references, later models of a trajectory - and what their files say against config.json.

What would be computed with another model's values is refused; what is not concerned by a difference gives the same numbers."""
import json
import shutil

import h5py
import numpy as np
from bad_input import POINTER, ROWS, bad
from damage import GOLDEN, Case, both, json_file, setting, tensors, writing
from harness import SHARED, Checks, precisions, run_input

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


def configured(directory, **keys):
    return json_file(f"{directory}/config.json", lambda c: c.update(keys))


def trajectory(task, **later):
    """The input measures the model and then the same again, whose config.json says other things."""
    def damage(c):
        shutil.copytree(c / "model", c / "later")
        configured("later", **later)(c)
        for key in ("objective", "optimizer", "train"):
            c.set(key, None)
        c.set("task", task)
        c.set("model", {"path": [{"step": 0, "path": "model"}, {"step": 1, "path": "later"}]})
        c.set("geffect", {"objectives": ["ga"]})
    return damage


def with_head(scale, directory="model", rows=None):
    """The file with a head: its embedding (of float32) times `scale`, or the first rows of that."""
    def change(header, data):
        t = header["model.embed_tokens.weight"]
        embedding = np.frombuffer(data[slice(*t["data_offsets"])], "<f4").reshape(t["shape"])[:rows]
        header["lm_head.weight"] = {"dtype": "F32", "shape": list(embedding.shape),
                                    "data_offsets": [len(data), len(data) + embedding.nbytes]}
        return header, data + (embedding * np.float32(scale)).tobytes()
    return tensors(change, directory)


# as the table of bad_input.py
TABLE = [
    ("reference with another attention factor", both(configured("model", rope_scaling=YARN),
     configured("reference", rope_scaling={**YARN, "attention_factor": 1.5})), ["reference", "attention factor"], 1, 1),
    ("reference with other mscales", both(configured("model", rope_scaling=YARN),
     configured("reference", rope_scaling={**YARN, "mscale": 1.0, "mscale_all_dim": 0.5})), ["reference", "attention factor"], 1, 2),
    ("reference with another window", both(configured("model", model_type="mistral", sliding_window=None),
     configured("reference", model_type="mistral", sliding_window=64)), ["reference", "sliding_window"], 1, 1),
    ("later model with another attention factor", both(configured("model", rope_scaling=YARN),
     trajectory("geffect", rope_scaling={**YARN, "attention_factor": 1.5})), ["later", "attention factor"], 1, 1),
    ("later model with another window", both(configured("model", model_type="mistral", sliding_window=None),
     trajectory("geffect", sliding_window=64)), ["later", "sliding_window"], 1, 2),
    ("later model with another padding", trajectory("geffect", pad_token_id=None), ["later", "pad_token_id"], 1, 1),
    ("later model with another padding, norms", both(trajectory("evaluate", pad_token_id=None),
     setting("evaluate", {"sets": {"forget": ROWS}, "metrics": ["gradnorm"]})), ["later", "pad_token_id"], 1, 1),
]


def other_paddings(checks):
    """Padding is only about gradients: a reference, and models that are only read, may have another; the same numbers."""
    case = Case(checks.directory / "padding")
    found = []
    for name, pad in (("same", 0), ("other", 5)):
        configured("reference", pad_token_id=pad)(case)
        case.set("output.directory", name)
        done = run_input(case.input, 1, precisions()[0], case.directory)
        if not checks.check(done.returncode == 0, f"padding of the reference: {name}", done.stderr[-1500:]):
            return
        with h5py.File(case / name / "geffect.h5") as f:
            found.append(f["geffect"][()])
    checks.check(np.array_equal(*found), "another padding of the reference gives the same effects")
    case = Case(checks.directory / "padding-later")
    both(trajectory("evaluate", pad_token_id=5), setting("geffect", None),
         setting("evaluate", {"sets": {"forget": ROWS}, "metrics": ["loss"]}))(case)
    done = run_input(case.input, 1, precisions()[0], case.directory)
    if checks.check(done.returncode == 0, "another padding of a model that is only read", done.stderr[-1500:]):
        with h5py.File(case / "out/evaluation.h5") as f:
            loss = f["mean"][()]
        checks.check(np.array_equal(loss[0], loss[1], equal_nan=True), "and the same losses", str(loss))


def pointer_beside(checks):
    """A Git LFS pointer in place of a file that only the written model would get: named in the log and left out there."""
    case = Case(checks.directory / "beside")
    writing("model/tokenizer.model", POINTER)(case)
    done = run_input(case.input, 1, precisions()[0], case.directory)
    log = (case / "out/run.log").read_text() if done.returncode == 0 else ""
    checks.check("tokenizer.model: is a Git LFS pointer" in log and (case / "out/model/tokenizer.json").exists()
                 and not (case / "out/model/tokenizer.model").exists(), "a pointer beside the model", done.stderr[-1500:] + log)


def own_head(checks):
    """config.json ties the head: one in the file with other values counts all the same, one with the same values does not."""
    found = {}
    for name, scale, tied, ranks in (("none", None, True, 1), ("equal", 1, True, 1), ("other", 1.5, True, 1),
                                     ("other, two ranks", 1.5, True, 2), ("untied", 1.5, False, 1)):
        case = Case(checks.directory / f"head-{name}", SHARED / "golden/models/llama3")
        if scale:
            with_head(scale)(case)
        both(configured("model", tie_word_embeddings=tied), setting("model.reference", None),
             setting("parallel", {"data": 1, "tensor": ranks}))(case)
        done = run_input(case.input, ranks, precisions()[0], case.directory)
        if not checks.check(done.returncode == 0, f"head: {name}", done.stderr[-1500:]):
            return
        with h5py.File(case / "out/geffect.h5") as f:
            effect = f["geffect"][()]
        config = json.loads((case / "out/model/config.json").read_text())
        said = "lm_head.weight" in (case / "out/run.log").read_text()
        written = (case / "out/model/model.safetensors").read_bytes()
        found[name] = effect, written
        own = scale == 1.5
        checks.check(b"lm_head.weight" in written[:10**5] if own else b"lm_head.weight" not in written, f"head: {name}: as written")
        checks.check(config["tie_word_embeddings"] is not own, f"head: {name}: config.json", str(config))
        checks.check(said == (own and tied), f"head: {name}: a warning")
    for name, damage, words in (("the model's head is its own, the reference's is not", with_head(1.5), "the weights of model hold one of their own"),
                                ("the reference's head is its own, the model's is not", with_head(1.5, "reference"),
                                 "the weights of reference hold one of their own"),
                                ("one config.json alone ties the head", both(with_head(1.5), configured("model", tie_word_embeddings=False)),
                                 "tie_word_embeddings differs"),
                                ("a head of other rows", with_head(1.5, rows=10), "lm_head.weight: has shape")):
        case = Case(checks.directory / name.replace(" ", "-"), SHARED / "golden/models/llama3")
        damage(case)
        done = run_input(case.input, 2, precisions()[0], case.directory)
        checks.check(done.returncode == 1 and words in done.stderr and done.stderr.count("unlearn: error") == 1, name, done.stderr)
    same = lambda a, b: np.array_equal(found[a][0], found[b][0]) and found[a][1] == found[b][1]
    checks.check(same("none", "equal"), "a head that equals the embedding changes nothing")
    checks.check(same("other", "untied"), "a head of its own gives what config.json without the tie gives")
    checks.check(found["none"][0].shape != found["other"][0].shape or (found["none"][0] != found["other"][0]).any(), "a head of its own makes another model")
    checks.near("head of its own, two ranks", {"total": (found["other, two ranks"][0].sum(-1), found["other"][0].sum(-1))}, 2e-5)


def main():
    checks = Checks("models")
    checks.need(GOLDEN)
    for entry in TABLE:
        bad(checks, entry)
    other_paddings(checks)
    own_head(checks)
    pointer_beside(checks)
    checks.finish()


if __name__ == "__main__":
    main()
