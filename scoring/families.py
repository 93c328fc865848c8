"""Families: which submissions are alike, and which are each other's mirror image.

    panels ─ edges ─► the strongest likenesses ─ families ─► family and side of every model ─ netted ─► opposites

Two submissions are linked where |ρ(pow(g(p)), pow(g(p')))| ≥ a threshold, and a family is what hangs together by links
(single linkage): copies that are changed a little stay one, however many and whoever owns them. Of all links only the
strongest are kept that connect the models, a maximum spanning forest. It merges over panels, it does not depend on how
the models are cut into panels, a forest at one threshold holds the forests at all higher ones, and the strongest
likeness decides on which side of its family a model stands.

All pairs are screened in single precision; exact is computed only what a proven bound on its rounding errors leaves
undecided, in fixed lanes. Copies are found by their bytes, so 10 000 of them cost little.

The failures guarded against: a limit on a submission that is passed by two of its kind; and somebody who stakes on both
p and 1 − p, risks nothing, and makes everybody's payout smaller.

References:
    Single linkage and the maximum spanning tree: Gower and Ross, Minimum Spanning Trees and Single Linkage Cluster
    Analysis (Applied Statistics 18(1), 1969).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from math import ceil

import numpy as np
from jaxtyping import Float32, Float64, Int64

from scoring.correlation import Products
from scoring.kernels.forest import undecided
from scoring.pairwise import Panel, exact_correlations, power_products, screening_error, unit_vectors
from scoring.published import SCORE_DECIMALS, score_units
from scoring.ranks import Ranks, select

SAME = 10**SCORE_DECIMALS
"""The likeness of a submission to its copy, in units of 1e-12."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Two models that are alike or opposite.

    Attributes:
        left, right: their names, left < right.
        likeness: their correlation in units of 1e-12, below 0 where they are opposite.
    """

    left: str
    right: str
    likeness: int


Edges = tuple[Edge, ...]
"""The strongest links of some models: those that connect them, and those that connect the ones of one sign."""


@dataclass(frozen=True, slots=True)
class Families:
    """Who belongs together.

    Attributes:
        threshold: |ρ| from which two submissions are linked, 0.5 < threshold ≤ 1.
        member: model → number of its family, and +1 or −1, its side: −1 where it is opposite to the family's first
            model by name. Families are numbered by their first models.
        alike: model → number of its group where only ρ ≥ threshold links and opposites do not.
    """

    threshold: Decimal
    member: Mapping[str, tuple[int, int]]
    alike: Mapping[str, int] = field(default_factory=dict)


def edges(panels: Sequence[Panel], start: int, threshold: Decimal) -> Edges:
    """Returns the strongest links of panel `start` with itself and with every panel after it.

    Args:
        panels: the round's models, sorted by name; those that do not count have no links.
        start: the panel that meets the others.
        threshold: |ρ|, rounded to 12 decimals, from which two are linked, 0.5 < threshold ≤ 1.
    """
    left = _side(panels[start])
    found = _copies(left, left)
    for index in range(start, len(panels)):
        right = left if index == start else _side(panels[index])
        if index > start:
            found += _copies(left, right)
        found += _links(left, right, threshold)
    return _strongest(found)


def families(models: Sequence[str], found: Sequence[Edges], threshold: Decimal) -> Families:
    """Returns the families of a round; each model is in one, alone or not.

    Args:
        models: all of the round.
        found: what `edges` says for every start, at this threshold or a lower one.
        threshold: 0.5 < threshold ≤ 1.
    """
    least = Fraction(threshold) * SAME
    kept = [edge for each in found for edge in each if abs(edge.likeness) >= least]
    linked, alike = _Groups(), _Groups()
    for edge in sorted(kept, key=_by_strength):
        linked.join(edge.left, edge.right, -1 if edge.likeness < 0 else 1)
        if edge.likeness > 0:
            alike.join(edge.left, edge.right, 1)
    return Families(threshold, linked.numbered(models), {m: at for m, (at, _) in alike.numbered(models).items()})


def netted(families: Families, at_risk: Mapping[str, int]) -> dict[str, int]:
    """Returns the atoms of each model that opposites take out of the total at risk; zeros are left out.

    In each family the smaller side's total is taken off both sides, from each model in proportion to what it has at
    risk: rounded down, the atoms that are left over go to the largest remainders, ties by name. So what is netted on
    both sides of a family is equal, and at most what is at risk.

    Args:
        families: of the round; a model that is in none has no opposite.
        at_risk: atoms ≥ 0 of the models that count.
    """
    sides: dict[tuple[int, int], dict[str, int]] = {}
    for model in sorted(at_risk):
        if model in families.member:
            sides.setdefault(families.member[model], {})[model] = at_risk[model]
    found: dict[str, int] = {}
    for (family, sign), side in sides.items():
        other = sides.get((family, -sign), {})
        found |= _pro_rata(side, min(sum(side.values()), sum(other.values())))
    return dict(sorted((model, atoms) for model, atoms in found.items() if atoms))


def _pro_rata(side: Mapping[str, int], taken: int) -> dict[str, int]:
    """Returns whole parts of `taken` in proportion to the amounts of a side, `taken` at most their sum."""
    total = sum(side.values())
    if not taken:
        return {}
    parts = {model: divmod(amount * taken, total) for model, amount in side.items()}
    shares = {model: whole for model, (whole, _) in parts.items()}
    ahead = sorted(parts, key=lambda model: (-parts[model][1], model))
    for model in ahead[: taken - sum(shares.values())]:
        shares[model] += 1
    return shares


# Groups by union-find -----------------------------------------------------------------------------------------------


class _Groups:
    """Groups that grow by links; each link says whether its two ends stand on the same side."""

    def __init__(self) -> None:
        self._parent: dict[str, tuple[str, int]] = {}

    def root(self, model: str) -> tuple[str, int]:
        """Returns the model that stands for a group, and the model's side as seen from it."""
        path, side = [], 1
        while model in self._parent:
            path.append(model)
            model, sign = self._parent[model]
            side *= sign
        seen = side
        for each in path:  # later searches take one step
            sign = self._parent[each][1]
            self._parent[each] = (model, seen)
            seen *= sign
        return model, side

    def join(self, left: str, right: str, sign: int) -> bool:
        """Joins two groups by a link; False where they are one already, and the link, being weaker, says nothing."""
        (one, of_left), (other, of_right) = self.root(left), self.root(right)
        if one == other:
            return False
        self._parent[max(one, other)] = (min(one, other), of_left * sign * of_right)
        return True

    def numbered(self, models: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Returns the number of each model's group, and its side as seen from the group's first model by name."""
        number: dict[str, int] = {}
        found = {}
        for model in sorted(models):
            root, side = self.root(model)
            found[model] = (number.setdefault(root, len(number)), side)
        return found


def _by_strength(edge: Edge) -> tuple[int, str, str]:
    return -abs(edge.likeness), edge.left, edge.right


def _strongest(found: Iterable[Edge]) -> Edges:
    """Returns the links that connect, strongest first, and of those of one sign the ones that connect these."""
    linked, alike = _Groups(), _Groups()
    kept = []
    for edge in sorted(found, key=_by_strength):
        connects = linked.join(edge.left, edge.right, -1 if edge.likeness < 0 else 1)
        unites = edge.likeness > 0 and alike.join(edge.left, edge.right, 1)
        if connects or unites:
            kept.append(edge)
    return tuple(kept)


# Two panels ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Side:
    """The counted models of a panel, ready to meet another one.

    Attributes:
        models: all of them.
        key: (model,) the ranks' bytes, equal for copies.
        distinct: the first model of each key.
        place: key → its row in `distinct`.
        exact: mean and length of the distinct ones' values.
        units: (distinct, stock) float32 unit vectors.
    """

    models: tuple[str, ...]
    key: tuple[bytes, ...]
    distinct: Ranks
    place: Mapping[bytes, int]
    exact: Products
    units: Float32[np.ndarray, "distinct stock"]


def _side(panel: Panel) -> _Side:
    counted = select(panel.ranks, np.flatnonzero(panel.counted).tolist())
    keys = tuple(row.tobytes() for row in counted.doubled)
    first = {key: at for at, key in reversed(list(enumerate(keys)))}
    rows = sorted(first.values())
    distinct = select(counted, rows)
    exact = power_products(distinct)
    units = unit_vectors(distinct, exact)
    return _Side(counted.models, keys, distinct, {keys[row]: at for at, row in enumerate(rows)}, exact, units)


def _copies(left: _Side, right: _Side) -> list[Edge]:
    """Returns links from left models to their copies on the right, one for each of these."""
    firsts = [(left.distinct.models[left.place[key]], at) for at, key in enumerate(right.key) if key in left.place]
    return [_edge(first, right.models[at], SAME) for first, at in firsts if first != right.models[at]]


def _edge(one: str, other: str, likeness: int) -> Edge:
    return Edge(min(one, other), max(one, other), likeness)


def _links(left: _Side, right: _Side, threshold: Decimal) -> list[Edge]:
    """Returns the strongest links between distinct models of two panels, or within one."""
    rows, columns, screened = _screened(left, right, float(threshold))
    reach = _reach(left.distinct.stocks)
    place = columns + (0 if left is right else len(left.distinct.models))
    open_ = np.zeros(rows.size, dtype=bool)
    undecided(rows, place, screened, 2 * reach, open_)
    rows, columns, place = rows[open_], columns[open_], place[open_]
    likeness = _exact(left, right, rows, columns)
    order = np.lexsort((columns, rows, -np.abs(likeness)))
    order = order[np.abs(likeness[order]) >= ceil(Fraction(threshold) * SAME)]
    # Changed a little, copies are more pairs than there is time to make objects of; only a forest of them is kept.
    strength = np.arange(order.size, 0, -1) * np.sign(likeness[order])  # strictly falling: as in `_by_strength`
    kept = np.zeros(order.size, dtype=bool)
    undecided(rows[order], place[order], strength.astype(np.float64), 0.5, kept)
    names, others = left.distinct.models, right.distinct.models
    return [_edge(names[rows[at]], others[columns[at]], int(likeness[at])) for at in order[kept]]


def _screened(
    left: _Side, right: _Side, threshold: float
) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"], Float64[np.ndarray, " pair"]]:
    """Returns the pairs that may be linked, the strongest first as far as single precision can tell."""
    product = left.units @ right.units.T
    may = np.abs(product) >= threshold - _reach(left.distinct.stocks)
    if left is right:
        may = np.triu(may, 1)
    else:
        may[:, [at for at, key in enumerate(right.place) if key in left.place]] = False  # linked as copies
    rows, columns = np.nonzero(may)
    screened = product[rows, columns].astype(np.float64)
    order = np.argsort(-np.abs(screened), kind="stable")
    return rows[order], columns[order], screened[order]


def _reach(stocks: int) -> float:
    """Returns twice the bound on single precision's errors, for what a likeness is rounded by besides."""
    return 2 * screening_error(stocks)


def _exact(
    left: _Side, right: _Side, rows: Int64[np.ndarray, " pair"], columns: Int64[np.ndarray, " pair"]
) -> Int64[np.ndarray, " pair"]:
    """Returns the correlations of some pairs, in units of 1e-12."""
    found = np.zeros(rows.size, dtype=np.int64)
    for row in np.unique(rows).tolist():
        of_row = rows == row
        exact = exact_correlations((left.distinct, left.exact), row, (right.distinct, right.exact), columns[of_row])
        found[of_row] = [score_units(rho) for rho in exact.tolist()]
    return found
