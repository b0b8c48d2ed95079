"""Where may one trust the G-effect? Changes of the risks as effects predict them, beside changes as they were; and the use of it all:
whether e_r tells how much of what should stay is lost."""
import numpy as np

EPOCHS = 5  # of every training: the paper's
LOW = 0.1  # of the peak: an effect that has come to an end
PAPER = ("ga", "wga", "npo-0.1", "npo-1", "npo-2", "tnpo", "wtnpo", "po", "rmu-first", "rmu-second", "rmu-last", "gd", "kl", "rr")
VARIANTS = ("ga-npo", "npo-still")  # of ga and npo-1
NOISE = 1e-4  # of the risk: a smaller change is rounding in float32


def squared(predicted, actual):
    """R^2: share of the changes' variance that the prediction itself, neither shifted nor scaled, explains."""
    return 1 - ((predicted - actual) ** 2).sum() / ((actual - actual.mean()) ** 2).sum()


def bias(predicted, actual):
    """The factor by which the prediction is to be multiplied: above 1 it was too small."""
    return (predicted @ actual) / (predicted @ predicted)


def between(run, rate):
    """The change between measured steps that a rate per update makes."""
    return np.diff(run.over_steps(rate))


def fit(run, of):
    """Numbers of one run on risk u or r. The plain effect -lr e is a step of SGD, whose scale is not AdamW's: only its correlation
    counts."""
    own, actual, change = run[f"predicted_{of}"], run[f"actual_{of}"], np.diff(run[f"risk_{of}"])
    aware = between(run, np.append(own, 0))
    plain = between(run, -run["lr"] * run.whole(of))
    return {"update": squared(own, actual), "bias": bias(own, actual), "between": squared(aware, change),
            "plain": np.corrcoef(plain, change)[0, 1], "sign": (np.sign(plain) == np.sign(change)).mean(), "late": late(run, of), "end": run[f"risk_{of}"][-1]}


def late(run, of):
    """Share of the risk's whole change that comes when its effect is over: below a tenth of its peak from there on."""
    effect, risk = abs(run.whole(of)), run[f"risk_{of}"]
    large = np.flatnonzero(effect >= LOW * effect.max())
    over = min(large[-1] + 1, len(risk) - 1)
    return (risk[-1] - risk[over]) / (risk[-1] - risk[0])


def with_fidelity(seed):
    """Runs whose changes were predicted, but for variants of another."""
    return [n for n, run in seed.runs.items() if "predicted_r" in run and n not in VARIANTS]


def fits(setting, of="r", which=PAPER):
    """{run: {number: [seed]}}, of these runs, as far as their changes were predicted; None: of all."""
    found = {}
    for seed in setting.seeds():
        for name in which or seed.runs:
            if name not in seed.runs or "predicted_r" not in seed[name]:
                continue
            for k, v in fit(seed[name], of).items():
                found.setdefault(name, {}).setdefault(k, []).append(v)
    return found


def epochs(run):
    """The measured steps in epochs, of which the schedule has five."""
    return EPOCHS * run.steps / run.length


def stages(setting, of="r", parts=(0, 0.5, 1, 1.5, 2.5, 5.01)):
    """[(from, to, median of measured over predicted, its quartiles)] by epochs of the schedule, over objectives and seeds, of single
    updates as they were made; only changes that are not rounding."""
    ratios = [[] for _ in parts[1:]]
    for seed in setting.seeds():
        for name in with_fidelity(seed):
            run = seed[name]
            own, actual = run[f"predicted_{of}"], run[f"actual_{of}"]
            seen = abs(own) > NOISE * run[f"risk_{of}"][:-1]
            epoch = epochs(run)[:-1]
            for k, (a, b) in enumerate(zip(parts, parts[1:])):
                here = seen & (epoch >= a) & (epoch < b)
                ratios[k] += list(actual[here] / own[here])
    return [(a, b, *np.quantile(r, (0.5, 0.25, 0.75))) for a, b, r in zip(parts, parts[1:], ratios) if r]


# ------------------------------------------------------------------------------------------------------ what it is good for
def ranks(x):
    """Ranks of values, equal ones share their mean."""
    _, inverse, count = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[inverse]


def rank_correlation(x, y):
    return np.corrcoef(ranks(x), ranks(y))[0, 1]


def predictors(seed):
    """{objective: (plain, aware, peak)}: the summed plain effect on the retain risk, that along the optimiser's steps, the largest |e_r|."""
    found = {}
    for name in with_fidelity(seed):
        run = seed[name]
        e_r = run.whole("r")
        found[name] = (between(run, -run["lr"] * e_r).sum(), between(run, np.append(run["predicted_r"], 0)).sum(), abs(e_r).max())
    return found


def beside(seeds, lost):
    """{objective: (*predictors, lost(seed, objective))} as means over the seeds that know what was lost."""
    found = {}
    for seed in seeds:
        for name, row in predictors(seed).items():
            try:
                found.setdefault(name, []).append((*row, lost(seed, name)))
            except KeyError:  # not evaluated
                continue
    return {name: np.mean(rows, axis=0) for name, rows in found.items() if rows}


def utility(setting):
    """Beside the extraction strength of what should stay that a run lost."""
    def lost(seed, name):
        strength = seed[name]["strength_r"]
        return strength[0] - strength[-1]
    return beside(setting.seeds(), lost)


def published(setting, what="utility"):
    """Beside what a run lost of such a number, of the seeds whose trainings were scored as TOFU does."""
    scored = dict(setting.beside("scores"))

    def lost(seed, name):
        values = scored[seed][name][what]
        return values[0] - values[-1]
    return beside(scored, lost)


def correlations(setting, draws=2000, of=utility):
    """{predictor: (rank correlation with what is lost, low, high)} over the objectives; 95 % by drawing objectives anew."""
    rows = np.array(list(of(setting).values()))
    if len(rows) < 5:
        return {}
    random, found = np.random.default_rng(1), {}
    with np.errstate(all="ignore"):
        for k, name in enumerate(("plain", "aware", "peak")):
            drawn = [rows[random.integers(len(rows), size=len(rows))] for _ in range(draws)]
            again = [rank_correlation(d[:, k], d[:, -1]) for d in drawn]
            found[name] = (rank_correlation(rows[:, k], rows[:, -1]), *np.nanquantile(again, (0.025, 0.975)))
    return found
