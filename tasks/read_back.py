"""Reading back what is published: tables and manifests become the types they were made of.

The inverse of writing, for whoever checks or explains a round: the rules from the manifest, the ledger's rows in atoms,
scores in units of 1e-12. Nothing is trusted: a value that cannot be what was written is a fault with its row, never an
exception from the depths and never rounded away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, cast

import numpy as np
import pyarrow as pa

from scoring.errors import OperatorError, StorageError
from scoring.ledger import Entry, Ledger, LedgerRow, Status, Terms
from scoring.payouts import CLIPPED_RATE_DECIMALS, FACTOR_DECIMALS, RAW_RATE_DECIMALS
from scoring.published import SCORE_DECIMALS, SCORE_KEYS, score_units, units_to_float
from scoring.rounds import TrueContributionOptions
from scoring.rules import PayoutStep, Rules
from scoring.true_contribution import Scaling
from tasks.contract import manifest_path
from tasks.publish import Manifest

_EXACT = Context(prec=80)  # no column has more than 38 digits


@dataclass(frozen=True, slots=True)
class Stated:
    """What a manifest says that its tables are checked by.

    Attributes:
        terms: rules, decimals and revision.
        seed: of the round.
        bags: number of bags of bagged MMC.
        target_buckets: see `scoring.contribution.centred_target`.
        target_mean: mean of the full target, before ids were aligned.
        true_contribution: its bags and how its scores are scaled; None where the round has none.
        scaling: how `tc` follows from `tc_raw`.
    """

    terms: Terms
    seed: int
    bags: int
    target_buckets: bool
    target_mean: float
    true_contribution: TrueContributionOptions | None
    scaling: Scaling


def read_stated(manifest: Manifest) -> Stated:
    """Returns what a manifest says about the making of its tables.

    Raises:
        StorageError: something that every manifest holds is missing or is not what it must be.
    """
    facts = manifest.facts
    try:
        options, scaling = _true_contribution(facts.get("true_contribution"))
        return Stated(
            terms=Terms(
                _rules(facts["rules"]), _whole(facts["decimals"]), manifest.revision, facts["stakes"] != "snapshot"
            ),
            seed=_whole(facts["seed"]),
            bags=_whole(facts["scores"]["bags"]),
            target_buckets=_flag(facts["scores"]["target_buckets"]),
            target_mean=_finite(facts["target_mean"]),
            true_contribution=options,
            scaling=scaling,
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, OperatorError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise StorageError(f"{manifest_path(manifest.round, manifest.revision)}: must be a manifest: {what}") from error


def ledger_of(table: pa.Table, decimals: int) -> tuple[Ledger, list[str]]:
    """Returns the ledger in a `ledger` table and what is wrong with rows that cannot be one; these are left out.

    Args:
        table: with the columns of the contract.
        decimals: an atom is 10^-decimals of the currency.
    """
    rows, faults = [], []
    for number, row in enumerate(table.to_pylist()):
        try:
            rows.append(_ledger_row(row, decimals))
        except ValueError as error:
            faults.append(f"row {number} ({row['model'] or row['entry']}): {error}")
    return Ledger(tuple(rows)), faults


def scores_of(table: pa.Table) -> tuple[dict[str, dict[str, int | None]], list[str]]:
    """Returns each model's published scores in units of 1e-12, and what is wrong with those that cannot be one."""
    columns = {key: table.column(key).to_pylist() for key in SCORE_KEYS}
    scores: dict[str, dict[str, int | None]] = {}
    faults = []
    for row, model in enumerate(table.column("model").to_pylist()):
        units: dict[str, int | None] = {}
        for key, values in columns.items():
            value = values[row]
            units[key] = None if value is None or not np.isfinite(value) else score_units(value)
            if value is not None and (units[key] is None or units_to_float(units[key] or 0) != value):
                faults.append(f"{key} of {model} must be a number of 12 decimals, found {value!r}")
        scores[model] = units
    return scores, faults


def _rules(stated: Mapping[str, Any]) -> Rules:
    """Returns the rules as `tasks.plan` writes them: every decimal as text."""
    payout = stated["payout"]
    return Rules(
        rules_id=stated["rules_id"],
        since_round=_whole(stated["since_round"]),
        payout=None if payout is None else {key: Decimal(value) for key, value in payout.items()},
        clip=Decimal(stated["clip"]),
        choices=tuple(
            {key: None if values is None else tuple(map(Decimal, values)) for key, values in choice.items()}
            for choice in stated["choices"]
        ),
        stake_threshold=_decimal(stated["stake_threshold"]),
        order=stated["order"],
        rounding=stated["rounding"],
        source=stated["source"],
        adjust=tuple(_step(step) for step in stated.get("adjust", ())),  # older manifests know no steps
        net_opposites=_decimal(stated.get("net_opposites")),
    )


def _step(stated: Mapping[str, Any]) -> PayoutStep:
    return PayoutStep(stated["policy"], _decimal(stated["threshold"]), stated["unit"], stated["score"])


def _true_contribution(stated: Mapping[str, Any] | None) -> tuple[TrueContributionOptions | None, Scaling]:
    if stated is None:
        return None, Scaling()
    spread = Decimal(stated["spread"])
    options = TrueContributionOptions(bags=_whole(stated["bags"]), scaling=stated["scaling"], spread=spread)
    return options, Scaling(_finite(stated["centre"]), _finite(stated["factor"]))


def _ledger_row(row: Mapping[str, Any], decimals: int) -> LedgerRow:
    multipliers = {key: row[f"{key}_multiplier"] for key in SCORE_KEYS}
    shown = [key for key in SCORE_KEYS if multipliers[key] is not None or row[key] is not None]
    return LedgerRow(
        entry=cast(Entry, row["entry"]),
        model=row["model"],
        account=row["account"],
        submission_digest=row["submission_digest"],
        stake_before=_units(row, "stake_before", decimals),
        at_risk=_units(row, "at_risk", decimals),
        netted=_units(row, "netted", decimals),
        factor=_units(row, "factor", FACTOR_DECIMALS),
        scores={key: _units_or_none(row, key, SCORE_DECIMALS) for key in shown},
        multipliers={key: multipliers[key] for key in shown if multipliers[key] is not None},
        raw_rate=_units_or_none(row, "raw_rate", RAW_RATE_DECIMALS),
        clipped_rate=_units_or_none(row, "clipped_rate", CLIPPED_RATE_DECIMALS),
        gross_payout=_units(row, "gross_payout", decimals),
        payout=_units(row, "payout", decimals),
        burn=_units(row, "burn", decimals),
        stake_after=_units(row, "stake_after", decimals),
        status=cast(Status, row["status"]),
        reason=row["reason"],
        revision=row["revision"],
        rules_id=row["rules_id"],
    )


def _units(row: Mapping[str, Any], name: str, decimals: int) -> int:
    units = _units_or_none(row, name, decimals)
    if units is None:
        raise ValueError(f"{name} must not be null")
    return units


def _units_or_none(row: Mapping[str, Any], name: str, decimals: int) -> int | None:
    value = row[name]
    if value is None:
        return None
    scaled = value.scaleb(decimals, _EXACT)
    if scaled != int(scaled):
        raise ValueError(f"{name} must have at most {decimals} decimals, found {value}")
    return int(scaled)


def _decimal(stated: str | None) -> Decimal | None:
    return None if stated is None else Decimal(stated)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"needs true or false, found {value!r}")
    return value


def _finite(value: str) -> float:
    """Returns the double that a text stands for, exactly."""
    number = float(value)
    if not np.isfinite(number):
        raise ValueError(f"needs a finite number, found {value!r}")
    return number


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"needs a whole number, found {value!r}")
    return value
