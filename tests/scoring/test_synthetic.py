"""Synthetic tournaments: the same bytes however they are cut, and the traits of a real tournament."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from scoring.errors import OperatorError
from scoring.synthetic import (
    BENCHMARKS,
    Kind,
    Purpose,
    Style,
    SyntheticSpec,
    attendance,
    benchmark_stakes,
    benchmarks,
    calendar,
    feature_signals,
    generator,
    make_market,
    make_stakes,
    make_traits,
    predictions,
)
from scoring.synthetic.universe import FACTOR_NAMES, SECTORS, STYLES

SMALL = SyntheticSpec(rounds=3, models=60, stocks=120, seed=1)
CROWD = SyntheticSpec(rounds=3, models=400, stocks=500, seed=2)
LARGE = SyntheticSpec(rounds=3, models=9_400, stocks=20, seed=3)
TINY = SyntheticSpec(rounds=1, models=1, stocks=20, seed=0, features=3, skip_share=0.9, late_share=0.9)


def at_seed(spec: SyntheticSpec, seed: int) -> SyntheticSpec:
    return SyntheticSpec(rounds=spec.rounds, models=spec.models, stocks=spec.stocks, seed=seed)


# What may be asked for --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "value"),
    [
        ("rounds", 0),
        ("rounds", 1301),
        ("models", 0),
        ("stocks", 19),
        ("stocks", (1 << 20) + 1),
        ("seed", -1),
        ("seed", 1 << 64),
        ("first_round", -1),
        ("features", 2),
        ("unstaked_share", 1.0),
        ("skip_share", -0.1),
        ("late_share", float("nan")),
    ],
)
def test_synthetic_spec__refuses_what_is_out_of_range_and_names_it(changed: str, value: float) -> None:
    arguments: dict[str, float] = {"rounds": 1, "models": 1, "stocks": 20, "seed": 0} | {changed: value}
    with pytest.raises(OperatorError, match=f"{changed} must be .*found {value}"):
        SyntheticSpec(**arguments)


def test_tiny_tournament__has_everything() -> None:
    market = make_market(TINY, 1)
    assert set(market.universe.sector or ()) == set(SECTORS)
    assert np.unique(market.targets.target).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert np.ptp(predictions(TINY, 1)) > 0
    assert make_stakes(TINY, 1).rows[0].atoms > 0
    assert attendance(TINY, 1).submits.tolist() == [True]
    assert attendance(TINY, 1).late.tolist() == [False]


# The same bytes ---------------------------------------------------------------------------------------------------


def test_generator__gives_each_address_a_stream_of_its_own() -> None:
    addresses = [(purpose, number, index) for purpose in Purpose for number in range(3) for index in range(3)]
    first = [generator(SMALL, *address).integers(1 << 63) for address in addresses]
    assert len(set(first)) == len(addresses)
    assert first == [generator(SMALL, *address).integers(1 << 63) for address in addresses]


def test_predictions__are_the_same_for_any_cut_into_blocks() -> None:
    whole = predictions(CROWD, 2)
    blocks = [predictions(CROWD, 2, slice(start, start + 37)) for start in range(0, CROWD.models, 37)]
    assert np.concatenate(blocks).tobytes() == whole.tobytes()
    scattered = np.array([399, 0, 17])
    assert predictions(CROWD, 2, scattered).tobytes() == whole[scattered].tobytes()
    assert predictions(CROWD, 2, slice(5, 5)).shape == (0, CROWD.stocks)


def test_predictions__depend_on_seed_and_round() -> None:
    here = predictions(SMALL, 1)
    assert here.tobytes() == predictions(at_seed(SMALL, 1), 1).tobytes()
    assert not np.array_equal(here, predictions(at_seed(SMALL, 9), 1))
    assert not np.array_equal(here, predictions(SMALL, 2))


def test_make_market__is_the_same_for_the_same_seed_and_another_for_another() -> None:
    def fingerprint(spec: SyntheticSpec, number: int) -> tuple[object, ...]:
        market = make_market(spec, number)
        arrays = (market.universe.exposures, market.factor_covariance, market.features.values)
        return market.universe.ids, market.targets.target.tobytes(), *(np.asarray(a).tobytes() for a in arrays)

    here = fingerprint(SMALL, 1)
    assert here == fingerprint(at_seed(SMALL, 1), 1)
    for other in (fingerprint(at_seed(SMALL, 9), 1), fingerprint(SMALL, 2)):
        assert all(one != another for one, another in zip(here, other, strict=True))


# The market -------------------------------------------------------------------------------------------------------


def test_make_market__has_unique_sorted_ids_that_no_other_round_has() -> None:
    ids = [stock for number in CROWD.round_numbers for stock in make_market(CROWD, number).universe.ids]
    assert len(set(ids)) == 3 * CROWD.stocks
    assert all(len(stock) == 16 and stock[0] == "n" and int(stock[1:], 16) >= 0 for stock in ids)


def test_make_market__has_styles_that_are_z_scores_and_sectors_that_sum_to_1() -> None:
    exposures = np.asarray(make_market(CROWD, 1).universe.exposures)
    styles, sectors = exposures[:, : len(STYLES)], exposures[:, len(STYLES) :]
    assert exposures.shape == (CROWD.stocks, len(FACTOR_NAMES))
    assert np.abs(styles.mean(axis=0)).max() < 1e-6
    assert np.abs(styles.std(axis=0) - 1).max() < 1e-6
    assert (sectors.sum(axis=1) == 1).all()


def test_make_market__has_countries_of_very_different_sizes() -> None:
    universe = make_market(SyntheticSpec(rounds=1, models=1, stocks=6_000, seed=5), 1).universe
    sizes = Counter(universe.country or ()).most_common()
    assert len(sizes) == 24
    assert sizes[0][1] > 8 * sizes[-1][1]


@pytest.mark.parametrize("seed", range(5))
def test_make_market__has_a_positive_definite_covariance_of_20_day_returns(seed: int) -> None:
    covariance = make_market(at_seed(SMALL, seed), 1).factor_covariance
    risk = np.sqrt(np.diag(covariance))
    assert np.array_equal(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > 1e-6
    assert ((risk > 0.003) & (risk < 0.15)).all()


def test_make_market__has_target_bins_of_5_20_50_20_5_percent_and_plausible_returns() -> None:
    market = make_market(CROWD, 1)
    values, counts = np.unique(market.targets.target, return_counts=True)
    assert values.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert counts.tolist() == [25, 100, 250, 100, 25]
    realised = np.asarray(market.targets.realised)
    assert 0.05 < realised.std() < 0.25
    assert realised.min() >= -0.95
    risk = np.asarray(market.universe.specific_risk)
    assert 0.01 < risk.min() < np.median(risk) < risk.max() < 0.6


def test_make_market__has_features_in_equal_quintiles_some_of_them_correlated() -> None:
    features = make_market(CROWD, 1).features
    assert features.values.dtype == np.int8
    assert all(np.unique(column, return_counts=True)[1].tolist() == [100] * 5 for column in features.values.T)
    assert features.names[:3] == ("feature_informed_00", "feature_style_00", "feature_noise_00")
    correlation = np.corrcoef(feature_signals(CROWD, 1))
    assert 0.1 < correlation[0, 3::3].mean() < 0.4  # informed features share alpha and the fad
    assert abs(correlation[2, 5::3].mean()) < 0.1


def test_features__know_a_little_of_the_target() -> None:
    spec = SyntheticSpec(rounds=20, models=1, stocks=2_000, seed=4)
    seen = [
        np.corrcoef(feature_signals(spec, number)[0::3].mean(axis=0), make_market(spec, number).targets.target)
        for number in spec.round_numbers
    ]
    assert 0.005 < np.mean([matrix[0, 1] for matrix in seen]) < 0.06


# The crowd --------------------------------------------------------------------------------------------------------


def test_predictions__are_whole_millionths_inside_0_and_1_and_never_constant() -> None:
    values = predictions(CROWD, 1)
    assert np.array_equal(np.rint(values * 1e6) / 1e6, values)
    assert values.min() > 0
    assert values.max() < 1
    assert (np.ptp(values, axis=1) > 0).all()


def test_predictions__of_derived_models_are_copies_or_exact_opposites() -> None:
    traits, values = make_traits(CROWD), predictions(CROWD, 1)
    sources = values[traits.source]
    twin, opposite = traits.kind == Kind.TWIN, traits.kind == Kind.OPPOSITE
    near = (traits.kind == Kind.NEAR) & (traits.style == Style.RANK) & (traits.style[traits.source] == Style.RANK)
    assert min(twin.sum(), opposite.sum(), near.sum()) >= 3
    assert np.array_equal(values[twin], sources[twin])
    assert np.array_equal(np.rint(1e6 * values[opposite]), 1e6 - np.rint(1e6 * sources[opposite]))
    for one, other in zip(values[near], sources[near], strict=True):
        assert 0.98 < np.corrcoef(one, other)[0, 1] < 1


def test_predictions__are_more_alike_inside_a_family() -> None:
    traits, values = make_traits(CROWD), predictions(CROWD, 1)
    plain = (traits.kind == Kind.OWN) & (traits.own_share < 1) & (traits.style <= Style.MINMAX)
    correlation = np.corrcoef(values[plain])
    family = traits.family[plain]
    same = np.equal.outer(family, family) & ~np.eye(len(family), dtype=bool)
    others = np.not_equal.outer(family, family)
    assert correlation[same].mean() > 0.4
    assert 0 < correlation[others].mean() < correlation[same].mean() - 0.1


def test_predictions__are_written_in_every_style() -> None:
    spec = SyntheticSpec(rounds=1, models=1_000, stocks=300, seed=6)
    traits, values = make_traits(spec), predictions(spec, 1)
    distinct = np.array([len(np.unique(row)) for row in values])
    assert set(traits.style.tolist()) == set(Style)
    assert (distinct[traits.style == Style.TEN_BINS] == 10).all()
    assert (distinct[traits.style == Style.TWO_DECIMALS] <= 99).all()
    assert (distinct[traits.style == Style.RANK] == spec.stocks).all()


def test_predictions__have_the_spread_of_scores_of_a_real_round() -> None:
    spec = SyntheticSpec(rounds=1, models=200, stocks=5_000, seed=7)
    values, target = predictions(spec, 1), make_market(spec, 1).targets.target
    scores = [np.corrcoef(row, target)[0, 1] for row in values]
    assert 0.008 < np.std(scores) < 0.03
    assert abs(np.mean(scores)) < 0.06


def test_benchmarks__are_distinct_ranks_that_resemble_one_another() -> None:
    values = benchmarks(SMALL, 1)
    assert values.shape == (len(BENCHMARKS), SMALL.stocks)
    assert all(len(np.unique(row)) == SMALL.stocks for row in values)
    assert 0.2 < np.corrcoef(values)[np.triu_indices(4, 1)].min() < 0.99


# The money --------------------------------------------------------------------------------------------------------


def test_make_stakes__has_the_heavy_tail_of_real_stakes() -> None:
    nmr = np.array([row.atoms / 1e18 for row in make_stakes(LARGE, 1).rows])
    staked = np.sort(nmr[nmr > 0])[::-1]
    assert len(staked) == LARGE.models // 2
    assert 1.5 < np.median(staked) < 2.6
    assert 0.38 < staked[:50].sum() / staked.sum() < 0.48
    assert 14_000 < staked[0] < 17_200
    assert 600_000 < staked.sum() < 1_000_000


def test_make_stakes__has_accounts_from_one_model_to_very_many() -> None:
    sizes = sorted(Counter(row.account for row in make_stakes(LARGE, 1).rows).values())
    assert sizes[0] == 1
    assert np.median(sizes) <= 3
    assert sizes[-1] > 100


def test_make_stakes__evolve_in_small_steps_of_whole_atoms() -> None:
    before, after = (make_stakes(SMALL, number).rows for number in (2, 3))
    assert make_stakes(SMALL, 3).rows == after
    assert [row.account for row in before] == [row.account for row in after]
    assert any(row.atoms % 10**9 for row in before)
    for one, other in zip(before, after, strict=True):
        assert (one.atoms == 0) == (other.atoms == 0)
        assert abs(other.atoms - one.atoms) <= 0.0301 * one.atoms


def test_make_stakes__does_not_depend_on_how_many_rounds_there_are() -> None:
    longer = SyntheticSpec(rounds=50, models=SMALL.models, stocks=SMALL.stocks, seed=SMALL.seed)
    assert make_stakes(longer, 3) == make_stakes(SMALL, 3)


def test_benchmark_stakes__has_every_benchmark() -> None:
    assert {row.model for row in benchmark_stakes().rows} == set(BENCHMARKS)
    assert all(row.atoms > 0 and row.account is None for row in benchmark_stakes().rows)


def test_attendance__a_few_skip_a_few_are_late_and_the_largest_staker_is_there() -> None:
    dates, largest = calendar(LARGE, 1), max(make_stakes(LARGE, 1).rows, key=lambda row: row.atoms).model
    presence, names = attendance(LARGE, 1), make_traits(LARGE).names
    window = (dates.closes_at - dates.opens_at).total_seconds()
    assert 0.005 < 1 - presence.submits.mean() < 0.015
    assert 0.001 < presence.late.mean() < 0.006
    assert np.array_equal(presence.seconds > window, presence.late)
    assert not (presence.late & ~presence.submits).any()
    assert [row.late for row in make_stakes(LARGE, 1).rows] == presence.late.tolist()
    assert presence.submits[names.index(largest)]


def test_calendar__is_weekly_and_resolves_a_month_later() -> None:
    spec = SyntheticSpec(rounds=1_300, models=1, stocks=20, seed=0, first_round=100)
    first, second, last = (calendar(spec, number) for number in (100, 101, 1_399))
    assert second.opens_at - first.opens_at == timedelta(weeks=1)
    assert first.opens_at.weekday() == 5
    assert timedelta(days=30) <= first.resolves_at - first.closes_at <= timedelta(days=31)
    assert last.resolves_at < datetime(2025, 1, 31, tzinfo=UTC)
    for outside in (99, 1_400):
        with pytest.raises(OperatorError, match=f"has rounds 100 … 1399, not {outside}"):
            calendar(spec, outside)
