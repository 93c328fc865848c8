"""Writes a synthetic tournament as the files of the contract, with the same column types as a real one.

A round of 10 000 models is 10 000 files. They are written in blocks of models, so that memory stays small and callers
may share the blocks out: whoever writes a block, in whatever order, the bytes are the same. As in real rounds, some
submissions are CSV and some have their rows in another order.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64, Int64

from scoring.errors import OperatorError
from scoring.synthetic import (
    Calendar,
    Purpose,
    SyntheticSpec,
    attendance,
    calendar,
    generator,
    make_traits,
    predictions,
    stock_ids,
)
from tasks.inputs import round_folder
from tasks.synthetic_tables import DECIMALS, round_tables
from tasks.tournament import TOURNAMENT_FILE

RULES = """\
[[rules]]
since_round = 0
payout = { corr = "0.5", mmc = "2.0" }
clip = "0.05"
stake_threshold = "72000"
"""
"""The default rules; any text that may end a `tournament.toml` can stand in their place."""

BLOCK_MODELS = 512
"""Models whose predictions are in memory at once: 25 MB at 6 000 stocks."""


@dataclass(frozen=True, slots=True)
class FileLayout:
    """How submissions are laid out in files.

    Attributes:
        csv_share: share of the submissions that are CSV, 0 … 1.
        shuffled_share: share of the submissions whose rows are in another order than the universe, 0 … 1.
        wide: one table `submissions.parquet` with a column a model, in place of a file a model. It is built in
            memory as a whole: 8 bytes a cell.
    """

    csv_share: float = 0.01
    shuffled_share: float = 0.15
    wide: bool = False


DEMO = SyntheticSpec(rounds=1, models=300, stocks=1000, seed=1)
"""What `stakeweight demo` resolves: large enough to look real, small enough to be made in seconds."""

LAYOUT = FileLayout()
"""A file a model, mostly parquet in universe order."""


def write_tournament(directory: Path, spec: SyntheticSpec, *, rules: str = RULES, layout: FileLayout = LAYOUT) -> None:
    """Writes all rounds of a tournament.

    Args:
        directory: where to; created if need be, must be empty.
        spec: what to make.
        rules: TOML text that ends `tournament.toml`: the `[[rules]]`, or `rulebook = "numerai"`.
        layout: how submissions are laid out in files.

    Raises:
        OperatorError: the directory is not empty, is a file, or cannot be made.
    """
    if _exists(directory) and (not directory.is_dir() or any(directory.iterdir())):
        raise OperatorError(f"{directory}: must be an empty directory or none, so that no file is overwritten")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(f"{directory}: the directory cannot be made: {error.strerror}") from error
    head = f'name = "synthetic-{spec.seed}"\ncurrency = "NMR"\ndecimals = {DECIMALS}\n\n'
    (directory / TOURNAMENT_FILE).write_text(head + rules, encoding="utf-8")
    for round_number in spec.round_numbers:
        write_round_tables(directory, spec, round_number)
        if layout.wide:
            write_wide_submissions(directory, spec, round_number)
        else:
            write_submissions(directory, spec, round_number, layout=layout)


def write_demo(directory: Path) -> Path:
    """Writes the demo tournament below `directory`, unless it is there, and returns its place.

    It gets its name when it is complete: an interrupted demo starts again instead of failing for ever.
    """
    data, unfinished = directory / "data", directory / "data.unfinished"
    if not _exists(data):
        shutil.rmtree(unfinished, ignore_errors=True)
        write_tournament(unfinished, DEMO)
        unfinished.rename(data)
    return data


def _exists(path: Path) -> bool:
    """Says whether something is there; a path through a file leads nowhere."""
    try:
        return path.exists()
    except NotADirectoryError:
        return False


def write_round_tables(directory: Path, spec: SyntheticSpec, round_number: int) -> None:
    """Writes all files of a round but the submissions; replaces them where they exist.

    Raises:
        OperatorError: the tournament has no such round.
    """
    folder = directory / round_folder(round_number)
    dates = calendar(spec, round_number)
    (folder / "benchmarks").mkdir(parents=True, exist_ok=True)
    (folder / "round.toml").write_text(_round_toml(round_number, dates), encoding="utf-8")
    for name, table in round_tables(spec, round_number).items():
        _write(folder / f"{name}.parquet", table)


def write_submissions(
    directory: Path,
    spec: SyntheticSpec,
    round_number: int,
    models: slice = slice(None),
    layout: FileLayout = LAYOUT,
) -> None:
    """Writes the submissions of a block of models, a file each; none for models that skip the round.

    Args:
        directory, spec, round_number: where the tournament is, what it is, and the round.
        models: positions of the models, all by default; blocks may be written side by side.
        layout: how submissions are laid out in files.

    Raises:
        OperatorError: the tournament has no such round.
    """
    positions = _submitting(spec, round_number, models)
    folder = directory / round_folder(round_number) / "submissions"
    folder.mkdir(parents=True, exist_ok=True)
    names, ids = make_traits(spec).names, pa.array(stock_ids(spec, round_number), pa.string())
    for model, values in _predictions(spec, round_number, positions):
        random = generator(spec, Purpose.FILES, round_number, model)
        as_csv, shuffled = random.random(2) < (layout.csv_share, layout.shuffled_share)
        table = pa.table({"id": ids, "prediction": values})
        if shuffled:
            table = table.take(random.permutation(spec.stocks))
        write, suffix = (_write_csv, "csv") if as_csv else (_write, "parquet")
        write(folder / f"{names[model]}.{suffix}", table)


def write_wide_submissions(directory: Path, spec: SyntheticSpec, round_number: int) -> None:
    """Writes all submissions of a round as one table; a model that skips the round has no column.

    Raises:
        OperatorError: the tournament has no such round.
    """
    positions = _submitting(spec, round_number, slice(None))
    folder = directory / round_folder(round_number)
    folder.mkdir(parents=True, exist_ok=True)
    names = make_traits(spec).names
    columns = {"id": pa.array(stock_ids(spec, round_number), pa.string())}
    for model, values in _predictions(spec, round_number, positions):
        columns[names[model]] = pa.array(values)
    _write(folder / "submissions.parquet", pa.table(columns))


def _submitting(spec: SyntheticSpec, round_number: int, models: slice) -> Int64[np.ndarray, " model"]:
    """Returns the positions of a block's models that do not skip the round."""
    block = np.arange(spec.models)[models]
    submitting: Int64[np.ndarray, " model"] = block[attendance(spec, round_number).submits[block]]
    return submitting


def _predictions(
    spec: SyntheticSpec, round_number: int, positions: Int64[np.ndarray, " model"]
) -> Iterator[tuple[int, Float64[np.ndarray, " stock"]]]:
    """Yields each model's position and predictions; few models are in memory at once."""
    for start in range(0, len(positions), BLOCK_MODELS):
        block = positions[start : start + BLOCK_MODELS]
        yield from zip(block.tolist(), predictions(spec, round_number, block), strict=True)


def _round_toml(round_number: int, dates: Calendar) -> str:
    times = {"opens_at": dates.opens_at, "closes_at": dates.closes_at, "resolves_at": dates.resolves_at}
    lines = [f"round = {round_number}"]
    lines += [f"{key} = {time:%Y-%m-%dT%H:%M:%SZ}" for key, time in times.items()]
    lines += ['horizon = "20D2L"', 'target = "residual_return_20d"']
    return "\n".join(lines) + "\n"


def _write_csv(path: Path, table: pa.Table) -> None:
    ids, values = table["id"].to_pylist(), table["prediction"].to_pylist()
    lines = [f"{stock},{value:.6f}" for stock, value in zip(ids, values, strict=True)]
    path.write_text("\n".join(["id,prediction", *lines, ""]), encoding="utf-8")


def _write(path: Path, table: pa.Table) -> None:
    """Writes zstd parquet without dictionaries, statistics and metadata: the same bytes for the same table."""
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False, store_schema=False)
