"""Rounds 103, 117 and 129 of the tournament made from real prices, as files, against scores by numerai-tools 0.7.2.

The data is no part of the project: it lies beside the checkout, and without it these tests are skipped.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scoring import frames
from tests.reference import naive
from tests.reference.panels import assert_close, bits, numbers_of

DATA = Path(__file__).parents[2].parent / "shared" / "data"
GOLDEN = DATA / "sp500_golden.parquet"
ROUNDS = {103: 117, 117: 119, 129: 115}
KEYS = ["corr", "mmc", "bmc", "cwmm"]

pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason="the sp500 tournament does not lie beside the checkout")


def read_submissions(folder: Path) -> pd.DataFrame:
    """One column a file; rows come in any order and are brought together by id."""
    columns = {}
    for path in sorted(folder.iterdir()):
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path, columns=["id", "prediction"])
        columns[path.stem] = table.set_index("id")["prediction"]
    return pd.DataFrame(columns)


@pytest.fixture(scope="module", params=ROUNDS, ids=str)
def number(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def golden(number: int) -> pd.DataFrame:
    table = pd.read_parquet(GOLDEN)
    return table[table["round"] == number].set_index("model")[KEYS]


@pytest.fixture(scope="module")
def inputs(number: int) -> dict[str, pd.DataFrame | pd.Series]:
    folder = DATA / "sp500" / "rounds" / str(number)
    predictions = read_submissions(folder / "submissions")
    stakes = pd.read_parquet(folder / "stakes.parquet").set_index("model")["stake"]
    return {
        "predictions": predictions,
        "stakes": stakes[stakes.index.isin(predictions.columns)],
        "target": pd.read_parquet(folder / "targets.parquet").set_index("id")["target"],
        "benchmarks": read_submissions(folder / "benchmarks"),
        "benchmark_stakes": pd.read_parquet(folder / "benchmark_stakes.parquet").set_index("model")["stake"],
    }


@pytest.fixture(scope="module")
def scores(inputs: dict[str, pd.DataFrame | pd.Series]) -> pd.DataFrame:
    predictions, target = inputs["predictions"], inputs["target"]
    meta = frames.meta_model(predictions, inputs["stakes"])
    benchmark = frames.meta_model(inputs["benchmarks"], inputs["benchmark_stakes"])
    return pd.DataFrame(
        {
            "corr": numbers_of(frames.corr(predictions, target)),
            "mmc": numbers_of(frames.mmc(predictions, meta, target)),
            "bmc": numbers_of(frames.mmc(predictions, benchmark, target)),
            "cwmm": numbers_of(frames.cwmm(predictions, meta)),
        }
    )


@pytest.mark.parametrize("key", KEYS)
def test_sp500__equals_numerai_tools_0_7_2(number: int, key: str, golden: pd.DataFrame, scores: pd.DataFrame) -> None:
    assert len(golden) == ROUNDS[number]
    assert_close(scores[key], golden[key])


def test_sp500__the_reference_agrees_too(golden: pd.DataFrame, inputs: dict[str, pd.DataFrame | pd.Series]) -> None:
    """Some models of every round: the oracle of the other tests is itself checked on real data."""
    predictions, target = inputs["predictions"], inputs["target"].to_dict()
    meta = naive.meta_model(predictions.to_dict(), inputs["stakes"].to_dict())
    some = predictions.iloc[:, ::8]
    expected = golden.loc[list(some.columns)]
    assert_close(naive.corr(some.to_dict(), target), expected["corr"])
    assert_close(naive.mmc(some.to_dict(), meta, target), expected["mmc"])
    assert_close(naive.cwmm(some.to_dict(), meta), expected["cwmm"])


def test_sp500__the_meta_models_own_mmc_is_zero(inputs: dict[str, pd.DataFrame | pd.Series]) -> None:
    """|x| < 5e-17 was measured on 355 rounds of about 5 000 stocks; noise goes with 1/√n and these have 490."""
    meta = frames.meta_model(inputs["predictions"], inputs["stakes"])
    own = pd.DataFrame({"meta_model": (meta.rank() - 0.5) / len(meta)})
    score = numbers_of(frames.mmc(own, meta, inputs["target"]))["meta_model"]
    assert abs(score) < 5e-17 * np.sqrt(5000 / len(meta))


def test_sp500__equal_files_score_equal_and_mirrored_files_score_opposite(
    inputs: dict[str, pd.DataFrame | pd.Series], scores: pd.DataFrame
) -> None:
    """Every round has one pair equal in value and models that are exactly 1 − p of another."""
    predictions = inputs["predictions"].sort_index()
    values = {model: tuple(np.round(predictions[model] * 1e6)) for model in predictions}
    mirrors = {model: tuple(np.round((1 - predictions[model]) * 1e6)) for model in predictions}
    models = sorted(values)
    pairs = [(a, b) for a in models for b in models if a < b and values[a] == values[b]]
    opposites = [(a, b) for a in models for b in models if a < b and values[a] == mirrors[b]]
    assert pairs
    assert opposites
    as_bits = {key: bits(scores[key]) for key in KEYS}
    for a, b in pairs:
        assert all(as_bits[key][a] == as_bits[key][b] for key in KEYS)
    for a, b in opposites:
        assert all(scores.loc[a, key] == -scores.loc[b, key] for key in ("corr", "mmc", "bmc"))
