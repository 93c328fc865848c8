"""Settling: from published scores and stakes to the ledger table, audited before anybody sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal

import pyarrow as pa

from scoring.audit import problems
from scoring.errors import StakeweightError
from scoring.families import Families, netted
from scoring.ledger import Ledger, LedgerRow, SubmissionState, Terms, at_risk_of, settle_round
from scoring.payouts import CLIPPED_RATE_DECIMALS, FACTOR_DECIMALS, RAW_RATE_DECIMALS, fixed_point
from scoring.portfolio.report import BagReport
from scoring.published import SCORE_KEYS, units_to_decimal
from scoring.rounds import Round
from scoring.rules import MULTIPLIER_DECIMALS
from scoring.stakes import Stakes
from tasks.contract import BAGS, LEDGER, REJECTS
from tasks.ingest import Receipt
from tasks.meta_models import BagResult
from tasks.scores import Units


class AuditError(StakeweightError):
    """The ledger contradicts itself, which is a bug; nothing was published."""


def settle(
    stakes: Stakes,
    receipts: Sequence[Receipt],
    units: Mapping[str, Units],
    terms: Terms,
    families: Families | None = None,
) -> Ledger:
    """Returns the audited ledger of a round.

    Args:
        stakes: all stakes of the round.
        receipts: what became of every submission.
        units: published scores by model.
        terms: rules, decimals and revision.
        families: which submissions are alike or opposite; needed, at the rules' own threshold, where these net
            opposites, and not looked at elsewhere.

    Raises:
        OperatorError: models chose multipliers that are not on offer; an operator's own payout step failed.
        ValueError: the rules net opposites, and there are no families, or those of another threshold.
        AuditError: the ledger is wrong; names all problems.
    """
    states = {r.model: SubmissionState(r.digest, r.rejection.code if r.rejection else None) for r in receipts}
    opposites = _opposites(families, at_risk_of(stakes, states), terms)
    ledger = settle_round(stakes, states, units, terms, opposites)
    if found := problems(ledger, terms):
        raise AuditError("the ledger is not published, it contradicts itself: " + "; ".join(found))
    return ledger


def _opposites(families: Families | None, at_risk: Mapping[str, int], terms: Terms) -> dict[str, int]:
    """Returns what of the stakes at risk does not count in the payout factor, by model."""
    threshold = terms.rules.net_opposites
    if threshold is None:
        return {}
    if families is None or families.threshold != threshold:
        found = "none" if families is None else f"those at {families.threshold}"
        raise ValueError(
            f"families at {threshold} must be known, as {terms.rules.rules_id} nets opposites; got {found}"
        )
    return netted(families, at_risk)


def ledger_table(ledger: Ledger, decimals: int) -> pa.Table:
    """Returns the `ledger` table.

    Args:
        ledger: audited.
        decimals: an atom is 10^-decimals of the currency.
    """
    return pa.Table.from_pylist([_row(row, decimals) for row in ledger.rows], schema=LEDGER)


def rejects_table(receipts: Sequence[Receipt]) -> pa.Table:
    """Returns the `rejects` table: a row a refused submission, sorted by model."""
    rows = [
        {
            "model": receipt.model,
            "file": receipt.file,
            "code": receipt.rejection.code,
            "message": receipt.rejection.message,
            "rows": list(receipt.rejection.rows),
        }
        for receipt in sorted(receipts, key=lambda receipt: receipt.model)
        if receipt.rejection is not None
    ]
    return pa.Table.from_pylist(rows, schema=REJECTS)


def bags_table(
    calendar: Round, bags: Sequence[BagResult], draws: int, dropout_bags: Sequence[BagReport] = ()
) -> pa.Table:
    """Returns the `bags` table: a row a bag.

    Args:
        calendar: for the seed.
        bags: of bagged MMC, in the order of their numbers.
        draws: stakers drawn into each.
        dropout_bags: of True Contribution, in the order of their numbers.
    """
    rows = [
        {
            "kind": "mmc_bagged",
            "bag": bag.bag,
            "seed": calendar.seed,
            "stakers": draws,
            "corr": None if bag.corr != bag.corr else bag.corr,
        }
        for bag in bags
    ]
    rows += [
        {"kind": "tc", "bag": number, "seed": calendar.seed, **asdict(report)}
        for number, report in enumerate(dropout_bags)
    ]
    return pa.Table.from_pylist(rows, schema=BAGS)


def _row(row: LedgerRow, decimals: int) -> dict[str, object]:
    return {
        "entry": row.entry,
        "model": row.model,
        "account": row.account,
        "submission_digest": row.submission_digest,
        "stake_before": fixed_point(row.stake_before, decimals),
        "at_risk": fixed_point(row.at_risk, decimals),
        "netted": fixed_point(row.netted, decimals),
        "factor": fixed_point(row.factor, FACTOR_DECIMALS),
        **{key: _score(row.scores.get(key)) for key in SCORE_KEYS},
        **{f"{key}_multiplier": _multiplier(row.multipliers.get(key)) for key in SCORE_KEYS},
        "raw_rate": None if row.raw_rate is None else fixed_point(row.raw_rate, RAW_RATE_DECIMALS),
        "clipped_rate": None if row.clipped_rate is None else fixed_point(row.clipped_rate, CLIPPED_RATE_DECIMALS),
        "gross_payout": fixed_point(row.gross_payout, decimals),
        "payout": fixed_point(row.payout, decimals),
        "burn": fixed_point(row.burn, decimals),
        "stake_after": fixed_point(row.stake_after, decimals),
        "status": row.status,
        "reason": row.reason,
        "revision": row.revision,
        "rules_id": row.rules_id,
    }


def _multiplier(written: Decimal | None) -> Decimal | None:
    """Returns the same number with the column's decimals, however many zeros it was written with."""
    return None if written is None else fixed_point(int(written.scaleb(MULTIPLIER_DECIMALS)), MULTIPLIER_DECIMALS)


def _score(units: int | None) -> Decimal | None:
    return None if units is None else units_to_decimal(units)
