"""A round's figures on one screen: what the command prints, and what stands in Prefect's table of the round."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from scoring.ledger import Ledger, LedgerRow
from scoring.payouts import FACTOR_DECIMALS, fixed_point
from scoring.published import units_to_decimal
from tasks.scores import Units

SHOWN_MODELS = 5
SHOWN_SCORES = ("corr", "mmc", "tc", "bmc", "cwmm", "mmc_bagged", "fnc")


@dataclass(frozen=True, slots=True)
class ModelLine:
    """One model's line: its money in the currency, its scores as published."""

    model: str
    at_risk: Decimal
    change: Decimal
    scores: Mapping[str, Decimal | None]


@dataclass(frozen=True, slots=True)
class RoundSummary:
    """The figures of a round; money in the currency.

    Attributes:
        models: rows of the ledger.
        statuses: number of models by status.
        at_risk, netted, gross_payout, payout, burn: totals.
        factor: the payout factor.
        best, worst: the models that gained and lost most, the greatest first.
        meta_model: the meta model's own scores as published ones.
    """

    models: int
    statuses: Mapping[str, int]
    at_risk: Decimal
    netted: Decimal
    gross_payout: Decimal
    payout: Decimal
    burn: Decimal
    factor: Decimal
    best: tuple[ModelLine, ...]
    worst: tuple[ModelLine, ...]
    meta_model: Mapping[str, Decimal | None]

    def facts(self) -> dict[str, dict[str, Any]]:
        """Returns the totals as the manifest holds them: exact decimals as text."""
        return {
            "statuses": dict(self.statuses),
            "totals": {
                "at_risk": f"{self.at_risk:f}",  # never 0E-18
                "netted": f"{self.netted:f}",
                "gross_payout": f"{self.gross_payout:f}",
                "payout": f"{self.payout:f}",
                "burn": f"{self.burn:f}",
                "factor": f"{self.factor:f}",
            },
        }


def summarise(ledger: Ledger, units: Mapping[str, Units], decimals: int, meta_model: Units) -> RoundSummary:
    """Returns the figures of a round.

    Args:
        ledger: the round's.
        units: published scores by model.
        decimals: an atom is 10^-decimals of the currency.
        meta_model: the meta model's own scores.
    """
    models = [row for row in ledger.rows if row.entry == "model"]
    statuses: dict[str, int] = {}
    for row in models:
        statuses[row.status] = statuses.get(row.status, 0) + 1
    ordered = sorted(models, key=lambda row: (row.burn - row.payout, row.model))
    lines = [_line(row, units.get(row.model or "", {}), decimals) for row in ordered if row.payout or row.burn]
    return RoundSummary(
        models=len(models),
        statuses=dict(sorted(statuses.items())),
        at_risk=fixed_point(sum(row.at_risk for row in models), decimals),
        netted=fixed_point(sum(row.netted for row in models), decimals),
        gross_payout=fixed_point(sum(row.gross_payout for row in models), decimals),
        payout=fixed_point(sum(row.payout for row in models), decimals),
        burn=fixed_point(sum(row.burn for row in models), decimals),
        factor=fixed_point(ledger.rows[0].factor, FACTOR_DECIMALS),
        best=tuple(line for line in lines[:SHOWN_MODELS] if line.change > 0),
        worst=tuple(line for line in reversed(lines[-SHOWN_MODELS:]) if line.change < 0),
        meta_model=_shown(meta_model),
    )


def _line(row: LedgerRow, units: Units, decimals: int) -> ModelLine:
    at_risk = fixed_point(row.at_risk, decimals)
    return ModelLine(row.model or "", at_risk, fixed_point(row.payout - row.burn, decimals), _shown(units))


def _shown(units: Units) -> dict[str, Decimal | None]:
    scores = {key: units.get(key) for key in SHOWN_SCORES}
    return {key: None if value is None else units_to_decimal(value) for key, value in scores.items()}
