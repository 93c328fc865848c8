"""Who owns the models, how much is staked on them, and who submits when.

Stakes are spread like real ones (December 2022: 6 321 stakes, median 2 NMR, largest 17 143, the top 50 hold
42 %): one stake is drawn from each of equally wide slices of that distribution, so that a tournament of any
size has its shape, and dealt out at random. From round to round a stake takes a small random step. All
arithmetic on them is in whole atoms of 10^-18 NMR.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from scoring.stakes import Stake, Stakes
from scoring.synthetic.crowd import make_traits
from scoring.synthetic.predictions import BENCHMARKS
from scoring.synthetic.spec import Purpose, SyntheticSpec, calendar, generator

STAKE_QUANTILES = {
    0.0: 0.0001,
    0.01: 0.0003,
    0.05: 0.0095,
    0.25: 0.054,
    0.50: 2.06,
    0.75: 31.9,
    0.90: 176.0,
    0.95: 504.0,
    0.99: 3_090.0,
    0.992: 4_000.0,
    0.997: 7_800.0,
    0.9985: 12_300.0,
    1.0: 17_100.0,
}
"""Share of the staked models: the stake in NMR (rounded) below which they are. Geometric between two rows."""

ATOMS_PER_MICRO = 10**12
"""Stakes are drawn in millionths of an NMR, and each gets random atoms below that."""

STAKE_STEP = 0.03
"""Greatest relative change of a stake from one round to the next."""

MODELS_PER_ACCOUNT = 3
"""On average; the largest of k accounts has a share of √(1/k)."""

LATE_BY_HOURS = 6
"""A late model submits at most this long after the close."""

BENCHMARK_STAKES = (120, 340, 55, 210)
"""NMR, in the order of `BENCHMARKS`; the same in all rounds."""


@dataclass(frozen=True, slots=True)
class Attendance:
    """Who submits in a round, and when.

    Attributes:
        submits: (model,) false for a model that skips the round.
        seconds: (model,) from the opening to the submission; without meaning for a model that skips.
        late: (model,) true for a model that submits after the close.
    """

    submits: Bool[np.ndarray, " model"]
    seconds: Int64[np.ndarray, " model"]
    late: Bool[np.ndarray, " model"]


def attendance(spec: SyntheticSpec, round_number: int) -> Attendance:
    """Returns who submits when; the model with the largest first stake always submits in time.

    Raises:
        OperatorError: the tournament has no such round.
    """
    random = generator(spec, Purpose.ATTENDANCE, round_number)
    dates = calendar(spec, round_number)
    window = int((dates.closes_at - dates.opens_at).total_seconds())
    submits = random.random(spec.models) >= spec.skip_share
    late = random.random(spec.models) < spec.late_share
    largest = np.argmax(_first_micros(spec))
    submits[largest], late[largest] = True, False
    late &= submits
    seconds = random.integers(1, window, size=spec.models)
    overtime = window + random.integers(1, 3600 * LATE_BY_HOURS, size=spec.models)
    return Attendance(submits, np.where(late, overtime, seconds), late)


def make_stakes(spec: SyntheticSpec, round_number: int) -> Stakes:
    """Returns the stakes of all models in a round, staked or not, submitting or not.

    Raises:
        OperatorError: the tournament has no such round.
    """
    late = attendance(spec, round_number).late
    names, accounts = make_traits(spec).names, _accounts(spec)
    atoms = _atoms(spec, round_number)
    rows = zip(names, accounts, atoms, late.tolist(), strict=True)
    return Stakes(tuple(Stake(name, account, stake, late=is_late) for name, account, stake, is_late in rows))


def benchmark_stakes() -> Stakes:
    """Returns the stakes of the benchmark models, sorted by name; they have no account."""
    staked = sorted(zip(BENCHMARKS, BENCHMARK_STAKES, strict=True))
    return Stakes(tuple(Stake(name, None, nmr * 10**18) for name, nmr in staked))


def _first_micros(spec: SyntheticSpec) -> Int64[np.ndarray, " model"]:
    """Returns the stakes of the first round in millionths of an NMR; 0 for the unstaked."""
    random = generator(spec, Purpose.STAKES)
    staked = max(1, round((1 - spec.unstaked_share) * spec.models))
    shares = (np.arange(staked) + random.random(staked)) / staked
    nmr = np.exp(np.interp(shares, list(STAKE_QUANTILES), np.log(list(STAKE_QUANTILES.values()))))
    micros = np.zeros(spec.models, np.int64)
    micros[:staked] = np.rint(nmr * 1_000_000)
    return random.permutation(micros)


def _atoms(spec: SyntheticSpec, round_number: int) -> list[int]:
    """Returns the stakes of a round: the first ones after all steps until now. Who is staked stays staked."""
    micros = _first_micros(spec)
    extra = generator(spec, Purpose.STAKES, index=1).integers(ATOMS_PER_MICRO, size=spec.models)
    grown = np.rint(1_000_000 * _growth(spec, round_number)).astype(np.int64)
    return [
        (micro * ATOMS_PER_MICRO + below) * factor // 1_000_000 if micro else 0
        for micro, below, factor in zip(micros.tolist(), extra.tolist(), grown.tolist(), strict=True)
    ]


def _growth(spec: SyntheticSpec, round_number: int) -> Float64[np.ndarray, " model"]:
    """Returns each stake relative to the first round's; 1 in the first round."""
    growth = np.ones(spec.models)
    for number in range(spec.first_round + 1, round_number + 1):
        step = generator(spec, Purpose.STAKE_STEPS, number).uniform(-STAKE_STEP, STAKE_STEP, spec.models)
        growth *= 1 + step
    return growth


def _accounts(spec: SyntheticSpec) -> tuple[str, ...]:
    """Returns the owner of each model: many own one, a few own very many."""
    accounts = 1 + spec.models // MODELS_PER_ACCOUNT
    width = max(3, len(str(accounts)))
    drawn = accounts * generator(spec, Purpose.STAKES, index=2).random(spec.models) ** 2
    return tuple(f"account_{number + 1:0{width}d}" for number in drawn.astype(np.int64).tolist())
