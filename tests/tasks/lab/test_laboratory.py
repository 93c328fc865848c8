"""Between file and findings: which rounds, what was known when, who leaves, and data that are made once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from scoring.chain import RoundDates
from scoring.errors import OperatorError
from tasks.lab.laboratory import Laboratory, known_of, left_of, open_laboratory
from tasks.lab.paid import RoundPaid
from tests.tasks import fixtures
from tests.tasks.fixtures import assert_refused
from tests.tasks.lab.history import SPEC, carry_out

START = datetime(2026, 1, 5, 13, tzinfo=UTC)
WEEK = timedelta(weeks=1)
SYNTHETIC = 'title = "t"\n[synthetic]\nrounds = 2\nmodels = 6\nstocks = 20\nseed = 3\n'


def opened(folder: Path, text: str) -> Laboratory:
    (folder / "tax.toml").write_text(text)
    return open_laboratory(folder / "tax.toml", folder / "out")


def on(folder: Path, data: Path, text: str) -> Laboratory:
    return opened(folder, f'title = "t"\ndata = "{data}"\n{text}')


def paid(number: int, rows: list[tuple[str, str | None, str, int | None, int]]) -> RoundPaid:
    """A round of the baseline: model, account, at risk, MMC and rate in units."""
    models: list[dict[str, Any]] = [
        {"model": model, "account": account, "at_risk": Decimal(stake)} for model, account, stake, *_ in rows
    ]
    return RoundPaid(
        figures={"round": number},
        models=models,
        at_risk_atoms=1000 + number,
        rates={row[0]: row[4] for row in rows},
        units={row[0]: {"mmc": row[3]} for row in rows},
        stakes={row[0]: int(Decimal(row[2]) * 10**18) for row in rows},
        reproduced=None,
    )


def test_open_laboratory__rounds_that_have_resolved_in_the_order_of_their_close(data: Path, tmp_path: Path) -> None:
    assert [each.number for each in on(tmp_path, data, "").rounds] == list(SPEC.round_numbers)
    assert [each.number for each in on(tmp_path, data, 'rounds = "12-13"\n').rounds] == [12, 13]
    assert [each.number for each in on(tmp_path, data, "rounds = 16\n").rounds] == [16]
    fixtures.write_round(tmp_path / "tiny", 3)
    early = fixtures.ROUND.format(number=9).replace("2026-01-0", "2025-01-0").replace("2026-02", "2025-02")
    fixtures.write_round(tmp_path / "tiny", 9, round=early)
    fixtures.write_round(tmp_path / "tiny", 5, targets=None)
    assert [each.number for each in on(tmp_path, tmp_path / "tiny", "").rounds] == [9, 3]


def test_requests__ask_for_portfolios_where_any_mechanism_does(data: Path, tmp_path: Path) -> None:
    for text, asked in (
        ("", False),
        ('[[variants]]\nname = "a"\nportfolio = {}\n', True),
        ('[[variants]]\nname = "a"\nrules = { payout = { tc = "1" } }\n', True),
        ('[[variants]]\nname = "a"\nrules = { payout = { mmc = "1" } }\n', False),
    ):
        requests = on(tmp_path, data, text).requests
        assert {each.portfolio for each in requests} == {asked}
        assert [each.round for each in requests] == list(SPEC.round_numbers)
        assert [each.variants for each in requests] == [on(tmp_path, data, text).mechanisms[1:]] * 6


def test_known_of__is_what_had_resolved_when_the_round_closed(data: Path, tmp_path: Path) -> None:
    """Round 2 paid nothing and is not among the past; round 4 closes at the instant in which round 1 resolves."""
    laboratory = on(tmp_path, data, "")
    dates = [
        RoundDates(
            number=at,
            opens_at=START + (at - 1) * WEEK,
            closes_at=START + at * WEEK,
            resolves_at=START + (at + 3) * WEEK,
        )
        for at in range(1, 6)
    ]
    rounds = replace(laboratory, rounds=tuple(dates))
    told = [
        paid(1, [("a", "x", "1", 4, 40), ("b", "x", "3", None, -4)]),
        paid(3, [("a", "x", "1", 10**9, 10**9)]),
        paid(4, [("c", None, "1", 10**9, 10**9)]),
        paid(5, [("a", "x", "1", 10**9, 10**9)]),
    ]
    known = known_of(rounds, told)
    assert set(known) == {1, 3, 4, 5}
    for number in (1, 3):
        assert known[number].standings is not None
        assert known[number].standings.models == {}
        assert known[number].rates == {}
    for number in (4, 5):
        assert known[number].standings is not None
        assert known[number].standings.models == {"a": 4, "b": 0}
        assert known[number].standings.accounts == {"x": 1}
        assert known[number].rates == {"a": 40, "b": -4}
    assert {number: each.at_risk_atoms for number, each in known.items()} == {1: 1001, 3: 1003, 4: 1004, 5: 1005}


def test_known_of__standings_of_a_score_that_no_round_has_would_change_nothing(data: Path, tmp_path: Path) -> None:
    variant = '[[variants]]\nname = "a"\nweights = [{ policy = "reputation" }]\n'
    with pytest.raises(OperatorError, match="tax: reputation needs standings that rounds have, tc is in none"):
        carry_out(on(tmp_path, data, f'standings = "tc"\n{variant}'))
    assert known_of(on(tmp_path, data, 'standings = "tc"\n'), []) == {}
    found = carry_out(on(tmp_path, data, variant))
    assert {each.figures["variant"] for each in found.paid} == {"baseline", "a"}


def test_left_of__are_the_largest_accounts_of_the_first_round_with_all_their_models(data: Path, tmp_path: Path) -> None:
    variants = "".join(f'[[variants]]\nname = "v{count}"\nleave_out_largest = {count}\n' for count in (1, 2, 3, 9))
    told = [
        paid(1, [("c", "y", "4", 0, 0), ("a", "x", "2", 0, 0), ("b", "x", "2", 0, 0), ("d", None, "5", 0, 0)]),
        paid(2, [("e", "x", "1", 0, 0), ("f", "z", "900", 0, 0), ("d", None, "5", 0, 0)]),
    ]
    found = left_of(on(tmp_path, data, variants), told)
    assert found == {
        1: frozenset({"d"}),
        2: frozenset({"d", "a", "b", "e"}),  # x and y have as much; the name decides
        3: frozenset({"d", "a", "b", "c", "e"}),
        9: frozenset({"d", "a", "b", "c", "e"}),  # z was not there at first
    }
    assert left_of(on(tmp_path, data, ""), told) == {}
    assert left_of(on(tmp_path, data, variants), []) == {}


def test_left_of__a_model_without_an_account_is_nobody_elses(data: Path, tmp_path: Path) -> None:
    told = [paid(1, [("x", None, "3", 0, 0), ("b", "x", "2", 0, 0), ("c", "y", "4", 0, 0)])]
    assert left_of(on(tmp_path, data, '[[variants]]\nname = "v"\nleave_out_largest = 1\n'), told) == {1: frozenset("c")}


def test_carry_out__the_largest_leave_every_round(data: Path, tmp_path: Path) -> None:
    found = carry_out(on(tmp_path, data, '[[variants]]\nname = "v"\nleave_out_largest = 1\n'))
    baseline = {each.figures["round"]: each for each in found.paid if each.figures["variant"] == "baseline"}
    smaller = {each.figures["round"]: each for each in found.paid if each.figures["variant"] == "v"}
    first = baseline[SPEC.first_round]
    totals: dict[str, Decimal] = {}
    for row in first.models:
        totals[row["account"]] = totals.get(row["account"], Decimal(0)) + row["at_risk"]
    gone = max(totals, key=lambda account: totals[account])
    assert set(smaller) == set(baseline)
    for number, each in smaller.items():
        expected = {row["model"] for row in baseline[number].models if row["account"] != gone}
        assert {row["model"] for row in each.models} == expected


def test_open_laboratory__what_is_made_is_made_once(tmp_path: Path) -> None:
    made = Path(opened(tmp_path, SYNTHETIC).data)
    (made / "mark").write_text("still the same")
    again = opened(tmp_path, SYNTHETIC)
    assert (Path(again.data), (made / "mark").exists()) == (made, True)
    assert [each.number for each in again.rounds] == [1, 2]


@pytest.mark.parametrize("change", ["first_round = 7", "features = 9", "late_share = 0.5", "unstaked_share = 0.0"])
def test_open_laboratory__other_data_are_made_anew(tmp_path: Path, change: str) -> None:
    before = opened(tmp_path, SYNTHETIC)
    after = opened(tmp_path, f"{SYNTHETIC}{change}\n")
    assert before.data != after.data
    if "first_round" in change:
        assert [each.number for each in after.rounds] == [7, 8]


def test_open_laboratory__data_of_an_interrupted_run_are_made_again(tmp_path: Path) -> None:
    made = Path(opened(tmp_path, SYNTHETIC).data)
    half = made.rename(made.with_name(f"{made.name}.making"))
    (half / "tournament.toml").unlink()
    assert Path(opened(tmp_path, SYNTHETIC).data) == made
    assert not half.exists()


def test_open_laboratory__another_tournament_in_place_of_the_files(data: Path, tmp_path: Path) -> None:
    (tmp_path / "tax.toml").write_text(SYNTHETIC)
    found = open_laboratory(tmp_path / "tax.toml", tmp_path / "out", str(data))
    assert found.data == str(data)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("exhibit", "fragments"),
    [
        ("leave_out", ("tax.toml: the exhibit 'leave_out' needs variants named", "leave-out-1, leave-out-3")),
        ("payouts_2x1_1x3", ("tax.toml: the exhibit 'payouts_2x1_1x3' needs variants named",)),
    ],
)
def test_open_laboratory__an_exhibit_needs_its_variants(
    data: Path, tmp_path: Path, exhibit: str, fragments: tuple[str, ...]
) -> None:
    assert_refused(lambda: on(tmp_path, data, f'exhibits = ["{exhibit}"]\n'), *fragments)
