"""Projections onto cones: split into complementary parts, with the right derivative, and kinks where they are."""

from typing import Any

import numpy as np
import pytest

from scoring.portfolio.cones import split

CONES: dict[str, tuple[dict[str, Any], int]] = {
    "signs": ({"z": 2, "l": 4}, 6),
    "second order": ({"q": [4, 1, 3]}, 8),
    "semidefinite": ({"s": [3, 1]}, 7),
    "exponential": ({"ep": 2}, 6),
    "all": ({"z": 1, "l": 2, "q": [3], "s": [2], "ep": 1}, 12),
}


@pytest.mark.parametrize("cones", CONES)
def test_split__has_the_derivative_that_central_differences_have(cones: str) -> None:
    kinds, rows = CONES[cones]
    draw, step, kinks = np.random.default_rng(1), 1e-6, 0
    for _ in range(100):
        apart, along = draw.normal(size=(2, rows)) * draw.choice([0.1, 1.0, 5.0])
        parts = split(apart, kinds)
        assert parts.dual - parts.slack == pytest.approx(apart, abs=1e-15 * np.abs(apart).max())
        if parts.margin < 1e-6:
            kinks += 1
            continue
        assert abs(parts.dual @ parts.slack) <= 1e-13 * (apart @ apart)
        after, before = (split(apart + sign * step * along, kinds).dual for sign in (1, -1))
        expected = (after - before) / (2 * step)
        assert parts.slope.times(along) == pytest.approx(expected, abs=1e-6 * np.abs(along).max())
    assert kinks <= 5


KINKS: dict[str, tuple[dict[str, Any], list[float], float]] = {
    "no sign": ({"l": 3}, [1.0, -2.0, 0.0], 0.0),
    "signs": ({"l": 3}, [1.0, -2.0, 1e-3], 1e-3),  # of the largest |y|, which is 1
    "negative signs": ({"l": 3}, [1.0, -2.0, -1e-3], 5e-4),  # of the largest |s|, which is 2
    "edge of a second-order cone": ({"q": [3]}, [5.0, 3.0, 4.0], 0.0),
    "edge of its polar": ({"q": [3]}, [-5.0, 3.0, 4.0], 0.0),
    "eigenvalue": ({"s": [2]}, [1.0, 0.0, 0.0], 0.0),
    "edge of an exponential cone": ({"ep": 1}, [-1.0, 1.0, float(np.exp(-2.0))], 0.0),
    "equations alone": ({"z": 2}, [0.0, 1.0], float("inf")),
}


@pytest.mark.parametrize("where", KINKS)
def test_split__measures_how_far_the_nearest_kink_is(where: str) -> None:
    cones, apart, expected = KINKS[where]
    assert split(np.array(apart), cones).margin == pytest.approx(expected, rel=1e-12, abs=1e-15)
