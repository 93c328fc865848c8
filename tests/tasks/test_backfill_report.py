"""What a backfill asks for and what it came to: the range of rounds, the exit code, the message."""

import pytest

from scoring.errors import OperatorError, StakeweightError
from tasks.backfill import Outcome, read_range
from tasks.backfill_report import BackfillError, BackfillReport, line_of


def report(outcomes: dict[int, Outcome]) -> BackfillReport:
    return BackfillReport(tuple(line_of(each) for each in outcomes.values()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, None), ("7", (7, 7)), (7, (7, 7)), ("101-130", (101, 130)), (" 3-3 ", (3, 3)), ("0-0", (0, 0))],
)
def test_read_range__reads_one_round_or_two(text: str | int | None, expected: tuple[int, int] | None) -> None:
    assert read_range(text) == expected


@pytest.mark.parametrize("text", ["", "a", "3-", "-3", "5-3", "1-2-3", "1,2", "1.5", "³"])
def test_read_range__refuses_anything_else(text: str) -> None:
    with pytest.raises(OperatorError, match="one round or a range such as 101-130, found") as caught:
        read_range(text)
    assert repr(text) in str(caught.value)


def outcome(number: int, status: str, code: int = 0) -> Outcome:
    return Outcome(number, status, f"round {number} is {status}", code)


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        ([("published", 0), ("verified", 0)], 0),
        ([("published", 0), ("not due", 3)], 0),
        ([("nothing to pay", 0)], 0),
        ([("not due", 3), ("blocked", 3)], 3),
        ([], 3),
        ([("published", 0), ("failed", 6), ("failed", 2), ("blocked", 3)], 6),
    ],
)
def test_exit_code__is_the_first_failures_else_whether_anything_was_due(
    ended: list[tuple[str, int]], code: int
) -> None:
    lines = [outcome(number, status, each) for number, (status, each) in enumerate(ended)]
    assert report({each.number: each for each in lines}).exit_code == code


def test_backfill_error__names_every_round_that_failed_and_has_the_code_of_the_first() -> None:
    lines = [outcome(1, "published"), outcome(2, "failed", 6), outcome(3, "failed", 2), outcome(4, "blocked", 3)]
    found = report({each.number: each for each in lines})
    error = BackfillError(found)
    assert isinstance(error, StakeweightError)
    assert error.exit_code == 6
    assert "round 2" in str(error)
    assert "round 3" in str(error)
    assert "round 4" not in str(error)
    assert found.counts == {"published": 1, "failed": 2, "blocked": 1}
