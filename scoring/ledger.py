"""The ledger: what a round pays and burns, to the atom, in double entry.

Every model with a stake or a submission has one row; the treasury's row holds the sum of all payouts and the
burn account's row the sum of all burns. At risk are the stakes with a valid submission on time. All others
have a row with nothing at risk, so that nobody can move the payout factor, or anybody's payout, without
risking a stake. A model whose paid score is absent is paid 0 and stays at risk: an absent score is not a
score of 0, and must not raise the others' factor. With chained stakes, at risk is the balance when the round closed;
a burn never exceeds the balance that is left when it settles.

Rules may net opposite submissions: a stake on p and as much on 1 − p risk nothing together, so that neither counts in
the payout factor (column `netted`); both are paid and burned as ever. And rules may adjust payouts
(`scoring.payout_policies`): `gross_payout` is what was earned, `payout` what of it is paid.

The failure guarded against: money that appears or disappears between two columns (`scoring.audit` looks for it,
independently, before a ledger is published).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from scoring.errors import OperatorError
from scoring.payout_policies import Gain, adjusted
from scoring.payouts import Settlement, payout_factor, settle_stake
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
        netted: atoms of at_risk that do not count in the payout factor.
        factor: the round's payout factor in units of 1e-18, the same in all rows.
        scores: the scores that the rules can pay on or look at, in units of 1e-12, None where absent.
        multipliers: one for each of these scores that is paid on.
        raw_rate, clipped_rate: units of 1e-18 and 1e-36 (`scoring.payouts.Settlement`); None unless scored.
        gross_payout: atoms, the payout before the steps of `Rules.adjust`.
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
    netted: int
    factor: int
    scores: Mapping[str, int | None]
    multipliers: Mapping[str, Decimal]
    raw_rate: int | None
    clipped_rate: int | None
    gross_payout: int
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
    netted: int

    @property
    def at_risk(self) -> int:
        return self.stake.atoms if self.stake and self.status in AT_RISK else 0


def settle_round(
    stakes: Stakes,
    submissions: Mapping[str, SubmissionState],
    scores: Mapping[str, Mapping[str, int | None]],
    terms: Terms,
    netted: Mapping[str, int] | None = None,
) -> Ledger:
    """Returns the ledger of a round.

    Args:
        stakes: all stakes of the round, with or without a submission.
        submissions: model → what became of its submission; a model without an entry has none.
        scores: model → score key → published score in units of 1e-12, None or no entry where absent.
        terms: rules, decimals and revision.
        netted: model → atoms of what it has at risk that do not count in the payout factor
            (`scoring.families.netted` of `at_risk_of`); no entry for none.

    Raises:
        OperatorError: staked models chose multipliers that are not on offer; an operator's own step failed.
    """
    rules = terms.rules
    refuse_multipliers(stakes, rules)
    staked = stakes.by_model()
    cases = [
        replace(
            _case(model, staked.get(model), submissions.get(model, NO_SUBMISSION), scores.get(model, {}), rules),
            netted=(netted or {}).get(model, 0),
        )
        for model in sorted(staked.keys() | submissions.keys())
    ]
    factor = payout_factor(sum(case.at_risk - case.netted for case in cases), rules, terms.decimals)
    settled = [_settle(case, factor, rules) for case in cases]
    payouts = _payouts(cases, settled, terms)
    rows = [
        _model_row(case, each, payouts.get(case.model, 0), factor, terms)
        for case, each in zip(cases, settled, strict=True)
    ]
    paid, gross, burned = (sum(getattr(row, name) for row in rows) for name in ("payout", "gross_payout", "burn"))
    treasury = replace(_total_row("treasury", factor, terms), payout=paid, gross_payout=gross)
    return Ledger((*rows, treasury, replace(_total_row("burn", factor, terms), burn=burned)))


def at_risk_of(stakes: Stakes, submissions: Mapping[str, SubmissionState]) -> dict[str, int]:
    """Returns what each model has at risk in a round, in atoms; models with nothing at risk are left out.

    Args:
        stakes, submissions: as in `settle_round`.
    """
    return {
        stake.model: stake.atoms
        for stake in stakes.rows
        if _standing(stake, submissions.get(stake.model, NO_SUBMISSION))[0] in AT_RISK
    }


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
    shown = {key: scores.get(key) for key in rules.shown_scores}
    multipliers = rules.multipliers(stake.multipliers if stake else {})
    status, reason = _standing(stake, submission)
    if status == "scored" and any(shown[key] is None for key, value in multipliers.items() if value):
        status, reason = "unscored", "no_score"
    return _Case(model, stake, submission, shown, multipliers, status, reason, netted=0)


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


def _settle(case: _Case, factor: int, rules: Rules) -> Settlement | None:
    """Returns what a scored model earns or burns, None for the others."""
    if case.status != "scored":
        return None
    scores = {key: score for key, score in case.scores.items() if score is not None}
    return settle_stake(case.at_risk, scores, case.multipliers, factor, rules)


def _payouts(cases: Sequence[_Case], settled: Sequence[Settlement | None], terms: Terms) -> dict[str, int]:
    """Returns what is paid by model: every payout, after the steps of the rules."""
    gains = [
        Gain(case.model, case.stake.account if case.stake else None, each.payout_atoms, case.at_risk, case.scores)
        for case, each in zip(cases, settled, strict=True)
        if each is not None and each.payout_atoms
    ]
    payouts = adjusted(gains, terms.rules, terms.decimals)
    return {gain.model: payout for gain, payout in zip(gains, payouts, strict=True)}


def _model_row(case: _Case, settled: Settlement | None, payout: int, factor: int, terms: Terms) -> LedgerRow:
    stake_before = case.stake.before if case.stake else 0
    burn = min(settled.burn_atoms, stake_before) if settled else 0
    return LedgerRow(
        entry="model",
        model=case.model,
        account=case.stake.account if case.stake else None,
        submission_digest=case.submission.digest,
        stake_before=stake_before,
        at_risk=case.at_risk,
        netted=case.netted,
        factor=factor,
        scores=case.scores,
        multipliers=case.multipliers,
        raw_rate=settled.raw_rate if settled else None,
        clipped_rate=settled.clipped_rate if settled else None,
        gross_payout=settled.payout_atoms if settled else 0,
        payout=payout,
        burn=burn,
        stake_after=stake_before + payout - burn,
        status=case.status,
        reason=case.reason,
        revision=terms.revision,
        rules_id=terms.rules.rules_id,
    )


def _total_row(entry: Entry, factor: int, terms: Terms) -> LedgerRow:
    """Returns a counter-entry of nothing."""
    return LedgerRow(
        entry=entry,
        model=None,
        account=None,
        submission_digest=None,
        stake_before=0,
        at_risk=0,
        netted=0,
        factor=factor,
        scores={},
        multipliers={},
        raw_rate=None,
        clipped_rate=None,
        gross_payout=0,
        payout=0,
        burn=0,
        stake_after=0,
        status="total",
        reason=None,
        revision=terms.revision,
        rules_id=terms.rules.rules_id,
    )
