"""A small published round, and the means to tamper with any one thing of it.

The round has everything that a verification has to get right: targets for ids outside the universe and a stock without
one, a late model, a refused one, a missing one, one without a stake, and benchmark models.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tests.flows.in_process as stages
from scoring.true_contribution import TrueContribution
from tasks.contract import content_path, encode
from tests.flows.in_process import resolve_in_process
from tests.tasks.fixtures import TOURNAMENT, round_tables, submission, with_value, write_round

NUMBER = 7
SCORED, LATE, REFUSED, MISSING, UNSTAKED = "model_b", "model_c", "model_e", "model_f", "model_a"
_STAKES = {"model_a": "0", "model_b": "17143.5", "model_c": "5", "model_d": "50", "model_e": "10", "model_f": "7"}

_PAID_ON_TC = 'payout = { corr = "0.01", tc = "0.2" }'  # so little that no payout is clipped: each decimal counts
TRUE_CONTRIBUTION = TOURNAMENT.replace('payout = { corr = "0.5", mmc = "2.0" }', _PAID_ON_TC) + (
    "[portfolio]\n[true_contribution]\nbags = 12\nchunk = 6\n"
)
"""A tournament that pays on True Contribution."""


def targets() -> pa.Table:
    """Targets of 19 of the 20 stocks, and of two that the universe lacks: their mean is not the published targets'."""
    known = round_tables()["targets"].slice(1)
    foreign = pa.table({"id": ["zz_1", "zz_2"], "target": [1.0, 0.75], "return": [0.1, 0.2]})
    return pa.concat_tables([known, foreign])


def stakes() -> pa.Table:
    late = datetime(2026, 1, 5, 14, tzinfo=UTC)
    return pa.table(
        {
            "model": list(_STAKES),
            "account": [f"account_{at % 2}" for at in range(len(_STAKES))],
            "stake": pa.array([Decimal(stake) for stake in _STAKES.values()], pa.decimal128(38, 18)),
            "submitted_at": pa.array(
                [late if model == LATE else None for model in _STAKES], pa.timestamp("us", tz="UTC")
            ),
        }
    )


def publish(root: Path, tournament: str = TOURNAMENT) -> tuple[Path, Path]:
    """Resolves the round; returns data and out."""
    data, out = root / "data", root / "out"
    refused = {f"{REFUSED}.csv": b"id,prediction\n"}
    write_round(data, NUMBER, tournament=tournament, targets=targets(), stakes=stakes(), submissions=refused)
    resolve_in_process(data, out, NUMBER)
    return data, out


@contextmanager
def solving(change: Callable[[TrueContribution], TrueContribution]) -> Iterator[None]:
    """Has the stages in this process go on with a changed solution of True Contribution."""
    solve = stages.merge_chunks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "merge_chunks", lambda *arguments: change(solve(*arguments)))
        yield


def moved(by: float) -> Callable[[TrueContribution], TrueContribution]:
    """Another machine: each number of a vector off by at most `by` of the largest, and other steps on the way there."""

    def change(found: TrueContribution) -> TrueContribution:
        noise = by * np.random.default_rng(0).uniform(-1, 1, (2, found.price.size))
        noise[:, 3] = by  # what is certain is the largest difference
        return replace(
            found,
            price=found.price + noise[0] * np.abs(found.price).max(),
            portfolio=found.portfolio + noise[1] * np.abs(found.portfolio).max(),
            risk_aversion=found.risk_aversion * (1 + by),
            reports=tuple(replace(report, gap=report.gap + 1e-14) for report in found.reports),
        )

    return change


def manifest_file(out: Path, revision: int = 1) -> Path:
    return out / f"manifests/round={NUMBER}/{revision}.json"


def edit_manifest(out: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the manifest's content in place."""
    content = json.loads(manifest_file(out).read_bytes())
    change(content)
    manifest_file(out).write_text(json.dumps(content))


def table_file(out: Path, name: str) -> Path:
    return out / str(json.loads(manifest_file(out).read_bytes())["outputs"][name]["path"])


def tamper(out: Path, name: str, change: Callable[[pa.Table], pa.Table], *, restate: bool) -> None:
    """Changes a published table.

    Args:
        out: what is published.
        name: of the table.
        change: from the published table to the one that takes its place.
        restate: give the file the name of its new content and the manifest its digest, as a liar would.
    """
    path = table_file(out, name)
    data = encode(change(pq.ParquetFile(path).read()))
    if not restate:
        path.write_bytes(data)
        return
    path.unlink()
    new = content_path(name, NUMBER, 1, data)
    (out / new).write_bytes(data)
    stated = {"path": new, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit_manifest(out, lambda content: content["outputs"][name].update(stated))


def with_cell(column: str, row: str, value: object, *, by: str = "model") -> Callable[[pa.Table], pa.Table]:
    """Returns the change of one cell, of the row that is called so; a function of the old value may stand for it."""

    def change(table: pa.Table) -> pa.Table:
        place, values = table.column(by).to_pylist().index(row), table.column(column).to_pylist()
        values[place] = value(values[place]) if callable(value) else value
        at = table.schema.get_field_index(column)
        return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))

    return change


def own_submission(folder: Path, seed: int = 1) -> Path:
    """Writes the file of `SCORED`, as it lies in the data; other seeds give other models' files."""
    path = folder / "mine.parquet"
    pq.write_table(submission(seed), path)
    return path


def changed_submission(folder: Path) -> Path:
    """Writes the file of `SCORED` with one prediction changed, to the highest of all."""
    path = folder / "changed.parquet"
    pq.write_table(with_value(submission(1), "prediction", 2, 0.999), path)
    return path


def copy(out: Path, folder: Path) -> Path:
    return Path(shutil.copytree(out, folder / "out"))
