"""A round in which money would depend on scores that nobody has stops with the reason, and publishes nothing."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from scoring.errors import NotDueError, StakeweightError, UntrustworthyError
from tasks.conclude import conclude
from tasks.plan import RoundPlan, RoundRequest, plan_round
from tests.flows.in_process import resolve_in_process, work_in_process
from tests.tasks.fixtures import MODELS, TOURNAMENT, assert_refused, money, round_tables, write_round

LATER = datetime(2100, 1, 1, tzinfo=UTC)
TABLES = round_tables()
CHOSEN = TOURNAMENT.replace(
    'payout = { corr = "0.5", mmc = "2.0" }', 'multipliers = "model"\nchoices = [{ corr = ["1"], fnc = ["0", "1"] }]'
)


def plan(root: Path, **files: object) -> RoundPlan:
    write_round(root / "data", **files)
    found = plan_round(RoundRequest(str(root / "data"), str(root / "out"), 7), LATER)
    assert isinstance(found, RoundPlan)
    return found


def paid_on(score: str) -> str:
    return TOURNAMENT.replace("mmc =", f"{score} =")


def choosing(**columns: list[str]) -> pa.Table:
    table = TABLES["stakes"]
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    return table


@pytest.mark.parametrize(
    ("files", "fragments"),
    [
        (
            {"tournament": paid_on("fnc"), "features": None},
            ["tiny:R1 pays on fnc, which needs rounds/7/features.parquet"],
        ),
        (
            {"tournament": paid_on("bmc"), "benchmark_stakes": None},
            ["pays on bmc", "rounds/7/benchmark_stakes.parquet"],
        ),
        ({"tournament": paid_on("cwmm_max") + "[scores]\npairwise = false\n"}, ["pays on cwmm_max", "scores.pairwise"]),
        ({"tournament": CHOSEN}, ["rounds/7/stakes.parquet", "needs a column corr_multiplier", "found none"]),
        (
            {
                "tournament": CHOSEN,
                "features": None,
                "stakes": choosing(corr_multiplier=["1"] * 4, fnc_multiplier=["1", "0", "0", "0"]),
            },
            ["pays on fnc"],
        ),
    ],
    ids=["fnc", "bmc", "pairs", "no_choice", "chosen"],
)
def test_plan_round__stops_where_a_paid_score_cannot_exist(
    tmp_path: Path, files: dict[str, object], fragments: list[str]
) -> None:
    assert_refused(lambda: plan(tmp_path, **files), *fragments)


def test_plan_round__a_score_that_nobody_at_risk_chose_may_be_missing(tmp_path: Path) -> None:
    unstaked_wants_fnc = choosing(corr_multiplier=["1"] * 4, fnc_multiplier=["0", "0", "0", "1"])
    assert plan(tmp_path, tournament=CHOSEN, features=None, stakes=unstaked_wants_fnc).sources


NUMERAI = 'name = "mine"\ncurrency = "NMR"\ndecimals = 18\nrulebook = "numerai"\n'
OFFERED = 500  # numerai:R485 offers corr and tc


def offered(root: Path, tournament: str = NUMERAI, **tc: list[str]) -> Path:
    """Writes a round without a risk model, whose rules offer True Contribution."""
    stakes = choosing(corr_multiplier=["1"] * 4, **tc)
    universe = TABLES["universe"].select(["id"])
    return write_round(
        root / "data", OFFERED, tournament=tournament, universe=universe, factor_covariance=None, stakes=stakes
    )


@pytest.mark.parametrize("tc", [{}, {"tc_multiplier": ["0", "0", "0", "3"]}], ids=["no_column", "chosen_without_stake"])
def test_resolve__true_contribution_that_is_on_offer_but_not_chosen_asks_for_no_risk_model(
    tmp_path: Path, tc: dict[str, list[str]]
) -> None:
    found = resolve_in_process(offered(tmp_path, **tc), tmp_path / "out", OFFERED)
    assert found.manifest.facts["statuses"] == {"scored": 3, "unstaked": 1}
    assert "true_contribution" not in found.manifest.facts
    assert not any("factor_covariance" in path for path in found.manifest.inputs)


@pytest.mark.parametrize(
    ("tournament", "tc"),
    [
        (NUMERAI, {"tc_multiplier": ["0", "0.5", "0", "0"]}),
        (NUMERAI + "[portfolio]\n", {}),
        (TOURNAMENT.replace("mmc =", "tc_raw ="), {}),
        (CHOSEN.replace('fnc = ["0", "1"]', 'tc_raw = "any"'), {"tc_raw_multiplier": ["0", "0.5", "0", "0"]}),
    ],
    ids=["chosen", "portfolio", "fixed", "raw_chosen"],
)
def test_plan_round__true_contribution_that_is_paid_or_asked_for_needs_a_risk_model(
    tmp_path: Path, tournament: str, tc: dict[str, list[str]]
) -> None:
    request = RoundRequest(str(offered(tmp_path, tournament, **tc)), str(tmp_path / "out"), OFFERED)
    assert_refused(lambda: plan_round(request, LATER), f"rounds/{OFFERED}/factor_covariance.parquet: no such file")


def test_resolve__a_round_whose_submissions_are_all_refused_names_codes_and_an_example(tmp_path: Path) -> None:
    broken = {f"{model}.csv": b"id,prediction\n" for model in MODELS} | {f"{model}.parquet": None for model in MODELS}
    write_round(tmp_path / "data", submissions=broken)
    with pytest.raises(UntrustworthyError, match=r"all 4 submissions were refused \(4 missing_id\).*model_"):
        resolve_in_process(tmp_path / "data", tmp_path / "out", 7)
    assert not (tmp_path / "out" / "manifests").exists()


def test_resolve__a_round_to_which_no_staker_submitted_is_not_due(tmp_path: Path) -> None:
    others = TABLES["stakes"].set_column(0, "model", pa.array(["w", "x", "y", "z"]))
    write_round(tmp_path / "data", stakes=others)
    with pytest.raises(NotDueError, match="no model has both a stake and a valid submission"):
        resolve_in_process(tmp_path / "data", tmp_path / "out", 7)


def test_conclude__publishes_nothing_where_nobody_at_risk_has_a_score(tmp_path: Path) -> None:
    table = TABLES["targets"]
    # The only target that differs belongs to a stock outside the universe: over the common ids it is constant.
    ids = [*table.column("id").to_pylist(), "elsewhere"]
    constant = pa.table({"id": ids, "target": [0.5] * (len(ids) - 1) + [1.0], "return": [0.0] * len(ids)})
    write_round(tmp_path / "data", targets=constant, tournament=paid_on("corr_tie_broken"))
    with pytest.raises(StakeweightError, match="has a score to be paid on") as caught:
        resolve_in_process(tmp_path / "data", tmp_path / "out", 7)
    assert caught.value.exit_code == 6
    assert not (tmp_path / "out" / "manifests").exists()


@pytest.mark.parametrize("paid", [True, False])
def test_conclude__pays_nobody_on_true_contribution_that_is_not_trustworthy(tmp_path: Path, paid: bool) -> None:
    terms = "[portfolio]\n[true_contribution]\nbags = 20\nchunk = 20\n"
    planned = plan(tmp_path, tournament=(paid_on("tc") if paid else TOURNAMENT) + terms)
    work = work_in_process(planned)
    assert work.true_contribution is not None
    flagged = tuple(replace(report, status="failed") for report in work.true_contribution.reports[:2])
    reports = flagged + work.true_contribution.reports[2:]
    doubtful = replace(work, true_contribution=replace(work.true_contribution, reports=reports))
    if paid:
        with pytest.raises(UntrustworthyError, match=r"2 of 20 bags are failed, at most a share of 0\.05 may be"):
            conclude(planned, doubtful)
        assert not (tmp_path / "out" / "manifests").exists()
    else:
        facts = conclude(planned, doubtful).manifest.facts
        assert facts["true_contribution"]["flagged_bags"] == 2
        assert facts["bag_chunk_size"] == 20


def test_ledger__takes_multipliers_with_any_number_of_zeros(tmp_path: Path) -> None:
    written = TOURNAMENT.replace('corr = "0.5"', f'corr = "0.5{"0" * 44}"')
    write_round(tmp_path / "data", tournament=written, stakes=TABLES["stakes"].set_column(2, "stake", money(*"1234")))
    assert resolve_in_process(tmp_path / "data", tmp_path / "out", 7).summary is not None
