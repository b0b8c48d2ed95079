"""When a claim holds: the rule on seeds and learning rates, laid down before the runs.

For one setting, from all its seeds at its learning rate, full sets:

    holds            everything that is asked is so with every seed, of at least three
    does not hold    some one thing asked is not so with any seed, of at least three, and at a lower and a higher learning rate the
                     claim fails too
    not decided      anything else: seeds that disagree, fewer than three, or other learning rates that were not run or say otherwise

n seeds that agree leave room, at 95 %, for a further seed that disagrees in up to 1 - 0.05^(1/n) of all cases: 45 % for five seeds,
63 % for three. So five are the fewest that show a majority; three show only that no single seed decides."""
from dataclasses import dataclass, field

import numpy as np

from .claims import CLAIMS

SEEDS = 3  # the fewest that decide


@dataclass
class Answer:
    """What became of one claim in one setting. parts: [seed][part]; rates {factor: whether it fails}."""
    claim: object
    missing: str = ""
    parts: list = field(default_factory=list)
    rates: dict = field(default_factory=dict)

    @property
    def fails(self):
        """[seed]: how many parts are not so."""
        return [sum(p.holds is not None and not p.holds for p in parts) for parts in self.parts]

    @property
    def held(self):
        """With how many seeds it holds."""
        return self.fails.count(0)

    @property
    def broken(self):
        """[part]: with how many seeds it is not so."""
        return [sum(p.holds is not None and not p.holds for p in nth) for nth in zip(*self.parts)]

    @property
    def verdict(self):
        n = len(self.parts)
        if not n:
            return "not measured"
        if n < SEEDS:
            return "not decided"
        if self.held == n:
            return "holds"
        return "does not hold" if max(self.broken) == n and self.fails_at_other_rates() else "not decided"

    def fails_at_other_rates(self):
        factors = [float(r) for r in self.rates]
        return bool(factors) and min(factors) < 1 < max(factors) and all(self.rates.values())

    @property
    def why(self):
        """Why it is not decided."""
        n = len(self.parts)
        if n < SEEDS:
            return f"{n} seed{'s' * (n > 1)}"
        if max(self.broken) < n:
            return f"{self.held} of {n} seeds" if self.held else "each seed fails, but not in the same"
        well = self.at(failed=False)
        return f"0 of {n} seeds, " + (f"but it holds at {well} the rate" if well else "other rates not all run")

    def at(self, failed):
        """The other learning rates at which it fails, or holds: 0.5x and 2x."""
        return " and ".join(f"{float(r):g}x" for r, f in self.rates.items() if f == failed)


def ask(claim, seed):
    """-> the parts, or why it could not be asked."""
    try:
        with np.errstate(all="ignore"):
            return claim(seed), ""
    except KeyError as missing:
        return None, str(missing.args[0])


def answers(setting, estimator="full"):
    """[Answer] for every claim; the other learning rates are of full sets."""
    found = []
    for claim in CLAIMS:
        answer = Answer(claim)
        for seed in setting.seeds(estimator=estimator):
            parts, missing = ask(claim, seed)
            if parts is None:
                answer.missing = answer.missing or missing
            else:
                answer.parts.append(parts)
        for rate in setting.rates() if estimator == "full" else ():
            parts = [ask(claim, s)[0] for s in setting.seeds(rate)]
            parts = [p for p in parts if p is not None]  # of the grid's best, other seeds have some runs
            if parts:
                answer.rates[rate] = all(any(p.holds is not None and not p.holds for p in ps) for ps in parts)
        found.append(answer)
    return found


def number(value):
    return "never" if np.isinf(value) else f"{value:.3g}"


def spread(values):
    """Mean and, in parentheses, the smallest and largest of some seeds' numbers."""
    values = np.array(values)
    low, high = number(values.min()), number(values.max())
    if low == high:
        return low
    mean = "" if np.isinf(values).any() else number(values.mean()) + " "
    return f"{mean}({low} to {high})"


def told(nth):
    """One part over the seeds, in words."""
    return nth[0].text.format(*map(spread, zip(*[p.values for p in nth])))


def key(answer):
    """The part to show where there is room for one: what fails most often; where nothing does, the first."""
    broken = answer.broken
    return told([parts[int(np.argmax(broken))] for parts in answer.parts])
