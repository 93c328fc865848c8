"""Plays are checked as everybody's files are, and change nothing but what they say."""

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from scoring.errors import OperatorError
from scoring.lab.plays import Play
from scoring.stakes import Stake
from tasks.lab.case import CaseRequest, RoundCase, Scene, example_of, open_case, staged
from tasks.lab.evaluate import evaluate
from tests.reference import naive
from tests.tasks import fixtures
from tests.tasks.fixtures import assert_refused
from tests.tasks.lab.history import (
    FIRST,
    SPEC,
    as_evaluated,
    as_stated,
    case_of,
    mechanism,
    resolve,
    submissions,
    table,
    with_play,
)

BAGGED = 'rules.payout = { mmc_bagged = "2", corr = "0.25" }\nscores.bags = 5'


@pytest.fixture(scope="module")
def case(data: Path) -> RoundCase:
    return case_of(data, FIRST)


def drawn(seed: int, stocks: int = SPEC.stocks) -> np.ndarray:
    """Predictions on a coarse grid, so that some tie."""
    return np.round(np.random.default_rng(seed).random(stocks), 1)


def doubled(predictions: np.ndarray) -> list[int]:
    """Twice the average rank, by counting."""
    return [2 * int((predictions < p).sum()) + int((predictions == p).sum()) + 1 for p in predictions]


def ranks_of(scene: Scene, model: str) -> list[int]:
    return scene.ranks.doubled[scene.ranks.models.index(model)].tolist()


def codes(scene: Scene) -> dict[str, str]:
    return {each.model: each.rejection.code for each in scene.receipts if each.rejection is not None}


def staked(case: RoundCase, count: int) -> list[Stake]:
    """The largest stakes at risk, the largest first."""
    rows = [row for row in case.scene.stakes.rows if row.model in case.ranks.models and not row.late]
    return sorted(rows, key=lambda row: -row.atoms)[:count]


def test_open_case__ranks_are_those_of_the_files(data: Path, case: RoundCase) -> None:
    handed_in = submissions(data, FIRST)
    assert case.ranks.models == tuple(sorted(handed_in))
    for model, predictions in handed_in.items():
        expected = doubled(np.array([predictions[stock] for stock in sorted(predictions)]))
        assert ranks_of(case.scene, model) == expected
    assert [each.model for each in case.receipts] == sorted(handed_in)


def test_open_case__a_refused_submission_is_on_record_and_not_among_the_ranks(tmp_path: Path) -> None:
    data = fixtures.write_round(tmp_path, submissions={"model_b.parquet": b"no parquet"})
    case = case_of(data, 7)
    assert codes(case.scene) == {"model_b": "unreadable"}
    assert case.ranks.models == ("model_a", "model_c", "model_d")


def test_open_case__stops_where_a_round_has_not_resolved_or_nobody_submitted(tmp_path: Path) -> None:
    data = fixtures.write_round(tmp_path / "open", targets=None)
    assert_refused(lambda: case_of(data, 7), "rounds/7/targets.parquet", "rounds that have resolved")
    nobody = {f"{name}.parquet": None for name in fixtures.MODELS} | {"model_d.csv": None}
    data = fixtures.write_round(tmp_path / "empty", submissions=nobody)
    assert_refused(lambda: case_of(data, 7), "at least one submission, found none")


def test_open_case__chained_stakes_need_what_was_published(chained_history: tuple[Path, Path]) -> None:
    data, out = chained_history
    assert_refused(lambda: case_of(data, 1), "stakes are chained", "published")
    at_close = {row.model: row.atoms for row in case_of(data, 8, published=out).scene.stakes.rows}
    rows = table(out, "ledger", 8)
    assert {row["model"] for row in rows if row["at_risk"]} <= set(at_close)
    for row in rows:
        if row["at_risk"]:
            assert at_close[row["model"]] == int(Fraction(row["at_risk"]) * 10**18)


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        ('rules.payout = { bmc = "1" }', ("pays on bmc", "rounds/7/benchmark_stakes.parquet")),
        ('rules.payout = { fnc = "1" }', ("pays on fnc", "rounds/7/features.parquet")),
        ('rules.adjust = [{ policy = "uniqueness" }]\nscores.pairwise = false', ("cwmm_max", "scores.pairwise")),
        (
            'weights = [{ policy = "minimum_example_correlation", minimum = 0 }]',
            ("minimum_example_correlation", "rounds/7/example_predictions.parquet"),
        ),
        ('weights = [{ policy = "no_such_rules:weights" }]', ("no_such_rules",)),
    ],
)
def test_open_case__a_variant_that_needs_what_the_round_has_not_stops_it(
    tmp_path: Path, change: str, fragments: tuple[str, ...]
) -> None:
    """Else a tax on an absent score would tax nobody, without a word."""
    data = fixtures.write_round(tmp_path, benchmark_stakes=None, features=None, example_predictions=None)
    variant = mechanism(data, change, name="taxed")
    assert_refused(lambda: case_of(data, 7, variant), "taxed: ", *fragments)
    assert case_of(data, 7)


def test_open_case__a_baseline_by_standings_needs_the_rounds_own(tmp_path: Path) -> None:
    text = fixtures.TOURNAMENT + '[[weights]]\npolicy = "reputation"\n'
    data = fixtures.write_round(tmp_path, tournament=text)
    assert_refused(lambda: case_of(data, 7), "baseline: round 7", "reputation", "rounds/7/standings.parquet")


def test_staged__nothing_played_is_the_round_itself(case: RoundCase) -> None:
    for play in (Play(), Play(own=frozenset({"model_0001"}))):
        scene = staged(case, play)
        assert scene.ranks.models == case.ranks.models
        np.testing.assert_array_equal(scene.ranks.doubled, case.ranks.doubled)
        assert (scene.receipts, scene.stakes, scene.seed) == (case.receipts, case.scene.stakes, case.scene.seed)


def test_staged__left_out_ids_are_refused_as_anybodys_would_be(case: RoundCase) -> None:
    """One, many, all but two, all; infinity is no prediction either."""
    holes = {"one": [7], "some": list(range(0, 60, 2)), "nearly": list(range(58)), "all": list(range(60))}
    uploads = {name: drawn(at) for at, name in enumerate(holes)}
    for name, where in holes.items():
        uploads[name][where] = np.nan
    constant, outside = np.full(60, 0.5), drawn(9) * 3
    scene = staged(case, Play(uploads=uploads | {"constant": constant, "outside": outside}))
    found = codes(scene)
    assert found == {
        **dict.fromkeys(("one", "some", "nearly", "all"), "missing_id"),
        "constant": "constant",
        "outside": "out_of_range",
    }
    assert scene.ranks.models == case.ranks.models
    assert {each.digest for each in scene.receipts if each.model in found} == {None}


def test_staged__an_upload_takes_the_place_of_what_was_there_also_where_it_is_refused(case: RoundCase) -> None:
    (largest,) = staked(case, 1)
    hole = drawn(1)
    hole[0] = np.nan
    refused = staged(case, Play(uploads={largest.model: hole}))
    assert codes(refused) == {largest.model: "missing_id"}
    assert refused.ranks.models == tuple(model for model in case.ranks.models if model != largest.model)
    swapped = staged(case, Play(uploads={largest.model: drawn(2)}))
    assert swapped.ranks.models == case.ranks.models
    assert ranks_of(swapped, largest.model) == doubled(drawn(2))
    for model in refused.ranks.models:
        assert ranks_of(swapped, model) == ranks_of(refused, model) == ranks_of(case.scene, model)
    digests = [{each.model: each.digest for each in receipts} for receipts in (case.receipts, swapped.receipts)]
    assert {model for model in digests[0] if digests[0][model] != digests[1][model]} == {largest.model}


def test_staged__equal_uploads_have_equal_ranks_and_digests(case: RoundCase) -> None:
    nearly = drawn(5)
    nearly[-1] = 1 - nearly[-1]
    uploads = {"zz": drawn(5), "a_first": drawn(5).copy(), "model_0002b": nearly}
    scene = staged(case, Play(uploads=uploads))
    assert list(scene.ranks.models) == sorted(scene.ranks.models)
    assert set(scene.ranks.models) == {*case.ranks.models, *uploads}
    for name, predictions in uploads.items():
        assert ranks_of(scene, name) == doubled(predictions)
    digests = {each.model: each.digest for each in scene.receipts}
    assert digests["zz"] == digests["a_first"] != digests["model_0002b"]
    assert [each.model for each in scene.receipts] == sorted(digests)


def test_staged__the_withdrawn_are_gone_and_replaced_stakes_hold(case: RoundCase) -> None:
    first, second, third = staked(case, 3)
    scene = staged(
        case,
        Play(
            withdrawn=frozenset({first.model}),
            stakes=(replace(second, atoms=7, account="other"), replace(third, late=True), Stake("new", "who", 5)),
        ),
    )
    assert first.model not in {*scene.ranks.models, *(each.model for each in scene.receipts)}
    before, after = case.scene.stakes.by_model(), scene.stakes.by_model()
    assert before.keys() - after.keys() == {first.model}
    assert after.keys() - before.keys() == {"new"}
    assert (after[second.model].atoms, after[second.model].account, after[third.model].late) == (7, "other", True)
    same = after.keys() - {second.model, third.model, "new"}
    assert {model: after[model] for model in same} == {model: before[model] for model in same}
    assert case.scene.stakes.by_model() == before  # the case itself is as it was


def test_staged__who_withdraws_and_stakes_anew_is_there_with_the_new(case: RoundCase) -> None:
    (first,) = staked(case, 1)
    again = replace(first, atoms=3)
    scene = staged(case, Play(withdrawn=frozenset({first.model}), stakes=(again,), uploads={first.model: drawn(3)}))
    assert scene.stakes.by_model()[first.model] == again
    assert ranks_of(scene, first.model) == doubled(drawn(3))


def plays_in_files(case: RoundCase) -> dict[str, Play]:
    first, second, third = staked(case, 3)
    hole = drawn(11)
    hole[3:9] = np.nan
    return {
        "newcomers": Play(uploads={"b": drawn(3), "a": drawn(3)}, stakes=(Stake("a", "x", 10**21), Stake("b", "y", 9))),
        "a hole": Play(uploads={first.model: hole}),
        "withdrawn": Play(withdrawn=frozenset({first.model, second.model})),
        "late and less": Play(stakes=(replace(third, late=True), replace(second, atoms=10**18 + 1))),
        "another seed": Play(seed=2**64 - 1, uploads={third.model: drawn(4)}),
    }


@pytest.mark.parametrize("name", ["newcomers", "a hole", "withdrawn", "late and less", "another seed"])
def test_staged__is_paid_as_if_it_had_been_handed_in(data: Path, case: RoundCase, tmp_path: Path, name: str) -> None:
    """The play is written into the tournament's files, and the weekly run resolves them."""
    play, variant = plays_in_files(case)[name], mechanism(data, BAGGED)
    copy = with_play(data, tmp_path / "data", FIRST, play)
    toml = (copy / "tournament.toml").read_text()
    toml = toml.replace('corr = "0.5", mmc = "2.0"', 'mmc_bagged = "2", corr = "0.25"') + "[scores]\nbags = 5\n"
    (copy / "tournament.toml").write_text(toml)
    published = table(resolve(copy, tmp_path / "out", FIRST), "ledger", FIRST)
    outcome = evaluate(case, staged(case, play), variant, extent="money")
    assert outcome is not None
    assert as_evaluated(outcome.ledger) == as_stated(published)


def test_example_of__is_the_benchmark_meta_model_or_the_first_submission(data: Path, tmp_path: Path) -> None:
    case = case_of(data, FIRST)
    place = data / "rounds" / str(FIRST)
    files = {path.stem: pq.read_table(path).to_pydict() for path in (place / "benchmarks").iterdir()}
    predictions = {name: dict(zip(each["id"], each["prediction"], strict=True)) for name, each in files.items()}
    stakes = pq.read_table(place / "benchmark_stakes.parquet").to_pydict()
    expected = naive.meta_model(predictions, dict(zip(stakes["model"], map(float, stakes["stake"]), strict=True)))
    vector = np.array([expected[stock] for stock in sorted(expected)])
    assert example_of(case).tolist() == doubled(np.round(vector, 12))
    tiny = fixtures.write_round(tmp_path, benchmark_stakes=None)
    first = fixtures.submission(0).sort_by("id").column("prediction").to_numpy()
    assert example_of(case_of(tiny, 7)).tolist() == doubled(first)


def test_open_case__reads_the_submissions_once(data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    case = case_of(copy, FIRST)
    shutil.rmtree(copy)
    scene = staged(case, Play(uploads={"new": drawn(1)}, stakes=(Stake("new", "who", 10**18),)))
    assert evaluate(case, scene, mechanism(data)) is not None
    with pytest.raises(OperatorError):
        open_case(CaseRequest(str(copy), FIRST, mechanism(data), portfolio=False))
