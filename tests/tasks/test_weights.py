"""A round under a weight policy: the meta model follows it, what is at risk the stakes, and the manifest says so."""

from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.errors import ConflictError, OperatorError
from tasks.plan import AlreadyPublished, RoundPlan, RoundRequest, plan_round
from tasks.publish import read_manifest
from tasks.store import open_store
from tasks.verify import VerifyRequest, verify_published
from tasks.verify_data import compare_runs, verify_inputs
from tasks.verify_round import read_revisions
from tests.flows.in_process import resolve_in_process
from tests.operators_module import operators_module
from tests.reference import naive
from tests.tasks.fixtures import (
    MODELS,
    TOURNAMENT,
    File,
    assert_refused,
    money,
    round_tables,
    submission,
    with_column,
    write_round,
)

ROUND = 7
CAPPED = TOURNAMENT + '\n[[weights]]\npolicy = "cap_account"\ncap = "0.6"\n'
WEIGHTS = {"model_b": 0.6 * 17143.5 / 17243.5, "model_c": 0.4, "model_d": 0.6 * 100 / 17243.5}
"""By hand: account_1 holds model_b and model_d and nearly all stakes; model_c, with one atom, takes what is above."""


def published(out: Path, table: str) -> list[dict[str, object]]:
    (path,) = (out / f"{table}/round={ROUND}").iterdir()
    return pq.ParquetFile(path).read().to_pylist()


@pytest.fixture(scope="module")
def outs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The round by stake, and capped by account."""
    folder = tmp_path_factory.mktemp("weights")
    for name, text in (("stake", TOURNAMENT), ("capped", CAPPED)):
        data = write_round(folder / f"{name}-data", tournament=text)
        resolve_in_process(data, folder / name, ROUND)
    return folder / "stake", folder / "capped"


def test_resolve__the_meta_model_is_the_mean_by_the_policys_weights(outs: tuple[Path, Path]) -> None:
    tables = [submission(at).to_pydict() for at in range(len(MODELS))]
    predictions = {
        name: dict(zip(table["id"], table["prediction"], strict=True))
        for name, table in zip(MODELS, tables, strict=True)
    }
    expected = naive.weighted(predictions, WEIGHTS)
    for row in published(outs[1], "meta_model"):
        assert row["meta_model"] == pytest.approx(expected[str(row["id"])], abs=1e-14)


def test_resolve__scores_follow_the_policy_and_what_is_at_risk_does_not(outs: tuple[Path, Path]) -> None:
    by_stake, capped = (published(out, "ledger") for out in outs)
    assert [row["at_risk"] for row in by_stake] == [row["at_risk"] for row in capped]
    assert [row["corr"] for row in by_stake] == [row["corr"] for row in capped]
    assert [row["mmc"] for row in by_stake] != [row["mmc"] for row in capped]
    by_stake, capped = (published(out, "bags") for out in outs)
    assert [row["corr"] for row in by_stake] != [row["corr"] for row in capped]


def test_manifest__names_the_steps(outs: tuple[Path, Path]) -> None:
    found = [read_manifest(open_store(out), ROUND, 1).facts["weights"] for out in outs]
    assert found == [[], [{"policy": "cap_account", "value": "0.6"}]]


def test_plan_round__another_policy_is_another_round(outs: tuple[Path, Path], tmp_path: Path) -> None:
    data = write_round(tmp_path, tournament=CAPPED)
    with pytest.raises(ConflictError, match="already published as revision 1 with other rules, options or version"):
        resolve_in_process(data, outs[0], ROUND)


# Policies that look at more than stakes -----------------------------------------------------------------------------

OWN = "own_rules_beside_the_tournament"
NEAR = '\n[[weights]]\npolicy = "minimum_example_correlation"\nminimum = "0.3"\n'
SMALLEST = """\
def weights(amounts, field):
    smallest = min(filter(None, amounts))
    return [amount if amount == smallest else 0 for amount in amounts]
"""
STANDINGS = pa.table(
    {
        "model": ["model_b", "model_c", None, None],
        "account": [None, None, "account_1", "account_2"],
        "standing": pa.array([Decimal("0.03"), Decimal("0.01"), Decimal("0.02"), Decimal("-0.5")]),
    }
)
"""model_b and model_d are account_1's, model_c is account_2's."""


def counted_weights(out: Path, data: Path) -> dict[str, float]:
    """What each model counts in the published meta model, solved from it by least squares."""
    tables = [submission(at).sort_by("id").to_pydict()["prediction"] for at in range(len(MODELS))]
    meta_model = [row["meta_model"] for row in published(out, "meta_model")]
    found = np.linalg.lstsq(np.array([naive.g(each) for each in tables]).T, np.array(meta_model), rcond=None)[0]
    return {model: round(float(each), 9) for model, each in zip(MODELS, found, strict=True)}


def resolved(folder: Path, tournament: str, **files: File) -> dict[str, float]:
    data = write_round(folder / "data", tournament=tournament, **files)
    resolve_in_process(data, folder / "out", ROUND)
    return counted_weights(folder / "out", data)


def test_resolve__by_standings(tmp_path: Path) -> None:
    one = {"standings": STANDINGS}
    within = resolved(tmp_path / "a", TOURNAMENT + '[weights]\npolicy = "within_account"\n', **one)
    assert within == pytest.approx({"model_a": 0, "model_b": 17143.5 / 17243.5, "model_c": 0, "model_d": 100 / 17243.5})
    steps = '[[weights]]\npolicy = "equal"\n[[weights]]\npolicy = "reputation"\n'
    reputation = resolved(tmp_path / "b", TOURNAMENT + steps, **one)
    assert reputation == pytest.approx({"model_a": 0, "model_b": 0.75, "model_c": 0.25, "model_d": 0})
    limited = TOURNAMENT + '[weights]\npolicy = "limit_stake"\nlimit = "900"\nminimum = "0.03"\n'
    stakes = with_column(round_tables()["stakes"], "stake", money("1000", "1000", "1000", "0"))
    assert resolved(tmp_path / "c", limited, stakes=stakes, **one) == pytest.approx(
        {"model_a": 0, "model_b": 1000 / 2800, "model_c": 900 / 2800, "model_d": 900 / 2800}
    )


def test_resolve__copies_have_together_what_the_cap_allows_whoever_owns_them(tmp_path: Path) -> None:
    cap = '[weights]\npolicy = "cap_family"\ncap = "0.6"\nthreshold = "0.95"\n'
    stakes = with_column(round_tables()["stakes"], "stake", money("1000", "1000", "1000", "0"))
    copies = {"model_d.csv": None, "model_d.parquet": submission(2)}  # model_c's predictions
    resolved(tmp_path, TOURNAMENT + cap, stakes=stakes, submissions=copies)
    found = published(tmp_path / "out", "meta_model")
    g = [naive.g(submission(at).sort_by("id").to_pydict()["prediction"]) for at in range(3)]
    expected = 0.4 * g[1] + 0.6 * g[2]
    assert [row["meta_model"] for row in found] == pytest.approx(expected.tolist(), abs=1e-14)


def test_resolve__who_is_far_from_the_example_counts_nothing_and_is_paid_all_the_same(tmp_path: Path) -> None:
    """The example is model_c's own; by a benchmark model the same. Bags and dropout bags live on those who count."""
    asked = TOURNAMENT + "[portfolio]\n[true_contribution]\nbags = 6\nchunk = 3\nflagged_share = 1\n"
    by_file = resolved(tmp_path / "a", asked + NEAR, example_predictions=submission(2))
    data = write_round(tmp_path / "b" / "data", tournament=asked + NEAR + 'example = "bench_one"\n')
    pq.write_table(submission(2), data / f"rounds/{ROUND}/benchmarks/bench_one.parquet")
    resolve_in_process(data, tmp_path / "b" / "out", ROUND)
    expected = pytest.approx({"model_a": 0, "model_b": 0, "model_c": 1, "model_d": 0}, abs=1e-12)
    assert by_file == expected
    assert counted_weights(tmp_path / "b" / "out", data) == expected
    rows = {str(row["model"]): row for row in published(tmp_path / "a" / "out", "ledger") if row["entry"] == "model"}
    assert rows["model_b"]["at_risk"] == Decimal("17143.5")
    assert {rows[model]["status"] for model in ("model_b", "model_c", "model_d")} == {"scored"}
    bags = published(tmp_path / "a" / "out", "bags")
    assert {row["stakers"] for row in bags if row["kind"] == "mmc_bagged"} == {1}
    assert len([row for row in bags if row["kind"] == "tc"]) == 6


def test_resolve__a_policy_that_leaves_nobody_stops_the_round(tmp_path: Path) -> None:
    data = write_round(tmp_path, tournament=TOURNAMENT + NEAR.replace("0.3", "0.99"))
    with pytest.raises(OperatorError, match="leaves no model with a stake that counts"):
        resolve_in_process(data, tmp_path / "out", ROUND)
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_verify__a_second_run_of_a_round_by_policies_gives_the_same_bytes(tmp_path: Path) -> None:
    steps = '[[weights]]\npolicy = "cap_family"\ncap = "0.6"\nthreshold = "0.95"\n' + NEAR.replace("0.3", "-0.9")
    rules = TOURNAMENT + 'net_opposites = "0.9"\n' + steps + '[[weights]]\npolicy = "within_account"\n'
    data = write_round(tmp_path / "data", tournament=rules, standings=STANDINGS)
    for out in ("out", "again"):
        resolve_in_process(data, tmp_path / out, ROUND)
    stated, again = (read_revisions(open_store(tmp_path / out), ROUND)[0][-1] for out in ("out", "again"))
    assert {
        f"rounds/7/{name}.parquet" for name in ("standings", "example_predictions")
    } <= stated.manifest.inputs.keys()
    request = VerifyRequest(str(tmp_path / "out"), ROUND, None, str(data))
    assert verify_published(request).findings.problems == ()
    assert verify_inputs(open_store(data), stated.manifest).problems == ()
    assert compare_runs(stated, again).problems == ()


LACKING = {
    "standings": ('policy = "reputation"', "the weights follow reputation, which needs rounds/7/standings.parquet"),
    "example": ('policy = "minimum_example_correlation"\nminimum = 0', "needs rounds/7/example_predictions.parquet"),
    "benchmark": (
        'policy = "minimum_example_correlation"\nminimum = 0\nexample = "bench_on"',
        "needs the benchmark model bench_on; found none (did you mean 'bench_one'?)",
    ),
    "file": ('policy = "sys:exit"', "weights: the module 'sys' of 'sys:exit' must be a file"),
    "module": ('policy = "no_such_rules:weights"', "weights: there is no module 'no_such_rules'"),
}


@pytest.mark.parametrize("case", LACKING.values(), ids=LACKING.keys())
def test_plan_round__stops_before_any_work_where_a_policy_lacks_what_it_looks_at(
    tmp_path: Path, case: tuple[str, str]
) -> None:
    data = write_round(tmp_path / "data", tournament=f"{TOURNAMENT}[[weights]]\n{case[0]}\n", example_predictions=None)
    assert_refused(lambda: plan(data, tmp_path / "out"), case[1])


@pytest.mark.parametrize("policy", ["within_account", "reputation"])
def test_plan_round__stops_where_the_standings_are_of_others_than_a_policy_looks_at(
    tmp_path: Path, policy: str
) -> None:
    terms = f'{TOURNAMENT}[[weights]]\npolicy = "{policy}"\n'
    whose, column = ("accounts", "account") if policy == "within_account" else ("models", "model")
    others = STANDINGS.filter(pa.compute.is_null(STANDINGS[column]))
    data = write_round(tmp_path / "data", tournament=terms, standings=others)
    assert_refused(lambda: plan(data, tmp_path / "out"), f"standings.parquet: {policy} looks at {whose}, found none")
    empty = write_round(tmp_path / "empty", tournament=terms, standings=STANDINGS.slice(0, 0))
    assert isinstance(plan(empty, tmp_path / "out"), RoundPlan)


def plan(data: Path, out: Path) -> RoundPlan | AlreadyPublished:
    return plan_round(RoundRequest(str(data), str(out), ROUND), datetime.now(UTC))


# The operator's own -------------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an operator's module in the working directory, which is forgotten afterwards."""
    return operators_module(tmp_path, monkeypatch, OWN, SMALLEST)


def test_resolve__by_the_operators_own_function_which_is_part_of_the_rounds_identity(own: Path, tmp_path: Path) -> None:
    tournament = f'{TOURNAMENT}[[weights]]\npolicy = "{OWN}:weights"\n'
    found = resolved(tmp_path / "round", tournament)
    assert found == pytest.approx({"model_a": 0, "model_b": 0, "model_c": 1, "model_d": 0}, abs=1e-12)
    data, out = tmp_path / "round" / "data", tmp_path / "round" / "out"
    facts = read_manifest(open_store(out), ROUND, 1).facts
    assert facts["weights"] == [{"policy": f"{OWN}:weights", "value": None}]
    assert facts["versions"][f"{OWN}:weights"] == f"sha256:{sha256(own.read_bytes()).hexdigest()}"
    assert isinstance(plan(data, out), AlreadyPublished)
    own.write_text(own.read_text() + "# other weights\n")
    with pytest.raises(ConflictError, match=f"with other inputs: the module of {OWN}:"):
        plan(data, out)


def test_resolve__is_not_published_by_a_function_that_was_edited_after_it_was_loaded(own: Path, tmp_path: Path) -> None:
    """A backfill of years plans many rounds in one process: Python goes on with what it loaded for the first."""
    data = write_round(tmp_path / "data", tournament=f'{TOURNAMENT}[[weights]]\npolicy = "{OWN}:weights"\n')
    write_round(tmp_path / "data", ROUND + 1, tournament=(data / "tournament.toml").read_text())
    resolve_in_process(data, tmp_path / "out", ROUND)
    own.write_text(own.read_text() + "# other weights\n")
    assert_refused(
        lambda: resolve_in_process(data, tmp_path / "out", ROUND + 1),
        f"{own.name}: was edited after {OWN}:weights had been loaded from it; run the round again",
    )
    assert not list((tmp_path / "out" / "manifests" / f"round={ROUND + 1}").glob("*"))


def test_plan_round__an_operators_own_payouts_are_part_of_the_identity_too(own: Path, tmp_path: Path) -> None:
    own.write_text("def payouts(gains):\n    return [gain.payout // 2 for gain in gains]\n")
    tournament = TOURNAMENT + f'adjust = [{{ policy = "{OWN}:payouts" }}]\n'
    data, out = write_round(tmp_path / "data", tournament=tournament), tmp_path / "out"
    resolve_in_process(data, out, ROUND)
    assert read_manifest(open_store(out), ROUND, 1).facts["versions"][f"{OWN}:payouts"].startswith("sha256:")
    own.write_text(own.read_text() + "# other payouts\n")
    with pytest.raises(ConflictError, match=f"with other inputs: the module of {OWN}:"):
        plan(data, out)
    misspelt = write_round(tmp_path / "other", tournament=tournament.replace("payouts", "payout"))
    assert_refused(lambda: plan(misspelt, tmp_path / "none"), "has no function 'payout' (did you mean 'payouts'?)")


def test_plan_round__an_adjustment_needs_the_score_that_it_looks_at(tmp_path: Path) -> None:
    unique = 'adjust = [{ policy = "uniqueness" }]\n[scores]\npairwise = false\n'
    data = write_round(tmp_path, tournament=TOURNAMENT + unique)
    assert_refused(
        lambda: plan(data, tmp_path / "out"), "adjusts payouts by cwmm_max, which needs scores.pairwise = true"
    )


# Opposites ----------------------------------------------------------------------------------------------------------


def test_resolve__opposites_are_netted_where_the_rules_say_so(tmp_path: Path) -> None:
    """model_d submits 1 − p of model_c: what both have at risk against each other leaves the payout factor alone."""
    opposite = submission(2).to_pydict()
    mirror = pa.table({"id": opposite["id"], "prediction": [1 - each for each in opposite["prediction"]]})
    stakes = with_column(round_tables()["stakes"], "stake", money("30000", "36000", "72000", "0"))
    factors, taken = [], []
    for at, rule in enumerate(("", 'net_opposites = "0.95"\n')):
        files: dict[str, Any] = {"model_d.csv": None, "model_d.parquet": mirror}
        data = write_round(tmp_path / f"data_{at}", tournament=TOURNAMENT + rule, stakes=stakes, submissions=files)
        out = tmp_path / f"out_{at}"
        resolve_in_process(data, out, ROUND)
        ledger = {row["model"]: row for row in published(out, "ledger") if row["entry"] == "model"}
        factors.append(ledger["model_b"]["factor"])
        taken.append({model: ledger[model]["netted"] for model in ledger if ledger[model]["netted"]})
    assert [round(float(str(each)), 6) for each in factors] == [round(72 / 138, 6), round(72 / 78, 6)]
    assert taken == [{}, {"model_c": 30000, "model_d": 30000}]
