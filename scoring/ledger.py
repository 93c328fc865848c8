"""The ledger: what a round pays and burns, to the atom, in double entry.

Every model with a stake or a submission has one row; the treasury's row holds the sum of all payouts and the
burn account's row the sum of all burns. At risk are the stakes with a valid submission on time. All others
have a row with nothing at risk, so that nobody can move the payout factor, or anybody's payout, without
risking a stake. A model whose paid score is absent is paid 0 and stays at risk: an absent score is not a
score of 0, and must not raise the others' factor. With chained stakes, at risk is the balance when the round closed;
a burn never exceeds the balance that is left when it settles. The failure guarded against: money that appears or
disappears between two columns (`scoring.audit` looks for it, independently, before a ledger is published).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from scoring.errors import OperatorError
from scoring.payouts import payout_factor, settle_stake
from scoring.rules import Rules
from scoring.stakes import Stake, Stakes

Entry = Literal["model", "treasury", "burn"]
Status = Literal["scored", "unscored", "late", "invalid", "missing", "unstaked", "total"]

AT_RISK: tuple[Status, ...] = ("scored", "unscored")
"""The statuses of a stake that is at risk: a valid submission on time, with and without a score."""


@dataclass(frozen=True, slots=True)
class SubmissionState:
    """What became of a model's submission; neither digest nor rejection means there is none.

    Attributes:
        digest: SHA-256 of the canonical form, 64 hex digits; None where the file could not be read so far.
        rejection: the code it was refused with; None where it is valid.
    """

    digest: str | None = None
    rejection: str | None = None


NO_SUBMISSION = SubmissionState()
_FAULTS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a round is settled.

    Attributes:
        rules: the rules in force at the round.
        decimals: an atom is 10^-decimals of the currency.
        revision: revision of the round, from 1.
        chained: whether stakes are balances, so that what is at risk may differ from what is there at settlement.
    """

    rules: Rules
    decimals: int
    revision: int
    chained: bool = False


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One row of the ledger; money in atoms, ≥ 0.

    Attributes:
        entry: `model`, or the counter-entry `treasury` (holds Σ payouts) or `burn` (holds Σ burns).
        model, account: None in the counter-entries; the account also where the model has no stake row.
        submission_digest: SHA-256 of the submission's canonical form; None where there is none.
        stake_before, at_risk, payout, burn, stake_after: atoms; `stake_after = stake_before + payout − burn`.
        factor: the round's payout factor in units of 1e-18, the same in all rows.
        scores: the scores that the rules can pay on, in units of 1e-12, None where absent.
        multipliers: one for each of these scores.
        raw_rate, clipped_rate: units of 1e-18 and 1e-36 (`scoring.payouts.Settlement`); None unless scored.
        status: `scored` (paid by its scores, be it a payout, a burn or nothing), `unscored` (at risk, but a
            paid score is absent), `late`, `invalid`, `missing`, `unstaked`; `total` in the counter-entries.
        reason: why the status is not `scored`: a rejection code or one of this module's words.
        revision: revision of the round.
        rules_id: the rules it was settled by.
    """

    entry: Entry
    model: str | None
    account: str | None
    submission_digest: str | None
    stake_before: int
    at_risk: int
    factor: int
    scores: Mapping[str, int | None]
    multipliers: Mapping[str, Decimal]
    raw_rate: int | None
    clipped_rate: int | None
    payout: int
    burn: int
    stake_after: int
    status: Status
    reason: str | None
    revision: int
    rules_id: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """A round's ledger. Not checked when constructed, so that a damaged one can be read and told apart.

    Attributes:
        rows: the models by name, then the treasury, then the burn account.
    """

    rows: tuple[LedgerRow, ...]


@dataclass(frozen=True, slots=True)
class _Case:
    """A model as it stands before money is computed."""

    model: str
    stake: Stake | None
    submission: SubmissionState
    scores: Mapping[str, int | None]
    multipliers: Mapping[str, Decimal]
    status: Status
    reason: str | None

    @property
    def at_risk(self) -> int:
        return self.stake.atoms if self.stake and self.status in AT_RISK else 0


def settle_round(
    stakes: Stakes,
    submissions: Mapping[str, SubmissionState],
    scores: Mapping[str, Mapping[str, int | None]],
    terms: Terms,
) -> Ledger:
    """Returns the ledger of a round.

    Args:
        stakes: all stakes of the round, with or without a submission.
        submissions: model → what became of its submission; a model without an entry has none.
        scores: model → score key → published score in units of 1e-12, None or no entry where absent.
        terms: rules, decimals and revision.

    Raises:
        OperatorError: staked models chose multipliers that are not on offer.
    """
    rules = terms.rules
    refuse_multipliers(stakes, rules)
    staked = stakes.by_model()
    cases = [
        _case(model, staked.get(model), submissions.get(model, NO_SUBMISSION), scores.get(model, {}), rules)
        for model in sorted(staked.keys() | submissions.keys())
    ]
    factor = payout_factor(sum(case.at_risk for case in cases), rules, terms.decimals)
    rows = [_model_row(case, factor, terms) for case in cases]
    paid, burned = sum(row.payout for row in rows), sum(row.burn for row in rows)
    treasury = _total_row("treasury", factor, terms, payout=paid)
    return Ledger((*rows, treasury, _total_row("burn", factor, terms, burn=burned)))


def refuse_multipliers(stakes: Stakes, rules: Rules) -> None:
    """Checks the multipliers that staked models chose, before anything is scored.

    Raises:
        OperatorError: some are not on offer; one line that names how many models and the first of them.
    """
    refusals = ((stake.model, rules.refusal(stake.multipliers)) for stake in stakes.rows if stake.atoms)
    faults = [f"model {model}: {refusal}" for model, refusal in refusals if refusal]
    if faults:
        more = f"; and {len(faults) - _FAULTS_SHOWN} models more" if len(faults) > _FAULTS_SHOWN else ""
        raise OperatorError(f"stakes: {'; '.join(faults[:_FAULTS_SHOWN])}{more}")


def _case(
    model: str,
    stake: Stake | None,
    submission: SubmissionState,
    scores: Mapping[str, int | None],
    rules: Rules,
) -> _Case:
    paid = {key: scores.get(key) for key in rules.paid_scores}
    multipliers = rules.multipliers(stake.multipliers if stake else {})
    status, reason = _standing(stake, submission)
    if status == "scored" and any(paid[key] is None for key, value in multipliers.items() if value):
        status, reason = "unscored", "no_score"
    return _Case(model, stake, submission, paid, multipliers, status, reason)


def _standing(stake: Stake | None, submission: SubmissionState) -> tuple[Status, str | None]:
    """Returns status and reason as far as stake and submission decide them, whatever the scores."""
    if stake is None:
        return "unstaked", "no_stake_row"
    status: Status = "scored"
    reason: str | None = None
    if submission == NO_SUBMISSION:
        status, reason = "missing", "no_submission"
    elif stake.late:
        status, reason = "late", "after_close"
    elif submission.rejection:
        status, reason = "invalid", submission.rejection
    return (status, reason) if stake.atoms else ("unstaked", reason or "zero_stake")


def _model_row(case: _Case, factor: int, terms: Terms) -> LedgerRow:
    settled = None
    if case.status == "scored":
        scores = {key: score for key, score in case.scores.items() if score is not None}
        settled = settle_stake(case.at_risk, scores, case.multipliers, factor, terms.rules)
    stake_before = case.stake.before if case.stake else 0
    payout, burn = (settled.payout_atoms, min(settled.burn_atoms, stake_before)) if settled else (0, 0)
    return LedgerRow(
        entry="model",
        model=case.model,
        account=case.stake.account if case.stake else None,
        submission_digest=case.submission.digest,
        stake_before=stake_before,
        at_risk=case.at_risk,
        factor=factor,
        scores=case.scores,
        multipliers=case.multipliers,
        raw_rate=settled.raw_rate if settled else None,
        clipped_rate=settled.clipped_rate if settled else None,
        payout=payout,
        burn=burn,
        stake_after=stake_before + payout - burn,
        status=case.status,
        reason=case.reason,
        revision=terms.revision,
        rules_id=terms.rules.rules_id,
    )


def _total_row(entry: Entry, factor: int, terms: Terms, *, payout: int = 0, burn: int = 0) -> LedgerRow:
    return LedgerRow(
        entry=entry,
        model=None,
        account=None,
        submission_digest=None,
        stake_before=0,
        at_risk=0,
        factor=factor,
        scores={},
        multipliers={},
        raw_rate=None,
        clipped_rate=None,
        payout=payout,
        burn=burn,
        stake_after=0,
        status="total",
        reason=None,
        revision=terms.revision,
        rules_id=terms.rules.rules_id,
    )
