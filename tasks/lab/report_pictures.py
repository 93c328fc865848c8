"""The pictures that compare variants: money over rounds, its spread, what the meta model is worth, who weighs how much.

Variants that give the very same numbers are drawn once, under a name that tells how many they are: a payout rule leaves
the weights alone, and twelve lines upon one another would look like one that hides eleven. The words of each picture
are made of its numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scoring.lab.statistics import compounding
from tasks.lab.pictures import Axes, Picture, bars, lines
from tasks.lab.report_tables import baseline_first, by_account, net_payouts, signed
from tasks.lab.scales import PERCENT, digits_of, number

Curve = tuple[np.ndarray, np.ndarray]
_NAMED = 6
_MOST_STEPS = 120  # points of a curve over accounts: more than a screen can show


@dataclass(frozen=True, slots=True)
class Section:
    """Pictures under one heading."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """What the pictures are made of.

    Attributes:
        rounds: as in `results.ROUND_COLUMNS`.
        models: as in `results.MODEL_COLUMNS`.
        comparison: see `tasks.lab.compare`.
        variants: the baseline first.
        currency: of all money.
    """

    rounds: pd.DataFrame
    models: pd.DataFrame
    comparison: pd.DataFrame
    variants: Sequence[str]
    currency: str


def compared_pictures(compared: Compared) -> tuple[Section, ...]:
    """Returns the pictures by heading; one that has no numbers to show is left out."""
    plan: tuple[tuple[str, tuple[Callable[[Compared], Picture | None], ...]], ...] = (
        ("Money over the rounds", (_cumulative, _against_baseline, _compounding)),
        ("How payouts are spread", (_lorenz,)),
        ("What the meta model is worth", (_meta_model, _portfolio)),
        ("Concentration of weight and influence", (_weights, _influence)),
    )
    drawn = [(title, tuple(found for make in makers if (found := make(compared)))) for title, makers in plan]
    return tuple(Section(title, pictures) for title, pictures in drawn if pictures)


def compared_of(
    rounds: pd.DataFrame, models: pd.DataFrame, comparison: pd.DataFrame, baseline: str, currency: str
) -> Compared:
    """Returns what the pictures are made of.

    Raises:
        OperatorError: the baseline is no variant.
    """
    return Compared(rounds, models, comparison, baseline_first(list(comparison["variant"]), baseline), currency)


def merged(curves: Mapping[str, Curve]) -> tuple[dict[str, Curve], str]:
    """Returns each different curve once, and a sentence that says which variants it stands for.

    Args:
        curves: by variant, the baseline first.
    """
    groups: list[tuple[list[str], Curve]] = []
    for name, curve in curves.items():
        same = next((names for names, other in groups if _same(curve, other)), None)
        if same is None:
            groups.append(([name], curve))
        else:
            same.append(name)
    words = [f"{names[0]} stands also for {_listed(names[1:])}" for names, _ in groups if len(names) > 1]
    drawn = {names[0] + (f" (+{len(names) - 1} alike)" if names[1:] else ""): curve for names, curve in groups}
    return drawn, f" The very same numbers: {'; '.join(words)}." if words else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} others" if len(names) > _NAMED else "")


def _extremes(shares: Mapping[str, float]) -> str:
    """Returns the first name's share, then the largest and the smallest where they differ from it, in words."""
    written = {name: number(100.0 * share, 1) + PERCENT for name, share in shares.items()}
    first, *others = written
    high, low = max(others, key=shares.__getitem__, default=first), min(others, key=shares.__getitem__, default=first)
    if {written[high], written[low]} == {written[first]}:
        return f"{written[first]} at {first}" + (" and at all others" if others else "")
    return (
        f"{written[first]} at {first}; of the others most at {high} ({written[high]}), least at {low} ({written[low]})"
    )


def _same(one: Curve, other: Curve) -> bool:
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True)
        for a, b in zip(one, other, strict=True)
    )


def _by_round(compared: Compared, value: Callable[[pd.DataFrame], np.ndarray]) -> dict[str, Curve]:
    """Returns a curve over the rounds for each variant that has any finite number."""
    found = {}
    for name in compared.variants:
        frame = compared.rounds[compared.rounds["variant"] == name].sort_values("round")
        if len(frame) and np.isfinite(values := value(frame)).any():
            found[name] = (frame["round"].to_numpy(dtype=np.float64), values)
    return found


def _draw(title: str, say: str, curves: Mapping[str, Curve], axes: Axes) -> Picture | None:
    if not curves:
        return None
    drawn, same = merged(curves)
    ends = {name: float(up[np.isfinite(up)][-1]) for name, (_, up) in curves.items()}
    return lines(title, f"{say} {_ends_in_words(ends, axes.percent_y)}{same}", drawn, axes)


def _ends_in_words(ends: Mapping[str, float], percent: bool) -> str:
    scale, unit = (100.0, PERCENT) if percent else (1.0, "")
    digits = digits_of(scale * max(abs(value) for value in ends.values()))
    written = {name: number(scale * value, digits) + unit for name, value in ends.items()}
    first, *others = ends
    words = f"At the end: {first} {written[first]}"
    if not others:
        return words + "."
    high, low = max(ends, key=ends.__getitem__), min(ends, key=ends.__getitem__)
    return f"{words}, highest {high} {written[high]}, lowest {low} {written[low]}."


def _figures(compared: Compared, figure: str, column: str) -> dict[str, tuple[float, float, float]]:
    """Returns (number, low, high) of one figure, or of its difference against the baseline, by variant."""
    low, high = ("low", "high") if column == "value" else (f"{column}_low", f"{column}_high")
    rows = compared.comparison[compared.comparison["figure"] == figure].to_dict("records")
    found = {str(row["variant"]): (float(row[column]), float(row[low]), float(row[high])) for row in rows}
    return {name: numbers for name, numbers in found.items() if np.isfinite(numbers[0])}


def _cumulative(compared: Compared) -> Picture | None:
    curves = _by_round(compared, lambda frame: np.cumsum(net_payouts(frame)))
    say = "Payouts less burns of all models, summed up from the first round."
    axes = Axes("round", f"{compared.currency}, cumulative")
    return _draw("Net payout from the first round on", say, curves, axes)


def _against_baseline(compared: Compared) -> Picture | None:
    found = _figures(compared, "net", "difference")
    names = [name for name in compared.variants[1:] if name in found]
    if not names:
        return None
    values = {name: found[name][0] for name in names}
    limits = {name: found[name][1:] for name in names}
    clear = [name for name, (low, high) in limits.items() if low > 0.0 or high < 0.0]
    digits = digits_of(max((abs(value) for value in values.values() if np.isfinite(value)), default=0.0))
    named = ", ".join(f"{name} {signed(values[name], digits)}" for name in clear)
    say = f"Points are differences over all rounds, bands their intervals. Clear of zero: {named or 'none'}."
    axes = Axes("", f"{compared.currency} against {compared.variants[0]}")
    base = {compared.variants[0]: 0.0}
    return bars(f"Net payout against {compared.variants[0]}", say, base | values, axes, limits)


def _compounding(compared: Compared) -> Picture | None:
    curves = {}
    for name in compared.variants:
        frame = compared.rounds[compared.rounds["variant"] == name].sort_values("round")
        staked = frame["at_risk"].to_numpy(dtype=np.float64)
        if len(frame) and (staked > 0.0).all():
            dates = ([pd.Timestamp(date) for date in frame[key]] for key in ("closes_at", "resolves_at"))
            curves[name] = (frame["round"].to_numpy(dtype=np.float64), compounding(net_payouts(frame) / staked, *dates))
    say = "One unit staked in every round at the mean rate of all stakes; what a round pays joins it once it resolves."
    return _draw("What one unit becomes with compounding", say, curves, Axes("round", "units"))


def _lorenz(compared: Compared) -> Picture | None:
    paid = by_account(compared.models, compared.models["payout"].to_numpy(dtype=np.float64))
    curves, tenths = {}, {}
    for name in compared.variants:
        amounts = np.sort(np.array(list(paid.get(name, {}).values())))
        if amounts.sum() > 0.0:
            share = np.concatenate([[0.0], np.cumsum(amounts) / amounts.sum()])
            part = np.linspace(0.0, 1.0, share.size)
            keep = np.unique(np.linspace(0, share.size - 1, _MOST_STEPS).round().astype(int))
            curves[name] = (part[keep], share[keep])
            tenths[name] = 1.0 - float(np.interp(0.9, part, share))
    if not curves:
        return None
    drawn, same = merged(curves)
    even = {"all alike": (np.array([0.0, 1.0]), np.array([0.0, 1.0]))}
    say = (
        "Share of all payouts that the accounts with the least have together. "
        f"The best-paid tenth has {_extremes(tenths)}.{same}"
    )
    axes = Axes("share of accounts, from the least paid", "share of payouts", (0.0, 1.0), (0.0, 1.0), True, True)
    return lines("Who gets the payouts: Lorenz curves by account", say, drawn | even, axes)


def _meta_model(compared: Compared) -> Picture | None:
    found = _figures(compared, "meta_model_corr", "value")
    drawn, same = merged({name: (np.zeros(3), np.array(found[name])) for name in compared.variants if name in found})
    if not drawn:
        return None
    values = {name: float(curve[1][0]) for name, curve in drawn.items()}
    limits = {name: (float(curve[1][1]), float(curve[1][2])) for name, curve in drawn.items()}
    best = max(values, key=values.__getitem__)
    say = f"Mean over all rounds with its interval. Highest: {best}, {number(values[best], 4)}.{same}"
    return bars("CORR of the meta model", say, values, Axes("", "CORR, mean over rounds"), limits)


def _portfolio(compared: Compared) -> Picture | None:
    def grown(frame: pd.DataFrame) -> np.ndarray:
        returns = frame["portfolio_return"].to_numpy(dtype=np.float64)
        return np.where(np.isfinite(returns), np.cumprod(1.0 + np.nan_to_num(returns)) - 1.0, np.nan)

    say = "Returns of each variant's own portfolio, compounded from the first round."
    axes = Axes("round", "return, cumulative", percent_y=True)
    return _draw("Return of the portfolio", say, _by_round(compared, grown), axes)


def _weights(compared: Compared) -> Picture | None:
    say = "Share of the meta model's weight that the accounts with the largest have together, mean over rounds."
    return _concentration(
        compared, "Who weighs: share of the largest accounts", say, compared.models["weight"].to_numpy(dtype=np.float64)
    )


def _influence(compared: Compared) -> Picture | None:
    say = "Influence is weight × TC, summed up over rounds; its size counts, whichever its sign."
    moved = (compared.models["weight"] * compared.models["tc"]).to_numpy(dtype=np.float64)
    return _concentration(compared, "Who moves the portfolio: share of the most influential accounts", say, moved)


def _concentration(compared: Compared, title: str, say: str, amounts: np.ndarray) -> Picture | None:
    joint = by_account(compared.models, amounts)
    curves = {}
    for name in compared.variants:
        sizes = np.sort(np.abs(list(joint.get(name, {}).values())))[::-1]
        if sizes.sum() > 0.0:
            counts = np.unique(np.geomspace(1, sizes.size, _MOST_STEPS).round().astype(int))
            curves[name] = (counts.astype(np.float64), np.cumsum(sizes)[counts - 1] / sizes.sum())
    if not curves:
        return None
    drawn, same = merged(curves)
    tops = {name: float(up[0]) for name, (_, up) in curves.items()}
    words = f"{say} The first account alone: {_extremes(tops)}.{same}"
    axes = Axes("number of accounts, the largest first", "joint share", y_limits=(0.0, 1.0), percent_y=True, log_x=True)
    return lines(title, words, drawn, axes)
