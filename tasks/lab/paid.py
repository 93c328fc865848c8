"""What a round gave under every mechanism, as workers report it and as tables hold it: money exact, figures as doubles.

evaluate_case (a unit a round) ─► RoundPaid ─► rounds and models, tables whose bytes are the same in every run
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa

from scoring.lab.plays import Play
from scoring.lab.statistics import effective_number
from scoring.ledger import Ledger
from scoring.payouts import FACTOR_DECIMALS, fixed_point
from scoring.published import units_to_float
from tasks.contract import MONEY as MONEY_TYPE
from tasks.lab.case import RoundCase, staged
from tasks.lab.evaluate import UNKNOWN, Outcome, evaluate, models_of, reproduces
from tasks.lab.mechanism import Mechanism
from tasks.lab.results import MONEY, ROUND_COLUMNS, SCORES, owner_of
from tasks.lab.score_scene import Known
from tasks.scores import Units

_TEXTS = ("variant", "model", "account")


@dataclass(frozen=True, slots=True)
class RoundPaid:
    """One round under one mechanism.

    Attributes:
        figures: by column of `rounds`.
        models: a mapping a model, by column of `models`; money is exact.
        at_risk_atoms: the total at risk.
        rates: payout less burn per stake of each model at risk, in units of 1e-12, rounded down.
        units: published scores of each model at risk, by key.
        stakes: at risk, in atoms, by model.
        reproduced: whether the published ledger is the same; None where none is published.
    """

    figures: Mapping[str, Any]
    models: Sequence[Mapping[str, Any]]
    at_risk_atoms: int
    rates: Mapping[str, int]
    units: Mapping[str, Units]
    stakes: Mapping[str, int]
    reproduced: bool | None


def evaluate_case(
    case: RoundCase, mechanisms: Sequence[Mechanism], left: Mapping[int, frozenset[str]], known: Known | None = None
) -> list[RoundPaid]:
    """Returns what a round gives under each mechanism; those that leave nothing at risk are left out.

    Args:
        case: the round.
        mechanisms: what it is paid by.
        left: the models of the largest accounts, by number of accounts that have left.
        known: what the baseline told of the round; None where it is the baseline that is evaluated.
    """
    found = []
    counts = dict.fromkeys(mechanism.leave_out_largest for mechanism in mechanisms)
    scenes = {count: staged(case, Play(withdrawn=left[count]) if count else Play()) for count in counts}
    for mechanism in mechanisms:
        outcome = evaluate(
            case,
            scenes[mechanism.leave_out_largest],
            mechanism,
            known or UNKNOWN,
            "measured" if known is None else "whole",
        )
        if outcome is not None:
            found.append(_paid(case, mechanism, outcome, baseline=known is None))
    return found


def rounds_frame(paid: Sequence[RoundPaid]) -> pd.DataFrame:
    """Returns `rounds`, see `tasks.lab.results`."""
    return pd.DataFrame([each.figures for each in paid], columns=list(ROUND_COLUMNS))


def models_frame(paid: Sequence[RoundPaid]) -> pd.DataFrame:
    """Returns `models`, see `tasks.lab.results`: all numbers doubles."""
    frame = pd.DataFrame([row for each in paid for row in each.models])
    return frame.astype(dict.fromkeys((*MONEY, "weight", *SCORES), float))


def rounds_table(paid: Sequence[RoundPaid]) -> pa.Table:
    """Returns `rounds` with exact money, for a file."""
    return pa.Table.from_pylist([dict(each.figures) for each in paid], schema=_ROUNDS)


def models_table(paid: Sequence[RoundPaid]) -> pa.Table:
    """Returns `models` with exact money, for a file."""
    return pa.Table.from_pylist([dict(row) for each in paid for row in each.models], schema=_MODELS)


def _kind(column: str) -> pa.DataType:
    if column in (*MONEY, "factor"):
        return MONEY_TYPE
    if column in _TEXTS:
        return pa.string()
    if column == "round":
        return pa.int64()
    return pa.timestamp("us", tz="UTC") if column.endswith("_at") else pa.float64()


_ROUNDS = pa.schema([(column, _kind(column)) for column in ROUND_COLUMNS])
_MODELS = pa.schema(
    [(column, _kind(column)) for column in ("variant", "round", "model", "account", *MONEY, "weight", *SCORES)]
)


def _paid(case: RoundCase, mechanism: Mechanism, outcome: Outcome, *, baseline: bool) -> RoundPaid:
    decimals = mechanism.tournament.decimals
    rows = [row for row in models_of(outcome.ledger) if row.at_risk]
    models = [
        {
            "variant": mechanism.name,
            "round": case.number,
            "model": row.model,
            "account": row.account,
            "at_risk": fixed_point(row.at_risk, decimals),
            "gross_payout": fixed_point(row.gross_payout, decimals),
            "payout": fixed_point(row.payout, decimals),
            "burn": fixed_point(row.burn, decimals),
            "weight": outcome.weights.get(row.model or "", 0.0),
            **{key: _score(outcome, row.model, key) for key in SCORES},
        }
        for row in rows
    ]
    return RoundPaid(
        figures=_figures(case, mechanism, outcome),
        models=models,
        at_risk_atoms=sum(row.at_risk for row in rows),
        rates={row.model or "": 10**12 * (row.payout - row.burn) // row.at_risk for row in rows},
        units={row.model or "": outcome.units.get(row.model or "", {}) for row in rows},
        stakes={row.model or "": row.at_risk for row in rows},
        reproduced=reproduces(case, outcome) if baseline else None,
    )


def _score(outcome: Outcome, model: str | None, key: str) -> float | None:
    units = outcome.units.get(model or "", {}).get(key)
    return None if units is None else units_to_float(units)


def _figures(case: RoundCase, mechanism: Mechanism, outcome: Outcome) -> dict[str, Any]:
    decimals, calendar = mechanism.tournament.decimals, case.plan.inputs.round
    shares = list(outcome.weights.values())
    accounts = _by_account(outcome.ledger, outcome.weights)
    dates: dict[str, datetime] = {"closes_at": calendar.closes_at, "resolves_at": calendar.resolves_at}
    return {
        "variant": mechanism.name,
        "round": case.number,
        **dates,
        **{key: _total(outcome.ledger, key, decimals) for key in MONEY},
        "factor": fixed_point(outcome.ledger.rows[0].factor, FACTOR_DECIMALS),
        "meta_model_corr": outcome.meta_model_corr,
        "portfolio_return": outcome.portfolio_return,
        "effective_models": effective_number(shares),
        "largest_model_share": max(shares),
        "largest_account_share": max(accounts.values()),
    }


def _total(ledger: Ledger, key: str, decimals: int) -> Decimal:
    return fixed_point(sum(getattr(row, key) for row in models_of(ledger)), decimals)


def _by_account(ledger: Ledger, weights: Mapping[str, float]) -> dict[str, float]:
    accounts = {row.model: row.account for row in models_of(ledger)}
    shares: dict[str, float] = {}
    for model, share in weights.items():
        owner = owner_of(model, accounts.get(model))
        shares[owner] = shares.get(owner, 0.0) + share
    return shares
