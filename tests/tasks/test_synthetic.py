"""A synthetic tournament on disk: the contract's files and types, and the same bytes whoever writes them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from scoring.errors import OperatorError
from scoring.synthetic import (
    BENCHMARKS,
    SyntheticSpec,
    attendance,
    make_market,
    make_stakes,
    make_traits,
    predictions,
    stock_ids,
)
from scoring.synthetic.universe import FACTOR_NAMES
from tasks import synthetic
from tasks.inputs import read_round
from tasks.store import open_store
from tasks.synthetic import (
    FileLayout,
    write_round_tables,
    write_submissions,
    write_tournament,
    write_wide_submissions,
)
from tasks.tournament import read_tournament

SPEC = SyntheticSpec(rounds=2, models=90, stocks=60, seed=5, first_round=7, skip_share=0.1, late_share=0.05)
LAYOUT = FileLayout(csv_share=0.1, shuffled_share=0.3)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "tournament"
    write_tournament(path, SPEC, layout=LAYOUT)
    return path


def digests(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_submission(path: Path) -> Mapping[str, float]:
    table = pa.csv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)
    return dict(zip(table["id"].to_pylist(), table["prediction"].to_pylist(), strict=True))


# The contract -----------------------------------------------------------------------------------------------------


def test_write_tournament__is_read_back_as_what_was_generated(directory: Path) -> None:
    store = open_store(directory)
    tournament = read_tournament(store)
    inputs = read_round(store, tournament, 8)
    assert inputs.stakes == make_stakes(SPEC, 8)
    assert inputs.universe.ids == stock_ids(SPEC, 8)
    market = make_market(SPEC, 8)
    assert np.array_equal(np.asarray(inputs.universe.exposures), np.asarray(market.universe.exposures))
    assert inputs.universe.country == market.universe.country
    assert inputs.targets is not None
    assert inputs.targets.full_mean == market.targets.full_mean
    assert np.array_equal(np.asarray(inputs.targets.realised), np.asarray(market.targets.realised))
    assert inputs.features is not None
    assert np.array_equal(inputs.features.values, market.features.values)


def test_write_tournament__pays_half_corr_and_twice_mmc(directory: Path) -> None:
    rules = read_tournament(open_store(directory)).rulebook.at(7)
    assert {key: str(value) for key, value in (rules.payout or {}).items()} == {"corr": "0.5", "mmc": "2.0"}
    assert (str(rules.clip), str(rules.stake_threshold)) == ("0.05", "72000")


def test_write_tournament__takes_other_rules(tmp_path: Path) -> None:
    write_tournament(tmp_path, SyntheticSpec(1, 1, 20, 0, first_round=700), rules='rulebook = "numerai"\n')
    assert read_tournament(open_store(tmp_path)).rulebook.at(700).rules_id == "numerai:R650"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "universe",
            {"id": pa.string(), "country": pa.string(), "sector": pa.string()}
            | {f"factor_{name}": pa.float64() for name in FACTOR_NAMES}
            | {"specific_risk": pa.float64()},
        ),
        ("factor_covariance", {"factor": pa.string()} | dict.fromkeys(FACTOR_NAMES, pa.float64())),
        ("targets", {"id": pa.string(), "target": pa.float64(), "return": pa.float64()}),
        (
            "stakes",
            {
                "model": pa.string(),
                "account": pa.string(),
                "stake": pa.decimal128(38, 18),
                "submitted_at": pa.timestamp("us", tz="UTC"),
            },
        ),
        ("benchmark_stakes", {"model": pa.string(), "stake": pa.decimal128(38, 18)}),
        ("benchmarks/bench_few", {"id": pa.string(), "prediction": pa.float64()}),
    ],
)
def test_write_tournament__has_the_types_of_a_real_one(
    directory: Path, name: str, expected: Mapping[str, pa.DataType]
) -> None:
    schema = pq.read_schema(directory / "rounds/7" / f"{name}.parquet")
    assert dict(zip(schema.names, schema.types, strict=True)) == expected
    assert list(expected) == schema.names


def test_write_tournament__has_int8_features(directory: Path) -> None:
    table = pq.read_table(directory / "rounds/7/features.parquet")
    assert table.column_names[0] == "id"
    assert len(table.column_names) == 25
    assert set(table.schema.types[1:]) == {pa.int8()}


def test_write_tournament__writes_plain_zstd_parquet(directory: Path) -> None:
    for path in directory.rglob("*.parquet"):
        metadata = pq.read_metadata(path)
        assert metadata.metadata is None
        column = metadata.row_group(0).column(0)
        assert (column.compression, column.has_dictionary_page) == ("ZSTD", False)


def test_write_tournament__says_when_each_model_submitted(directory: Path) -> None:
    presence = attendance(SPEC, 7)
    table = pq.read_table(directory / "rounds/7/stakes.parquet")
    assert [at is not None for at in table["submitted_at"].to_pylist()] == presence.submits.tolist()


# Submissions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SPEC.round_numbers)
def test_write_submissions__has_one_file_a_model_that_does_not_skip(directory: Path, number: int) -> None:
    names, submits, values = make_traits(SPEC).names, attendance(SPEC, number).submits, predictions(SPEC, number)
    files = {path.stem: path for path in (directory / f"rounds/{number}/submissions").iterdir()}
    assert set(files) == {name for name, there in zip(names, submits, strict=True) if there} < set(names)
    for name, row in zip(names, values, strict=True):
        if name in files:
            expected = dict(zip(stock_ids(SPEC, number), row.tolist(), strict=True))
            assert read_submission(files[name]) == expected


def test_write_submissions__has_some_csv_and_some_shuffled(directory: Path) -> None:
    files = [path for number in SPEC.round_numbers for path in (directory / f"rounds/{number}/submissions").iterdir()]
    as_csv = [path.suffix == ".csv" for path in files]
    shuffled = [list(ids) != sorted(ids) for ids in map(read_submission, files)]
    assert 0.03 < np.mean(as_csv) < 0.2
    assert 0.15 < np.mean(shuffled) < 0.45


def test_write_submissions__blocks_in_any_order_give_the_same_bytes(directory: Path, tmp_path: Path) -> None:
    for number in SPEC.round_numbers:
        for start in (60, 0, 30):
            write_submissions(tmp_path, SPEC, number, slice(start, start + 30), layout=LAYOUT)
        write_round_tables(tmp_path, SPEC, number)
    assert digests(tmp_path) == {path: sha for path, sha in digests(directory).items() if path != "tournament.toml"}


def test_write_submissions__does_not_depend_on_the_blocks_in_memory(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "BLOCK_MODELS", 7)
    write_submissions(tmp_path, SPEC, 7, layout=LAYOUT)
    assert digests(tmp_path).items() <= digests(directory).items()


def test_write_tournament__differs_for_another_seed(directory: Path, tmp_path: Path) -> None:
    write_tournament(tmp_path, SyntheticSpec(rounds=2, models=90, stocks=60, seed=6, first_round=7))
    here, there = digests(directory), digests(tmp_path)
    same = {path.rsplit("/", 1)[-1] for path in here.keys() & there.keys() if here[path] == there[path]}
    assert same == {"round.toml", "benchmark_stakes.parquet"}


def test_write_wide_submissions__is_one_table_with_a_column_a_model(tmp_path: Path) -> None:
    write_tournament(tmp_path, SPEC, layout=FileLayout(wide=True))
    table = pq.read_table(tmp_path / "rounds/7/submissions.parquet")
    submits, names = attendance(SPEC, 7).submits, np.array(make_traits(SPEC).names)
    assert table.column_names == ["id", *names[submits]]
    assert table["id"].to_pylist() == list(stock_ids(SPEC, 7))
    assert np.array_equal(np.array(table.columns[1:]), predictions(SPEC, 7)[submits])
    assert not (tmp_path / "rounds/7/submissions").exists()
    write_wide_submissions(tmp_path, SPEC, 8)


def test_write_tournament__has_all_benchmarks(directory: Path) -> None:
    files = {path.stem for path in (directory / "rounds/7/benchmarks").iterdir()}
    assert files == set(BENCHMARKS)
    assert set(pq.read_table(directory / "rounds/7/benchmark_stakes.parquet")["model"].to_pylist()) == files


# Refusals ---------------------------------------------------------------------------------------------------------


def test_write_tournament__refuses_a_directory_with_anything_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OperatorError, match="must be an empty directory or none"):
        write_tournament(tmp_path, SPEC)
    with pytest.raises(OperatorError, match="must be an empty directory or none"):
        write_tournament(tmp_path / "notes.txt", SPEC)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_write_submissions__refuses_a_round_that_the_tournament_does_not_have(tmp_path: Path) -> None:
    for write in (write_submissions, write_wide_submissions, write_round_tables):
        with pytest.raises(OperatorError, match="has rounds 7 … 8, not 9"):
            write(tmp_path, SPEC, 9)
    assert not any(tmp_path.iterdir())
