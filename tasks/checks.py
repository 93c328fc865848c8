"""What must hold before any work on a round: it is due, and what it pays on can be had.

Money that depends on a score which the round cannot have would be paid on nothing. Found here, it costs two seconds
and one line; found at the end, a night of a cluster.
"""

from collections.abc import Collection
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path

from scoring import payout_policies
from scoring.errors import NotDueError, NothingToPayError, OperatorError, nearest
from scoring.named_function import Place, load_function, source_file
from scoring.portfolio.builder import STRUCTURED, load_builder
from scoring.portfolio.problem import PortfolioTerms, portfolio_problem
from scoring.rounds import Targets
from scoring.weight_policies import EXAMPLE, PLACE, examples, misses_standings, needs_standings
from tasks.inputs import RoundInputs, round_folder
from tasks.tournament import Tournament


def targets_if_due(inputs: RoundInputs, now: datetime) -> Targets:
    """Returns the targets of a round that has resolved and has something to pay.

    Raises:
        NotDueError: it has not resolved, or its targets are not there yet.
        NothingToPayError: all stakes are zero.
    """
    calendar = inputs.round
    if now < calendar.resolves_at:
        raise NotDueError(f"round {calendar.number}: not due before {calendar.resolves_at.isoformat()}")
    refuse_unstaked(inputs)
    if inputs.targets is None:
        raise NotDueError(
            f"round {calendar.number}: not due, {round_folder(calendar.number)}/targets.parquet is missing"
        )
    return inputs.targets


def refuse_unstaked(inputs: RoundInputs) -> None:
    """Stops where nobody has a stake, whatever the submissions.

    Raises:
        NothingToPayError: all stakes are zero.
    """
    if not any(stake.atoms for stake in inputs.stakes.rows):
        raise NothingToPayError(f"round {inputs.round.number}: nothing to pay, all stakes are zero")


def check_paid_scores(tournament: Tournament, inputs: RoundInputs) -> None:
    """Stops before any work where money depends on a score that this round cannot have."""
    number = inputs.round.number
    rules, folder = tournament.rulebook.at(number), round_folder(number)
    staked = [stake for stake in inputs.stakes.rows if stake.atoms]
    if rules.payout is None and not any(stake.multipliers for stake in staked):
        raise OperatorError(
            f"{folder}/stakes.parquet: under {rules.rules_id} the models choose, so it needs a column "
            f"{rules.paid_scores[0]}_multiplier or another of {', '.join(rules.paid_scores)}; found none"
        )
    paid = {key for stake in staked for key, value in rules.multipliers(stake.multipliers).items() if value}
    for name in rules.own_functions:
        check_function(name, payout_policies.PLACE)
    lacking = {
        "fnc": None if inputs.features else f"{folder}/features.parquet",
        "bmc": None if inputs.benchmark_stakes else f"{folder}/benchmark_stakes.parquet",
        "cwmm_max": None if tournament.scores.pairwise else "scores.pairwise = true",
        "cwmm_mean": None if tournament.scores.pairwise else "scores.pairwise = true",
    }
    for key in sorted(paid | set(rules.adjust_scores)):
        if needs := lacking.get(key):
            how = "pays on" if key in paid else "adjusts payouts by"
            raise OperatorError(f"round {number}: {rules.rules_id} {how} {key}, which needs {needs}; found none")


def check_weights(tournament: Tournament, inputs: RoundInputs, benchmarks: Collection[str]) -> None:
    """Stops before any work where a weight policy would look at what this round has not.

    Args:
        tournament: with the policies.
        inputs: the round's.
        benchmarks: names of its benchmark models.

    Raises:
        OperatorError: there are no standings, there is no such example, or the operator's own policy is not to be
            found.
    """
    number, steps = inputs.round.number, tournament.weights
    folder = round_folder(number)
    if (policy := needs_standings(steps)) and inputs.standings is None:
        raise OperatorError(
            f"round {number}: the weights follow {policy}, which needs {folder}/standings.parquet; found none"
        )
    if inputs.standings is not None and (missed := misses_standings(steps, inputs.standings)):
        raise OperatorError(f"{folder}/standings.parquet: {missed}, found none of them, but others; fill their column")
    for name in sorted(examples(steps)):
        there = inputs.example is not None if name == EXAMPLE else name in benchmarks
        if not there:
            file = f"{folder}/example_predictions.parquet" if name == EXAMPLE else f"the benchmark model {name}"
            hint = "" if name == EXAMPLE else nearest(name, benchmarks)
            raise OperatorError(
                f"round {number}: the weights follow minimum_example_correlation, which needs {file}; found none{hint}"
            )
    for step in steps:
        if step.is_own:
            check_function(step.policy, PLACE)


def check_function(name: str, place: Place) -> None:
    """Stops before any work where an operator's own function, or the file that its digest is taken of, is not there.

    Raises:
        OperatorError: as `load_function` and `source_file` say.
    """
    load_function(name, place)
    digest_as_loaded(source_file(name, place))


@cache
def digest_as_loaded(file: Path) -> str:
    """Returns the SHA-256 of a module's file as this process met it: Python loads a module once, edited or not."""
    return sha256(file.read_bytes()).hexdigest()


def check_portfolio(terms: PortfolioTerms | None, inputs: RoundInputs, targets: Targets) -> None:
    """Stops before any work where the round's True Contribution cannot be had.

    Raises:
        OperatorError: the operator's own solver is not to be found; the risk model, the terms or the returns are wrong.
    """
    if terms is None or inputs.factor_covariance is None:
        return
    if terms.solver != STRUCTURED:
        load_builder(terms.solver)
    portfolio_problem(inputs.universe, inputs.factor_covariance, terms, inputs.features)
    if targets.realised is None:
        folder = round_folder(inputs.round.number)
        raise OperatorError(f"{folder}/targets.parquet: column return is missing; True Contribution needs it")
