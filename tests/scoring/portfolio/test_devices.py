"""The ladder's rungs on every kind of device there is: the same code, held to the same oracles."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from scoring.portfolio import solvers
from scoring.portfolio.factor_portfolio import FactorPortfolio
from scoring.portfolio.interface import as_layer
from scoring.portfolio.problem import auto_risk_aversion
from scoring.portfolio.solvers import Device, Solver, gradients, optimal_weights
from scoring.portfolio.turnover import with_turnover
from tests.reference import portfolio as reference
from tests.scoring.portfolio.problems import HARD, Shape, case
from tests.scoring.portfolio.test_newton import Setting, make_alphas, make_problem, single_stock_groups

SETTINGS = ["five bins, tight leverage", "caps of 1.2/n, tight leverage", "single-stock groups", "tight exposures"]


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device here")
    monkeypatch.setattr(solvers, "_KEPT", solvers._Kept())
    found: Device = request.param
    return found


@pytest.mark.parametrize("setting", SETTINGS)
def test_gradients__equal_the_closed_form(device: Device, setting: str) -> None:
    c = HARD[setting](1)
    solver = Solver(c.problem, c.risk_aversion, device=device)
    weights, _ = optimal_weights(solver, c.alpha)
    found, reports = gradients(solver, c.alpha, c.returns)
    natural = float(np.abs(c.returns / c.problem.specific).max() / c.risk_aversion)
    for bag, report in enumerate(reports):
        expected = reference.weights(c.problem, c.risk_aversion, c.alpha[bag])
        assert np.abs(weights[bag] - expected).max() <= 1e-7 * np.abs(expected).max()
        assert report.status != "failed"
        if report.status == "converged":
            exact = reference.jacobian(c.problem, c.risk_aversion, c.alpha[bag]) @ c.returns
            assert np.abs(found[bag] - exact).max() <= 1e-8 * natural


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")
@pytest.mark.parametrize("setting", [*SETTINGS, "auto", "interior point", "nearly linear"])
def test_gradients__of_cpu_and_gpu_agree(setting: str) -> None:
    """To 1e-9 of the largest entry: what verifying a round of the other kind of device allows."""
    if setting in HARD:
        c = HARD[setting](1)
        problem, risk_aversion, alphas, returns = c.problem, c.risk_aversion, c.alpha, c.returns
    else:
        problem, alphas = make_problem(Setting(400, 40, 30)), make_alphas(400, 6)
        times = {"auto": 1.0, "interior point": 1e-2, "nearly linear": 1e-6}[setting]
        risk_aversion = times * auto_risk_aversion(alphas[0], problem)
        returns = np.random.default_rng(1).normal(0, 0.02, 400)
    kinds: tuple[Device, ...] = ("cpu", "cuda")
    solved = [Solver(problem, risk_aversion, device=kind) for kind in kinds]
    (on_cpu, reports), (on_gpu, others) = (gradients(solver, alphas, returns) for solver in solved)
    assert [report.status for report in reports] == [report.status for report in others]
    assert np.abs(on_gpu - on_cpu).max() <= 1e-9 * np.abs(on_cpu).max()
    weights, others_weights = (optimal_weights(solver, alphas)[0] for solver in solved)
    assert np.abs(others_weights - weights).max() <= 1e-9 * np.abs(weights).max()


def test_as_layer__passes_gradcheck(device: Device) -> None:
    c = case(1, Shape(40, bags=1))
    portfolio = FactorPortfolio(c.problem, c.risk_aversion, device)
    alpha = torch.tensor(c.alpha, device=device, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: 40 * as_layer(portfolio, a), (alpha,), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("times", [1.0, 1e-2, 1e-6], ids=["auto", "interior point", "nearly linear"])
def test_solve__converges_with_and_without_help(device: Device, times: float) -> None:
    problem, alphas = make_problem(Setting(400, 40, 30)), make_alphas(400, 6)
    portfolio = FactorPortfolio(problem, times * auto_risk_aversion(alphas[0], problem), device)
    solved = portfolio.solve(torch.tensor(alphas, device=device))
    pulled = portfolio.pull_back(solved, torch.ones(400, dtype=torch.float64, device=device))
    assert [report.status for report in solved.reports] == ["converged"] * 6
    assert any(report.fallback for report in solved.reports) == (times < 1)
    assert solved.weights.device.type == pulled.device.type == device
    assert bool(pulled.isfinite().all())


def test_solve__centres_pinned_groups_and_flags_what_is_no_number(device: Device) -> None:
    problem, alphas = single_stock_groups(make_problem(Setting())), make_alphas(200, 3)
    alphas[1, 7] = np.nan
    risk_aversion = auto_risk_aversion(alphas[0], problem)
    found, reports = gradients(Solver(problem, risk_aversion, device=device), alphas, np.ones(200))
    assert [report.status for report in reports] == ["converged", "failed", "converged"]
    assert all(reports[bag].pinned_groups >= 20 and reports[bag].margin > 1e-9 for bag in (0, 2))
    assert np.isfinite(found[[0, 2]]).all()


def test_solve__with_a_cost_of_turnover(device: Device) -> None:
    c = case(22, Shape(60, 6, 4, 3, bags=2))
    held = np.random.default_rng(22).normal(0, 1 / 60, 60)
    on_cpu, _ = optimal_weights(Solver(with_turnover(c.problem, 1.0, held), c.risk_aversion), c.alpha)
    found, _ = optimal_weights(Solver(with_turnover(c.problem, 1.0, held), c.risk_aversion, device=device), c.alpha)
    assert np.abs(found - on_cpu).max() <= 1e-12


def test_build__an_operators_own_problem_is_solved_on_the_cpu(device: Device) -> None:
    """With --gpu the units ask for the device also where cvxpy, which has none, solves."""
    c = case(3, Shape(20, bags=1))
    solver = Solver(c.problem, c.risk_aversion, "scoring.portfolio.default_problem:build", device)
    assert solver.tensor(c.alpha).device.type == "cpu"
    assert Solver(c.problem, c.risk_aversion, device=device).tensor(c.alpha).device.type == device


def test_factor_portfolio__has_everything_on_its_device(device: Device) -> None:
    c = case(2, Shape(20, bags=1))
    structure = FactorPortfolio(with_turnover(c.problem, 1.0, None), c.risk_aversion, device)._structure
    values = [getattr(structure, field.name) for field in fields(structure)]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    assert len(tensors) == 10
    assert {tensor.device.type for tensor in tensors} == {device}
