"""Verifying what a solver found: to a stated tolerance, and everything that follows from it to the bit.

The portfolio and the price vector of True Contribution come from an iterative solver, so their last bits belong to the
device and the build of BLAS that solved them: other instruction sets move a price by up to 1e-12 of the largest one. A
second run solves again, compares to the solver's tolerance, and where that holds goes on with the published vectors in
place of its own: every score, percentile, payout and total must then follow from them bit for bit, and no other
comparison needs to know of a tolerance. The failures guarded against: a round called wrong because a friend checked it
on another machine, and a tolerance wide enough to hide a payout that was tampered with.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float64

from scoring.portfolio.builder import STRUCTURED
from scoring.portfolio.report import BagReport
from scoring.true_contribution import TrueContribution
from tasks.findings import Findings
from tasks.verify_round import Revision

TOLERANCE = 1e-9
"""Largest difference from the published vector that another device may make, as a fraction of the largest absolute
entry of the recomputed one; the same for the risk aversion, relative to itself. CPUs of other instruction sets differ
by 1e-12 at most as far as measured, and CPU and GPU must agree to this."""
OPERATORS_TOLERANCE = 1e-7
"""The same where an operator's own problem was solved. It can be conditioned in any way, and counts as solved where its
conditions hold to 1e-10 and its gradient to 1e-8 (`scoring.portfolio.cvxpy_layer`): two machines may differ by some
times that. As far as measured they differ by 1e-12 too."""
SOLVED = ("portfolio", "tc_price")
"""Columns of `meta_model` that an iterative solver made."""

_DIAGNOSTICS = ("iterations", "gap", "infeasibility", "margin", "fallback", "pinned_groups")
_STATUSES = ("converged", "degenerate", "failed")


def published_solution(revision: Revision) -> TrueContribution | None:
    """Returns what a revision says that its solver found; None where it says nothing, or nothing that can be one.

    Args:
        revision: as it lies in the store.
    """
    facts, tables = revision.manifest.facts, revision.tables
    stated = facts.get("true_contribution")
    if not isinstance(stated, Mapping) or not {"meta_model", "bags"} <= tables.keys():
        return None
    portfolio, price = (_doubles(tables["meta_model"].column(name)) for name in SOLVED)
    reports = _reports(tables["bags"])
    risk_aversion = stated.get("risk_aversion")
    if portfolio is None or price is None or reports is None or not isinstance(risk_aversion, float):
        return None
    return TrueContribution(price, portfolio, risk_aversion, reports, str(facts.get("device_kind")))


def tolerance_of(own: TrueContribution) -> float:
    """Returns how far another device's solution may be from this one: as its solver is exact.

    Args:
        own: as the second run solved it; what is published could ask for any tolerance.
    """
    return TOLERANCE if own.solver == STRUCTURED else OPERATORS_TOLERANCE


def tolerance_of_run(again: Revision) -> float:
    """Returns the same, read off what a second run published: only an operator's own problem goes through cvxpy."""
    return OPERATORS_TOLERANCE if "cvxpy" in again.manifest.facts.get("versions", {}) else TOLERANCE


def within_tolerance(own: TrueContribution, published: TrueContribution) -> TrueContribution:
    """Returns what a second run goes on with: the published solution, but its own wherever the two do not agree.

    Two solutions of the same bits are from the same kind of machine: then the published reports of the bags must be
    the run's own too, to the bit.

    Args:
        own: as the second run solved it.
        published: what it checks.
    """
    if _same_bits(own, published):
        return own
    tolerance = tolerance_of(own)
    reports = published.reports if _same_statuses(own.reports, published.reports, tolerance) else own.reports
    gamma = difference(np.array([published.risk_aversion]), np.array([own.risk_aversion]))
    return replace(
        own,
        price=published.price if difference(published.price, own.price) <= tolerance else own.price,
        portfolio=published.portfolio if difference(published.portfolio, own.portfolio) <= tolerance else own.portfolio,
        risk_aversion=published.risk_aversion if gamma <= tolerance else own.risk_aversion,
        reports=reports,
    )


def solved_findings(revision: Revision, own: TrueContribution | None) -> Findings:
    """Says how near a second run's own solution is to the published one, where it is near but not the same.

    What is not near the second run published as its own, so that the comparison of the tables names it.

    Args:
        revision: as it lies in the store.
        own: as the second run solved it; None where the round has no True Contribution.
    """
    published = published_solution(revision)
    if own is None or published is None or _same_bits(own, published):
        return Findings()
    pairs = ((published.portfolio, own.portfolio), (published.price, own.price))
    found = dict(zip(SOLVED, (difference(*pair) for pair in pairs), strict=True))
    tolerance = tolerance_of(own)
    near = {name: part for name, part in found.items() if part <= tolerance}
    if not near:
        return Findings()
    path, parts = revision.path("meta_model"), " and ".join(f"{name} by {part:.2g}" for name, part in near.items())
    checked = f"{path}: {parts} of the largest entry from what was solved again, tolerance {tolerance:g}"
    notes = (
        f"{path}: all that follows from {' and '.join(near)} was recomputed from the published numbers, to the bit",
        f"{revision.path('bags')}: of the bags of tc only the status was compared, not {', '.join(_DIAGNOSTICS)}",
    )
    return Findings((checked,), (), notes)


def difference(published: Float64[np.ndarray, " entry"], own: Float64[np.ndarray, " own_entry"]) -> float:
    """Returns the largest absolute difference as a fraction of the largest absolute entry of `own`; infinite where the
    two have not as many entries, or there is nothing to divide by.
    """
    if published.shape != own.shape:
        return math.inf
    if np.array_equal(published, own):
        return 0.0
    largest = float(np.abs(own).max())
    return float(np.abs(published - own).max()) / largest if largest > 0 else math.inf


def worst_entry(published: pa.ChunkedArray, own: pa.ChunkedArray, tolerance: float) -> tuple[int, str] | None:
    """Returns the row in which a solved column differs most, and by how much; None where nothing differs, or one of the
    two has no numbers at all.

    Args:
        published, own: the column as published and as recomputed.
        tolerance: that did not hold.
    """
    a, b = (np.array(column.to_numpy(), dtype=np.float64) for column in (published, own))
    if np.array_equal(a, b) or np.isnan(a).all() or not np.isfinite(b).all():
        return None
    if not np.isfinite(a).all():
        return int(np.argmin(np.isfinite(a))), "must be a finite number"
    row, share = int(np.argmax(np.abs(a - b))), difference(a, b)
    return row, f"differs by {share:.2g} of the largest entry, tolerance {tolerance:g}"


def _same_bits(own: TrueContribution, published: TrueContribution) -> bool:
    return (
        own.price.tobytes() == published.price.tobytes()
        and own.portfolio.tobytes() == published.portfolio.tobytes()
        and own.risk_aversion == published.risk_aversion
    )


def _same_statuses(own: tuple[BagReport, ...], published: tuple[BagReport, ...], tolerance: float) -> bool:
    return len(own) == len(published) and all(map(_same_status, own, published, repeat(tolerance)))


def _same_status(own: BagReport, published: BagReport, tolerance: float) -> bool:
    """Returns whether two machines may say so of one bag: next to the limit of the margin, either side is right."""
    if own.status == published.status:
        return True
    return "failed" not in (own.status, published.status) and abs(own.margin - published.margin) <= tolerance


def _doubles(column: pa.ChunkedArray) -> Float64[np.ndarray, " stock"] | None:
    """Returns a column of finite numbers, None where it is none."""
    if column.null_count or not len(column):
        return None
    values = np.array(column.to_numpy(), dtype=np.float64)
    return values if np.isfinite(values).all() else None


def _reports(bags: pa.Table) -> tuple[BagReport, ...] | None:
    """Returns the reports of the bags of True Contribution, None where a row cannot be one."""
    rows: list[dict[str, Any]] = [row for row in bags.to_pylist() if row["kind"] == "tc"]
    found = [{name: row[name] for name in ("status", *_DIAGNOSTICS)} for row in rows]
    if any(None in row.values() or row["status"] not in _STATUSES for row in found):
        return None
    return tuple(BagReport(**row) for row in found)
