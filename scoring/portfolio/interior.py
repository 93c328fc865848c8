"""Points strictly inside all bounds, for the interior point method: where to start, how far to go, what they say.

The failure guarded against: a step that leaves the inside, after which a logarithm or a root makes NaN of a whole bag.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from scoring.portfolio.dual import Multipliers, finite_bounds
from scoring.portfolio.structure import Structure


@dataclass(frozen=True, slots=True)
class Interior:
    """A point strictly inside all bounds; the axis of two is (p, m), or (upper, lower).

    Attributes:
        sizes: (bag, 2, stock) p and m.
        low: (bag, 2, stock) z, the multipliers of p, m ≥ 0.
        high: (bag, 2, stock) v, those of p, m ≤ u.
        exposures: (bag, factor) y.
        sides: (bag, 2, factor) η⁺ and η⁻; 0 without a bound.
        neutral: (bag, row) μ.
        leverage: (bag,) λ.
    """

    sizes: Float64[Tensor, "bag 2 stock"]
    low: Float64[Tensor, "bag 2 stock"]
    high: Float64[Tensor, "bag 2 stock"]
    exposures: Float64[Tensor, "bag factor"]
    sides: Float64[Tensor, "bag 2 factor"]
    neutral: Float64[Tensor, "bag row"]
    leverage: Float64[Tensor, " bag"]


@dataclass(frozen=True, slots=True)
class Room:
    """Distances to the bounds: (bag, 2, stock) of the cap, (bag, 2, factor), (bag,)."""

    high: Float64[Tensor, "bag 2 stock"]
    sides: Float64[Tensor, "bag 2 factor"]
    leverage: Float64[Tensor, " bag"]


@dataclass(frozen=True, slots=True)
class Products:
    """What the products of multipliers and distances should become, or what they are."""

    low: Float64[Tensor, "bag 2 stock"]
    high: Float64[Tensor, "bag 2 stock"]
    sides: Float64[Tensor, "bag 2 factor"]
    leverage: Float64[Tensor, " bag"]


def inside_start(structure: Structure, alpha: Float64[Tensor, "bag stock"]) -> Interior:
    """Returns w = 0, half the leverage used on both sides, and all products alike."""
    bags, k = len(alpha), structure.factors
    size, price = 0.25 * min(structure.cap, 1.0), alpha.abs().mean(1) + 1e-3
    product, one = size * price, torch.ones_like(alpha)[:, None, :].expand(bags, 2, structure.stocks)
    sides = torch.where(structure.bounds.isfinite(), product[:, None] / structure.bounds, 0.0)
    return Interior(
        sizes=size * one,
        low=price[:, None, None] * one,
        high=(product / (structure.cap - size))[:, None, None] * one,
        exposures=alpha.new_zeros(bags, k),
        sides=torch.stack([sides, sides], dim=1),
        neutral=alpha.new_zeros(bags, structure.unknowns - 1 - k),
        leverage=product / (structure.stocks * (1 - 2 * size)),
    )


def room_of(structure: Structure, point: Interior) -> Room:
    bounds = finite_bounds(structure)
    free = (~structure.bounds.isfinite()).to(bounds.dtype)
    sides = torch.stack([bounds - point.exposures, bounds + point.exposures], dim=1)
    total = point.sizes.sum((1, 2))
    return Room(structure.cap - point.sizes, torch.where(free > 0, 1.0, sides), structure.stocks - total)


def products_of(point: Interior, room: Room) -> Products:
    return Products(
        point.low * point.sizes, point.high * room.high, point.sides * room.sides, point.leverage * room.leverage
    )


def mean_product(structure: Structure, products: Products) -> Float64[Tensor, " bag"]:
    summed = products.low.sum((1, 2)) + products.high.sum((1, 2)) + products.sides.sum((1, 2)) + products.leverage
    return summed / (4 * structure.stocks + 2 * structure.bounds.isfinite().sum() + 1)


def step_length(
    structure: Structure, point: Interior, room: Room, by: Interior, share: float
) -> Float64[Tensor, " bag"]:
    """Returns how much of a step keeps the point inside, at most 1."""
    exposures = torch.stack([-by.exposures, by.exposures], dim=1) * structure.bounds.isfinite()
    ways = [
        (point.sizes, by.sizes),
        (room.high, -by.sizes),
        (point.low, by.low),
        (point.high, by.high),
        (room.sides, exposures),
        (torch.where(point.sides > 0, point.sides, 1.0), by.sides),
        (room.leverage, -by.sizes.sum((1, 2))),
        (point.leverage, by.leverage),
    ]
    fastest = torch.stack(
        [(-change / here).flatten(1).amax(1) if here.ndim > 1 else -change / here for here, change in ways]
    )
    return torch.clamp(share / fastest.amax(0).clamp(min=1e-30), max=1.0)


def moved_by(point: Interior, by: Interior, length: Float64[Tensor, " bag"]) -> Interior:
    def move(here: Tensor, change: Tensor) -> Tensor:
        return here + change * length.view(-1, *(1,) * (here.ndim - 1))

    return Interior(*(move(here, change) for here, change in zip(tensors_of(point), tensors_of(by), strict=True)))


def dual_point(structure: Structure, point: Interior) -> Multipliers:
    """Returns a dual point: a multiplier that vanishes beside its distance to the bound is 0."""
    room, bound = room_of(structure, point), point.sides[:, 0] - point.sides[:, 1]
    distance = room.sides.amin(1)
    held = bound.abs() * finite_bounds(structure) > distance * point.sides.sum(1).amax(1, keepdim=True)
    leverage = torch.where(point.leverage * structure.stocks > room.leverage * 1e-3, point.leverage, 0.0)
    return Multipliers(point.exposures, torch.where(held, bound, 0.0), point.neutral, leverage)


def tensors_of(record: Interior | Products) -> list[Tensor]:
    return [getattr(record, name) for name in type(record).__dataclass_fields__]
