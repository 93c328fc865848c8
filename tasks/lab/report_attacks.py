"""The attack matrix: for each mechanism and attack what it brings the attacker, what it costs others, who would see it.

    rows as in `matrix.MATRIX_COLUMNS` ──► AttackView (a row an attack, a column a mechanism), Picture

The verdict is of a test, not of a mean: an attack pays where the whole interval of its gain lies above zero. Where it
pays the cell is red, has a triangle and says so, because a reader who looks for red alone must not be needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, cast, get_args

import pandas as pd

from scoring.errors import OperatorError
from tasks.lab.pictures import SYMBOLS, WORDS, Cell, Mark, Picture, matrix
from tasks.lab.report_tables import signed, span
from tasks.lab.scales import PERCENT


@dataclass(frozen=True, slots=True)
class AttackCell:
    """A cell in words.

    Attributes:
        mark: decides the colour.
        symbol: stands for the mark.
        word: the mark in words.
        gain: per unit staked, with its sign; empty where there was no occasion.
        lines: everything else, a line each.
    """

    mark: str
    symbol: str
    word: str
    gain: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AttackView:
    """The matrix in words.

    Attributes:
        mechanisms: a column each.
        rows: an attack each: name, title, how it works, cells.
        summary: which attacks pay under which mechanism.
        paying: how many do.
    """

    mechanisms: tuple[str, ...]
    rows: tuple[tuple[str, str, str, tuple[AttackCell, ...]], ...]
    summary: str
    paying: str


_NOWHERE = AttackCell("none", SYMBOLS["none"], "not tried", "", ())


def attack_view(found: pd.DataFrame, how: Mapping[str, str]) -> AttackView:
    """Returns the matrix in words.

    Args:
        found: a row a mechanism and attack, see `tasks.lab.matrix`; gain, harm and throttle are fractions,
            `detectability` a word or a number from 0 to 1, `choice` absent where it is another in every round.
        how: how each attack works, by name.

    Raises:
        OperatorError: a verdict is none of the four.
    """
    mechanisms = tuple(dict.fromkeys(found["mechanism"]))
    cells = {(row["attack"], row["mechanism"]): _cell(row) for row in found.to_dict("records")}
    titles = dict(zip(found["attack"], found["title"], strict=True))
    rows = tuple(
        (
            str(attack),
            str(title),
            how.get(attack, ""),
            tuple(cells.get((attack, mechanism), _NOWHERE) for mechanism in mechanisms),
        )
        for attack, title in titles.items()
    )
    paying = (
        f"{int((found['verdict'] == 'pays').sum()):,} of {len(found):,} pairs of attack and mechanism pay the attacker."
    )
    return AttackView(mechanisms, rows, _summary(found), paying)


def attack_picture(found: pd.DataFrame) -> Picture:
    """Returns the matrix as a picture: the gain per unit staked in each cell."""
    view = attack_view(found, {})
    cells = [[Cell(cell.gain or cell.word, _mark(cell.mark)) for cell in line] for _, _, _, line in view.rows]
    title = "Gain of each attack under each mechanism, per unit staked and round"
    return matrix(title, view.summary, [title for _, title, _, _ in view.rows], view.mechanisms, cells)


def _mark(verdict: str) -> Mark:
    if verdict not in get_args(Mark):
        raise OperatorError(f"a verdict must be one of {get_args(Mark)}, not {verdict!r}: see the attack matrix")
    return cast(Mark, verdict)


def _cell(row: Mapping[Any, Any]) -> AttackCell:
    mark = _mark(str(row["verdict"]))
    if mark == "none" or not isfinite(float(row["gain"])):
        return AttackCell(mark, SYMBOLS[mark], WORDS[mark], "", ())
    gain, low, high = (100.0 * float(row[key]) for key in ("gain", "low", "high"))
    digits = _digits(gain, low, high)
    lines = [span(low, high, digits) + PERCENT if isfinite(low) else "", *_effect(row, "harm")]
    lines += [*(_effect(row, "throttle") if row.get("throttle") else ()), _seen(row["detectability"])]
    if isfinite(float(row["p_value"])):
        rounds = int(row["wins"]) + int(row["losses"])
        won = f"{int(row['wins'])}/{rounds} won, p {_p_value(float(row['p_value']))}"
        lines.append(won if rounds else "the same in every round")
    choice = row["choice"]
    if choice is not None and isfinite(float(choice)) and choice != 1:
        lines.append(f"best choice: {float(choice):g}")
    word = WORDS[mark]
    return AttackCell(mark, SYMBOLS[mark], word, signed(gain, digits) + PERCENT, tuple(line for line in lines if line))


def _digits(*values: float) -> int:
    largest = max((abs(value) for value in values if isfinite(value)), default=0.0)
    return 0 if not largest or largest >= 100.0 else 1 if largest >= 10.0 else 2 if largest >= 1.0 else 3


def _effect(row: Mapping[Any, Any], name: str) -> tuple[str, ...]:
    """Returns what the attack does to others, and its interval; nothing where that is not known."""
    mean, low, high = (100.0 * float(row[key]) for key in (name, f"{name}_low", f"{name}_high"))
    if not isfinite(mean):
        return ()
    digits = _digits(mean, low, high)
    certain = low == high == mean == 0.0
    limits = (span(low, high, digits) + PERCENT,) if isfinite(low) and isfinite(high) and not certain else ()
    return (f"{name} {signed(mean, digits)}{PERCENT}", *limits)


def _seen(value: object) -> str:
    if isinstance(value, str):
        return f"seen: {value}" if value else ""
    return f"seen: {float(value):.2f}" if isinstance(value, int | float) and isfinite(value) else ""


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _summary(found: pd.DataFrame) -> str:
    paying = found[found["verdict"] == "pays"]
    total = f"{len(found):,} pairs of attack and mechanism"
    if paying.empty:
        return f"Of {total} none pays the attacker."
    by_mechanism: dict[str, list[str]] = {str(mechanism): [] for mechanism in found["mechanism"]}
    for mechanism, title in zip(paying["mechanism"], paying["title"], strict=True):
        by_mechanism[str(mechanism)].append(str(title))
    named = [f"under {mechanism}: {', '.join(titles) or 'none'}" for mechanism, titles in by_mechanism.items()]
    return f"Of {total} {len(paying):,} pay the attacker – {'; '.join(named)}."
