"""Verifying one model: its scores and its payout from its own file and the published files alone.

A submission is its ranks, and every contribution is a published price vector times ranks. So a participant needs no
private file to recompute his CORR, MMC, BMC, bagged MMC, CWMM and True Contribution with the very kernels that scored
him, and from them, by the rules in the manifest, his payout: the same bits, or a line that names the score. A step that
sums over an account takes the account's other models from the published ledger. What takes other files (FNC the
features, `cwmm_max` and `cwmm_mean` the other submissions, a step of the operator's own its module) is said so.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from pathlib import Path

import numpy as np

from scoring.errors import OperatorError, Rejection, nearest
from scoring.ledger import LedgerRow
from scoring.payout_policies import Gain, adjusted
from scoring.payouts import CLIPPED_RATE_DECIMALS, RAW_RATE_DECIMALS, settle_stake
from scoring.published import SCORE_KEYS, score_units
from scoring.ranks import rank
from scoring.rounds import Features, Universe
from scoring.score_table import score_block
from tasks.findings import Findings, merge, mismatch
from tasks.inputs import round_folder
from tasks.read_back import Stated, ledger_of, read_stated, scores_of
from tasks.read_vectors import PublishedVectors, published_vectors, vectors_of
from tasks.scores import Units
from tasks.stocks import parse_features
from tasks.submission import Submission, parse_submission
from tasks.submission_file import byte_limit
from tasks.verify_round import Revision
from tasks.verify_tables import decimal

_NEEDED = ("ledger", "scores", "meta_model")
_SUFFIXES = (".parquet", ".csv")
_PAIRWISE = ("cwmm_max", "cwmm_mean")
_EXACT = Context(prec=100)  # the sum of two columns of 38 digits, and more


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """What a participant has.

    Attributes:
        model: whose scores are recomputed.
        submission: the model's file, parquet or CSV.
        features: the round's features, for FNC; None leaves FNC out.
    """

    model: str
    submission: Path
    features: Path | None = None


@dataclass(frozen=True, slots=True)
class _Case:
    """One model as it is published, and what its scores follow from."""

    revision: Revision
    row: LedgerRow
    partners: tuple[LedgerRow, ...]  # the account's other models
    scores: Units
    vectors: PublishedVectors
    stated: Stated

    @property
    def shown(self) -> tuple[str, ...]:
        """The scores that the ledger shows."""
        return self.stated.terms.rules.shown_scores

    @property
    def features_sha256(self) -> str | None:
        """Of the features that the round was scored with; None where it had none."""
        manifest = self.revision.manifest
        return manifest.inputs.get(f"{round_folder(manifest.round)}/features.parquet")


def verify_submission(revision: Revision, own: OwnFiles) -> Findings:
    """Recomputes one model's scores and payout and compares them with what is published.

    Raises:
        OperatorError: the round has no such model, or a file cannot be read.
        StorageError: the manifest does not say what every manifest says.
    """
    found = _find(revision, own.model)
    if isinstance(found, Findings):
        return found
    submission = _read_submission(own.submission, found.vectors.ids)
    if isinstance(submission, Rejection):
        return _refused(found, own, submission)
    features, notes = _features(found, own.features)
    units = _recompute(found, submission, features)
    return merge([_digest(found, own, submission), _compare(found, units), _payout(found, units), notes])


def _find(revision: Revision, model: str) -> _Case | Findings:
    """Returns the model's published rows, or why they cannot be compared with anything."""
    stated = read_stated(revision.manifest)
    unreadable = [name for name in _NEEDED if name not in revision.tables]
    if unreadable:
        return Findings(notes=(f"model {model}: not recomputed, {' and '.join(unreadable)} cannot be read",))
    ledger, damaged = ledger_of(revision.tables["ledger"], stated.terms.decimals)
    rows = {row.model: row for row in ledger.rows if row.model is not None}
    if model not in rows and damaged:
        return Findings(notes=(f"model {model}: not recomputed, no row of the ledger that can be read is its own",))
    if model not in rows:
        hint = nearest(model, rows)
        raise OperatorError(f"round {revision.manifest.round}: there is no model {model!r} in the ledger{hint}")
    scores, _ = scores_of(revision.tables["scores"])
    vectors, faults = vectors_of(revision.tables["meta_model"], stated)
    if vectors is None:
        return Findings(notes=(f"model {model}: not recomputed: {revision.path('meta_model')}: {faults[0]}",))
    row = rows[model]
    partners = tuple(r for r in rows.values() if r is not row and r.account == row.account is not None)
    return _Case(revision, row, partners, scores.get(model, {}), vectors, stated)


def _read_submission(path: Path, ids: tuple[str, ...]) -> Submission | Rejection:
    """Reads the file as the round did."""
    if path.suffix not in _SUFFIXES:
        raise OperatorError(f"{path}: a submission must end in {' or '.join(_SUFFIXES)}")
    data = _bytes(path)
    if len(data) > byte_limit(len(ids)):
        return Rejection("too_large", f"the file may have at most {byte_limit(len(ids))} bytes, found {len(data)}")
    return parse_submission(data, csv=path.suffix == ".csv", ids=ids)


def _refused(case: _Case, own: OwnFiles, rejection: Rejection) -> Findings:
    """Compares a file that would be refused with what became of the published one."""
    refused = f"{own.submission}: refused as {rejection.code}: {rejection.message}"
    if case.row.submission_digest is None and case.row.reason == rejection.code:
        return Findings((f"model {case.row.model}: {refused}, as is published",))
    published = case.row.submission_digest or case.row.reason
    return Findings(problems=(mismatch(_where(case, "ledger"), "submission", published, refused),))


def _features(case: _Case, path: Path | None) -> tuple[Features | None, Findings]:
    """Reads the features; says what FNC needs where there are none."""
    stated = case.features_sha256
    if stated is None:
        return None, Findings(notes=("the round has no features and no fnc",) if path else ())
    if path is None:
        return None, Findings(notes=("fnc was not recomputed, it needs features.parquet (--features FILE)",))
    data = _bytes(path)
    same = hashlib.sha256(data).hexdigest() == stated
    notes = () if same else (f"{path}: is another file than the round's, which has SHA-256 {stated}",)
    return parse_features(data, str(path), Universe(case.vectors.ids)), Findings(notes=notes)


def _recompute(case: _Case, submission: Submission, features: Features | None) -> dict[str, int | None]:
    """Returns every score that follows from this submission and the published vectors."""
    ranks = rank((case.row.model or "",), submission.predictions[None, :])
    on_time = np.array([case.row.reason != "after_close"])
    vectors = published_vectors(case.vectors, features, case.stated)
    columns = {key: float(values[0]) for key, values in score_block(ranks, on_time, on_time, vectors).items()}
    units = {key: score_units(value) if np.isfinite(value) else None for key, value in columns.items()}
    left_out = {*_PAIRWISE, *(["fnc"] if case.features_sha256 and features is None else [])}
    raw = units.get("tc_raw")
    units["tc"] = None if raw is None else case.stated.scaling.apply(raw)
    return {key: units.get(key) for key in SCORE_KEYS if key not in left_out}


def _digest(case: _Case, own: OwnFiles, submission: Submission) -> Findings:
    stated = case.row.submission_digest
    if stated == submission.digest:
        return Findings((f"model {case.row.model}: submission_digest is that of {own.submission}",))
    where = _where(case, "ledger")
    problem = mismatch(where, "submission_digest", stated or "none", f"{submission.digest} in {own.submission}")
    return Findings(problems=(problem,))


def _compare(case: _Case, units: Units) -> Findings:
    """Compares every recomputed score with both tables that hold it."""
    problems = []
    for key, value in units.items():
        if case.scores.get(key) != value:
            stated = decimal(case.scores.get(key))
            problems.append(mismatch(_where(case, "scores"), key, stated, decimal(value), "recomputed"))
        if key in case.shown and case.row.scores.get(key) != value:
            stated = decimal(case.row.scores.get(key))
            problems.append(mismatch(_where(case, "ledger"), key, stated, decimal(value), "recomputed"))
    present = {key: decimal(value) for key, value in units.items() if value is not None}
    checked = [f"model {case.row.model}: {key} {value} recomputed" for key, value in present.items()]
    others = [key for key in _PAIRWISE if case.scores.get(key) is not None]
    notes = (f"{', '.join(others)} were not recomputed, they need the other submissions",) if others else ()
    return Findings(tuple(checked), tuple(problems), notes)


def _payout(case: _Case, units: Units) -> Findings:
    """Recomputes rates and amounts from the row's own stake, factor and multipliers and the recomputed scores."""
    row, decimals = case.row, case.stated.terms.decimals
    if row.status != "scored":
        return Findings(notes=(f"model {row.model}: its status is {row.status}, nothing is paid",))
    scores = {key: units.get(key, row.scores.get(key)) for key in case.shown}
    known = {key: value for key, value in scores.items() if value is not None}
    if missing := [key for key, value in row.multipliers.items() if value and key not in known]:
        return Findings(problems=(mismatch(_where(case, "ledger"), "status", "scored", f"no {', '.join(missing)}"),))
    settled = settle_stake(row.at_risk, known, row.multipliers, row.factor, case.stated.terms.rules)
    burn = min(settled.burn_atoms, row.stake_before)  # with chained stakes less may be left than was at risk
    payout, notes = _adjusted(case, settled.payout_atoms, scores)
    recomputed: Mapping[str, tuple[int | None, int, int]] = {
        "raw_rate": (row.raw_rate, settled.raw_rate, RAW_RATE_DECIMALS),
        "clipped_rate": (row.clipped_rate, settled.clipped_rate, CLIPPED_RATE_DECIMALS),
        "gross_payout": (row.gross_payout, settled.payout_atoms, decimals),
        "payout": (row.payout, payout, decimals),
        "burn": (row.burn, burn, decimals),
        "stake_after": (row.stake_after, row.stake_before + payout - burn, decimals),
    }
    problems = [
        mismatch(_where(case, "ledger"), name, _amount(stated, places), _amount(found, places), "recomputed")
        for name, (stated, found, places) in recomputed.items()
        if stated != found
    ]
    amounts = {"gross payout": settled.payout_atoms, "burn": burn}
    if not case.stated.terms.rules.own_functions:
        amounts = {"payout": payout, "burn": burn}
    paid = ", ".join(f"{name} {_amount(atoms, decimals)}" for name, atoms in amounts.items())
    return Findings((f"model {row.model}: {paid} recomputed",), tuple(problems), notes)


def _adjusted(case: _Case, gross: int, scores: Units) -> tuple[int, tuple[str, ...]]:
    """Returns what the rules' steps leave of a payout, and on whose word that rests besides the own file."""
    row, terms = case.row, case.stated.terms
    trusted = []
    if terms.rules.net_opposites is not None:
        trusted.append("what opposite submissions net in the payout factor was taken as published")
    if own := terms.rules.own_functions:
        trusted.append(f"what {' and '.join(own)} made of its payout was not recomputed")
        return row.payout, tuple(f"model {row.model}: {each}" for each in trusted)
    earning = [partner for partner in case.partners if partner.gross_payout > 0]
    if earning and any(step.unit == "account" for step in terms.rules.adjust):
        trusted.append(f"the other payouts of its account ({len(earning)}) were taken as published")
    rows = [(row, gross, scores), *((partner, partner.gross_payout, partner.scores) for partner in earning)]
    gains = [Gain(r.model or "", r.account, payout, r.at_risk, found) for r, payout, found in rows]
    payout = adjusted(gains, terms.rules, terms.decimals)[0] if gross else 0
    return payout, tuple(f"model {row.model}: {each}" for each in trusted)


def _where(case: _Case, table: str) -> str:
    return f"{case.revision.path(table)}: model {case.row.model}"


def _amount(units: int | None, decimals: int) -> str:
    return "none" if units is None else f"{Decimal(units).scaleb(-decimals, _EXACT):f}"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OperatorError(f"{path}: cannot be read: {error.strerror}") from error
