"""A round whose portfolio an operator wrote himself: solved, published, verified; and told apart when he edits it."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import diffcp  # noqa: F401  # first imported inside jaxtyping's hook it is compiled anew, and its docstring warns
import numpy as np
import pytest

from scoring.errors import ConflictError, OperatorError
from scoring.portfolio.report import BagReport
from scoring.true_contribution import TrueContribution
from tasks.plan import AlreadyPublished, RoundPlan, RoundRequest, plan_round
from tasks.verify_solved import OPERATORS_TOLERANCE, TOLERANCE, within_tolerance
from tests.flows.in_process import resolve_in_process
from tests.operators_module import operators_module
from tests.tasks.published_round import NUMBER, TRUE_CONTRIBUTION, moved, publish, solving
from tests.tasks.verified import newest, verified

DEFAULT = "scoring.portfolio.default_problem:build"
MODULE = "fund_beside_the_tournament"
SOURCE = f"from {DEFAULT.split(':')[0]} import build\n"
LIBRARIES = {"clarabel", "cvxpy", "cvxpylayers", "diffcp"}


def solved_by(solver: str) -> str:
    """A small tournament's file that names a solver."""
    return TRUE_CONTRIBUTION.replace("[portfolio]\n", f'[portfolio]\nsolver = "{solver}"\n').replace("12", "4")


def plan(data: Path, out: Path) -> RoundPlan | AlreadyPublished:
    return plan_round(RoundRequest(str(data), str(out), NUMBER), datetime.now(UTC))


@pytest.fixture(scope="module")
def by_cvxpy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return publish(tmp_path_factory.mktemp("cvxpy"), solved_by(DEFAULT))


@pytest.fixture
def fund(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an operator's module in the working directory, which is forgotten afterwards."""
    return operators_module(tmp_path, monkeypatch, MODULE, SOURCE)


# Solved and verified ------------------------------------------------------------------------------------------------


def test_resolve__with_the_default_problem_in_cvxpy_pays_what_the_structured_solver_pays(
    by_cvxpy: tuple[Path, Path], tmp_path: Path
) -> None:
    """To 1e-11 of the largest score: two solvers that share no step, but for the decimals that are published."""
    by_factor = publish(tmp_path, solved_by("factor"))[1]
    theirs, ours = newest(by_cvxpy[1]).tables, newest(by_factor).tables
    for table, names in {"scores": ("tc_raw", "tc"), "meta_model": ("tc_price", "portfolio")}.items():
        for name in names:
            found, expected = (
                np.array(side[table].column(name).to_pylist(), dtype=np.float64) for side in (theirs, ours)
            )
            assert np.isfinite(expected).sum() >= 3
            assert np.nanmax(np.abs(found - expected)) <= 1e-11 * np.nanmax(np.abs(expected)) + 1e-12
            assert np.array_equal(np.isnan(found), np.isnan(expected))
    statuses = [row["status"] for row in theirs["bags"].to_pylist() if row["kind"] == "tc"]
    assert statuses == ["converged"] * 4


@pytest.mark.parametrize(("by", "near"), [(0.0, True), (5e-8, True), (5e-7, False)])
def test_within_tolerance__an_operators_round_verifies_to_a_tolerance_of_its_own(
    by_cvxpy: tuple[Path, Path], tmp_path: Path, by: float, near: bool
) -> None:
    data, out = by_cvxpy
    if by:
        out = tmp_path / "elsewhere"
        with solving(moved(by)):
            resolve_in_process(data, out, NUMBER)
    found = verified(data, out, tmp_path / "again")
    assert (found.problems == ()) == near, found.problems
    lines = [line for line in (*found.checked, *found.problems) if "tolerance" in line]
    assert all(line.endswith("tolerance 1e-07") for line in lines)
    assert bool(lines) == (by > 0)


def test_within_tolerance__the_second_run_says_by_which_tolerance_not_what_is_published() -> None:
    report = (BagReport("converged", 9, 0.0, 0.0, 1.0),)
    own = TrueContribution(np.array([1.0, -4.0]), np.array([0.5, -0.5]), 2.0, report)
    published = replace(own, price=own.price * (1 + 1e-8), solver="fund:build")
    assert TOLERANCE < 1e-8 < OPERATORS_TOLERANCE
    assert within_tolerance(own, published).price is own.price
    assert within_tolerance(replace(own, solver="fund:build"), published).price is published.price


# Told apart ---------------------------------------------------------------------------------------------------------


def test_plan_round__an_edited_problem_is_another_round(fund: Path, tmp_path: Path) -> None:
    data, out = publish(tmp_path, solved_by(f"{MODULE}:build"))
    assert isinstance(plan(data, out), AlreadyPublished)
    fund.write_text(SOURCE + "# less leverage\n")
    with pytest.raises(
        ConflictError, match=f"already published as revision 1 with other inputs: the module of {MODULE}:build"
    ):
        plan(data, out)


def test_draft_manifest__names_what_an_operators_problem_depends_on(fund: Path, tmp_path: Path) -> None:
    _, out = publish(tmp_path, solved_by(f"{MODULE}:build"))
    versions = newest(out).manifest.facts["versions"]
    assert versions.keys() >= LIBRARIES
    assert versions["cvxpy"] == version("cvxpy")
    assert versions[f"{MODULE}:build"].startswith("sha256:")
    assert MODULE in json.dumps(versions)


def test_draft_manifest__of_other_rounds_names_none_of_it(tmp_path: Path) -> None:
    _, out = publish(tmp_path, solved_by("factor"))
    versions = newest(out).manifest.facts["versions"]
    assert versions.keys() == {"stakeweight", "numba", "numpy", "pyarrow", "scipy", "torch"}


# Not to be found ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ("facto", "did you mean 'factor'"),
        (f"{MODULE}s:build", f"there is no module '{MODULE}s' \\(did you mean '{MODULE}'\\?\\)"),
        (f"{MODULE}:biuld", "has no function 'biuld' \\(did you mean 'build'\\?\\)"),
    ],
)
def test_check_portfolio__a_misspelt_solver_stops_before_anything_is_scored(
    fund: Path, by_cvxpy: tuple[Path, Path], tmp_path: Path, solver: str, message: str
) -> None:
    terms = tmp_path / "other.toml"
    terms.write_text(solved_by(solver))
    request = RoundRequest(str(by_cvxpy[0]), str(tmp_path / "nothing"), NUMBER, terms)
    with pytest.raises(OperatorError, match=message) as caught:
        plan_round(request, datetime.now(UTC))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "nothing").exists()
