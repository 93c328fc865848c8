"""Exhibits say what the numbers say: each answer is made to be known, and turned round by turning the numbers."""

import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from scoring.errors import OperatorError
from scoring.lab.combination import Combination, Gram
from tasks.lab import exhibits_fits, exhibits_frames
from tasks.lab.exhibit import Exhibit
from tasks.lab.exhibits import EXHIBITS, NEEDED
from tasks.lab.exhibits_drawdown import drawdown_combination
from tasks.lab.exhibits_frames import apart, block_of, differences, exact_sum, rounds_of
from tasks.lab.exhibits_leave_out import leave_out
from tasks.lab.exhibits_payouts import account_weighting_example, payouts_2x1_1x3, within_account
from tasks.lab.exhibits_score_stability import score_stability
from tasks.lab.exhibits_stake_influence import stake_influence
from tasks.lab.exhibits_words import interval, number, percent, probability
from tasks.lab.results import Results
from tests.tasks.lab.made_results import BASELINE, FIRST, MODELS, RETURNS, ROUNDS, changed, made_results

NAN = float("nan")


@pytest.fixture(scope="module")
def results() -> Results:
    return made_results()


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exhibits_frames, "SAMPLES", 100)


def words(exhibit: Exhibit) -> str:
    return " ".join(exhibit.findings)


def only_baseline(results: Results) -> Results:
    return replace(
        results,
        rounds=results.rounds[results.rounds["variant"] == BASELINE],
        models=results.models[results.models["variant"] == BASELINE],
    )


@pytest.mark.parametrize("name", EXHIBITS)
def test_exhibits__each_is_complete_and_the_same_twice(name: str, results: Results) -> None:
    exhibit = EXHIBITS[name](results)
    assert exhibit.name == name
    assert exhibit.question.endswith("?")
    assert exhibit.findings
    assert exhibit.tables
    for sentence in (*exhibit.findings, *(picture.alt for picture in exhibit.pictures)):
        assert re.search(r"\b(nan|None|inf)\b", sentence) is None
        assert sentence.endswith(".")
        assert not re.search(r"(?<!\w)-\d", sentence)  # the sign is −
    assert all(not table.frame.empty and table.caption for table in exhibit.tables)
    again = EXHIBITS[name](results)
    assert again.findings == exhibit.findings
    assert again.pictures == exhibit.pictures


@pytest.mark.parametrize("name", [name for name in EXHIBITS if name not in NEEDED])
def test_exhibits__without_tc_portfolio_and_fits_they_say_so(name: str, results: Results) -> None:
    bare = changed(only_baseline(results), tc=NAN, bmc=NAN, mmc_mike=NAN, mmc_richard=NAN, cwmm=NAN)
    bare = replace(bare, rounds=bare.rounds.assign(portfolio_return=NAN), grams={}, combined=None)
    assert all(sentence.endswith(".") and "nan" not in sentence for sentence in EXHIBITS[name](bare).findings)


@pytest.mark.parametrize("name", EXHIBITS)
def test_exhibits__one_round_is_enough(name: str, results: Results) -> None:
    one = replace(
        results,
        rounds=results.rounds[results.rounds["round"] == FIRST],
        models=results.models[results.models["round"] == FIRST],
    )
    assert EXHIBITS[name](one).findings


@pytest.mark.parametrize(("name", "variants"), NEEDED.items())
def test_exhibits__a_missing_variant_is_named(name: str, variants: tuple[str, ...], results: Results) -> None:
    with pytest.raises(OperatorError, match=variants[0]):
        EXHIBITS[name](only_baseline(results))


def test_conformity_tax_seed__the_findings_hold_the_proposals_digits(results: Results) -> None:
    exhibit = EXHIBITS["conformity_tax_seed"](results)
    for total in ("30192.954174991097", "26297.006830040107", "23360.652071561824", "16060.869966036134"):
        assert total in words(exhibit)
    assert len(exhibit.pictures) == 6
    low, high = changed(results, cwmm=0.1), changed(results, cwmm=0.95)
    assert "would take less" in words(EXHIBITS["conformity_tax_seed"](low))
    assert "would take more" in words(EXHIBITS["conformity_tax_seed"](high))


def test_score_stability__the_louder_score_is_the_less_steady_one(results: Results) -> None:
    assert "MMC is the steadier score" in words(score_stability(results))
    turned = changed(results, mmc=results.models["tc"], tc=results.models["mmc"])
    assert "MMC is not the steadier score" in words(score_stability(turned))
    same = changed(results, mmc=results.models["tc"])
    assert "0 of 0 measures" in words(score_stability(same))


def test_score_stability__three_formulas_agree_or_do_not(results: Results) -> None:
    sentence = score_stability(results).findings[-1]
    assert "Richard's MMC correlate 1.000000000" in sentence
    assert f"{ROUNDS * (MODELS - 1)} scores" in sentence
    mike = results.models["mmc_mike"].where(results.models["round"] != FIRST, -results.models["mmc_mike"])
    assert "at least −1.000000000 in any round" in score_stability(changed(results, mmc_mike=mike)).findings[-1]


def test_score_stability__without_tc_nothing_is_compared(results: Results) -> None:
    assert "no TC" in score_stability(changed(results, tc=NAN)).findings[0]


def test_stake_influence__influence_by_skill_alone_and_by_stake(results: Results) -> None:
    stakes = results.models["at_risk"]
    assert "more stake went with more influence" in words(stake_influence(changed(results, tc=0.01)))
    assert "more stake went with influence to the bad" in words(stake_influence(changed(results, tc=-0.01)))
    good = stake_influence(changed(results, tc=0.01))
    equal = re.findall(r"as if ([\d.]+) ", good.findings[1])
    assert equal[0] == equal[1]  # stake × 0.01 is as concentrated as the stake
    assert "Pearson 1.000" in good.findings[0]
    inverse = stake_influence(changed(results, tc=1.0 / stakes**2))
    assert "influence to the bad" in words(inverse)  # the smallest stakes have the largest stake × TC
    assert "Spearman −1.000" in inverse.findings[-2]


def test_stake_influence__stakes_without_tc_are_counted_and_left_out(results: Results) -> None:
    assert f"{ROUNDS} stakes without TC left out" in words(stake_influence(results))


def test_leave_out__the_difference_is_the_one_that_was_made(results: Results) -> None:
    found = differences(results, "leave-out-3", "meta_model_corr")
    assert found.mean == pytest.approx(-0.003)
    assert found.sure()
    sentence = leave_out(results).findings[1]
    assert "3 largest accounts the meta model's CORR is lower: −0.00300" in sentence
    assert f"higher in 0 and lower in {ROUNDS} of {ROUNDS} rounds" in sentence


def test_leave_out__a_difference_of_both_signs_is_not_sure(results: Results) -> None:
    found = differences(results, "leave-out-1", "portfolio_return")
    assert found.mean == pytest.approx(0.0001 * 0.75 - 0.0002 * 0.25)
    assert not differences(results, BASELINE, "portfolio_return").sure()
    assert "higher in 12 and lower in 4" in leave_out(results).findings[3]


def test_payouts_2x1_1x3__totals_are_exact_sums_and_tc_decides_what_is_followed(results: Results) -> None:
    sentences = payouts_2x1_1x3(results).findings
    for variant in ("corr-2-tc-1", "corr-1-tc-3"):
        rows = rounds_of(results, variant)
        paid = sum((Fraction(each) for each in rows["payout"]), Fraction(0))
        assert f"pays {float(paid):,.2f}" in sentences[0]
    assert sentences[-1] == "1×CORR + 3×TC follows true contribution more closely."


def test_account_weighting_example__is_the_posts_without_its_misprint(results: Results) -> None:
    assert within_account(Fraction(2, 100), (90, 10)) == (Fraction(18, 1000), Fraction(2, 1000))
    findings = account_weighting_example(results).findings
    assert findings[0] == "Exactly model A 0.018 and model B 0.002; together they are the account's 0.02."
    assert "0.18 for model A, 10 times" in findings[1]


def test_drawdown_combination__finds_the_drawdowns_deepest_first(results: Results) -> None:
    table = drawdown_combination(results).tables[0].frame
    assert table["drawdown"].tolist() == ["rounds 107–108", "rounds 112–114", "round 102"]
    assert table["depth"].tolist() == [percent(1 - 0.95 * 0.98, 2), percent(1 - 0.97 * 1.01 * 0.96, 2), "1.00 %"]
    assert table["meta model, return"].tolist() == ["−" + each for each in table["depth"]]


def test_drawdown_combination__the_past_fit_sees_no_round_that_had_not_resolved(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    numbers = {id(gram): each for each, gram in results.grams.items()}

    def fit(grams: list[Gram]) -> Combination | None:
        seen.append([numbers[id(gram)] for gram in grams])
        return None

    monkeypatch.setattr(exhibits_fits, "fit", fit)
    drawdown_combination(results)
    # round 105 closes when 101 resolves
    past = [list(range(101, number_ - 3)) for number_ in range(FIRST, FIRST + ROUNDS)]
    assert seen == [*past, [107, 108], [112, 113, 114], [102]]


@pytest.mark.parametrize(
    ("past", "hindsight", "expected"),
    [(0.01, 0.02, ("B", "B")), (-0.5, 0.02, ("A", "B")), (-0.5, -0.5, ("A", "A")), (-0.001, 0.02, ("A", "B"))],
)
def test_drawdown_combination__answers_a_or_b_by_each_fit(
    past: float, hindsight: float, expected: tuple[str, str], results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = results.grams[FIRST]

    def fit(grams: list[Gram]) -> Combination | None:
        if not grams:
            return None  # before round 102 closed, none had resolved
        return Combination({"m01": 1.0} if grams[0] is first else {"m02": 1.0}, len(grams), 0.1)

    monkeypatch.setattr(exhibits_fits, "fit", fit)
    given = replace(results, combined=lambda number, weights: (0.0, past if "m01" in weights else hindsight))
    findings = drawdown_combination(given).findings
    assert findings[0].startswith(f"By what could be known the answer is {expected[0]}:")
    assert findings[0].endswith("For 1 drawdown no combination could be fitted.")
    assert findings[2].startswith(f"By hindsight the answer is {expected[1]}:")
    if past == -0.001:
        assert "lost less than the portfolio in 2" in findings[0]


def test_drawdown_combination__what_could_be_known_is_compared_over_all_rounds_with_a_past(results: Results) -> None:
    baseline = rounds_of(results).set_index("round")["meta_model_corr"]
    ahead = replace(
        results, combined=lambda number_, weights: (baseline[number_] + 0.01, RETURNS[number_ - FIRST] - 0.1)
    )
    sentence = drawdown_combination(ahead).findings[1]
    there = baseline.iloc[4:].mean()  # before round 105 closed, none had resolved
    assert f"CORR {there + 0.01:.5f} against {there:.5f} on average" in sentence
    assert "difference [0.01000, 0.01000], higher in 12 of 12 rounds, p < 0.001" in sentence
    assert "difference [−0.10000, −0.10000], higher in 0 of 12 rounds, p < 0.001" in sentence


def test_drawdown_combination__rounds_without_a_past_are_compared_on_neither_side(results: Results) -> None:
    deep = replace(results, rounds=results.rounds.assign(portfolio_return=[-0.01] * ROUNDS * 6))
    sentence = drawdown_combination(replace(deep, combined=lambda number_, weights: (0.0, -0.005))).findings[-1]
    assert sentence.startswith("Drawdown rounds 101–116, not recovered: the portfolio −14.85 %")
    assert (
        "fitted on past rounds: −5.84 %, CORR 0.0000 in the 12 rounds with a past, the portfolio there −11.36 %"
        in sentence
    )


def test_drawdown_combination__absent_models_leave_their_share_to_the_others(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Mapping[str, float]] = []
    weights = {"m01": 0.5, "m02": 0.3, "gone": 0.2}
    monkeypatch.setattr(exhibits_fits, "fit", lambda grams: Combination(weights, len(grams), 0.1))

    def combined(number: int, given: Mapping[str, float]) -> tuple[float, float]:
        asked.append(given)
        return 0.0, 0.0

    drawdown_combination(replace(results, combined=combined))
    assert asked
    assert all(each == {"m01": pytest.approx(0.625), "m02": pytest.approx(0.375)} for each in asked)


def test_drawdown_combination__without_a_portfolio_it_takes_corr_and_without_a_fall_there_is_none(
    results: Results,
) -> None:
    bare = replace(results, rounds=results.rounds.assign(portfolio_return=NAN))
    assert drawdown_combination(bare).findings == ("In these rounds the meta model's CORR had no drawdown.",)
    falling = replace(bare, rounds=bare.rounds.assign(meta_model_corr=[*RETURNS] * 6))
    assert "CORR is taken for a return" in drawdown_combination(falling).findings[-1]


def test_apart_and_block_of__weekly_rounds_of_four_weeks(results: Results) -> None:
    rounds = rounds_of(results)
    assert apart(rounds) == [(place, place + 4) for place in range(ROUNDS - 4)]
    assert block_of(results) == 4


def test_exact_sum__keeps_every_digit() -> None:
    amounts = [Decimal("12345678901234567890.000000000000000001")] * 3
    assert exact_sum(amounts) == Decimal("37037036703703703670.000000000000000003")


def test_words__one_way_to_write_each_number() -> None:
    assert [number(each) for each in (1234.5678, -0.5, -0.0001, NAN, None)] == [
        "1,234.568",
        "−0.500",
        "0.000",
        "–",
        "–",
    ]
    assert (probability(0.0004), probability(0.04)) == ("p < 0.001", "p = 0.040")
    assert percent(-0.1234) == "−12.3 %"
    found = differences(made_results(), "leave-out-1", "meta_model_corr").interval
    assert interval(found, 4) == "[−0.0010, −0.0010]"
    assert interval(type(found)(np.nan, np.nan)) == "[too few rounds]"
