"""For bags on which Newton stalls: Mehrotra's predictor-corrector method, on a matrix of the same shape.

Positions are split, w = p − m with 0 < p, m < u, and a logarithmic barrier keeps every bound at a distance:

    p: d w − q + λ − z + v = 0     z p = τ,  v (u − p) = τ        (m the same with the signs of d w and q turned)
    y: θ = Ωy + η⁺ − η⁻            η⁺(e − y) = τ,  η⁻(e + y) = τ
    λ (n − Σ(p + m)) = τ           Fᵀw = y,  Eᵀw = 0

while τ goes to 0. w = 0 is always strictly inside, so it starts there and needs no first phase. Per stock p and m are
eliminated in closed form, which leaves the k + c + 1 multipliers. Far from the solution it needs no right guess of an
active set, which is what Newton lacks where the risk term is weak and few stocks are free. Its end point is good to
about 1e-8, enough for Newton to find the exact active set in a few steps; gradients never come from here.

The failure guarded against: a gradient of the smoothed problem, whose weights are right to 1e-5 and which itself is
wrong by a percent.

References:
    Mehrotra, On the implementation of a primal-dual interior point method (SIAM J. Optimization 2, 1992).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from scoring.portfolio.batch import put, take
from scoring.portfolio.dual import Multipliers
from scoring.portfolio.interior import (
    Interior,
    Products,
    Room,
    dual_point,
    inside_start,
    mean_product,
    moved_by,
    products_of,
    room_of,
    step_length,
    tensors_of,
)
from scoring.portfolio.schur import LEAST_DAMPING, cholesky
from scoring.portfolio.structure import Structure, normal_matrix

MOST_STEPS = 80
CLOSE = 1e-10
"""The distance from optimality, see `_distance`, at which a bag is handed back."""
_TO_EDGE = 0.995
"""Share of the way to the nearest bound that a step may go."""


@dataclass(frozen=True, slots=True)
class _System:
    """The matrix of a step, factorised, and what it was made of.

    Attributes:
        lower: (bag, unknown, unknown) Cholesky factor, scaled.
        scale: (bag, unknown) its scale.
        steep: (bag, 2, stock) z/p + v/(u − p), and the same for m.
        determinant: (bag, stock) of a stock's two equations.
        give: (bag, factor, factor) (Ω + barrier)⁻¹, how y follows θ.
        stock_residuals: (bag, 2, stock) what is left of the conditions on p and m.
        residuals: (bag, unknown) of those on exposures, neutrality, and 0.
    """

    lower: Float64[Tensor, "bag unknown unknown"]
    scale: Float64[Tensor, "bag unknown"]
    steep: Float64[Tensor, "bag 2 stock"]
    determinant: Float64[Tensor, "bag stock"]
    give: Float64[Tensor, "bag factor factor"]
    stock_residuals: Float64[Tensor, "bag 2 stock"]
    residuals: Float64[Tensor, "bag unknown"]


def interior_point(structure: Structure, alpha: Float64[Tensor, "bag stock"]) -> Multipliers:
    """Returns multipliers close to the optimal ones, for Newton to start from."""
    bags = len(alpha)
    live, point = torch.arange(bags, device=alpha.device), inside_start(structure, alpha)
    found: Multipliers | None = None
    for step in range(MOST_STEPS + 1):
        system = _system(structure, alpha, point)
        done = _distance(structure, alpha, point, system) <= CLOSE
        if step == MOST_STEPS:
            done = torch.ones_like(done)
        if bool(done.any()):
            rows, stay = done.nonzero()[:, 0], (~done).nonzero()[:, 0]
            found = put(found, live[rows], dual_point(structure, take(point, rows)), bags)
            live, alpha, point, system = live[stay], alpha[stay], take(point, stay), take(system, stay)
        if len(live) == 0:
            break
        point = _step(structure, point, system)
    return found if found is not None else dual_point(structure, point)


def _system(structure: Structure, alpha: Float64[Tensor, "bag stock"], point: Interior) -> _System:
    room, k = room_of(structure, point), structure.factors
    theta = point.exposures @ structure.covariance + point.sides[:, 0] - point.sides[:, 1]
    reduced = torch.addmm(alpha, torch.cat([theta, point.neutral], dim=1), structure.columns.mT, alpha=-1)
    weights = point.sizes[:, 0] - point.sizes[:, 1]
    pull = structure.specific * weights - reduced
    stock_residuals = torch.stack([pull, -pull], dim=1) + point.leverage[:, None, None] - point.low + point.high
    steep = point.low / point.sizes + point.high / room.high
    both, less = steep.sum(1), steep[:, 1] - steep[:, 0]
    determinant = structure.specific * both + steep[:, 0] * steep[:, 1]
    leverage = ((4 * structure.specific + both) / determinant).sum(1) + room.leverage / point.leverage
    matrix = normal_matrix(structure, both / determinant, less / determinant, leverage)
    barrier = torch.diag_embed((point.sides / room.sides).sum(1))
    give = _inverse(structure.covariance + barrier)
    matrix[:, :k, :k] += give
    scale = torch.diagonal(matrix, dim1=1, dim2=2).rsqrt()
    matrix.mul_(scale[:, :, None]).mul_(scale[:, None, :])
    sums = weights @ structure.columns
    sums[:, :k] -= point.exposures
    return _System(
        lower=cholesky(matrix, torch.full_like(leverage, LEAST_DAMPING)),
        scale=scale,
        steep=steep,
        determinant=determinant,
        give=give,
        stock_residuals=stock_residuals,
        residuals=torch.cat([sums, torch.zeros_like(leverage)[:, None]], dim=1),
    )


def _inverse(matrix: Float64[Tensor, "bag factor factor"]) -> Float64[Tensor, "bag factor factor"]:
    scale = torch.diagonal(matrix, dim1=1, dim2=2).rsqrt()
    scales = scale[:, :, None] * scale[:, None, :]
    lower = cholesky(matrix * scales, matrix.new_full((len(matrix),), LEAST_DAMPING))
    return torch.cholesky_inverse(lower) * scales


def _step(structure: Structure, point: Interior, system: _System) -> Interior:
    """Returns the next point: a step towards 0 says how far to go, and what a straight line misses."""
    room = room_of(structure, point)
    products = products_of(point, room)
    now = mean_product(structure, products)
    nothing = Products(*(torch.zeros_like(item) for item in tensors_of(products)))
    by = _solve(structure, point, room, system, nothing)
    ahead = moved_by(point, by, step_length(structure, point, room, by, 1.0))
    after = mean_product(structure, products_of(ahead, room_of(structure, ahead)))
    aim = now * (after / now) ** 3
    sides = torch.stack([-by.exposures, by.exposures], dim=1) * by.sides
    corrected = Products(
        low=aim[:, None, None] - by.low * by.sizes,
        high=aim[:, None, None] + by.high * by.sizes,
        sides=torch.where(point.sides > 0, aim[:, None, None] - sides, 0.0),
        leverage=aim + by.leverage * by.sizes.sum((1, 2)),
    )
    by = _solve(structure, point, room, system, corrected)
    return moved_by(point, by, step_length(structure, point, room, by, _TO_EDGE))


def _solve(structure: Structure, point: Interior, room: Room, system: _System, aims: Products) -> Interior:
    """Returns the step after which, to first order, the conditions hold and the products are as aimed at."""
    k, specific, steep = structure.factors, structure.specific, system.steep
    right = system.stock_residuals + (point.low - aims.low / point.sizes) - (point.high - aims.high / room.high)
    weights = (steep[:, 0] * right[:, 1] - steep[:, 1] * right[:, 0]) / system.determinant
    total = -((2 * specific + steep[:, 1]) * right[:, 0] + (2 * specific + steep[:, 0]) * right[:, 1])
    edge = aims.sides / room.sides - point.sides
    bound = edge[:, 0] - edge[:, 1]
    follows = (system.give @ bound.unsqueeze(-1)).squeeze(-1)
    left = system.residuals.clone()
    left[:, :-1] += weights @ structure.columns
    left[:, :k] += follows
    left[:, -1] = (total / system.determinant).sum(1) - room.leverage + aims.leverage / point.leverage
    scaled = (left * system.scale).unsqueeze(-1)
    prices = torch.cholesky_solve(scaled, system.lower).squeeze(-1) * system.scale
    leverage = prices[:, -1:]
    reduced = -(prices[:, :-1] @ structure.columns.mT)
    first, second = reduced - leverage - right[:, 0], -reduced - leverage - right[:, 1]
    sizes = (
        torch.stack(
            [
                (specific + steep[:, 1]) * first + specific * second,
                specific * first + (specific + steep[:, 0]) * second,
            ],
            dim=1,
        )
        / system.determinant[:, None]
    )
    exposures = (system.give @ (prices[:, :k] - bound).unsqueeze(-1)).squeeze(-1)
    slope = point.sides / room.sides * torch.stack([exposures, -exposures], dim=1)
    return Interior(
        sizes=sizes,
        low=aims.low / point.sizes - point.low - point.low / point.sizes * sizes,
        high=aims.high / room.high - point.high + point.high / room.high * sizes,
        exposures=exposures,
        sides=edge + slope,
        neutral=prices[:, k:-1],
        leverage=prices[:, -1],
    )


def _distance(
    structure: Structure, alpha: Float64[Tensor, "bag stock"], point: Interior, system: _System
) -> Float64[Tensor, " bag"]:
    """Returns the larger of complementarity and a thousandth of the residuals, relative.

    Residuals stop falling at the rounding of the barrier; products driven on to 0 from there would end as NaN.
    """
    price = alpha.abs().mean(1) + 1e-3
    residuals = system.stock_residuals.flatten(1).abs().amax(1) / price
    residuals = torch.maximum(residuals, system.residuals.abs().amax(1) / structure.stocks)
    products = mean_product(structure, products_of(point, room_of(structure, point))) / price
    return torch.maximum(1e-3 * residuals, products).nan_to_num(nan=0.0)
