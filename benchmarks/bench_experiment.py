"""An experiment of twenty variants on thirty rounds: what a variant costs, beside reading the rounds once.

python -m benchmarks.bench_experiment --data DIR      # default: a synthetic tournament of the same size is made
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe, print_table
from flows.experiment import experiment
from flows.progress import Progress
from flows.session import open_session
from infra.settings import read_settings
from scoring.synthetic import SyntheticSpec
from tasks.synthetic import write_tournament

AIM_S = 60
SPEC = SyntheticSpec(rounds=30, models=200, stocks=470, seed=1)
"""About as many staked models and stocks as the tournament made from real prices has."""

CHANGES = (
    *(f"weights = [{{ policy = 'power', exponent = '{exponent}' }}]" for exponent in ("0.25", "0.5", "0.75")),
    *(f"weights = [{{ policy = 'cap_model', cap = '{cap}' }}]" for cap in ("0.01", "0.02", "0.05")),
    *(f"weights = [{{ policy = 'cap_account', cap = '{cap}' }}]" for cap in ("0.05", "0.1")),
    "weights = [{ policy = 'cap_family', cap = '0.05', threshold = '0.95' }]",
    "weights = [{ policy = 'equal' }]",
    "weights = [{ policy = 'log', scale = '10' }]",
    "weights = [{ policy = 'within_account' }]",
    "weights = [{ policy = 'equal' }, { policy = 'reputation' }]",
    *(
        f"rules = {{ adjust = [{{ policy = 'conformity_tax', threshold = '{threshold}', unit = '{unit}' }}] }}"
        for threshold in ("10", "50")
        for unit in ("model", "account")
    ),
    "rules = { adjust = [{ policy = 'uniqueness' }] }",
    "rules = { stake_threshold = 'at_risk', net_opposites = '0.95' }",
    "rules = { payout = { mmc_bagged = '2' } }\nscores = { bag_unit = 'account' }",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    print(f"Measured on {describe()}.")
    with tempfile.TemporaryDirectory() as folder:
        data = chosen.data or _made(Path(folder) / "data")
        begun = time.perf_counter()
        with open_session(read_settings(workers=chosen.workers), Progress("silent")):
            started = time.perf_counter() - begun
            _seconds(Path(folder), data, 0)  # loads the kernels, and torch, on every worker
            one, all_ = (_seconds(Path(folder), data, count) for count in (1, len(CHANGES)))
    added = (all_ - one) / (len(CHANGES) - 1)
    rows = [
        ("starting Prefect and Dask", f"{started:.1f}", ""),
        ("the experiment with 1 variant", f"{one:.1f}", ""),
        (f"the experiment with {len(CHANGES)} variants", f"{all_:.1f}", f"with the start at most {AIM_S}"),
        ("a variant more, in all rounds", f"{added:.2f}", ""),
    ]
    header = ("30 rounds, portfolio, True Contribution of the baseline", "seconds", "aim")
    print_table("## The lab", header, rows)


def _made(directory: Path) -> Path:
    write_tournament(directory, SPEC)
    return directory


def _seconds(folder: Path, data: Path, variants: int) -> float:
    """Returns how long one experiment takes; the first, without variants, only loads the kernels."""
    file = folder / f"with_{variants}.toml"
    tables = "".join(f'[[variants]]\nname = "v{n}"\n{change}\n' for n, change in enumerate(CHANGES[:variants]))
    file.write_text(f'title = "bench"\ndata = "{data.resolve()}"\n[baseline]\nportfolio = {{}}\n{tables}')
    begun = time.perf_counter()
    experiment(str(file), str(folder / "out"))
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
