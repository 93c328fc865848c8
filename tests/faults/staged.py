"""A tournament that has every stage: two blocks of models, bags, and a portfolio with dropout bags; stakes are chained.

The first two rounds are in flight together; the third closes after the first has settled, so that what is at risk in it
is what the first one left. A model deposits and another withdraws in between.
"""

from datetime import timedelta
from pathlib import Path

from scoring.synthetic import SyntheticSpec
from tasks.synthetic import RULES, write_tournament
from tests.tasks.chained import closes_at, deposits, models, resolve_on, write_transfers

SPEC = SyntheticSpec(rounds=3, models=520, stocks=60, seed=41)
ROUNDS = tuple(SPEC.round_numbers)
STAGES = (
    "ingest_block",
    "benchmark_meta_model",
    "sum_block",
    "price_bag",
    "optimise",
    "pull_back",
    "vectors_of_round",
    "score",
    "score_pairs",
)
"""The unit of each stage: submissions, benchmarks, sums, bags, portfolio, dropout bags, vectors, scores, pairs."""
_OPTIONS = "\n[portfolio]\n\n[true_contribution]\nbags = 10\nchunk = 5\n"
_HOUR = timedelta(hours=1)


def write_staged(directory: Path) -> str:
    """Writes it and returns its directory, as the command line takes it."""
    write_tournament(directory, SPEC, rules=RULES + _OPTIONS)
    first, second, third = ROUNDS
    resolve_on(directory, first, closes_at(third, SPEC) - 2 * _HOUR, SPEC)
    names, between = models(SPEC), closes_at(second, SPEC) - _HOUR
    moved = [(between, names[0], "50"), (between, names[1], "-60"), (closes_at(third, SPEC) - _HOUR, names[2], "-70")]
    write_transfers(directory, [*deposits(SPEC), *moved])
    return str(directory)
