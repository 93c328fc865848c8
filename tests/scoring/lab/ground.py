"""A small round to attack, and what becomes of it when somebody plays."""

from dataclasses import replace
from decimal import Decimal

import numpy as np

from scoring.contribution import contribution, mmc
from scoring.correlation import corr, reference
from scoring.lab.plays import Ground, Play
from scoring.ledger import Ledger, SubmissionState, Terms, settle_round
from scoring.meta_model import meta_model
from scoring.published import score_units
from scoring.ranks import Ranks, power, rank
from scoring.rules import Rules
from scoring.stakes import Stake, Stakes
from scoring.weights import stake_weights

NMR = 10**18
STOCKS = 90
LARGEST, UNSTAKED, LATE, REFUSED = "model_05", "model_07", "model_08", "model_09"


def small_ground(seed: int = 7) -> Ground:
    """Twelve models: the largest has two more in its account, one has no stake, one is late, one was refused."""
    random = np.random.default_rng(seed)
    names = [f"model_{number:02}" for number in range(12)]
    predictions = np.round(random.random((12, STOCKS)), 2)  # two decimals: some stocks tie
    stakes = [
        Stake(name, f"account_{number % 4}", int(random.integers(1, 50)) * NMR + int(random.integers(NMR)))
        for number, name in enumerate(names)
    ]
    stakes[5] = replace(stakes[5], atoms=70 * NMR + 1)
    stakes[7], stakes[8] = replace(stakes[7], atoms=0), replace(stakes[8], late=True, atoms=900 * NMR)
    kept = [row for row, name in enumerate(names) if name != REFUSED]
    ranks = rank([names[row] for row in kept], predictions[kept])
    stakes[9] = replace(stakes[9], atoms=800 * NMR)
    past = {name: (number - 5) * 10**9 for number, name in enumerate(names) if number not in {0, 9}}
    rows = Stakes(tuple(stakes))
    example = rank(("example",), random.random((1, STOCKS))).doubled[0].astype(np.float64)
    return Ground(ranks, rows, _meta_model(ranks, rows), example, past, seed=2**63 + seed)


def target() -> np.ndarray:
    return np.random.default_rng(99).permutation(np.linspace(0, 1, STOCKS))


def stake_of(ground: Ground, model: str) -> Stake:
    return ground.stakes.by_model()[model]


def carried_out(ground: Ground, play: Play) -> tuple[Ranks, Stakes]:
    """Returns the round with a play in it; an upload with a NaN is refused."""
    predictions = dict(zip(ground.ranks.models, ground.ranks.doubled.astype(np.float64), strict=True))
    predictions |= play.uploads
    rows = ground.stakes.by_model() | {row.model: row for row in play.stakes}
    kept = sorted(name for name in predictions if name not in play.withdrawn and np.isfinite(predictions[name]).all())
    stakes = Stakes(tuple(rows[name] for name in sorted(rows) if name not in play.withdrawn))
    return rank(kept, np.stack([predictions[name] for name in kept])), stakes


def scores(ground: Ground, play: Play) -> dict[str, dict[str, int]]:
    """Returns CORR and MMC of every model with a valid submission, in units of 1e-12."""
    ranks, stakes = carried_out(ground, play)
    fixed = reference(power(target() - 0.5))
    against = contribution(_meta_model(ranks, stakes), target(), target_buckets=False)
    assert fixed is not None
    assert against is not None
    found = zip(ranks.models, corr(ranks, fixed).tolist(), mmc(ranks, against.price).tolist(), strict=True)
    return {name: {"corr": score_units(first), "mmc": score_units(second)} for name, first, second in found}


def settled(ground: Ground, play: Play, threshold: Decimal | None = None) -> Ledger:
    """Returns the ledger under CORR and MMC alike, with an optional stake threshold."""
    found = scores(ground, play)
    _, stakes = carried_out(ground, play)
    payout = {"corr": Decimal("0.5"), "mmc": Decimal(2)}
    rules = Rules("test:R0", 0, payout, Decimal("0.9"), stake_threshold=threshold)
    return settle_round(stakes, {name: SubmissionState("0" * 64) for name in found}, found, Terms(rules, 18, 1))


def change_of(ledger: Ledger, models: frozenset[str]) -> int:
    """Returns payout less burn of some models, in atoms."""
    return sum(row.payout - row.burn for row in ledger.rows if row.model in models)


def _meta_model(ranks: Ranks, stakes: Stakes) -> np.ndarray:
    rows = stakes.by_model()
    return meta_model(ranks, stake_weights([0 if rows[name].late else rows[name].atoms for name in ranks.models]))
