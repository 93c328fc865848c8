"""What an experiment leaves: tables whose bytes are the same in every run, and a page.

    OUT/report.html        the page, complete in itself
    OUT/experiment.toml    the file as it was run
    OUT/results/rounds.parquet, models.parquet            exact money, a row a round and a row a model
                comparison.parquet, attacks.parquet, matrix.parquet
                exhibits/<name>-<number>.parquet          the tables of the page

Every run writes them anew, each complete or not at all: an experiment is repeated, not published.
"""

from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pyarrow as pa

from scoring.errors import StorageError
from scoring.lab.attacks import ATTACKS
from tasks.contract import encode
from tasks.lab.laboratory import Findings, Laboratory
from tasks.lab.paid import models_table, rounds_table
from tasks.lab.report import Page, render

REPORT = "report.html"
RESULTS = "results"


def write_results(laboratory: Laboratory, findings: Findings, out: Path) -> None:
    """Writes the results of an experiment.

    Raises:
        StorageError: the folder cannot be written to.
    """
    tables = {
        "rounds": rounds_table(findings.paid),
        "models": models_table(findings.paid),
        "comparison": _table(findings.comparison),
        "attacks": None if findings.blows is None else _table(findings.blows),
        "matrix": None if findings.matrix is None else _table(findings.matrix),
        **{
            f"exhibits/{exhibit.name}-{number}": _table(table.frame)
            for exhibit in findings.exhibits
            for number, table in enumerate(exhibit.tables, start=1)
        },
    }
    try:
        for name, table in tables.items():
            if table is not None:
                _write(out / RESULTS / f"{name}.parquet", encode(table))
        _forget(out / RESULTS, {name for name, table in tables.items() if table is not None})
        _write(out / "experiment.toml", laboratory.file.content)
        _write(out / REPORT, render(page_of(laboratory, findings)).encode())
    except OSError as error:
        raise StorageError(f"{error.filename or out}: cannot be written: {error.strerror}") from error


def page_of(laboratory: Laboratory, findings: Findings) -> Page:
    """Returns what the report says."""
    file = laboratory.file
    return Page(
        title=file.title,
        question=file.question,
        facts=_facts(laboratory, findings),
        comparison=findings.comparison,
        matrix=findings.matrix,
        rounds=findings.rounds,
        models=findings.models,
        exhibits=findings.exhibits,
        attacks={name: ATTACKS[name].how for name in laboratory.attacks},
        notes=_notes(laboratory, findings),
        baseline=laboratory.baseline.name,
        currency=laboratory.baseline.tournament.currency,
    )


def _facts(laboratory: Laboratory, findings: Findings) -> dict[str, str]:
    numbers = [each.number for each in laboratory.rounds]
    spec = laboratory.file.sources.synthetic
    made = "" if spec is None else f", synthetic: {spec.models} models, {spec.stocks} stocks, seed {spec.seed}"
    resampling = laboratory.file.resampling
    return {
        "tournament": f"{laboratory.baseline.tournament.name}{made}",
        "rounds": f"{len(numbers)}, from {min(numbers)} to {max(numbers)}",
        "variants": ", ".join(each.name for each in laboratory.mechanisms[1:]) or "none",
        "intervals": f"{resampling.level:.0%}, {resampling.samples} samples of blocks of {resampling.block} rounds, "
        f"seed {resampling.seed}",
        "published ledgers": _reproduced(findings),
        "engine": f"stakeweight {version('stakeweight')}",
    }


def _reproduced(findings: Findings) -> str:
    same, compared = findings.reproduced
    return f"{same} of {compared} reproduced to the atom by the baseline" if compared else "none to compare with"


def _notes(laboratory: Laboratory, findings: Findings) -> list[str]:
    notes = [
        "Who takes part, and with what, is what it was: nobody here answers to a rule by submitting or staking "
        "otherwise, except where an attack does.",
        f"Standings are the mean {laboratory.file.standings.upper()} of the rounds of the last year that had resolved "
        "when a round closed; the first rounds have none.",
    ]
    if findings.matrix is not None:
        notes.append(
            "An attacker here knows all submissions of the round. Where he can split, the number of parts is the one "
            "that is best on average; it was chosen on the rounds that it is judged by."
        )
    return notes


def _table(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


def _forget(results: Path, written: Collection[str]) -> None:
    """Removes the tables that an earlier run left and this one has not, which would be taken for its own."""
    for name in ["attacks", "matrix", *(f"exhibits/{each.stem}" for each in (results / "exhibits").glob("*.parquet"))]:
        if name not in written:
            (results / f"{name}.parquet").unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f".{path.name}.making")
    making.write_bytes(content)
    making.replace(path)
