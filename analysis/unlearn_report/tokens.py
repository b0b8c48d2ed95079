"""Effects of single tokens, from the tokens.h5 of a run with geffect.tokens: which words of the forgotten answers carry the
effect on a risk, and what any objective of token likelihoods would do with other parameters, without running the model again.

An objective L(nll_1, ..., nll_n) has on its row the effect sum_t dL/dnll_t d_t, d_t = <grad R, grad nll_t>: the file's
token_effect. d_t > 0: what makes the token less likely raises the risk.
"""
import itertools
import json

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from .look import SIGNED, WIDTH, Panel, Picture, as_text, columns_of, save
from .run import open_runs

LINE = 58  # characters of an answer on a line of a picture


def sigmoid(x):
    return np.where(x < 0, np.exp(np.minimum(x, 0)), 1) / (1 + np.exp(-np.abs(x)))


def npo_like(nll, reference, beta):
    """2 p^beta / (p^beta + p_o^beta + 1e-5), from logarithms."""
    return 2 * np.exp(-beta * nll - np.logaddexp(np.logaddexp(-beta * nll, -beta * reference), np.log(1e-5)))


# dL/dnll_t of one row [n], from its nll, the reference's and the parameters; the equations of --help KEY, weights held fixed
DERIVATIVE = {
    "ga": lambda x, o: -np.ones_like(x) / len(x),
    "wga": lambda x, o, alpha=5: -np.exp(-alpha * x) / len(x),
    "npo": lambda x, o, beta=0.5: -2 * sigmoid(-beta * (x - o).sum()) * np.ones_like(x),
    "tnpo": lambda x, o, beta=4: -npo_like(x, o, beta) / len(x),
    "wtnpo": lambda x, o, beta=4, alpha=1.5: -npo_like(x, o, beta) * np.exp(-alpha * x) / len(x),
    "simnpo": lambda x, o, beta=4.5, delta=0: -2 * sigmoid(-beta * (x.mean() - delta)) * np.ones_like(x) / len(x),
    "satimp": lambda x, o, beta1=5, beta2=1: -np.exp(-beta1 * x) * (-np.expm1(-x)) ** beta2 / len(x),
    "po": lambda x, o: np.ones_like(x) / len(x),  # of refusals: geffect.tokens: refusals
}
NEEDS_REFERENCE = {"npo", "tnpo", "wtnpo"}
BY_ROW = {"npo", "simnpo"}  # every row counts alike; else by its tokens


class Tokens:
    """steps [s], risks, effect [s][risk][token], nll [s][token], reference [token], of each token its row, position, id, text;
    rows {row: its tokens, a slice}."""

    def __init__(self, run):
        data, self.run, self.path = run.tokens, run, run.directory / "tokens.h5"
        run.must_read("tokens.h5")
        if data is None or "token_effect" not in data:
            raise ValueError(f"{self.path}: holds no effects of tokens: run with geffect.tokens: true")
        if not data.sizes["step"]:
            raise ValueError(f"{self.path}: nothing is measured yet: wait for the run's first measurement")
        self.steps, self.risks = data.step.values, list(data.risk.values)
        self.effect, self.nll, self.reference = (data[k].values for k in ("token_effect", "token_nll", "token_nll_reference"))
        self.instance, self.position, self.id = (data[k].values.astype(int) for k in ("instance", "position", "token_id"))
        self.text = [str(t) for t in data.token_text.values]
        edges = np.flatnonzero(np.diff(self.instance, prepend=-1, append=-1))
        self.rows = {int(self.instance[a]): slice(a, b) for a, b in zip(edges[:-1], edges[1:])}

    def check(self, objective):
        """Whether these tokens say what the objective would do."""
        measured = self.run.setting("geffect.tokens")
        if objective not in DERIVATIVE:
            raise ValueError(f"{objective}: is not a function of single tokens' likelihoods; these are: {' '.join(DERIVATIVE)}")
        if measured == "true" and objective == "po":
            raise ValueError(f"{self.path}: holds the tokens of answers, and po trains on refusals: measure with geffect.tokens: refusals")
        if measured == "refusals" and objective != "po":
            raise ValueError(f"{self.path}: holds the tokens of refusals, and {objective} is of the answers: measure with geffect.tokens: true")
        if self.run.setting("geffect.estimator") == "moving_average":
            raise ValueError(f"{self.path}: is of a moving average, in which rows have other weights than in the objective: measure with "
                             "geffect.estimator: full")

    def of_rows(self, objective, **parameters):
        """{row: effect [s][risk]} of the objective with these parameters on each row that has labelled tokens."""
        self.check(objective)
        if objective in NEEDS_REFERENCE and not np.isfinite(self.reference).all():
            raise ValueError(f"{self.path}: does not know the reference's likelihoods, which {objective} needs: measure an "
                             "objective that reads them too (geffect.objectives: [npo])")
        one = lambda at, row: self.effect[at][:, row] @ DERIVATIVE[objective](self.nll[at, row], self.reference[row], **parameters)
        return {i: np.array([one(t, row) for t in range(len(self.steps))]) for i, row in self.rows.items()}

    def weights(self, objective):
        """{row: its weight in the objective over the whole forget set}."""
        mass = {i: 1 if objective in BY_ROW else row.stop - row.start for i, row in self.rows.items()}
        return {i: m / sum(mass.values()) for i, m in mass.items()}

    def total(self, objective, **parameters):
        """[s][risk]: over all rows."""
        weight, rows = self.weights(objective), self.of_rows(objective, **parameters)
        return sum(weight[i] * e for i, e in rows.items())

    def around(self, token, before=6, after=2):
        """The text around a token of its row, the token itself in brackets."""
        row = self.rows[int(self.instance[token])]
        return ("".join(self.text[max(row.start, token - before):token]) + "[" + self.text[token] + "]" +
                "".join(self.text[token + 1:min(row.stop, token + 1 + after)])).replace("\n", "\\n")


def settings_of(words):
    """alpha=0.1,1 beta=2 -> [{alpha: 0.1, beta: 2}, {alpha: 1, beta: 2}]"""
    names, values = [], []
    for word in words:
        name, _, list_ = word.partition("=")
        names.append(name)
        values.append([float(x) for x in list_.split(",")])
    return [dict(zip(names, v)) for v in itertools.product(*values)]


def sweep(tokens, objective, words, as_json):
    results = [(s, tokens.total(objective, **s)) for s in settings_of(words)]
    if as_json:
        return print(json.dumps([{"objective": objective, **s, "risks": tokens.risks, "steps": tokens.steps.tolist(),
                                  "total": e.tolist()} for s, e in results]))
    for s, e in results:
        print(f"\n{objective} " + " ".join(f"{k} {v:g}" for k, v in s.items()))
        print(f"{'step':>12}" + "".join(f"{r:>14}" for r in tokens.risks))
        for t, step in enumerate(tokens.steps):
            print(f"{step:12d}" + "".join(f"{x:14.5g}" for x in e[t]))


def largest(tokens, at, n):
    for k, risk in enumerate(tokens.risks):
        effect = tokens.effect[at, k]
        print(f"\nlargest effects on the risk {risk} at step {tokens.steps[at]} (grad nll of the token times grad of the risk)")
        print(f"{'effect':>12}{'p':>9}{'row':>6}  text")
        for i in np.argsort(-np.abs(effect))[:n]:
            print(f"{effect[i]:12.4g}{np.exp(-tokens.nll[at, i]):9.4f}{tokens.instance[i]:6d}  {tokens.around(i)}")


def row_text(tokens, at, row):
    if row not in tokens.rows:
        raise ValueError(f"{tokens.path}: row {row} has no labelled tokens")
    print(f"row {row} at step {tokens.steps[at]}\n{'p':>9}" + "".join(f"{r:>14}" for r in tokens.risks) + "  token")
    for i in range(tokens.rows[row].start, tokens.rows[row].stop):
        print(f"{np.exp(-tokens.nll[at, i]):9.4f}" + "".join(f"{e:14.4g}" for e in tokens.effect[at, :, i]) +
              f"  {json.dumps(tokens.text[i], ensure_ascii=False)}")


def lay_out(texts, width):
    """(line, column) of each text on lines of `width` characters, broken before a text that begins with a space."""
    places, line, column = [], 0, 0
    for text in texts:
        if column and column + len(text) > width:
            line, column = line + 1, 0
        places.append((line, column))
        column += len(text)
    return places, line + 1


def picture(tokens, at=None, top=5):
    """The answers of largest effect, each token in the colour of its effect; without a step where effects are largest."""
    if at is None:
        at = int(np.argmax(np.nan_to_num(np.abs(tokens.effect).sum((1, 2)))))
    rows = worst_rows(tokens, at, top)
    shown = {i: [tokens.text[t].replace("\n", "↵") for t in range(tokens.rows[i].start, tokens.rows[i].stop)] for i in rows}
    placed = {i: lay_out(texts, LINE) for i, texts in shown.items()}
    height = sum(n + 0.6 for _, n in placed.values())

    def draw(k):
        def on(a):
            a.set(xlim=(-4, LINE), ylim=(height, -0.8))
            a.set_title(as_text(f"effects of tokens on the risk “{tokens.risks[k]}”"), fontsize=9.5, loc="left")
            a.axis("off")
            most = max(np.abs(tokens.effect[at, k, tokens.rows[i]]).max() for i in rows) or 1
            colour, y = ScalarMappable(Normalize(-most, most), SIGNED.reversed()), 0.0
            for i in rows:
                a.text(-0.7, y, str(i), ha="right", va="center", fontsize=7, color="0.4")
                for text, (line, column), d in zip(shown[i], placed[i][0], tokens.effect[at, k, tokens.rows[i]]):
                    write_token(a, text, column, y + line, d / most, colour.to_rgba(d))
                y += placed[i][1] + 0.6
            bar = a.figure.colorbar(colour, ax=a, location="bottom", aspect=50, pad=0.02)
            bar.set_label("nat²; right of 0: forgetting the token raises the risk", fontsize=8)
            bar.ax.tick_params(labelsize=7)
        return on

    return Picture("tokens", f"{tokens.run.name}: which words carry the effect, at step {tokens.steps[at]}",
                   "d = ⟨∇R, ∇nll of the token⟩. Blue: making the token less likely raises the risk; orange and underlined: lowers it; pale: next to "
                   "nothing. At the left the row of the forget file; the answers with the largest effects.",
                   [Panel(draw(k), WIDTH, 0.19 * height + 1.0) for k in range(len(tokens.risks))], columns_of(len(tokens.risks)))


def write_token(a, text, x, y, share, colour):
    """Letter by letter, so that boxes and letters meet whatever the font; share: of the largest effect, -1 to 1."""
    a.add_patch(Rectangle((x, y - 0.45), len(text), 0.9, facecolor=colour, linewidth=0))
    if share < -0.05:
        a.plot([x + 0.1, x + len(text) - 0.1], [y + 0.38] * 2, color="black", linewidth=0.8)
    for c, letter in enumerate(text):
        a.text(x + c + 0.5, y, as_text(letter), ha="center", va="center", fontsize=6.6, family="monospace", in_layout=False,
               color="white" if share > 0.45 else "black")


def worst_rows(tokens, at, n):
    """The rows with the largest sum of absolute effects on the last risk, in order of the file."""
    size = {i: np.abs(tokens.effect[at, -1, part]).sum() for i, part in tokens.rows.items()}
    return sorted(sorted(size, key=size.get)[-n:])


def add_arguments(parser):
    parser.add_argument("run", metavar="[NAME=]RUN", help="output directory of a run, or its tokens.h5")
    parser.add_argument("--sweep", nargs="+", metavar=("OBJECTIVE", "NAME=VALUES"),
                        help="total effects for other settings, e.g. wga alpha=0.1,1,5; a value of each parameter")
    parser.add_argument("--text", type=int, metavar="ROW", help="one answer, token by token")
    parser.add_argument("--picture", metavar="FILE", help="answers in the colours of their effects: PNG, PDF or SVG")
    parser.add_argument("--step", type=int, help="a measured step (default: the last; of a picture that of the largest effects)")
    parser.add_argument("--top", type=int, default=10, help="how many tokens, of a picture rows (default: 10)")
    parser.add_argument("--json", action="store_true", help="of --sweep, for programs")


def run(chosen):
    tokens = Tokens(open_runs([chosen.run])[0])
    if chosen.step is not None and chosen.step not in tokens.steps:
        raise ValueError(f"{tokens.path}: was not measured at step {chosen.step}; at {' '.join(map(str, tokens.steps))}")
    at = len(tokens.steps) - 1 if chosen.step is None else list(tokens.steps).index(chosen.step)
    if chosen.sweep:
        sweep(tokens, chosen.sweep[0], chosen.sweep[1:], chosen.json)
    elif chosen.picture:
        save(picture(tokens, None if chosen.step is None else at, chosen.top), chosen.picture)
        print(chosen.picture)
    elif chosen.text is not None:
        row_text(tokens, at, chosen.text)
    else:
        largest(tokens, at, chosen.top)
