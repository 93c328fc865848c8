"""Figures against plain Python, round by round; a variant that is the baseline differs by exactly nothing."""

import itertools
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scoring.lab.statistics import Resampling, rounds_drawn
from tasks.lab.compare import COMPARISON_COLUMNS, compare

RESAMPLING = Resampling(block=2, samples=100, seed=4)
ROUNDS, MODELS = 7, 5
START = datetime(2026, 1, 5, 13, tzinfo=UTC)
WEEK = timedelta(weeks=1)
Row = dict[str, Any]


def made(variant: str, seed: int, rounds: Sequence[int] = range(1, ROUNDS + 1)) -> tuple[list[Row], list[Row]]:
    """Rounds and models of a variant; a model joins late, a portfolio and a TC are missing once."""
    random = np.random.default_rng(seed)
    totals, rows = [], []
    for number in rounds:
        models = []
        for at in range(MODELS if number > 2 else MODELS - 1):
            rate = random.normal(0.01, 0.04)
            stake = Decimal(100 + at) + Decimal(number) / 7
            payout, burn = (Decimal(str(round(max(each, 0.0) * float(stake), 9))) for each in (rate, -rate))
            own = {"model": f"m{at}", "account": None if at == 4 else f"a{at // 2}", "at_risk": stake}
            score = {key: random.normal() for key in ("corr", "mmc", "tc")} | {"weight": random.random()}
            gross = payout * 2 if at == 1 else payout
            models.append({"variant": variant, "round": number, **own, "gross_payout": gross} | score)
            models[-1] |= {"payout": payout, "burn": burn}
        if number == 3:
            models[0]["tc"] = math.nan
        rows += models
        money = {key: sum(each[key] for each in models) for key in ("at_risk", "gross_payout", "payout", "burn")}
        figures = {
            key: random.random()
            for key in ("effective_models", "largest_model_share", "largest_account_share", "meta_model_corr")
        }
        closes = START + number * WEEK
        totals.append(
            {
                "variant": variant,
                "round": number,
                "closes_at": closes,
                "resolves_at": closes + timedelta(days=25, hours=9),
                "factor": Decimal(1),
                "portfolio_return": math.nan if number == 2 else random.normal(0.0, 0.05),
            }
            | money
            | figures
        )
    return totals, rows


def frames(*parts: tuple[list[Row], list[Row]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    rounds = pd.DataFrame([row for part in parts for row in part[0]])
    models = pd.DataFrame([row for part in parts for row in part[1]])
    money = ("at_risk", "gross_payout", "payout", "burn")
    return rounds, models.astype(dict.fromkeys(money, float))


def cell(found: pd.DataFrame, variant: str, figure: str) -> pd.Series:
    (row,) = [row for _, row in found.iterrows() if (row["variant"], row["figure"]) == (variant, figure)]
    return row


# The same figures, slowly -------------------------------------------------------------------------------------------

Part = tuple[list[Row], list[Row]]


def net(row: Row) -> float:
    return float(row["payout"]) - float(row["burn"])


def gini(part: Part, drawn: Sequence[int], holder: Callable[[Row], str]) -> float:
    """Σ|xᵢ − xⱼ| / (2 n Σx) of what each gained, if he gained at all."""
    holders = sorted({holder(row) for row in part[1]})
    gains = []
    for each in holders:
        total = sum(net(row) for at in drawn for row in part[1] if row["round"] == at and holder(row) == each)
        gains.append(max(total, 0.0))
    if not sum(gains):
        return 0.0
    return sum(abs(x - y) for x in gains for y in gains) / (2 * len(gains) * sum(gains))


def drawdown(part: Part, drawn: Sequence[int]) -> float:
    returns = {row["round"]: row["portfolio_return"] for row in part[0]}
    wealth = [1.0]
    for at in drawn:
        value = returns.get(at, math.nan)
        wealth.append(wealth[-1] * (1 + (0.0 if math.isnan(value) else value)))
    pairs = itertools.combinations(wealth, 2)
    return max([1 - later / earlier for earlier, later in pairs] + [0.0])


def compounded(part: Part, drawn: Sequence[int]) -> float:
    """One unit is staked at each close; what rounds that resolved by then have paid is staked with it."""
    dates = {row["round"]: (row["closes_at"], row["resolves_at"]) for row in part[0]}
    rates = {row["round"]: net(row) / float(row["at_risk"]) for row in part[0]}
    places = {at: rates.get(drawn[at - 1], 0.0) for at in dates}
    wealth, staked, open_rounds = 1.0, {}, sorted(dates)
    events = sorted([(dates[at][1], 0, at) for at in open_rounds] + [(dates[at][0], 1, at) for at in open_rounds])
    for _, closing, at in events:
        if closing:
            staked[at] = wealth
        else:
            wealth = max(0.0, wealth + staked[at] * places[at])
    return wealth - 1


def total(part: Part, drawn: Sequence[int], of: Callable[[Row], float]) -> float:
    rows = {row["round"]: row for row in part[0]}
    return math.fsum(of(rows[at]) for at in drawn if at in rows)


def average(values: dict[int, float], drawn: Sequence[int]) -> float:
    there = [values[at] for at in drawn if at in values and not math.isnan(values[at])]
    return math.fsum(there) / len(there) if there else math.nan


def correlations(part: Part, base: Part, key: str) -> dict[int, float]:
    found = {}
    for number in {row["round"] for row in part[1]}:
        scores = {row["model"]: row[key] for row in base[1] if row["round"] == number}
        own = [row for row in part[1] if row["round"] == number and not math.isnan(scores.get(row["model"], math.nan))]
        rates = [net(row) / float(row["at_risk"]) for row in own]
        found[number] = float(np.corrcoef(rates, [scores[row["model"]] for row in own])[0, 1])
    return found


def influence(part: Part, base: Part) -> dict[int, float]:
    found = {}
    for number in {row["round"] for row in part[1]}:
        tc = {row["model"]: row["tc"] for row in base[1] if row["round"] == number}
        moved = [abs(row["weight"] * tc[row["model"]]) for row in part[1] if row["round"] == number]
        moved = [each for each in moved if not math.isnan(each)]
        found[number] = sum(moved) ** 2 / sum(each * each for each in moved)
    return found


def column(part: Part, key: str) -> dict[int, float]:
    return {row["round"]: row[key] for row in part[0]}


def slowly(part: Part, base: Part) -> dict[str, Callable[[Sequence[int]], float]]:
    means = {key: column(part, key) for key in ("effective_models", "largest_model_share", "largest_account_share")}
    means |= {key: column(part, key) for key in ("meta_model_corr", "portfolio_return")}
    means |= {f"pay_corr_{key}": correlations(part, base, key) for key in ("tc", "mmc", "corr")}
    means["effective_influence"] = influence(part, base)
    return {
        "paid": lambda drawn: total(part, drawn, lambda row: float(row["payout"])),
        "burned": lambda drawn: total(part, drawn, lambda row: float(row["burn"])),
        "net": lambda drawn: total(part, drawn, net),
        "withheld": lambda drawn: total(part, drawn, lambda row: float(row["gross_payout"]) - float(row["payout"])),
        "compounded": lambda drawn: compounded(part, drawn),
        "gini_models": lambda drawn: gini(part, drawn, lambda row: row["model"]),
        "gini_accounts": lambda drawn: gini(part, drawn, lambda row: row["account"] or f"alone {row['model']}"),
        "portfolio_drawdown": lambda drawn: drawdown(part, drawn),
        **{key: lambda drawn, values=values: average(values, drawn) for key, values in means.items()},
    }


BASE, OTHER = made("baseline", 1), made("other", 2)
NUMBERS = list(range(1, ROUNDS + 1))


def test_compare__every_figure_and_interval_is_what_plain_python_finds() -> None:
    rounds, models = frames(OTHER, BASE)
    found = compare(rounds, models, "baseline", RESAMPLING)
    drawn = [[NUMBERS[place] for place in each] for each in rounds_drawn(ROUNDS, RESAMPLING)]
    base, other = slowly(BASE, BASE), slowly(OTHER, BASE)
    assert set(found["figure"]) == set(base)
    for figure in base:
        samples = [np.array([of(each) for each in drawn]) for of in (base[figure], other[figure])]
        for variant, of, values in (("baseline", base[figure], samples[0]), ("other", other[figure], samples[1])):
            row = cell(found, variant, figure)
            assert row["value"] == pytest.approx(of(NUMBERS), rel=1e-9, abs=1e-12), figure
            expected = np.nanquantile(values, [0.025, 0.975])
            assert [row["low"], row["high"]] == pytest.approx(expected.tolist(), rel=1e-9, abs=1e-12), figure
        row = cell(found, "other", figure)
        expected = np.nanquantile(samples[1] - samples[0], [0.025, 0.975])
        assert row["difference"] == pytest.approx(other[figure](NUMBERS) - base[figure](NUMBERS), abs=1e-9), figure
        assert [row["difference_low"], row["difference_high"]] == pytest.approx(expected.tolist(), abs=1e-9), figure
        assert np.isnan(cell(found, "baseline", figure)["difference"])


def test_compare__the_baseline_comes_first_and_columns_are_those_of_the_report() -> None:
    found = compare(*frames(OTHER, BASE), "baseline", RESAMPLING)
    assert tuple(found.columns) == COMPARISON_COLUMNS
    assert list(dict.fromkeys(found["variant"])) == ["baseline", "other"]


def test_compare__a_variant_equal_to_the_baseline_differs_by_exactly_nothing() -> None:
    same = tuple([row | {"variant": "same"} for row in rows] for rows in BASE)
    found = compare(*frames(BASE, same), "baseline", RESAMPLING)
    rows = found[found["variant"] == "same"]
    for key in ("difference", "difference_low", "difference_high"):
        assert (rows[key] == 0).all()
    before = found[found["variant"] == "baseline"]
    for key in ("value", "low", "high"):
        assert rows[key].tolist() == before[key].tolist()


def test_compare__a_round_that_a_variant_leaves_unpaid_has_no_figure() -> None:
    short = made("short", 3, [1, 2, 4, 5, 7])
    found = compare(*frames(BASE, short), "baseline", RESAMPLING)
    expected = slowly(short, BASE)
    for figure in set(expected) - {"compounded"}:
        value = cell(found, "short", figure)["value"]
        assert value == pytest.approx(expected[figure](NUMBERS), rel=1e-9, abs=1e-12), figure
    assert cell(found, "short", "compounded")["value"] == pytest.approx(compounded(short, NUMBERS))


def test_compare__too_few_rounds_say_a_value_and_no_interval() -> None:
    found = compare(*frames(made("baseline", 1, [1, 2, 3]), made("b", 2, [1, 2, 3])), "baseline", RESAMPLING)
    assert found[["low", "high", "difference_low", "difference_high"]].isna().all(axis=None)
    assert found["value"].notna().all()


def test_compare__without_a_portfolio_and_without_scores_there_is_no_figure_rather_than_0() -> None:
    parts = made("baseline", 1), made("b", 2)
    for rounds, models in parts:
        for row in rounds:
            row["portfolio_return"] = math.nan
        for row in models:
            row["tc"] = math.nan
    found = compare(*frames(*parts), "baseline", RESAMPLING)
    absent = {"portfolio_return", "portfolio_drawdown", "pay_corr_tc", "effective_influence"}
    for _, row in found.iterrows():
        assert np.isnan(row["value"]) == (row["figure"] in absent), row["figure"]
        assert np.isnan(row["low"]) == (row["figure"] in absent)


def test_compare__rounds_that_settle_at_one_instant_all_compound() -> None:
    """Each doubles what was staked; both have settled in the end."""
    part = made("baseline", 1, [1, 2])
    for row in part[0]:
        row |= {"closes_at": START, "resolves_at": START + WEEK, "at_risk": Decimal(1)}
        row |= {"payout": Decimal(1), "gross_payout": Decimal(1), "burn": Decimal(0)}
    found = compare(*frames(part), "baseline", RESAMPLING)
    assert cell(found, "baseline", "compounded")["value"] == 2.0


def test_compare__the_order_of_rows_does_not_matter() -> None:
    rounds, models = frames(BASE, OTHER)
    first = compare(rounds, models, "baseline", RESAMPLING)
    mixed = rounds.sample(frac=1, random_state=1), models.sample(frac=1, random_state=2)
    again = compare(mixed[0].reset_index(drop=True), mixed[1].reset_index(drop=True), "baseline", RESAMPLING)
    keys = ["variant", "figure"]
    pd.testing.assert_frame_equal(
        first.sort_values(keys).reset_index(drop=True), again.sort_values(keys).reset_index(drop=True), rtol=1e-12
    )
