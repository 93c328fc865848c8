"""Projections onto products of cones: where v = y − s splits, the derivative there, and the distance to where it jumps.

Given v, the projection onto the dual cone is y = Π(v) and s = Π(v) − v; the two are complementary, exactly. D = Π'(v)
is diagonal for signs and equations, and of rank two plus a diagonal for a second-order cone, which is kept that way: as
a matrix the cone of a risk term over 5 000 stocks would have 25 million numbers.

A cone has eigenvalues (of a sign the number itself, of a second-order cone t ± |z|), and Π has a kink where one of them
is 0. The margin is the smallest one, those of y as a share of the largest |y| and those of s of the largest |s|, so
that it has no units.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sparse
from diffcp import _diffcp  # type: ignore[import-untyped]  # diffcp has no stubs
from diffcp.cones import parse_cone_dict_cpp, unvec_symm  # type: ignore[import-untyped]  # the same
from diffcp.cones import pi as project
from jaxtyping import Float64

_NEAR = 1e-5
_JUMP = 1e-3
"""An exponential cone, whose kinks have no formula, counts as on one where D changes by more than this within a share
`_NEAR` of |v|; away from kinks it changes by about that share. Nearer than 1e-6 diffcp takes one side for the other."""
_FACE = 1e-7
"""Share of the largest entry below which the second of a projection counts as 0: no ray, but the face."""
_ROUGH = 1e-14
"""And where y and s are less complementary than this: next to the cone's face rays are too steep to be told apart."""

_POLISHING = 6
"""Newton steps from diffcp's projection onto an exponential cone, which is off by up to 5e-6 of |v|."""

KINDS = ("z", "l", "q", "s", "ep")
"""Equations, signs, second-order cones, semidefinite matrices, exponential cones: in the order of their rows."""


@dataclass(frozen=True, slots=True)
class Slope:
    """D = fixed + left @ middle @ leftᵀ, symmetric, its eigenvalues within [0, 1].

    Attributes:
        fixed: (row, row) sparse.
        left: (row, few) two columns for each second-order cone of which both y and s are on the boundary.
        middle: (few, few) block diagonal.
    """

    fixed: sparse.csc_matrix
    left: sparse.csc_matrix
    middle: sparse.csc_matrix

    def times(self, vector: Float64[np.ndarray, " row"]) -> Float64[np.ndarray, " row"]:
        """Returns D @ vector."""
        return np.asarray(self.fixed @ vector + self.left @ (self.middle @ (self.left.T @ vector)))


@dataclass(frozen=True, slots=True)
class Split:
    """What a vector v is made of.

    Attributes:
        dual: (row,) y, in the dual cone.
        slack: (row,) s = y − v, in the cone.
        slope: D.
        margin: distance to the nearest kink, relative; inf where there is none.
    """

    dual: Float64[np.ndarray, " row"]
    slack: Float64[np.ndarray, " row"]
    slope: Slope
    margin: float


@dataclass(frozen=True, slots=True)
class _Part:
    """One cone's share of a split; `left` has its own rows only, and two columns or none."""

    dual: np.ndarray
    fixed: Any
    eigenvalues: np.ndarray
    left: np.ndarray
    middle: np.ndarray


def split(apart: Float64[np.ndarray, " row"], cones: Mapping[str, Any]) -> Split:
    """Returns the projection of v = `apart` onto the dual of a product of cones, and what is left of it.

    Args:
        apart: v.
        cones: sizes by kind, as SCS counts them: of `z`, `l` and `ep` a number, of `q` and `s` a list.
    """
    parts = list(_parts(apart, cones))
    dual = np.concatenate([part.dual for part in parts])
    slack, eigenvalues = dual - apart, np.concatenate([part.eigenvalues for part in parts])
    above, below = eigenvalues[eigenvalues > 0], -eigenvalues[eigenvalues <= 0]
    of_dual, of_slack = (max(float(np.abs(side).max(initial=0)), 1e-300) for side in (dual, slack))
    margin = min(above.min(initial=np.inf) / of_dual, below.min(initial=np.inf) / of_slack)
    slope = Slope(
        sparse.block_diag([part.fixed for part in parts], format="csc"),
        sparse.block_diag([part.left for part in parts], format="csc"),
        sparse.block_diag([part.middle for part in parts], format="csc"),
    )
    return Split(dual, slack, slope, float(margin))


def _parts(apart: np.ndarray, cones: Mapping[str, Any]) -> Iterator[_Part]:
    start = 0
    for kind in KINDS:
        given = cones.get(kind) or 0
        sizes = given if isinstance(given, list | tuple) else [3] * given if kind == "ep" else [given]
        for size in sizes:
            rows = size * (size + 1) // 2 if kind == "s" else size
            if rows:
                yield _OF_KIND[kind](apart[start : start + rows], size)
            start += rows


def _plain(dual: np.ndarray, fixed: Any, eigenvalues: np.ndarray) -> _Part:
    return _Part(dual, fixed, eigenvalues, np.zeros((dual.size, 0)), np.zeros((0, 0)))


def _equations(v: np.ndarray, size: int) -> _Part:
    return _plain(v, sparse.identity(size), np.zeros(0))


def _signs(v: np.ndarray, size: int) -> _Part:
    return _plain(np.maximum(v, 0.0), sparse.diags((v > 0).astype(float), shape=(size, size)), v)


def _second_order(v: np.ndarray, size: int) -> _Part:
    t, length = float(v[0]), float(np.linalg.norm(v[1:]))
    eigenvalues = np.array([t + length, t - length])
    if length <= abs(t):
        inside = float(t > 0)
        return _plain(inside * v, sparse.identity(size) * inside, eigenvalues)
    along = np.append(0.0, v[1:] / length)
    left = np.column_stack([np.eye(size, 1)[:, 0], along])
    fixed = np.append(0.5, np.full(size - 1, 0.5 * (1 + t / length)))
    middle = np.array([[0.0, 0.5], [0.5, -0.5 * t / length]])
    dual = 0.5 * (length + t) * (left[:, 0] + along)
    return _Part(dual, sparse.diags(fixed), eigenvalues, left, middle)


def _semidefinite(v: np.ndarray, size: int) -> _Part:
    operator = _diffcp.dprojection(v, parse_cone_dict_cpp([("s", [size])]), True)
    slope = np.column_stack([operator.matvec(unit) for unit in np.eye(v.size)])
    return _plain(project(v, [("s", [size])]), slope, np.linalg.eigvalsh(unvec_symm(v, size)))


def _exponential(v: np.ndarray, size: int) -> _Part:
    primal, slope = _onto_exponential(-v)  # onto the dual cone it is v + Π_K(−v)
    nearby = _NEAR * np.linalg.norm(v) * np.array([0.6, -0.64, 0.48])
    jump = np.abs(_onto_exponential(-v + nearby)[1] - _onto_exponential(-v - nearby)[1]).max()
    rough = abs(primal @ (v + primal)) > _ROUGH * (v @ v)
    return _plain(v + primal, np.eye(size) - slope, np.zeros(1 if rough or jump > _JUMP else 0))


def _onto_exponential(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the projection onto the exponential cone, and its derivative.

    The cone's boundary is made of the rays u(r) = (r, 1, exp r) and a face; on a ray p = l·u with (v − p)·u = 0 and
    (v − p)·u' = 0. From diffcp's projection Newton steps in r and l go on.
    """
    near = np.asarray(_diffcp.project_exp_cone(v))
    if np.array_equal(near, v) or not near.any():
        return near, np.eye(3) * bool(near.any())
    if near[1] <= _FACE * np.abs(near).max():
        return near, np.diag([float(v[0] < 0), 0.0, float(v[2] > 0)])
    r, length = near[0] / near[1], near[1]
    for _ in range(_POLISHING):
        u, along = np.array([r, 1.0, np.exp(r)]), np.array([1.0, 0.0, np.exp(r)])
        rest = v - length * u
        bend = length * along @ along - rest[2] * np.exp(r)
        inverse = np.linalg.inv([[bend, u @ along], [length * (u @ along), u @ u]])
        r, length = np.array([r, length]) + inverse @ np.array([rest @ along, rest @ u])
    u, along = np.array([r, 1.0, np.exp(r)]), np.array([1.0, 0.0, np.exp(r)])
    return length * u, np.column_stack([length * along, u]) @ inverse @ np.stack([along, u])


_OF_KIND = {"z": _equations, "l": _signs, "q": _second_order, "s": _semidefinite, "ep": _exponential}
