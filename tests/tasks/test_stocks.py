"""Tables with a row a stock: rows in any order give the same stocks, and what is wrong stops the run."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.tasks.fixtures import (
    FACTORS,
    STOCKS,
    assert_refused,
    bad,
    read,
    round_tables,
    stock_ids,
    with_column,
    with_value,
)

TABLES = round_tables()
UNIVERSE, TARGETS, FEATURES = (TABLES[name] for name in ("universe", "targets", "features"))
OTHER_ROUND = [f"other_{stock}" for stock in stock_ids()]
HALF = [stock if at % 2 else f"other_{stock}" for at, stock in enumerate(stock_ids())]
BAD_TABLES = [
    bad(
        "universe_null_id",
        with_value(UNIVERSE, "id", 3, None),
        "column id must not be null or empty, found null in row 3",
    ),
    bad("universe_empty_id", with_value(UNIVERSE, "id", 3, ""), "must not be null or empty", "'' in row 3"),
    bad(
        "universe_same_id",
        with_value(UNIVERSE, "id", 3, "stock_00"),
        "column id must name each only once, found 'stock_00' in row 3",
    ),
    bad("universe_no_id", UNIVERSE.drop(["id"]), "column id is missing"),
    bad(
        "universe_number_id",
        with_column(UNIVERSE, "id", list(range(STOCKS))),
        "column id must hold strings, found int64",
    ),
    bad(
        "universe_nan",
        with_value(UNIVERSE, "factor_size", 5, float("nan")),
        "column factor_size must be finite, found nan in row 5",
    ),
    bad("universe_null", with_value(UNIVERSE, "factor_size", 5, None), "column factor_size must not be null", "row 5"),
    bad(
        "universe_null_sector",
        with_value(UNIVERSE, "sector", 5, None),
        "column sector must not be null or empty",
        "row 5",
    ),
    bad(
        "universe_zero_risk",
        with_value(UNIVERSE, "specific_risk", 5, 0.0),
        "column specific_risk must be above 0, found 0.0 in row 5",
    ),
    bad(
        "universe_misspelt",
        UNIVERSE.rename_columns({"specific_risk": "specific_rsk"}),
        "column specific_rsk is unknown (did you mean 'specific_risk'?)",
    ),
    bad("universe_no_rows", UNIVERSE.slice(0, 0), "must hold the stocks of the round, found no rows"),
    bad("universe_twice", UNIVERSE.append_column("sector", UNIVERSE["sector"]), "column sector appears twice"),
    bad(
        "targets_other_round",
        with_column(TARGETS, "id", OTHER_ROUND),
        "at least 80%",
        "found 0 common ids of 20 stocks (0.0%)",
        "another round?",
    ),
    bad(
        "targets_half",
        with_column(TARGETS, "id", HALF),
        "found 10 common ids of 20 stocks (50.0%) and 20 targets (50.0%)",
    ),
    bad("targets_few", TARGETS.slice(5), "found 15 common ids of 20 stocks (75.0%) and 15 targets (100.0%)"),
    bad("targets_none", TARGETS.slice(0, 0), "found 0 common ids of 20 stocks (0.0%) and 0 targets (0.0%)"),
    bad("targets_all_null", with_column(TARGETS, "target", pa.nulls(STOCKS, pa.float64())), "and 0 targets (0.0%)"),
    bad(
        "targets_above",
        with_value(TARGETS, "target", 2, 1.25),
        "column target must be from 0 to 1, found 1.25 in row 2",
    ),
    bad(
        "targets_below",
        with_value(TARGETS, "target", 2, -0.25),
        "column target must be from 0 to 1, found -0.25 in row 2",
    ),
    bad(
        "targets_nan",
        with_value(TARGETS, "target", 2, float("nan")),
        "column target must be finite, found nan in row 2",
    ),
    bad(
        "targets_constant",
        with_column(TARGETS, "target", [0.5] * STOCKS),
        "column target must not be the same for all stocks",
    ),
    bad("targets_same_id", with_value(TARGETS, "id", 3, "stock_00"), "column id must name each only once"),
    bad("targets_no_target", TARGETS.drop(["target"]), "column target is missing, found id, return"),
    bad(
        "targets_misspelt",
        TARGETS.rename_columns({"return": "retrun"}),
        "column retrun is unknown (did you mean 'return'?)",
    ),
    bad(
        "targets_infinite_return",
        with_value(TARGETS, "return", 2, float("inf")),
        "column return must be finite, found inf in row 2",
    ),
    bad(
        "targets_null_return",
        with_value(TARGETS, "return", 2, None),
        "column return must be a number where there is a target",
        "row 2",
    ),
    bad(
        "features_missing_id",
        FEATURES.slice(2),
        "must hold exactly the universe's ids; 2 missing (stock_00, stock_07), 0 not in the universe",
    ),
    bad(
        "features_foreign_ids",
        with_column(FEATURES, "id", OTHER_ROUND),
        "20 missing (stock_00, stock_01, stock_02, …), 20 not in the universe",
    ),
    bad(
        "features_fraction",
        with_column(FEATURES, "feature_0", [0.25] * STOCKS),
        "column feature_0 must hold whole numbers from -128 to 127, found 0.25 in row 0",
        "15 more",
    ),
    bad("features_large", with_column(FEATURES, "feature_0", [128] * STOCKS), "found 128 in row 0"),
    bad(
        "features_null",
        with_value(FEATURES, "feature_0", 2, None),
        "column feature_0 must not be null, found null in row 2",
    ),
    bad("features_none", FEATURES.select(["id"]), "column feature_* is missing, found id"),
    bad("features_foreign_column", with_column(FEATURES, "era", [1] * STOCKS), "column era is unknown"),
]


def test_read_round__sorts_stocks_and_keeps_rows_together(tmp_path: Path) -> None:
    inputs = read(tmp_path)
    order = np.argsort(stock_ids())
    assert inputs.universe.ids == tuple(sorted(stock_ids()))
    assert inputs.universe.factor_names == FACTORS
    assert inputs.universe.sector == tuple(UNIVERSE["sector"].take(order).to_pylist())
    exposures = np.column_stack([UNIVERSE[f"factor_{name}"].to_numpy()[order] for name in FACTORS])
    np.testing.assert_array_equal(inputs.universe.exposures, exposures)
    np.testing.assert_array_equal(inputs.universe.specific_risk, UNIVERSE["specific_risk"].to_numpy()[order])
    np.testing.assert_array_equal(inputs.targets.target, TARGETS["target"].to_numpy()[order])
    np.testing.assert_array_equal(inputs.targets.realised, TARGETS["return"].to_numpy()[order])
    np.testing.assert_array_equal(inputs.features.values[:, 2], FEATURES["feature_2"].to_numpy()[order])


def test_read_round__is_the_same_for_rows_in_any_order(tmp_path: Path) -> None:
    shuffle = np.random.default_rng(1).permutation(STOCKS)
    tables = {name: TABLES[name].take(shuffle) for name in ("universe", "targets", "features")}
    plain, shuffled = read(tmp_path / "plain"), read(tmp_path / "shuffled", **tables)
    assert shuffled.universe.ids == plain.universe.ids
    assert shuffled.targets.full_mean == plain.targets.full_mean
    np.testing.assert_array_equal(shuffled.universe.exposures, plain.universe.exposures)
    np.testing.assert_array_equal(shuffled.targets.target, plain.targets.target)
    np.testing.assert_array_equal(shuffled.features.values, plain.features.values)


def test_read_round__universe_needs_only_ids(tmp_path: Path) -> None:
    universe = read(tmp_path, universe=UNIVERSE.select(["id"])).universe
    assert (universe.country, universe.exposures, universe.specific_risk) == (None, None, None)


def test_read_round__missing_targets_are_left_out(tmp_path: Path) -> None:
    gone = TARGETS.slice(4)  # 80 % of the universe's ids are left
    inputs = read(tmp_path, targets=gone)
    assert [inputs.universe.ids[at] for at in inputs.targets.positions] == sorted(gone["id"].to_pylist())
    assert inputs.targets.full_mean == pytest.approx(np.mean(gone["target"].to_numpy()), abs=1e-15)


def test_read_round__null_target_is_a_missing_id(tmp_path: Path) -> None:
    nulled = with_value(with_value(TARGETS, "target", 3, None), "return", 3, None)
    missing = TARGETS.filter(pa.array([row != 3 for row in range(STOCKS)]))
    nulled_targets, fewer_targets = (read(tmp_path, targets=table).targets for table in (nulled, missing))
    assert nulled_targets.full_mean == fewer_targets.full_mean
    np.testing.assert_array_equal(nulled_targets.positions, fewer_targets.positions)
    np.testing.assert_array_equal(nulled_targets.realised, fewer_targets.realised)


def test_read_round__mean_is_over_all_targets_before_ids_are_aligned(tmp_path: Path) -> None:
    extra = pa.table({"id": ["another"], "target": [1.0], "return": [0.0]})
    full = pa.concat_tables([TARGETS, extra])
    assert read(tmp_path, targets=full).targets.full_mean == pytest.approx(
        np.mean(full["target"].to_numpy()), abs=1e-15
    )


def test_read_round__features_may_be_whole_floats(tmp_path: Path) -> None:
    floats = with_column(FEATURES, "feature_0", FEATURES["feature_0"].to_numpy().astype(np.float32))
    features = read(tmp_path, features=floats).features
    assert features.values.dtype == np.int8
    np.testing.assert_array_equal(features.values, read(tmp_path).features.values)


def test_read_round__categories_are_names_too(tmp_path: Path) -> None:
    sector = UNIVERSE["sector"].combine_chunks().dictionary_encode()
    assert (
        read(tmp_path, universe=with_column(UNIVERSE, "sector", sector)).universe.sector
        == read(tmp_path).universe.sector
    )


@pytest.mark.parametrize(("name", "table", "fragments"), BAD_TABLES)
def test_read_round__refuses_stocks(tmp_path: Path, name: str, table: pa.Table, fragments: tuple[str, ...]) -> None:
    assert_refused(lambda: read(tmp_path, **{name: table}), f"rounds/7/{name}.parquet: ", *fragments)
