"""Families: what hangs together, on which side, whatever the panels; and what opposites net."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring import families as module
from scoring.families import SAME, Families, edges, families, netted
from scoring.pairwise import Panel
from scoring.ranks import Ranks, rank, select
from tests.reference import naive

STOCKS = 40


def names(count: int) -> tuple[str, ...]:
    return tuple(f"model_{at:04}" for at in range(count))


def flock(seed: int, models: int, stocks: int = STOCKS) -> np.ndarray:
    """Submissions around a few ideas: copies, mirror images, and all kinds of likeness between."""
    rng = np.random.default_rng(seed)
    ideas = rng.normal(size=(3, stocks))
    rows = []
    for at in range(models):
        kind = rng.integers(5)
        if kind == 0 and rows:
            rows.append(rows[rng.integers(at)] * rng.choice([1, -1]))
        else:
            rows.append(
                rng.choice([1, -1]) * ideas[rng.integers(3)] + rng.choice([0.05, 0.3, 0.8]) * rng.normal(size=stocks)
            )
    return np.array(rows)


def found(ranks: Ranks, threshold: Decimal, cuts: Sequence[int] = (), counted: np.ndarray | None = None) -> Families:
    """The families of models that are cut into panels at some places."""
    mask = np.ones(len(ranks.models), dtype=bool) if counted is None else counted
    at = [0, *sorted(cuts), len(ranks.models)]
    panels = [Panel(select(ranks, range(a, b)), mask[a:b]) for a, b in pairwise(at)]
    return families(ranks.models, [edges(panels, start, threshold) for start in range(len(panels))], threshold)


def correlations(predictions: np.ndarray) -> np.ndarray:
    values = np.array([naive.power(naive.g(row)) for row in predictions])
    centred = values - values.mean(axis=1, keepdims=True)
    units = centred / np.linalg.norm(centred, axis=1)[:, None]
    return units @ units.T


def reached(links: np.ndarray, start: int) -> set[int]:
    """The slow way: whom one can walk to."""
    seen, open_ = {start}, [start]
    while open_:
        for other in np.flatnonzero(links[open_.pop()]).tolist():
            if other not in seen:
                seen.add(other)
                open_.append(other)
    return seen


def sides(rho: np.ndarray, threshold: float, group: set[int]) -> dict[int, int]:
    """Sides as seen from the first: walk from it, always over the strongest link that leads to somebody new (Prim)."""
    first = min(group)
    known = {first: 1}
    while len(known) < len(group):
        a, b = max(
            ((a, b) for a in known for b in group - known.keys() if abs(rho[a, b]) >= threshold),
            key=lambda pair: abs(rho[pair]),
        )
        known[b] = known[a] * (1 if rho[a, b] > 0 else -1)
    return known


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 25), st.sampled_from(["0.51", "0.6", "0.8", "0.95", "1"]))
def test_families__are_what_the_slow_way_finds(seed: int, models: int, threshold: str) -> None:
    predictions = flock(seed, models)
    rho, least = correlations(predictions), float(threshold) - 1e-13
    got = found(rank(names(models), predictions), Decimal(threshold))
    for at, model in enumerate(names(models)):
        group, alike = reached(abs(rho) >= least, at), reached(rho >= least, at)
        family = {other for other in range(models) if got.member[names(models)[other]][0] == got.member[model][0]}
        assert family == group
        assert {o for o in range(models) if got.alike[names(models)[o]] == got.alike[model]} == alike
        assert got.member[model][1] == sides(rho, least, group)[at]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 25), st.data())
def test_families__do_not_depend_on_how_models_are_cut_into_panels(seed: int, models: int, data: st.DataObject) -> None:
    ranks = rank(names(models), flock(seed, models))
    counted = np.array(data.draw(st.lists(st.booleans(), min_size=models, max_size=models)))
    cuts = data.draw(st.sets(st.integers(1, models - 1), max_size=5))
    for threshold in (Decimal("0.51"), Decimal("0.9")):
        assert found(ranks, threshold, sorted(cuts), counted) == found(ranks, threshold, (), counted)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 25))
def test_families__at_a_higher_threshold_follow_from_the_links_at_a_lower_one(seed: int, models: int) -> None:
    ranks = rank(names(models), flock(seed, models))
    panels = [Panel(ranks, np.ones(models, dtype=bool))]
    low = [edges(panels, 0, Decimal("0.55"))]
    for threshold in (Decimal("0.7"), Decimal("0.9"), Decimal(1)):
        assert families(ranks.models, low, threshold) == found(ranks, threshold)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 25))
def test_families__number_every_model_and_start_each_family_on_the_upper_side(seed: int, models: int) -> None:
    got = found(rank(names(models), flock(seed, models)), Decimal("0.6"))
    assert tuple(got.member) == names(models)
    firsts = {}
    for model, (family, side) in got.member.items():
        firsts.setdefault(family, (model, side))
    assert list(firsts) == list(range(len(firsts)))
    assert {side for _, side in firsts.values()} == {1}


def test_edges__decides_at_the_threshold_by_the_published_correlation() -> None:
    """A pair at a correlation is linked at exactly that one, and not at one unit of 1e-12 more."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=500)
        ranks = rank(names(2), np.array([x, x + 0.5 * rng.normal(size=500)]))
        panels = [Panel(ranks, np.ones(2, dtype=bool))]
        (edge,) = edges(panels, 0, Decimal("0.51"))
        exact = Decimal(edge.likeness).scaleb(-12)
        assert edges(panels, 0, exact) == (edge,)
        assert edges(panels, 0, exact + Decimal("1e-12")) == ()


def test_edges__are_few_where_there_are_many_copies() -> None:
    rng = np.random.default_rng(3)
    one = rng.normal(size=STOCKS)
    models = 3_000
    signs = rng.choice([1, -1], size=models)
    ranks = rank(names(models), signs[:, None] * one[None, :])
    panels = [Panel(select(ranks, range(at, at + 500)), np.ones(500, dtype=bool)) for at in range(0, models, 500)]
    every = [edges(panels, start, Decimal("0.95")) for start in range(len(panels))]
    assert sum(map(len, every)) < 2 * len(panels) * models
    assert {abs(edge.likeness) for each in every for edge in each} == {SAME}
    got = families(ranks.models, every, Decimal("0.95"))
    assert [side for _, side in got.member.values()] == (signs * signs[0]).tolist()
    assert len(set(got.alike.values())) == 2


def test_edges__computes_exactly_only_what_screening_leaves_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 models around one idea have 19 900 pairs above the threshold, and a forest of 199."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=400)
    ranks = rank(names(200), x + rng.uniform(0.1, 0.6, size=(200, 1)) * rng.normal(size=(200, 400)))
    computed = []
    exactly = module._exact
    monkeypatch.setattr(module, "_exact", lambda *each: computed.extend(each[2]) or exactly(*each))
    got = edges([Panel(ranks, np.ones(200, dtype=bool))], 0, Decimal("0.6"))
    assert len(got) == 199
    assert len(computed) < 1_000


@pytest.mark.parametrize("first", [1_500, 0], ids=["alike_to_twelve_decimals", "hardly_different"])
def test_edges__are_few_where_copies_are_changed_a_little(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """Neighbours change places, in each model others: no screening tells such copies apart, all pairs stay open."""
    stocks, models, made = 3_000, 60, []
    predictions = np.tile(np.arange(stocks, dtype=float), (models, 1))
    for at, row in enumerate(predictions):
        row[[first + at, first + at + 1]] = row[[first + at + 1, first + at]]
        row *= -1 if at % 3 == 1 else 1
    edge = module._edge
    monkeypatch.setattr(module, "_edge", lambda *each: made.append(each) or edge(*each))
    ranks = rank(names(models), predictions)
    whole = found(ranks, Decimal("0.95"))
    assert len(made) < 2 * models
    assert found(ranks, Decimal("0.95"), (7, 30)) == whole
    assert [side for _, side in whole.member.values()] == [-1 if at % 3 == 1 else 1 for at in range(models)]
    assert len(set(whole.alike.values())) == 2


def test_edges__link_nobody_who_does_not_count() -> None:
    ranks = rank(names(3), np.tile(np.arange(STOCKS, dtype=float), (3, 1)))
    got = found(ranks, Decimal("0.95"), (), np.array([True, False, True]))
    assert [family for family, _ in got.member.values()] == [0, 1, 0]
    assert found(ranks, Decimal("0.95"), (), np.zeros(3, dtype=bool)).member == {
        m: (at, 1) for at, m in enumerate(names(3))
    }


def test_families__a_chain_of_go_betweens_does_not_turn_an_opposite_into_a_friend() -> None:
    """Steps of 18 degrees lead from p to 1 − p; p and its mirror image stay opposite all the same."""
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(2, 3_000))
    steps = np.linspace(0, math.pi, 11)
    chain = np.array([math.cos(step) * x + math.sin(step) * y for step in steps])
    for order in (range(11), rng.permutation(11)):
        mixed = chain[list(order)]
        got = found(rank(names(11), mixed), Decimal("0.9"), (3, 7))
        assert {family for family, _ in got.member.values()} == {0}
        first, last = (names(11)[list(order).index(end)] for end in (0, 10))
        assert got.member[first][1] == -got.member[last][1]
        assert len(set(got.alike.values())) == 1


# Netting ------------------------------------------------------------------------------------------------------------


def in_families(*sides_of: str) -> Families:
    """One family a text: a model a sign."""
    member = {
        f"m_{family}_{at}": (family, 1 if sign == "+" else -1)
        for family, signs in enumerate(sides_of)
        for at, sign in enumerate(signs)
    }
    return Families(Decimal("0.95"), member)


def test_netted__takes_the_smaller_side_off_both_to_the_atom() -> None:
    at_risk = {"m_0_0": 50, "m_0_1": 40, "m_0_2": 7, "m_1_0": 5, "m_1_1": 6, "m_2_0": 3, "m_2_1": 3}
    got = netted(in_families("+-+", "++", "+-"), at_risk)
    assert got == {"m_0_0": 35, "m_0_1": 40, "m_0_2": 5, "m_2_0": 3, "m_2_1": 3}
    exact = [Fraction(50 * 40, 57), Fraction(7 * 40, 57)]
    assert [int(each) for each in exact] == [35, 4]  # the left atom goes to the larger remainder


def test_netted__ties_of_remainders_go_by_name() -> None:
    assert netted(in_families("++-"), {"m_0_0": 1, "m_0_1": 1, "m_0_2": 1}) == {"m_0_0": 1, "m_0_2": 1}


def test_netted__is_nothing_where_nobody_is_opposite_or_nothing_is_at_risk() -> None:
    at_risk = {"m_0_0": 9, "m_0_1": 9, "m_0_2": 9, "m_1_0": 4, "m_1_1": 0, "unknown": 5}
    assert netted(in_families("+++", "+-"), at_risk) == {}
    assert netted(in_families("+-"), {}) == {}


@given(
    st.lists(st.text("+-", min_size=1, max_size=6), min_size=1, max_size=5),
    st.lists(st.one_of(st.just(0), st.integers(1, 10), st.integers(1, 10**24)), min_size=30, max_size=30),
)
def test_netted__is_equal_on_both_sides_and_at_most_what_is_at_risk(signs: list[str], atoms: list[int]) -> None:
    of = in_families(*signs)
    at_risk = dict(zip(of.member, atoms, strict=False))
    got = netted(of, at_risk)
    assert all(0 < got[model] <= at_risk[model] for model in got)
    totals: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for model, place in of.member.items():
        totals[place][0] += got.get(model, 0)
        totals[place][1] += at_risk.get(model, 0)
    for family in range(len(signs)):
        (up, all_up), (down, all_down) = totals[family, 1], totals[family, -1]
        assert up == down == min(all_up, all_down)
    for place, (taken, total) in totals.items():
        for model in [each for each, its in of.member.items() if its == place and total]:
            assert abs(got.get(model, 0) - Fraction(at_risk[model] * taken, total)) < 1


@given(st.integers(1, 10**24), st.integers(1, 10**24), st.integers(2, 5))
def test_netted__nobody_gains_by_splitting_a_stake_over_copies(mine: int, theirs: int, parts: int) -> None:
    whole = netted(in_families("+-"), {"m_0_0": mine * parts, "m_0_1": theirs})
    split = netted(
        in_families("+" * parts + "-"), {**{f"m_0_{at}": mine for at in range(parts)}, f"m_0_{parts}": theirs}
    )
    assert sum(split.values()) == sum(whole.values())
    assert _joint(split, parts) == whole["m_0_0"]


def _joint(found_: Mapping[str, int], parts: int) -> int:
    return sum(found_.get(f"m_0_{at}", 0) for at in range(parts))
