"""The problem as the structured solver sees it: scaled, and with the sums over stocks that every step needs.

With w = (L/n)·ŵ and a = (γ d̄ L/n)·â the problem loses its units and γ:

    maximise âᵀŵ − ½ (yᵀΩ̂y + Σ d̂_j ŵ_j²)      d̂ = d/d̄,  Ω̂ = Ω/d̄,  Σ|ŵ_j| ≤ n,  factor columns of root mean square 1

so that an alpha of any scale meets the same matrices. With h_j = 1/d̂_j on a bag's free stocks and 0 elsewhere, a step
needs Cᵀ diag(h) C, C = [F E]. Its factor block is a sum over stocks of products of two factor columns. All those
products are computed once; then the factor blocks of all bags are one matrix product (bag × stock)·(stock × pair).
The columns of E are 0/1 groups, whose blocks are sums over the group's stocks only.

The failure guarded against: a scale of the data (alpha times 1e6, a factor in other units) that decides about
convergence.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from scoring.portfolio.problem import PortfolioProblem

FEW_BAGS = 8
"""Up to here a bag's own product of its free stocks' rows beats reading all products of columns: at 1 000 and at 5 000
stocks, with 70 factors, five bags took half the time, ten bags the same, 25 bags twice the time."""


@dataclass(frozen=True, slots=True)
class Structure:
    """A scaled problem.

    Attributes:
        columns: (stock, column) C, the factors, then one column a neutrality row.
        covariance: (factor, factor) Ω̂.
        specific: (stock,) d̂.
        inverse: (stock,) 1/d̂.
        bounds: (factor,) e in the scaled units, inf for none.
        cap: of a scaled weight.
        pairs: (pair, stock) products of two factor columns, the upper triangle row by row.
        pair_of: (factor · factor,) where the product of two factors stands in `pairs`.
        members: (member,) the stocks of every group, group after group.
        member_columns: (member, column) their rows of `columns`.
        full_diagonal: (unknown,) of `normal_matrix` with all stocks free.
        group_ends: where each group's stocks end among the members.
        alpha_unit: γ d̄ L/n.
        weight_unit: L/n.
    """

    columns: Float64[Tensor, "stock column"]
    covariance: Float64[Tensor, "factor factor"]
    specific: Float64[Tensor, " stock"]
    inverse: Float64[Tensor, " stock"]
    bounds: Float64[Tensor, " factor"]
    cap: float
    pairs: Float64[Tensor, "pair stock"]
    pair_of: Int64[Tensor, " square"]
    members: Int64[Tensor, " member"]
    member_columns: Float64[Tensor, "member column"]
    full_diagonal: Float64[Tensor, " unknown"]
    group_ends: tuple[int, ...]
    alpha_unit: float
    weight_unit: float

    @property
    def stocks(self) -> int:
        """Number of stocks, and the scaled leverage."""
        return self.columns.shape[0]

    @property
    def factors(self) -> int:
        """Number of factors: multipliers 0 … factors − 1."""
        return self.covariance.shape[0]

    @property
    def unknowns(self) -> int:
        """Factors, neutrality rows, and the leverage."""
        return self.columns.shape[1] + 1


def make_structure(problem: PortfolioProblem, risk_aversion: float, device: str) -> Structure:
    """Returns a problem scaled, on a device."""
    stocks = problem.stocks
    rows = [np.flatnonzero(problem.groups[part] == group) for part, group in problem.rows]
    neutral = np.zeros((stocks, len(rows)))
    for place, inside in enumerate(rows):
        neutral[inside, place] = 1.0
    length = np.sqrt(np.mean(problem.factors**2, axis=0)) if problem.factors.size else np.ones(0)
    length = np.where(length > 0, length, 1.0)
    typical, weight_unit = float(np.mean(problem.specific)), problem.leverage / stocks
    columns = np.concatenate([problem.factors / length, neutral], axis=1)
    inverse = typical / problem.specific
    members = np.concatenate([np.zeros(0, np.int64), *rows])
    factors = len(length)

    def put(array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), device=device)

    return Structure(
        columns=put(columns),
        covariance=put(problem.covariance * np.outer(length, length) / typical),
        specific=put(problem.specific / typical),
        inverse=put(inverse),
        bounds=put(problem.bounds / (length * weight_unit)),
        cap=problem.cap / weight_unit,
        pairs=_pairs(put(columns.T[:factors])),
        pair_of=put(_pair_of(factors)),
        members=put(members),
        member_columns=put(columns[members]),
        full_diagonal=put(np.append((columns**2 * inverse[:, None]).sum(0), inverse.sum())),
        group_ends=tuple(np.cumsum([len(inside) for inside in rows]).tolist()),
        alpha_unit=risk_aversion * typical * weight_unit,
        weight_unit=weight_unit,
    )


def normal_matrix(
    structure: Structure,
    free: Float64[Tensor, "bag stock"],
    signed: Float64[Tensor, "bag stock"],
    leverage: Float64[Tensor, " bag"],
) -> Float64[Tensor, "bag unknown unknown"]:
    """Returns [[Cᵀ diag(h) C, Cᵀg], [gᵀC, l]] of every bag: the last unknown is the leverage.

    Args:
        free: h; for an active set 1/d̂ for free stocks and 0 for others.
        signed: g; for an active set h with the signs of the positions.
        leverage: l; for an active set Σh.
    """
    k, size = structure.factors, structure.unknowns
    matrix = free.new_zeros(len(free), size, size)
    matrix[:, :k, :k] = factor_gram(structure, free)
    groups = _group_sums(structure, free)
    matrix[:, k:-1, :-1] = groups
    matrix[:, :k, k:-1] = groups[:, :, :k].mT
    with_leverage = signed @ structure.columns
    matrix[:, -1, :-1] = with_leverage
    matrix[:, :-1, -1] = with_leverage
    matrix[:, -1, -1] = leverage
    return matrix


def _group_sums(structure: Structure, free: Float64[Tensor, "bag stock"]) -> Float64[Tensor, "bag row column"]:
    """Returns Eᵀ diag(h) C of every bag, each group from its own stocks."""
    of_members, start = free.index_select(1, structure.members), 0
    sums = free.new_empty(len(structure.group_ends), len(free), structure.unknowns - 1)
    for row, end in enumerate(structure.group_ends):
        torch.mm(of_members[:, start:end], structure.member_columns[start:end], out=sums[row])
        start = end
    return sums.transpose(0, 1)


def factor_gram(structure: Structure, free: Float64[Tensor, "bag stock"]) -> Float64[Tensor, "bag factor factor"]:
    """Returns Fᵀ diag(h) F of every bag."""
    k = structure.factors
    if len(free) > FEW_BAGS:
        return (free @ structure.pairs.mT).index_select(1, structure.pair_of).view(len(free), k, k)
    factors = structure.columns[:, :k]
    return torch.stack([(factors * weights[:, None]).mT @ factors for weights in free])


def _pair_of(factors: int) -> Int64[np.ndarray, " square"]:
    upper = np.triu_indices(factors)
    place = np.zeros((factors, factors), dtype=np.int64)
    place[upper] = np.arange(len(upper[0]))
    return np.maximum(place, place.T).ravel()


def _pairs(factors: Float64[Tensor, "factor stock"]) -> Float64[Tensor, "pair stock"]:
    count, stocks = factors.shape
    pairs, start = factors.new_empty(count * (count + 1) // 2, stocks), 0
    for row in range(count):
        torch.mul(factors[row], factors[row:], out=pairs[start : start + count - row])
        start += count - row
    return pairs
