"""The audit: an independent check of a ledger, run before it is published and by whoever verifies it.

It shares no arithmetic with `scoring.payouts` and `scoring.payout_policies`: every row is recomputed from its own
columns in rational numbers, the steps of `Rules.adjust` by account, then the sums are compared. Where a step is the
operator's own function, what it paid is his word; all else is checked. It returns all problems, not the first. The
failure guarded against: a wrong ledger that is paid because the code that made it is the only code that ever looked at
it.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import get_args

from scoring.ledger import AT_RISK, Ledger, LedgerRow, Status, Terms
from scoring.rules import PayoutStep

_AMOUNTS = ("stake_before", "at_risk", "netted", "gross_payout", "payout", "burn", "stake_after")
_SCORE, _RATE, _CLIPPED_RATE = 10**12, 10**18, 10**36
_COLUMN_END = 10**38  # decimal128(38, s) holds 38 digits


def problems(ledger: Ledger, terms: Terms | None = None) -> list[str]:
    """Returns everything that is wrong with a ledger, one line each; an empty list if nothing is.

    Args:
        ledger: the ledger, from `settle_round` or as read back.
        terms: with them factor, clip and rounding must be those of the rules; without them the ledger must
            agree with itself: one factor, one clip, amounts that are their rate by either rounding.
    """
    models = [row for row in ledger.rows if row.entry == "model"]
    found = [
        *_layout_problems(ledger),
        *_total_problems(ledger, models),
        *_round_problems(ledger, models, terms),
        *_netting_problems(models, terms),
        *_adjustment_problems(models, terms),
    ]
    bound = _clip_bound(models, terms)
    for row in models:
        faults = [*_amount_problems(row), *_status_problems(row, terms), *_payout_problems(row, bound, terms)]
        faults += _multiplier_problems(row, terms) if terms else []
        found += [f"model {row.model}: {fault}" for fault in faults]
    return found


def _layout_problems(ledger: Ledger) -> Iterator[str]:
    """Checks the order of the rows and that each model has one."""
    entries = [row.entry for row in ledger.rows]
    if entries[-2:] != ["treasury", "burn"] or set(entries[:-2]) - {"model"}:
        found = ", ".join(dict.fromkeys(entries)) or "none"
        yield f"rows must be models, then one treasury, then one burn, found {found}"
    names = [row.model or "" for row in ledger.rows if row.entry == "model"]
    for before, after in zip(["", *names], names, strict=False):
        if before >= after:
            yield f"models must be named, sorted and unique, found {after!r} after {before!r}"


def _total_problems(ledger: Ledger, models: list[LedgerRow]) -> Iterator[str]:
    """Checks that the counter-entries hold the sums of the models' rows, and nothing else."""
    gross, payouts, burns = (sum(getattr(row, name) for row in models) for name in ("gross_payout", "payout", "burn"))
    expected = {"treasury": (0, 0, 0, gross, payouts, 0, 0), "burn": (0, 0, 0, 0, 0, burns, 0)}
    for row in ledger.rows:
        amounts = tuple(getattr(row, name) for name in _AMOUNTS)
        if row.entry in expected and amounts != expected[row.entry]:
            yield f"{row.entry}: {', '.join(_AMOUNTS)} must be {expected[row.entry]}, found {amounts}"
        if row.entry in expected and (row.model is not None or row.status != "total"):
            yield f"{row.entry}: must have no model and status total, found {row.model} and {row.status}"


def _round_problems(ledger: Ledger, models: list[LedgerRow], terms: Terms | None) -> Iterator[str]:
    """Checks what must be the same in all rows."""
    expected = (
        {name: getattr(ledger.rows[0], name) for name in ("factor", "revision", "rules_id")} if ledger.rows else {}
    )
    if terms:
        expected = {
            "revision": terms.revision,
            "rules_id": terms.rules.rules_id,
            "factor": _factor(models, terms),
        }
    for row in ledger.rows:
        for name, value in expected.items():
            if getattr(row, name) != value:
                yield f"{row.model or row.entry}: {name} must be {value}, found {getattr(row, name)}"
        if not 0 <= row.factor <= _RATE:
            yield f"{row.model or row.entry}: factor must be 0 … 1e18, found {row.factor}"


def _factor(models: list[LedgerRow], terms: Terms) -> int:
    total = sum(row.at_risk - row.netted for row in models)
    if terms.rules.stake_threshold is None or total <= 0:
        return _RATE
    share = Fraction(terms.rules.stake_threshold) * 10**terms.decimals / total
    return int(min(Fraction(1), share) * _RATE)


def _netting_problems(models: list[LedgerRow], terms: Terms | None) -> Iterator[str]:
    """Checks what can be told without the submissions: two sides that oppose each other lose the same."""
    total, largest = sum(row.netted for row in models), max((row.netted for row in models), default=0)
    if terms and terms.rules.net_opposites is None and any(row.netted for row in models):
        yield f"netted must be 0 under {terms.rules.rules_id}, which nets nothing, found {total} in all"
    if total % 2 or 2 * largest > total:
        yield f"netted must be the same on two sides, found {total} in all, {largest} of them in one row"


def _adjustment_problems(models: list[LedgerRow], terms: Terms | None) -> Iterator[str]:
    """Recomputes every payout from the gross payouts by the steps of the rules."""
    expected = {at: row.gross_payout for at, row in enumerate(models) if row.gross_payout > 0}
    known = terms is not None and not terms.rules.own_functions
    if terms is not None and known:
        for step in terms.rules.adjust:
            expected = _after(step, expected, models, terms)
    for at, row in enumerate(models):
        if at not in expected and row.payout:
            yield f"model {row.model}: payout must be 0 where gross_payout is, found {row.payout}"
        if known and row.payout != expected.get(at, row.payout):
            yield f"model {row.model}: payout must be {expected[at]} atoms of {row.gross_payout}, found {row.payout}"


def _after(step: PayoutStep, payouts: dict[int, int], models: list[LedgerRow], terms: Terms) -> dict[int, int]:
    """Returns the payouts after a step, by position of the row: each bears its part of the excess of its owner."""
    threshold = Fraction(step.threshold or 0) * 10**terms.decimals
    owners = {at: (models[at].account if step.unit == "account" else None) or at for at in payouts}
    totals: dict[str | int, int] = {}
    for at, payout in payouts.items():
        totals[owners[at]] = totals.get(owners[at], 0) + payout
    after = {}
    for at, payout in payouts.items():
        total = totals[owners[at]]
        excess = max(Fraction(0), 1 - threshold / total) * payout if total else Fraction(0)
        similarity = Fraction(models[at].scores.get(step.score or "") or 0, _SCORE)
        kept = payout - excess * min(max(similarity, Fraction(0)), Fraction(1))
        after[at] = int(kept) if terms.rules.rounding == "toward_zero" else round(kept)
    return after


def _clip_bound(models: list[LedgerRow], terms: Terms | None) -> Fraction:
    """Returns the largest possible clipped rate: from the rules, else the largest that any row has."""
    if terms is None:
        return Fraction(max((abs(row.clipped_rate or 0) for row in models), default=0), _CLIPPED_RATE)
    factor = _factor(models, terms) if terms.rules.order == "clip_first" else _RATE
    return Fraction(terms.rules.clip) * Fraction(factor, _RATE)


def _amount_problems(row: LedgerRow) -> Iterator[str]:
    for name in _AMOUNTS:
        if not 0 <= getattr(row, name) < _COLUMN_END:
            yield f"{name} must be 0 … 1e38 atoms, found {getattr(row, name)}"
    if row.stake_after != row.stake_before + row.payout - row.burn:
        yield (
            f"stake_after must be stake_before + payout − burn = {row.stake_before + row.payout - row.burn}, "
            f"found {row.stake_after}"
        )
    for name in ("burn", "netted"):
        if getattr(row, name) > row.at_risk:
            yield f"{name} must be at most at_risk = {row.at_risk}, found {getattr(row, name)}"
    if (row.payout or row.gross_payout) and row.burn:
        yield f"one of payout and burn must be 0, found {row.payout or row.gross_payout} and {row.burn}"


def _status_problems(row: LedgerRow, terms: Terms | None) -> Iterator[str]:
    if row.status not in get_args(Status) or row.status == "total":
        yield f"status must be a model's, found {row.status!r}"
    yield from _chained_problems(row) if terms and terms.chained else _snapshot_problems(row)
    if (row.status == "scored") != (row.reason is None):
        yield f"reason must be given unless scored, found {row.reason!r} with status {row.status}"
    if row.status in AT_RISK and row.submission_digest is None:
        yield f"submission_digest must be given with status {row.status}, found none"
    absent = [key for key, value in row.multipliers.items() if value and row.scores.get(key) is None]
    if row.status in AT_RISK and (row.status == "scored") != (not absent):
        yield f"status must be scored where no paid score is absent, found {row.status}, absent {absent}"


def _snapshot_problems(row: LedgerRow) -> Iterator[str]:
    at_risk = row.stake_before if row.status in AT_RISK else 0
    if row.at_risk != at_risk:
        yield f"at_risk must be {at_risk} with status {row.status}, found {row.at_risk}"
    if (row.status == "unstaked") != (row.stake_before == 0):
        yield f"status must be unstaked where stake_before is 0 and only there, found {row.status}"


def _chained_problems(row: LedgerRow) -> Iterator[str]:
    """The balance at the close stands only in at_risk; before settlement it may have grown, or be gone."""
    if (row.status in AT_RISK) != (row.at_risk > 0):
        yield f"at_risk must be above 0 with status scored or unscored and only there, found {row.at_risk}"
    if row.burn > row.stake_before:
        yield f"burn must be at most stake_before = {row.stake_before}, found {row.burn}"


def _multiplier_problems(row: LedgerRow, terms: Terms) -> Iterator[str]:
    expected = terms.rules.multipliers(row.multipliers)
    if row.multipliers != expected:
        yield f"multipliers must be {expected}, found {row.multipliers}"
    refusal = terms.rules.refusal(row.multipliers)
    staked = row.at_risk if terms.chained else row.stake_before  # a balance may have come after the close
    if refusal and staked:
        yield refusal


def _payout_problems(row: LedgerRow, bound: Fraction, terms: Terms | None) -> Iterator[str]:
    """Recomputes rates, payout and burn from scores, multipliers, factor and the largest possible rate."""
    if row.status != "scored":
        if (row.raw_rate, row.clipped_rate, row.gross_payout, row.payout, row.burn) != (None, None, 0, 0, 0):
            yield f"must have no rate and no payout with status {row.status}"
        return
    if row.raw_rate is None or row.clipped_rate is None:
        yield "must have a raw and a clipped rate with status scored"
        return
    raw = sum(Fraction(value) * Fraction(row.scores.get(key) or 0, _SCORE) for key, value in row.multipliers.items())
    clipped = max(-bound, min(bound, raw * Fraction(row.factor, _RATE)))
    if abs(row.raw_rate) >= _COLUMN_END or Fraction(row.raw_rate, _RATE) != raw:
        yield f"raw_rate must be Σ multiplier·score = {raw * _RATE}, found {row.raw_rate}"
    if Fraction(row.clipped_rate, _CLIPPED_RATE) != clipped:
        yield f"clipped_rate must be {clipped * _CLIPPED_RATE}, found {row.clipped_rate}"
    exact = row.at_risk * clipped
    rounded = {"toward_zero": int(exact), "nearest": round(exact)}
    allowed = {rounded[terms.rules.rounding]} if terms else set(rounded.values())
    if terms and terms.chained:
        allowed = {max(change, -row.stake_before) for change in allowed}
    if row.gross_payout - row.burn not in allowed:
        yield f"gross_payout − burn must be {sorted(allowed)} atoms, found {row.gross_payout - row.burn}"
