"""The best of each objective's grid of learning rates and values of its own parameter, and the claims about trade-offs with these.

The criterion, laid down before the grid was run: of the first seed's runs after which the answers to be forgotten have at most the
mean probability that the retrained model gives them, the one with the lowest loss on what stays; where there is none, the one that
leaves them the lowest probability."""
from .claims import WITH_KL, c17, c18
from .summary import Seed
from .verdict import SEEDS, Answer, ask

VALUES = {"ga": ("ga",), "wga": ("wga", "wga-5"), "npo-1": ("npo-0.1", "npo-1", "npo-2"), "tnpo": ("tnpo", "tnpo-4"),
          "wtnpo": ("wtnpo", "wtnpo-1"), "po": ("po",), "rmu-second": ("rmu-second", "rmu-c2"),
          "kl": ("kl",), "wga-kl": ("wga-kl", "wga-5-kl"), "npo-kl": ("npo-0.1-kl", "npo-kl", "npo-2-kl"),
          "tnpo-kl": ("tnpo-kl", "tnpo-4-kl"), "wtnpo-kl": ("wtnpo-kl", "wtnpo-1-kl"), "po-kl": ("po-kl",),
          "rmu-kl": ("rmu-kl", "rmu-c2-kl")}
IN_WORDS = {"npo-0.1": "beta 0.1", "npo-1": "beta 1", "npo-2": "beta 2", "npo-0.1-kl": "beta 0.1", "npo-kl": "beta 1", "npo-2-kl": "beta 2",
            "wga": "alpha 0.5", "wga-5": "alpha 5", "tnpo": "beta 1", "tnpo-4": "beta 4", "wtnpo": "alpha 1.5, beta 4",
            "wtnpo-1": "alpha 0.5, beta 1", "rmu-second": "c 5", "rmu-c2": "c 2", "rmu-kl": "c 5"}
CLAIMS = (c17, c18)


def threshold(setting):
    """The mean probability of the forgotten answers under the model that never saw them."""
    found = [s.runs["retrained"] for s in setting.seeds(estimator="scores") if "retrained" in s.runs]
    if not found:
        raise KeyError("a retrained model, with its scores,")
    return found[0]["probability_u"][-1]


def candidates(setting, values):
    """[(name, rate, run)] of the first seed's grid, all that there is."""
    seeds = [s for rate in ("1", *setting.rates()) for s in setting.seeds(rate)[:1]]
    return [(name, s.rate, s.runs[name]) for s in seeds for name in values if name in s.runs and "loss_r" in s.runs[name]]


def best(setting):
    """{objective: (name, rate, whether it came down to the threshold)}; KeyError where the grid or the retrained model is not there."""
    bound, found = threshold(setting), {}
    for objective, values in VALUES.items():
        runs = candidates(setting, values)
        if len(runs) < len(values) * (1 + len(setting.rates())):
            raise KeyError(f"the grid of {objective}")
        forgot = [x for x in runs if x[2]["probability_u"][-1] <= bound]
        if forgot:
            name, rate, _ = min(forgot, key=lambda x: x[2]["loss_r"][-1])
        else:
            name, rate, _ = min(runs, key=lambda x: x[2]["probability_u"][-1])
        found[objective] = name, rate, bool(forgot)
    return found


def seeds_of_best(setting):
    """[Seed]: those seeds that have the best run of every objective; its runs bear the objectives' names."""
    chosen, found = best(setting), []
    for first in setting.seeds():
        seed = Seed(first.seed, "best", "full")
        for objective, (name, rate, _) in chosen.items():
            of_rate = [s for s in setting.seeds(rate) if s.seed == first.seed]
            if of_rate and name in of_rate[0].runs:
                seed.runs[objective] = of_rate[0].runs[name]
        if len(seed.runs) == len(chosen):
            found.append(seed)
    return found


def answers(setting):
    """[Answer] of the claims about trade-offs: by the rule on seeds; what the rule asks of other learning rates, the grid has in it."""
    found = []
    for claim in CLAIMS:
        answer = Answer(claim, parts=[p for p in (ask(claim, s)[0] for s in seeds_of_best(setting)) if p is not None])
        if len(answer.parts) >= SEEDS:
            answer.rates = {"0.5": True, "2": True}
        found.append(answer)
    return found


def without_kl(objective):
    return WITH_KL.get(objective, objective)
