"""A tiny valid tournament, and the means to spoil any one file of it."""

import io
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from _pytest.mark import ParameterSet

from scoring.errors import OperatorError
from tasks.inputs import RoundInputs, read_round
from tasks.store import open_store
from tasks.tournament import read_tournament

STOCKS = 20
FACTORS = ("beta", "size", "sector_tech", "sector_bank")
MODELS = ("model_a", "model_b", "model_c", "model_d")
BENCHMARKS = ("bench_one", "bench_two")

TOURNAMENT = """\
name = "tiny"
currency = "NMR"
decimals = 18

[[rules]]
since_round = 1
payout = { corr = "0.5", mmc = "2.0" }
clip = "0.05"
stake_threshold = "72000"
"""

ROUND = """\
round = {number}
opens_at = 2026-01-03T18:00:00Z
closes_at = 2026-01-05T13:00:00Z
resolves_at = 2026-02-04T22:00:00Z
horizon = "20D2L"
target = "residual_return_20d"
"""

File = pa.Table | str | bytes | None
"""A table to write, text or bytes to write as they are, or None: no such file."""


def stock_ids() -> list[str]:
    """The ids of the stocks, not in sorted order."""
    return [f"stock_{(7 * stock) % STOCKS:02d}" for stock in range(STOCKS)]


def money(*amounts: str | None) -> pa.Array:
    """Stakes as the contract wants them."""
    return pa.array([None if each is None else Decimal(each) for each in amounts], pa.decimal128(38, 18))


def with_column(table: pa.Table, name: str, values: object) -> pa.Table:
    """The table with one column replaced, or added where it has none of that name."""
    column = values if isinstance(values, pa.Array) else pa.array(values)
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)


def with_value(table: pa.Table, name: str, row: int, value: object) -> pa.Table:
    """The table with one cell replaced."""
    values = table.column(name).to_pylist()
    values[row] = value
    return with_column(table, name, pa.array(values, table.schema.field(name).type))


def submission(seed: int) -> pa.Table:
    """A submission with every id of the universe and no tie."""
    order = np.random.default_rng(seed).permutation(STOCKS)
    return pa.table({"id": stock_ids(), "prediction": (order + 1) / (STOCKS + 1)})


def round_tables() -> dict[str, pa.Table]:
    """The tables of a valid round by the names of their files."""
    rng = np.random.default_rng(0)
    tech = np.arange(STOCKS) % 2
    exposures = np.column_stack([rng.normal(size=(STOCKS, 2)), tech, 1 - tech])
    sectors = ["tech" if each else "bank" for each in tech]
    ids = stock_ids()
    factors = {f"factor_{name}": exposures[:, at] for at, name in enumerate(FACTORS)}
    features = {f"feature_{at}": rng.integers(0, 5, STOCKS).astype(np.int8) for at in range(3)}
    covariance = {name: np.diag([0.01] * len(FACTORS))[at] for at, name in enumerate(FACTORS)}
    return {
        "universe": pa.table({"id": ids, "country": ["US"] * STOCKS, "sector": sectors, **factors}).append_column(
            "specific_risk", pa.array(rng.uniform(0.03, 0.09, STOCKS))
        ),
        "factor_covariance": pa.table({"factor": list(FACTORS), **covariance}),
        "targets": pa.table(
            {
                "id": ids,
                "target": rng.permutation(np.arange(STOCKS) % 5) / 4,
                "return": rng.normal(size=STOCKS) / 20,
            }
        ),
        "features": pa.table({"id": ids, **features}),
        "stakes": pa.table(
            {
                "model": list(reversed(MODELS)),
                "account": ["account_1", "account_2", "account_1", "account_3"],
                "stake": money("100", "0.000000000000000001", "17143.5", "0"),
            }
        ),
        "benchmark_stakes": pa.table({"model": list(BENCHMARKS), "stake": money("3", "1")}),
        "example_predictions": submission(99),
    }


def write_round(
    directory: Path,
    number: int = 7,
    *,
    tournament: File = TOURNAMENT,
    submissions: Mapping[str, File] | None = None,
    **files: File,
) -> Path:
    """Writes a tiny valid tournament with one round, and returns the directory.

    Args:
        directory: where; calls with other numbers add rounds to the same tournament.
        number: the round's number.
        tournament: what `tournament.toml` holds.
        submissions: replaces, adds or removes (None) submissions by file name, e.g. `model_d.csv`.
        files: replaces other files of the round by name without ending, e.g. `stakes=table`, `round=text`.
    """
    folder = directory / "rounds" / str(number)
    contents: dict[str, File] = {f"{name}.parquet": table for name, table in round_tables().items()}
    contents["round.toml"] = ROUND.format(number=number)
    contents.update({f"submissions/{name}.parquet": submission(at) for at, name in enumerate(MODELS[:3])})
    contents[f"submissions/{MODELS[3]}.csv"] = csv_bytes(submission(3))
    contents.update({f"benchmarks/{name}.parquet": submission(50 + at) for at, name in enumerate(BENCHMARKS)})
    contents.update({f"submissions/{name}": file for name, file in (submissions or {}).items()})
    for name, file in files.items():
        contents["round.toml" if name == "round" else f"{name}.parquet"] = file
    _write(directory / "tournament.toml", tournament)
    for name, file in contents.items():
        _write(folder / name, file)
    return directory


def read(directory: Path, **files: File) -> RoundInputs:
    """Writes the tiny round with some files replaced, and reads it."""
    store = open_store(write_round(directory, **files))
    return read_round(store, read_tournament(store), 7)


def without(text: str, key: str) -> str:
    """The TOML text without the line of a key."""
    return re.sub(rf"^{key} = .*\n", "", text, flags=re.MULTILINE)


def assert_refused(read_it: Callable[[], object], *fragments: str) -> None:
    """The run stops for the operator, with one line that holds every fragment."""
    with pytest.raises(OperatorError) as caught:
        read_it()
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message


def bad(name: str, table: pa.Table, *fragments: str) -> ParameterSet:
    """A case `<file>_<what is wrong>`: the file, what it holds, and what the message must say."""
    file = next(known for known in ("benchmark_stakes", *round_tables()) if name.startswith(known.split("_")[0]))
    return pytest.param(file, table, fragments, id=name)


def csv_bytes(table: pa.Table) -> bytes:
    """The table as CSV with a header."""
    sink = io.BytesIO()
    pyarrow.csv.write_csv(table, sink)
    return sink.getvalue()


def _write(path: Path, file: File) -> None:
    if file is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(file, pa.Table):
        pq.write_table(file, path)
    else:
        path.write_bytes(file.encode() if isinstance(file, str) else file)
