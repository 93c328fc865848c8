"""Tables of what was paid hold what was published, to the atom; figures by hand in fractions."""

import math
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from scoring.lab.plays import Play
from tasks.lab.evaluate import Known
from tasks.lab.paid import RoundPaid, evaluate_case, models_frame, models_table, rounds_frame, rounds_table
from tasks.lab.results import MODEL_COLUMNS, ROUND_COLUMNS, SCORES
from tests.tasks import fixtures
from tests.tasks.lab.history import FIRST, LAST, SPEC, case_of, mechanism, resolve, table, units, with_play


def baseline(data: Path, out: Path, number: int) -> RoundPaid:
    (found,) = evaluate_case(case_of(data, number, published=out), [mechanism(data, name="baseline")], {})
    return found


@pytest.mark.parametrize("number", [FIRST, LAST])
def test_evaluate_case__money_is_what_is_published(data: Path, out: Path, number: int) -> None:
    found, rows = baseline(data, out, number), table(out, "ledger", number)
    models = {row["model"]: row for row in rows if row["entry"] == "model" and row["at_risk"]}
    assert [row["model"] for row in found.models] == list(models)
    for row in found.models:
        published = models[row["model"]]
        for key in ("account", "at_risk", "gross_payout", "payout", "burn"):
            assert row[key] == published[key]
        assert (row["variant"], row["round"]) == ("baseline", number)
        net = units(published["payout"], 18) - units(published["burn"], 18)
        assert found.rates[row["model"]] == math.floor(Fraction(net * 10**12, units(published["at_risk"], 18)))
        assert found.stakes[row["model"]] == units(published["at_risk"], 18)
    totals = {key: sum(row[key] for row in models.values()) for key in ("at_risk", "gross_payout", "payout", "burn")}
    assert {key: found.figures[key] for key in totals} == totals
    assert found.at_risk_atoms == units(totals["at_risk"], 18)
    assert found.figures["factor"] == rows[0]["factor"]
    assert found.reproduced is True


def test_evaluate_case__scores_are_what_is_published(data: Path, out: Path) -> None:
    found = baseline(data, out, FIRST)
    published = {row["model"]: row for row in table(out, "scores", FIRST)}
    for row in found.models:
        for key in SCORES:
            assert row[key] == published[row["model"]][key]
            stated = found.units[row["model"]].get(key)
            assert (None if stated is None else stated / 10**12) == row[key]


def test_evaluate_case__shares_by_hand(data: Path, out: Path) -> None:
    found = baseline(data, out, FIRST)
    rows = [row for row in table(out, "ledger", FIRST) if row["entry"] == "model" and row["at_risk"]]
    total = sum(Fraction(row["at_risk"]) for row in rows)
    shares = {row["model"]: Fraction(row["at_risk"]) / total for row in rows}
    accounts: dict[str, Fraction] = {}
    for row in rows:
        accounts[row["account"]] = accounts.get(row["account"], Fraction(0)) + shares[row["model"]]
    figures = found.figures
    assert figures["effective_models"] == pytest.approx(float(1 / sum(each * each for each in shares.values())))
    assert figures["largest_model_share"] == pytest.approx(float(max(shares.values())))
    assert figures["largest_account_share"] == pytest.approx(float(max(accounts.values())))
    assert {row["model"]: row["weight"] for row in found.models} == pytest.approx(
        {model: float(each) for model, each in shares.items()}
    )


def test_evaluate_case__an_account_weighs_what_its_models_weigh_together(data: Path, out: Path) -> None:
    equal = mechanism(data, 'weights = [{ policy = "equal" }]')
    (found,) = evaluate_case(case_of(data, FIRST, equal), [equal], {}, Known())
    rows = [row for row in table(out, "ledger", FIRST) if row["entry"] == "model" and row["at_risk"]]
    most = max(Counter(row["account"] for row in rows).values())
    assert most > 1
    assert found.figures["effective_models"] == pytest.approx(len(rows))
    assert found.figures["largest_model_share"] == pytest.approx(1 / len(rows))
    assert found.figures["largest_account_share"] == pytest.approx(most / len(rows))


def test_evaluate_case__variants_are_not_compared_with_what_is_published(data: Path, out: Path) -> None:
    case = case_of(data, FIRST, published=out)
    variants = [mechanism(data, "", "same"), mechanism(data, 'rules.clip = "0.01"', "clipped")]
    same, clipped = evaluate_case(case, variants, {}, Known())
    assert (same.reproduced, clipped.reproduced) == (None, None)
    assert {**same.figures, "variant": "baseline"}.items() >= {
        key: value for key, value in baseline(data, out, FIRST).figures.items() if key != "portfolio_return"
    }.items()
    for row in clipped.models:
        assert max(row["payout"], row["burn"]) <= row["at_risk"] / 100


def test_evaluate_case__who_has_left_is_not_there_and_others_are_paid_as_if_he_had_not_come(
    data: Path, tmp_path: Path
) -> None:
    """The oracle is a tournament without his rows and files."""
    case = case_of(data, FIRST)
    gone = {row.model for row in case.scene.stakes.rows if row.account == "account_002"}
    variant = mechanism(data, "leave_out_largest = 1", "smaller")
    (found,) = evaluate_case(case, [variant], {1: frozenset(gone)}, Known())
    copy = with_play(data, tmp_path / "data", FIRST, Play(withdrawn=frozenset(gone)))
    rows = table(resolve(copy, tmp_path / "out", FIRST), "ledger", FIRST)
    published = {row["model"]: (row["payout"], row["burn"]) for row in rows if row["model"] and row["at_risk"]}
    assert gone
    assert {row["model"]: (row["payout"], row["burn"]) for row in found.models} == published
    assert math.fsum(row["weight"] for row in found.models) == pytest.approx(1)


def test_evaluate_case__nothing_at_risk_is_left_out(tmp_path: Path) -> None:
    stakes = fixtures.with_column(fixtures.round_tables()["stakes"], "stake", fixtures.money("0", "0", "0", "0"))
    data = fixtures.write_round(tmp_path, stakes=stakes)
    case = case_of(data, 7)
    assert evaluate_case(case, [mechanism(data)], {}) == []
    assert evaluate_case(case, [mechanism(data), mechanism(data, 'rules.clip = "0.5"')], {}, Known()) == []


def test_tables__keep_money_exact_and_what_is_absent_absent(data: Path, out: Path) -> None:
    paid = [baseline(data, out, number) for number in SPEC.round_numbers]
    rounds, models = rounds_table(paid), models_table(paid)
    assert rounds.column_names == list(ROUND_COLUMNS)
    assert set(models.column_names) == {*MODEL_COLUMNS, "gross_payout"}
    for read in (rounds, models):
        for key in ("at_risk", "gross_payout", "payout", "burn"):
            assert str(read.schema.field(key).type) == "decimal128(38, 18)"
    assert rounds.column("payout").to_pylist() == [each.figures["payout"] for each in paid]
    atoms = [units(row["payout"], 18) for each in paid for row in each.models]
    assert [units(each, 18) for each in models.column("payout").to_pylist()] == atoms
    assert any(each % 10**6 for each in atoms if each)  # a double would have lost these
    assert models.column("tc").null_count == len(models)
    assert str(rounds.schema.field("closes_at").type) == "timestamp[us, tz=UTC]"
    assert sorted(rounds.column("round").to_pylist()) == list(SPEC.round_numbers)


def test_frames__are_the_tables_as_doubles(data: Path, out: Path) -> None:
    paid = [baseline(data, out, number) for number in (FIRST, LAST)]
    rounds, models = rounds_frame(paid), models_frame(paid)
    assert tuple(rounds.columns) == ROUND_COLUMNS
    assert rounds["payout"].tolist() == [each.figures["payout"] for each in paid]
    assert set(MODEL_COLUMNS) <= set(models.columns)
    for key in ("at_risk", "weight", "payout", "burn", *SCORES):
        assert models[key].dtype == float
    assert models["payout"].tolist() == [float(row["payout"]) for each in paid for row in each.models]
    assert models["tc"].isna().all()
