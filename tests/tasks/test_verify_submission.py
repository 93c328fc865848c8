"""One participant, his own file and what is published: every bit comes out again, or what does not is named."""

import math
import statistics
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from scipy.stats import norm, rankdata

from scoring.errors import OperatorError
from scoring.published import SCORE_KEYS
from scoring.rounds import Universe
from tasks.findings import Findings
from tasks.stocks import parse_targets
from tasks.verify import VerifyRequest, own_files, verify_published
from tests.tasks import published_round
from tests.tasks.fixtures import stock_ids, submission, with_column
from tests.tasks.published_round import (
    LATE,
    MISSING,
    NUMBER,
    REFUSED,
    SCORED,
    UNSTAKED,
    changed_submission,
    copy,
    edit_manifest,
    own_submission,
    table_file,
    tamper,
    with_cell,
)

LOCAL = ("corr", "corr_tie_broken", "cwmm", "mmc", "mmc_richard", "mmc_mike", "bmc", "mmc_bagged")
ATOM = Decimal("0.000000000000000001")


@pytest.fixture(scope="module")
def round_of(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return published_round.publish(tmp_path_factory.mktemp("round"))


@pytest.fixture
def out(round_of: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy that may be spoiled."""
    return copy(round_of[1], tmp_path)


def verified(out: Path, file: Path, model: str = SCORED, features: Path | None = None) -> Findings:
    return verify_published(VerifyRequest(str(out), NUMBER, own_files(model, file, features))).findings


def named(findings: Findings, model: str = SCORED) -> set[str]:
    """What the problems of one model are about."""
    lines = (line.partition(f"model {model}: ")[2] for line in findings.problems)
    return {line.partition(":")[0] for line in lines if line}


def recomputed(findings: Findings, model: str = SCORED) -> dict[str, str]:
    """The scores that were recomputed."""
    lines = [line.split() for line in findings.checked if line.startswith(f"model {model}: ")]
    return {words[2]: words[3] for words in lines if words[2] in SCORE_KEYS}


def test_verify_submission__recomputes_every_local_score_from_one_file(
    round_of: tuple[Path, Path], tmp_path: Path
) -> None:
    out = round_of[1]
    found = verified(out, own_submission(tmp_path))
    assert found.problems == ()
    assert tuple(recomputed(found)) == LOCAL
    row = pq.ParquetFile(table_file(out, "scores")).read().to_pylist()[1]
    assert row["model"] == SCORED
    assert {key: float(value) for key, value in recomputed(found).items()} == {key: row[key] for key in LOCAL}
    assert any(f"model {SCORED}: payout" in line for line in found.checked)
    assert any("fnc was not recomputed, it needs features.parquet" in note for note in found.notes)
    assert any("cwmm_max, cwmm_mean were not recomputed, they need the other" in note for note in found.notes)


def test_verify_submission__recomputes_fnc_with_the_features(round_of: tuple[Path, Path], tmp_path: Path) -> None:
    data, out = round_of
    features = data / f"rounds/{NUMBER}/features.parquet"
    found = verified(out, own_submission(tmp_path), features=features)
    assert found.problems == ()
    assert "fnc" in recomputed(found)
    other = tmp_path / "features.parquet"
    table = pq.read_table(features)
    pq.write_table(with_column(table, "feature_0", pa.array(range(20), pa.int8())), other)
    found = verified(out, own_submission(tmp_path), features=other)
    assert named(found) == {"fnc"}
    assert any("another file than the round's" in note for note in found.notes)


def test_verify_submission__the_mean_of_the_full_target_is_what_the_published_targets_cannot_tell(
    round_of: tuple[Path, Path], out: Path, tmp_path: Path
) -> None:
    """The round has targets for ids outside its universe, and CORR centres on all of them."""
    data, _ = round_of
    file = data / f"rounds/{NUMBER}/targets.parquet"
    targets = parse_targets(file.read_bytes(), "targets", Universe(tuple(sorted(stock_ids()))))
    assert targets.full_mean != targets.target.mean()
    edit_manifest(out, lambda content: content.update(target_mean=repr(float(targets.target.mean()))))
    assert named(verified(out, own_submission(tmp_path))) >= {"corr"}


def test_verify_submission__does_not_mind_how_the_file_is_written(round_of: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    pyarrow.csv.write_csv(submission(1).sort_by([("id", "descending")]), path)
    assert verified(round_of[1], path).problems == ()


@pytest.mark.parametrize("model", [UNSTAKED, LATE])
def test_verify_submission__recomputes_scores_that_are_not_paid(
    round_of: tuple[Path, Path], tmp_path: Path, model: str
) -> None:
    seed = ("model_a", "model_b", "model_c").index(model)
    found = verified(round_of[1], own_submission(tmp_path, seed), model)
    assert found.problems == ()
    assert tuple(recomputed(found, model)) == LOCAL
    assert any("nothing is paid" in note for note in found.notes)


# What was changed is named -----------------------------------------------------------------------------------------


def test_verify_submission__a_changed_prediction_is_named(round_of: tuple[Path, Path], tmp_path: Path) -> None:
    found = verified(round_of[1], changed_submission(tmp_path))
    assert named(found) >= {"submission_digest", *LOCAL}
    assert named(found) & {"payout", "burn"}


def test_verify_submission__a_change_that_moves_no_rank_is_named_by_the_digest(
    round_of: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "mine.parquet"
    squared = [value * value for value in submission(1).column("prediction").to_pylist()]
    pq.write_table(with_column(submission(1), "prediction", squared), path)
    assert named(verified(round_of[1], path)) == {"submission_digest"}


CHANGES: dict[str, tuple[str, str, object, set[str]]] = {
    **{f"score_{key}": ("scores", key, 0.123456789012, {key}) for key in LOCAL},
    "ledger_corr": ("ledger", "corr", Decimal("0.123456789012"), {"corr", "raw_rate must be"}),
    "ledger_payout": ("ledger", "payout", lambda paid: paid + ATOM, {"payout"}),
    "ledger_burn": ("ledger", "burn", lambda burnt: burnt + ATOM, {"burn"}),
    "ledger_stake_after": ("ledger", "stake_after", lambda after: after + ATOM, {"stake_after"}),
    "ledger_raw_rate": ("ledger", "raw_rate", lambda rate: rate + ATOM, {"raw_rate"}),
    "ledger_clipped_rate": ("ledger", "clipped_rate", lambda rate: rate / 2, {"clipped_rate"}),
    "ledger_digest": ("ledger", "submission_digest", "0" * 64, {"submission_digest"}),
}


@pytest.mark.parametrize("case", CHANGES)
def test_verify_submission__a_changed_score_or_payout_is_named_with_both_values(
    out: Path, tmp_path: Path, case: str
) -> None:
    table, column, value, expected = CHANGES[case]
    tamper(out, table, with_cell(column, SCORED, value), restate=True)
    found = verified(out, own_submission(tmp_path))
    own = [line for line in found.problems if f"model {SCORED}: {column}: stated" in line]
    assert own
    assert all("recomputed" in line or column == "submission_digest" for line in own)
    assert any(line.startswith(f"{table}/round=7/1-") for line in own)
    assert {name for name in named(found) if name in (*LOCAL, "payout")} <= expected | {"payout"}


@pytest.mark.parametrize(("price", "score"), [("mmc_price", "mmc"), ("mmc_bagged_price", "mmc_bagged")])
def test_verify_submission__a_changed_price_moves_the_score_that_follows_from_it(
    out: Path, tmp_path: Path, price: str, score: str
) -> None:
    change = with_cell(price, "stock_03", lambda value: value + 0.01, by="id")
    tamper(out, "meta_model", change, restate=True)
    found = verified(out, own_submission(tmp_path))
    assert score in named(found)
    assert named(found) & set(LOCAL) == {score}


# A round that pays on True Contribution ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published_round.publish(tmp_path_factory.mktemp("solved"), published_round.TRUE_CONTRIBUTION)[1]


def column(out: Path, table: str, name: str, by: str = "model") -> dict[str, Any]:
    """A column of a published table by the row's own name."""
    rows = pq.ParquetFile(table_file(out, table)).read().to_pydict()
    return dict(zip(rows[by], rows[name], strict=True))


def product_with_price(out: Path, seed: int) -> float:
    """Φ⁻¹(rank)·price of a submission, by scipy alone."""
    file, price = submission(seed).to_pydict(), column(out, "meta_model", "tc_price", by="id")
    gaussian = norm.ppf((rankdata(file["prediction"]) - 0.5) / len(price))
    return math.fsum(value * price[stock] for stock, value in zip(file["id"], gaussian, strict=True))


@pytest.mark.parametrize(("model", "seed"), [(UNSTAKED, 0), (SCORED, 1)])
def test_verify_submission__recomputes_true_contribution_of_a_round_that_pays_on_it(
    solved: Path, tmp_path: Path, model: str, seed: int
) -> None:
    found = verified(solved, own_submission(tmp_path, seed), model)
    assert found.problems == ()
    own = {key: float(value) for key, value in recomputed(found, model).items()}
    assert set(own) == {*LOCAL, "tc", "tc_raw"}
    raw, tc = (column(solved, "scores", key) for key in ("tc_raw", "tc"))
    assert (own["tc_raw"], own["tc"]) == (raw[model], tc[model])
    expected = product_with_price(solved, seed)
    assert abs(expected) > 1e-3
    assert own["tc_raw"] == pytest.approx(expected, rel=0, abs=1e-12)
    on_time = [value for value in raw.values() if value is not None]
    scale = 0.04 / math.sqrt(math.fsum(value * value for value in on_time) / len(on_time))
    assert own["tc"] == pytest.approx(expected * scale, rel=0, abs=1e-11)


def test_verify_submission__recomputes_the_payout_on_true_contribution(solved: Path, tmp_path: Path) -> None:
    found = verified(solved, own_submission(tmp_path))
    stake, factor, corr, tc, payout, burn = (
        Fraction(column(solved, "ledger", name)[SCORED])
        for name in ("at_risk", "factor", "corr", "tc", "payout", "burn")
    )
    due = stake * factor * (corr / 100 + tc / 5)
    assert abs(tc / 5) > abs(corr / 100)
    assert abs(due) < stake / 20
    assert payout - burn == Fraction(int(due * 10**18), 10**18)
    assert any(
        line.startswith(f"model {SCORED}: payout {Decimal(int(payout * 10**18)).scaleb(-18):f},")
        for line in found.checked
    )


@pytest.mark.parametrize("scaling", ["raw", "z_score"])
def test_verify_submission__recomputes_true_contribution_however_it_is_scaled(tmp_path: Path, scaling: str) -> None:
    rules = f'{published_round.TRUE_CONTRIBUTION}scaling = "{scaling}"\n'
    _, out = published_round.publish(tmp_path, rules)
    found = verified(out, own_submission(tmp_path))
    assert found.problems == ()
    raw = [value for value in column(out, "scores", "tc_raw").values() if value is not None]
    centre, spread = (statistics.fmean(raw), statistics.pstdev(raw)) if scaling == "z_score" else (0.0, 0.04)
    expected = (product_with_price(out, 1) - centre) * 0.04 / spread
    assert float(recomputed(found)["tc"]) == pytest.approx(expected, rel=0, abs=1e-11)


SOLVED_CHANGES: dict[str, tuple[str, Callable[[pa.Table], pa.Table], set[str]]] = {
    "score_tc": ("scores", with_cell("tc", SCORED, lambda value: value + 1e-12), {"tc"}),
    "score_tc_raw": ("scores", with_cell("tc_raw", SCORED, lambda value: value + 1e-12), {"tc_raw"}),
    "ledger_tc": ("ledger", with_cell("tc", SCORED, lambda value: value + Decimal("1e-12")), {"tc"}),
    "ledger_payout": ("ledger", with_cell("payout", SCORED, lambda paid: paid + ATOM), {"payout"}),
    "price": (
        "meta_model",
        with_cell("tc_price", "stock_03", lambda value: value + 1e-6, by="id"),
        {"tc", "tc_raw", "raw_rate", "payout"},
    ),
}


@pytest.mark.parametrize("case", SOLVED_CHANGES)
def test_verify_submission__a_change_to_what_true_contribution_pays_is_named(
    solved: Path, tmp_path: Path, case: str
) -> None:
    table, change, expected = SOLVED_CHANGES[case]
    out = copy(solved, tmp_path)
    tamper(out, table, change, restate=True)
    found = named(verified(out, own_submission(tmp_path)))
    assert found >= expected
    assert found & {*LOCAL, "tc", "tc_raw"} == expected & {"tc", "tc_raw"}


@pytest.mark.parametrize("key", ["centre", "factor"])
def test_verify_submission__a_changed_scaling_of_true_contribution_is_named(
    solved: Path, tmp_path: Path, key: str
) -> None:
    out = copy(solved, tmp_path)
    edit_manifest(out, lambda content: content["true_contribution"].update({key: 0.5}))
    found = named(verified(out, own_submission(tmp_path)))
    assert found >= {"tc", "payout"}
    assert not found & {*LOCAL, "tc_raw"}


def test_verify_submission__a_changed_prediction_changes_true_contribution(solved: Path, tmp_path: Path) -> None:
    found = named(verified(solved, changed_submission(tmp_path)))
    assert found >= {"submission_digest", "tc", "tc_raw", "raw_rate"}
    assert found & {"payout", "burn"}


# Files that are refused, missing, or nobody's ----------------------------------------------------------------------


def test_verify_submission__a_refused_file_agrees_with_the_refusal_that_is_published(
    round_of: tuple[Path, Path],
) -> None:
    data, out = round_of
    found = verified(out, data / f"rounds/{NUMBER}/submissions/{REFUSED}.csv", REFUSED)
    assert found.problems == ()
    assert any("refused as" in line and "as is published" in line for line in found.checked)


def test_verify_submission__a_refused_file_of_a_scored_model_is_named(
    round_of: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("id,prediction\n")
    assert named(verified(round_of[1], path)) == {"submission"}


def test_verify_submission__a_file_of_a_model_that_sent_none_is_named(
    round_of: tuple[Path, Path], tmp_path: Path
) -> None:
    assert "submission_digest" in named(verified(round_of[1], own_submission(tmp_path), MISSING), MISSING)


def test_verify_submission__tells_what_cannot_be_recomputed_where_a_table_is_gone(out: Path, tmp_path: Path) -> None:
    table_file(out, "meta_model").unlink()
    found = verified(out, own_submission(tmp_path))
    assert any("not recomputed, meta_model cannot be read" in note for note in found.notes)
    assert not found.ok


@pytest.mark.parametrize(
    ("model", "file", "message"),
    [
        ("model_z", "mine.parquet", "there is no model 'model_z' in the ledger"),
        (SCORED, "nothing.parquet", "cannot be read"),
        (SCORED, "mine.xlsx", "must end in .parquet or .csv"),
    ],
)
def test_verify_submission__wrong_names_are_the_participants_mistake(
    round_of: tuple[Path, Path], tmp_path: Path, model: str, file: str, message: str
) -> None:
    own_submission(tmp_path)
    with pytest.raises(OperatorError, match=message):
        verified(round_of[1], tmp_path / file, model)


def test_own_files__needs_model_and_submission_together() -> None:
    assert own_files(None, None, None) is None
    for given in ((SCORED, None, None), (None, Path("a.csv"), None), (None, None, Path("features.parquet"))):
        with pytest.raises(OperatorError, match="--model and --submission"):
            own_files(*given)
