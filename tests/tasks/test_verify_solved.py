"""A round that another machine solved verifies to the stated tolerance, and not one payout with it.

Another machine is stood in for by the round's real stages with the solver's result moved a little: what is published
then follows from the moved vectors in every decimal, as it would there.
"""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from scoring.portfolio.report import BagReport
from scoring.true_contribution import TrueContribution
from tasks.findings import Findings
from tasks.verify_solved import difference, within_tolerance
from tests.flows.in_process import resolve_in_process
from tests.tasks.published_round import (
    NUMBER,
    SCORED,
    TRUE_CONTRIBUTION,
    copy,
    edit_manifest,
    moved,
    publish,
    solving,
    tamper,
    with_cell,
)
from tests.tasks.verified import newest, verified

STOCK = "stock_03"


@pytest.fixture(scope="module")
def round_of(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return publish(tmp_path_factory.mktemp("round"), TRUE_CONTRIBUTION)


@pytest.fixture(scope="module")
def elsewhere(round_of: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    """What machines published whose vectors are off by so much."""
    known: dict[float, Path] = {0.0: round_of[1]}

    def published(by: float) -> Path:
        if by not in known:
            known[by] = tmp_path_factory.mktemp("elsewhere")
            with solving(moved(by)):
                resolve_in_process(round_of[0], known[by], NUMBER)
        return known[by]

    return published


@pytest.fixture
def recomputed(round_of: tuple[Path, Path], tmp_path: Path) -> Callable[[Path], Findings]:
    """Verifies what is published, with a second run in this process."""

    return lambda out: verified(round_of[0], out, tmp_path / "again")


def same_tables(found: Findings) -> int:
    return sum("SHA-256 is that of the recomputed table" in line for line in found.checked)


# Rounds that are right ----------------------------------------------------------------------------------------------


def test_within_tolerance__the_same_machine_gives_the_same_bytes(
    elsewhere: Callable[[float], Path], recomputed: Callable[[Path], Findings]
) -> None:
    found = recomputed(elsewhere(0.0))
    assert (found.problems, found.notes) == ((), ())
    assert same_tables(found) == 5
    assert not any("tolerance" in line for line in found.checked)


@pytest.mark.parametrize("by", [1e-12, 5e-10])
def test_within_tolerance__a_round_of_another_machine_verifies(
    elsewhere: Callable[[float], Path], recomputed: Callable[[Path], Findings], by: float
) -> None:
    out = elsewhere(by)
    assert newest(out).manifest.outputs["meta_model"] != newest(elsewhere(0.0)).manifest.outputs["meta_model"]
    found = recomputed(out)
    assert found.problems == ()
    assert same_tables(found) == 5
    assert any("tc_price by" in line and "tolerance 1e-09" in line for line in found.checked)
    assert any("only the status was compared" in note for note in found.notes)


def test_within_tolerance__the_scores_and_the_money_of_another_machine_are_its_own(
    elsewhere: Callable[[float], Path],
) -> None:
    """Else the tests above would not see whether scores were taken from the published vectors."""
    here, there = (newest(elsewhere(by)).tables for by in (0.0, 5e-10))
    assert here["scores"].column("tc_raw") != there["scores"].column("tc_raw")
    assert here["ledger"].column("payout") != there["ledger"].column("payout")


# Rounds that are wrong ----------------------------------------------------------------------------------------------


def test_within_tolerance__vectors_further_off_are_named_with_the_tolerance(
    elsewhere: Callable[[float], Path], recomputed: Callable[[Path], Findings]
) -> None:
    out = elsewhere(1e-6)
    found = recomputed(out)
    table = newest(out).tables["meta_model"]
    row = table.column("id").to_pylist().index(STOCK)
    for name in ("portfolio", "tc_price"):
        published = table.column(name)[row]
        wanted = f"{name} of {STOCK}: stated {published}, recomputed "
        lines = [line for line in found.problems if wanted in line]
        assert len(lines) == 1
        assert lines[0].endswith("; differs by 1e-06 of the largest entry, tolerance 1e-09")
    assert any("true_contribution.risk_aversion: stated" in line for line in found.problems)
    for name, column in (("scores", "tc_raw of"), ("ledger", "payout of")):
        assert any(f"{name}/round={NUMBER}" in line and column in line for line in found.problems)


TAMPERED: dict[str, tuple[str, Callable[[pa.Table], pa.Table], str]] = {
    "price_without_scores": (
        "meta_model",
        with_cell("tc_price", STOCK, lambda price: price * (1 + 1e-6) + 1e-3, by="id"),
        f"tc_price of {STOCK}: stated",
    ),
    "price_missing": ("meta_model", with_cell("tc_price", STOCK, None, by="id"), f"tc_price of {STOCK}: stated None"),
    "portfolio": ("meta_model", with_cell("portfolio", STOCK, 0.0123, by="id"), f"portfolio of {STOCK}: stated 0.0123"),
    "tc": ("scores", with_cell("tc", SCORED, lambda score: score + 1e-12), f"tc of {SCORED}: stated"),
    "tc_raw": ("scores", with_cell("tc_raw", SCORED, lambda score: score + 1e-12), f"tc_raw of {SCORED}: stated"),
    "percentile": ("scores", with_cell("tc_percentile", SCORED, 0.5001), f"tc_percentile of {SCORED}: stated"),
    "payout": (
        "ledger",
        with_cell("payout", SCORED, lambda paid: paid + Decimal("0.000000000000000001")),
        f"payout of {SCORED}: stated",
    ),
    "status": ("bags", with_cell("status", "converged", "failed", by="status"), "status of 0: stated failed"),
    "no_status": ("bags", with_cell("status", "converged", None, by="status"), "status of 0: stated None"),
}


@pytest.mark.parametrize("by", [0.0, 5e-10], ids=["here", "elsewhere"])
@pytest.mark.parametrize("case", TAMPERED)
def test_within_tolerance__what_was_tampered_with_is_named(
    elsewhere: Callable[[float], Path], recomputed: Callable[[Path], Findings], tmp_path: Path, case: str, by: float
) -> None:
    out = copy(elsewhere(by), tmp_path)
    name, change, wanted = TAMPERED[case]
    tamper(out, name, change, restate=True)
    found = recomputed(out)
    assert any(f"{name}/round={NUMBER}" in line and wanted in line for line in found.problems), found.problems


def test_within_tolerance__a_price_moved_within_the_tolerance_must_give_the_published_scores(
    elsewhere: Callable[[float], Path], recomputed: Callable[[Path], Findings], tmp_path: Path
) -> None:
    out = copy(elsewhere(0.0), tmp_path)
    largest = np.abs(newest(out).tables["meta_model"].column("tc_price").to_numpy()).max()
    tamper(out, "meta_model", with_cell("tc_price", STOCK, lambda x: x + 9e-10 * largest, by="id"), restate=True)
    found = recomputed(out)
    assert any("tc_price by 9e-10" in line for line in found.checked)
    assert not any("meta_model/" in line for line in found.problems)
    assert any(f"scores/round={NUMBER}" in line and "tc_raw of" in line for line in found.problems)


@pytest.mark.parametrize(("fact", "value"), [("risk_aversion", 1.0), ("factor", 2.0), ("flagged_bags", 3)])
def test_within_tolerance__a_fact_that_was_tampered_with_is_named(
    elsewhere: Callable[[float], Path],
    recomputed: Callable[[Path], Findings],
    tmp_path: Path,
    fact: str,
    value: float,
) -> None:
    out = copy(elsewhere(5e-10), tmp_path)
    edit_manifest(out, lambda content: content["true_contribution"].update({fact: value}))
    found = recomputed(out)
    assert any(f"true_contribution.{fact}: stated {value}" in line for line in found.problems)


def test_within_tolerance__diagnostics_are_the_machines_own_but_on_the_same_machine(
    elsewhere: Callable[[float], Path], recomputed: Callable[[Path], Findings], tmp_path: Path
) -> None:
    out = copy(elsewhere(0.0), tmp_path)
    tamper(out, "bags", with_cell("iterations", "converged", 99, by="status"), restate=True)
    assert any("iterations of 0: stated 99" in line for line in recomputed(out).problems)


# The pieces ---------------------------------------------------------------------------------------------------------

OWN = TrueContribution(np.array([1.0, -4.0]), np.array([0.5, -0.5]), 2.0, (BagReport("converged", 9, 0.0, 0.0, 2e-9),))


def with_report(status: str, margin: float) -> TrueContribution:
    report = replace(OWN.reports[0], status=status, margin=margin)
    return replace(OWN, price=OWN.price * (1 + 1e-13), reports=(report,))


@pytest.mark.parametrize(
    ("published", "taken"),
    [
        (with_report("converged", 5.0), True),
        (with_report("degenerate", 1.5e-9), True),
        (with_report("degenerate", 5e-10), False),
        (with_report("failed", 2e-9), False),
        (with_report("degenerate", float("inf")), False),
        (replace(with_report("converged", 2e-9), reports=()), False),
    ],
)
def test_within_tolerance__only_next_to_the_limit_may_a_status_differ(published: TrueContribution, taken: bool) -> None:
    assert (within_tolerance(OWN, published).reports is published.reports) == taken


def test_within_tolerance__each_part_counts_for_itself() -> None:
    published = replace(OWN, price=OWN.price * (1 + 1e-13), portfolio=OWN.portfolio + 1e-3, risk_aversion=3.0)
    found = within_tolerance(OWN, published)
    assert (found.price is published.price, found.portfolio is OWN.portfolio, found.risk_aversion) == (True, True, 2.0)


@pytest.mark.parametrize(
    ("published", "own", "expected"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0.0),
        ([1.0, -4.0], [3.0, -4.0], 0.5),
        ([1.0, -8.0], [1.0, -4.0], 1.0),  # the published vector cannot widen what it is measured by
        ([0.0, 0.0], [0.0, -0.0], 0.0),
        ([1e-300, 0.0], [0.0, 0.0], float("inf")),
        ([1.0], [1.0, 2.0], float("inf")),
    ],
)
def test_difference__is_relative_to_the_largest(published: list[float], own: list[float], expected: float) -> None:
    assert difference(np.array(published), np.array(own)) == expected
