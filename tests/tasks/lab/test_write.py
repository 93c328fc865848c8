"""What an experiment leaves: the same bytes twice, money exact, and nothing of what another experiment left."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from scoring.errors import OperatorError, StorageError
from tasks.lab.laboratory import Findings, Laboratory, find, open_laboratory
from tasks.lab.matrix import MATRIX_COLUMNS
from tasks.lab.write import page_of, write_results
from tests.tasks.lab.history import SPEC, carry_out, table

FILE = """\
title = "A tax & more"
question = "Does it pay?"
data = "{data}"
published = "{out}"
bootstrap = {{ samples = 100, block = 2 }}
exhibits = ["score_stability"]
[[variants]]
name = "taxed"
rules = {{ adjust = [{{ policy = "conformity_tax", threshold = "0.01" }}] }}
[[variants]]
name = "smaller"
leave_out_largest = 1
[attacks]
names = ["split_models", "throttle_pair"]
"""


@pytest.fixture(scope="module")
def laboratory(data: Path, out: Path, tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "tax.toml").write_text(FILE.format(data=data, out=out))
    return open_laboratory(folder / "tax.toml", folder / "out")


@pytest.fixture(scope="module")
def findings(laboratory: Laboratory) -> Findings:
    return carry_out(laboratory)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def written(laboratory: Laboratory, findings: Findings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "a" / "b"
    write_results(laboratory, findings, folder)
    return folder


def test_write_results__leaves_what_it_says_and_nothing_half_written(written: Path) -> None:
    exhibits = {name for name in files(written) if name.startswith("results/exhibits/score_stability-")}
    assert exhibits
    assert set(files(written)) - exhibits == {
        "report.html",
        "experiment.toml",
        *(f"results/{name}.parquet" for name in ("rounds", "models", "comparison", "attacks", "matrix")),
    }


def test_write_results__another_run_of_the_whole_experiment_gives_the_same_bytes(
    laboratory: Laboratory, written: Path, tmp_path: Path
) -> None:
    write_results(laboratory, carry_out(laboratory), tmp_path)
    first, again = files(written), files(tmp_path)
    assert first.keys() == again.keys()
    assert {name for name in first if first[name] != again[name]} == set()
    write_results(laboratory, carry_out(laboratory), tmp_path)  # over what is there
    assert files(tmp_path) == again


def test_write_results__keeps_the_file_as_it_was_run(
    laboratory: Laboratory, written: Path, data: Path, out: Path
) -> None:
    assert (written / "experiment.toml").read_text() == FILE.format(data=data, out=out)


def test_write_results__money_is_that_of_the_published_ledgers_to_the_atom(written: Path, out: Path) -> None:
    models = pq.read_table(written / "results/models.parquet").to_pylist()
    found = {
        (row["round"], row["model"]): (row["at_risk"], row["gross_payout"], row["payout"], row["burn"])
        for row in models
        if row["variant"] == "baseline"
    }
    expected = {
        (number, row["model"]): (row["at_risk"], row["gross_payout"], row["payout"], row["burn"])
        for number in SPEC.round_numbers
        for row in table(out, "ledger", number)
        if row["entry"] == "model" and row["at_risk"]
    }
    assert found == expected
    rounds = pq.read_table(written / "results/rounds.parquet").to_pylist()
    assert {row["variant"] for row in rounds} == {"baseline", "taxed", "smaller"}
    for row in rounds:
        own = [each for each in models if (each["variant"], each["round"]) == (row["variant"], row["round"])]
        for key in ("at_risk", "gross_payout", "payout", "burn"):
            assert sum((each[key] for each in own), Decimal(0)) == row[key]


def test_write_results__tables_are_the_findings(findings: Findings, written: Path) -> None:
    for name, frame in (("comparison", findings.comparison), ("attacks", findings.blows), ("matrix", findings.matrix)):
        assert frame is not None
        read = pq.read_table(written / f"results/{name}.parquet")
        assert read.schema.metadata is None  # pandas' notes hold its version
        pd.testing.assert_frame_equal(read.to_pandas(), frame, check_dtype=False)
    assert findings.matrix is not None
    assert tuple(findings.matrix.columns) == MATRIX_COLUMNS
    assert set(findings.matrix["mechanism"]) == {"baseline", "taxed"}  # where accounts have left, nobody attacks


def test_write_results__the_page_says_that_ledgers_were_reproduced(
    laboratory: Laboratory, findings: Findings, written: Path
) -> None:
    assert findings.reproduced == (6, 6)
    facts = page_of(laboratory, findings).facts
    assert facts["published ledgers"] == "6 of 6 reproduced to the atom by the baseline"
    assert facts["rounds"] == "6, from 11 to 16"
    text = (written / "report.html").read_text()
    assert "6 of 6 reproduced to the atom by the baseline" in text
    assert "A tax &amp; more" in text
    assert set(findings.comparison["unit"]) >= {"NMR", "%"}


def test_write_results__nothing_of_an_earlier_experiment_is_taken_for_this_ones(
    laboratory: Laboratory, findings: Findings, tmp_path: Path
) -> None:
    write_results(laboratory, findings, tmp_path)
    (tmp_path / "notes.txt").write_text("the operator's own")
    plain = replace(laboratory, file=replace(laboratory.file, attacks=None, exhibits=()))
    write_results(plain, replace(findings, blows=None, matrix=None, exhibits=()), tmp_path)
    assert set(files(tmp_path)) == {
        "notes.txt",
        "report.html",
        "experiment.toml",
        *(f"results/{name}.parquet" for name in ("rounds", "models", "comparison")),
    }


def test_write_results__a_folder_that_cannot_be_written_to(
    laboratory: Laboratory, findings: Findings, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        write_results(laboratory, findings, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_find__no_round_paid_anything(laboratory: Laboratory) -> None:
    with pytest.raises(OperatorError, match="no round of the experiment has anything at risk"):
        find(laboratory, [], None, {}, None)
