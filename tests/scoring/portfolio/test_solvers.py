"""The solver that a process keeps between chunks: the one asked for, never another, and one at most."""

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from scoring.portfolio import solvers
from scoring.portfolio.problem import PortfolioProblem
from scoring.portfolio.solvers import Solver, gradients
from scoring.portfolio.turnover import with_turnover
from tests.scoring.portfolio.problems import Shape, case

C = case(31, Shape(50, bags=4))


def copied(problem: PortfolioProblem) -> PortfolioProblem:
    """The same numbers in other memory, as a message from another process has them."""
    return replace(problem, factors=problem.factors.copy(), specific=problem.specific.copy(), rows=problem.rows.copy())


def changed(problem: PortfolioProblem, name: str) -> PortfolioProblem:
    """One number of one array moved by its last digit."""
    array = getattr(problem, name).copy()
    array.flat[-1] = np.nextafter(array.flat[-1], np.inf)
    return replace(problem, **{name: array})


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solvers, "_KEPT", solvers._Kept())


def test_build__takes_the_last_solver_for_the_same_numbers() -> None:
    first = Solver(C.problem, 2.0).build()
    assert Solver(copied(C.problem), 2.0).build() is first


OTHERS: dict[str, Callable[[PortfolioProblem], Solver]] = {
    "risk aversion": lambda problem: Solver(problem, 2.0000000000000004),
    **{
        name: lambda problem, name=name: Solver(changed(problem, name), 2.0)
        for name in ("factors", "covariance", "bounds", "specific")
    },
    "groups": lambda problem: Solver(replace(problem, groups=problem.groups[:, ::-1]), 2.0),
    "rows": lambda problem: Solver(replace(problem, rows=problem.rows[:-1]), 2.0),
    "cap": lambda problem: Solver(replace(problem, cap=problem.cap * 2), 2.0),
    "leverage": lambda problem: Solver(replace(problem, leverage=problem.leverage * 2), 2.0),
    "cost": lambda problem: Solver(with_turnover(problem, 1.0, None), 2.0),
}


@pytest.mark.parametrize("what", OTHERS)
def test_build__takes_no_solver_for_other_numbers(what: str) -> None:
    first = Solver(C.problem, 2.0).build()
    assert OTHERS[what](C.problem).build() is not first


def test_gradients__have_the_same_bytes_from_a_solver_that_is_kept() -> None:
    made = gradients(Solver(C.problem, C.risk_aversion), C.alpha, C.returns)
    kept = gradients(Solver(copied(C.problem), C.risk_aversion), C.alpha, C.returns)
    assert kept[0].tobytes() == made[0].tobytes()
    assert kept[1] == made[1]


def test_build__keeps_one_at_most_and_none_that_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    first = weakref.ref(Solver(C.problem, 2.0).build())
    Solver(C.problem, 3.0).build()
    gc.collect()
    assert first() is None
    monkeypatch.setattr(solvers, "MOST_KEPT_BYTES", 1000)
    large = Solver(C.problem, 4.0).build()
    assert Solver(C.problem, 4.0).build() is not large


def test_build__threads_share_one_and_find_what_one_alone_finds() -> None:
    alone = gradients(Solver(C.problem, C.risk_aversion), C.alpha, C.returns)[0].tobytes()
    solvers._KEPT = solvers._Kept()

    def ask(_: int) -> tuple[int, bytes]:
        solver = Solver(copied(C.problem), C.risk_aversion)
        return id(solver.build()), gradients(solver, C.alpha, C.returns)[0].tobytes()

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(ask, range(12)))
    assert {at for at, _ in found} == {id(Solver(C.problem, C.risk_aversion).build())}
    assert {data for _, data in found} == {alone}
