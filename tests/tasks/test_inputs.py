"""A round's files: the calendar, the digests, and which file is to blame where one is missing or broken."""

import hashlib
from pathlib import Path

import pytest

from scoring.bags import round_seed
from tasks.inputs import read_round, round_numbers
from tasks.store import open_store
from tasks.tournament import read_tournament
from tests.tasks.fixtures import ROUND, TOURNAMENT, assert_refused, read, without, write_round

SP500 = Path(__file__).parents[2].parent / "shared" / "data" / "sp500"
CALENDAR = ROUND.format(number=7)
BAD_ROUNDS = {
    "not_toml": (CALENDAR + "seed 3\n", "must be TOML", "line 7"),
    "unknown_key": (CALENDAR.replace("horizon", "horizn"), "unknown key horizn (did you mean 'horizon'?)"),
    "other_number": (ROUND.format(number=8), "round must be the number of its folder, 7, found 8"),
    "no_number": (without(CALENDAR, "round"), "round must be a whole number", "but it is missing"),
    "no_close": (without(CALENDAR, "closes_at"), "closes_at must be a date-time with an offset", "but it is missing"),
    "local_time": (CALENDAR.replace("13:00:00Z", "13:00:00"), "closes_at must be a date-time with an offset"),
    "quoted_time": (CALENDAR.replace("2026-01-05T13:00:00Z", '"2026-01-05T13:00:00Z"'), "not quoted"),
    "date_only": (CALENDAR.replace("2026-01-05T13:00:00Z", "2026-01-05"), "closes_at must be a date-time"),
    "closes_first": (CALENDAR.replace("01-03", "01-06"), "round 7: must open before it closes"),
    "bad_horizon": (
        CALENDAR.replace("20D2L", "20 days"),
        'horizon must be days and lag, such as "20D2L", found "20 days"',
    ),
    "empty_target": (CALENDAR.replace("residual_return_20d", ""), "target must be a string that is not empty"),
    "negative_seed": (CALENDAR + "seed = -1\n", "seed must be a whole number from 0", "found -1"),
    "large_seed": (CALENDAR + f"seed = {2**64}\n", "seed must be a whole number from 0 to 18446744073709551615"),
}


@pytest.mark.skipif(not SP500.is_dir(), reason=f"no shared data at {SP500}")
@pytest.mark.parametrize("number", [101, 117, 130])
def test_read_round__reads_real_prices(number: int) -> None:
    store = open_store(SP500)
    inputs = read_round(store, read_tournament(store), number)
    stocks = len(inputs.universe.ids)
    assert inputs.targets is not None
    assert inputs.features is not None
    assert inputs.benchmark_stakes is not None
    assert inputs.universe.exposures is not None
    assert inputs.targets.positions.tolist() == list(range(stocks))
    assert inputs.universe.exposures.shape == (stocks, 17)
    assert inputs.features.values.shape == (stocks, 24)
    assert (len(inputs.stakes.rows), len(inputs.benchmark_stakes.rows)) == (120, 4)
    assert len(inputs.hashes) == 6


@pytest.mark.skipif(not SP500.is_dir(), reason=f"no shared data at {SP500}")
def test_round_numbers__lists_every_round() -> None:
    assert round_numbers(open_store(SP500)) == list(range(101, 131))


@pytest.mark.parametrize("name", ["targets", "features", "benchmark_stakes"])
def test_read_round__optional_tables_may_be_absent(tmp_path: Path, name: str) -> None:
    inputs = read(tmp_path, **{name: None})
    assert getattr(inputs, name) is None
    assert f"rounds/7/{name}.parquet" not in inputs.hashes


def test_read_round__seed_comes_from_tournament_and_round(tmp_path: Path) -> None:
    assert read(tmp_path).round.seed == round_seed("tiny", 7)
    assert read(tmp_path, round=ROUND.format(number=7) + "seed = 42\n").round.seed == 42


def test_read_round__times_become_utc(tmp_path: Path) -> None:
    text = ROUND.format(number=7).replace("13:00:00Z", "14:00:00+01:00")
    closes_at = read(tmp_path, round=text).round.closes_at
    assert closes_at.isoformat() == "2026-01-05T13:00:00+00:00"


def test_read_round__hashes_are_of_the_files_as_they_stand(tmp_path: Path) -> None:
    for path, digest in read(tmp_path).hashes.items():
        assert hashlib.sha256((tmp_path / path).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("case", BAD_ROUNDS.values(), ids=BAD_ROUNDS.keys())
def test_read_round__refuses_a_calendar(tmp_path: Path, case: tuple[str, ...]) -> None:
    text, *fragments = case
    assert_refused(lambda: read(tmp_path, round=text), *fragments)


def test_read_round__names_the_nearest_rounds(tmp_path: Path) -> None:
    for number in (7, 8, 9, 30):
        write_round(tmp_path, number)
    store = open_store(tmp_path)
    fragment = "there is no round 10; the nearest rounds are 7, 8, 9"
    assert_refused(lambda: read_round(store, read_tournament(store), 10), fragment)


def test_read_round__says_that_there_are_no_rounds(tmp_path: Path) -> None:
    (tmp_path / "tournament.toml").write_text(TOURNAMENT)
    store = open_store(tmp_path)
    assert_refused(lambda: read_round(store, read_tournament(store), 10), "there are no rounds at all")


@pytest.mark.parametrize("name", ["round", "universe", "stakes"])
def test_read_round__required_file_is_missing(tmp_path: Path, name: str) -> None:
    fragment = f"rounds/7/{name}.{'toml' if name == 'round' else 'parquet'}: no such file; every round needs it"
    assert_refused(lambda: read(tmp_path, **{name: None}), fragment)


@pytest.mark.parametrize("name", ["universe", "targets", "features", "stakes", "benchmark_stakes"])
@pytest.mark.parametrize("data", [b"", b"id,target\n", b"PAR1 cut off PAR1"])
def test_read_round__table_is_no_parquet_file(tmp_path: Path, name: str, data: bytes) -> None:
    fragment = f"rounds/7/{name}.parquet: must be a parquet file, found {len(data)} bytes"
    assert_refused(lambda: read(tmp_path, **{name: data}), fragment)
