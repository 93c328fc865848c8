"""The tournament: its name, its currency, the rules it pays by and the choices for its scores.

`tournament.toml` of the data is the default; a file of the operator's own may replace it, so that the same
rounds can be paid by other rules. Either way the digest of the bytes as read says which one it was.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Literal, cast

from scoring.errors import OperatorError
from scoring.named_function import is_named_function
from scoring.portfolio.problem import NEUTRALITIES, PortfolioTerms
from scoring.rounds import ScoreOptions, TrueContributionOptions
from scoring.rulebook import Rulebook, builtin, parse_rules
from scoring.rules import Rules
from scoring.stakes import Stake
from scoring.weight_policies import PARAMETERS, WeightStep, check_order
from tasks.store import MissingFileError, Store
from tasks.toml_file import Section, parse_toml

TOURNAMENT_FILE = "tournament.toml"
TRANSFERS_FILE = "transfers.parquet"
MAX_DECIMALS = 18
"""Decimals of money in every table (decimal128(38, 18)); a currency cannot have more."""
MAX_BAGS = 10_000

_KEYS = (
    "name",
    "currency",
    "decimals",
    "stakes",
    "rulebook",
    "rules",
    "scores",
    "weights",
    "portfolio",
    "true_contribution",
)
_IN_CURRENCY = ("scale", "limit")
_LARGEST_AMOUNT = Decimal("1E+20")
"""Above all that decimal128(38, 18), the type of money, can hold; what is finer than its inverse is below any atom."""
_SCALINGS = ("raw", "normalised", "z_score")


@dataclass(frozen=True, slots=True)
class Tournament:
    """What holds for all rounds of a tournament.

    Attributes:
        name: the tournament's name; part of the default seed of every round.
        currency: what stakes are in, e.g. `NMR`.
        decimals: an atom is 10^-decimals of the currency, 0 to 18.
        chained: whether stakes are balances that follow from transfers and settled rounds, not the rounds' snapshots.
        rulebook: the dated rules that rounds are paid by.
        weights: what a model counts in the meta model, step by step; none for its stake.
        scores: the operator's choices for the scores.
        portfolio: the operator's portfolio; None where the file has no table `[portfolio]` and so asks for no True
            Contribution.
        true_contribution: the operator's choices for its bags.
        hash: hexadecimal SHA-256 of the file's bytes as read.
    """

    name: str
    currency: str
    decimals: int
    chained: bool
    rulebook: Rulebook
    weights: tuple[WeightStep, ...]
    scores: ScoreOptions
    portfolio: PortfolioTerms | None
    true_contribution: TrueContributionOptions
    hash: str

    def terms_of_portfolio(self, number: int, stakes: Iterable[Stake] = ()) -> PortfolioTerms | None:
        """Returns the portfolio of a round whose True Contribution is asked for or paid on, by default terms if need
        be; None where it is neither.

        Args:
            number: the round's.
            stakes: of the round. Where the models choose what they are paid on, one with a stake must have chosen it:
                a rulebook that merely offers it asks for no risk model.
        """
        paid = pays_true_contribution(self.rulebook.at(number), stakes)
        return self.portfolio or (PortfolioTerms() if paid else None)


def pays_true_contribution(rules: Rules, stakes: Iterable[Stake]) -> bool:
    """Says whether money depends on True Contribution: by the rules, or because somebody at risk chose it; also where
    payouts are only adjusted by it.

    Args:
        rules: the round's.
        stakes: the round's.
    """
    chosen = (rules.multipliers(stake.multipliers) for stake in stakes if stake.atoms)
    return rules.pays_true_contribution and (
        rules.payout is not None
        or not {"tc", "tc_raw"}.isdisjoint(rules.adjust_scores)
        or any(each.get("tc") or each.get("tc_raw") for each in chosen)
    )


def read_tournament(store: Store, override: Path | None = None) -> Tournament:
    """Reads the tournament of a store.

    Args:
        store: the tournament's data.
        override: a local file to read instead of the store's `tournament.toml`.

    Raises:
        OperatorError: there is no such file, it is not TOML, or a key in it is unknown, missing or wrong.
        StorageError: the store failed.
    """
    top, digest = tournament_file(store, override)
    return tournament_of(top, store, digest)


def tournament_file(store: Store, override: Path | None = None) -> tuple[Section, str]:
    """Reads the file of a tournament: its content, and the SHA-256 of its bytes.

    Raises:
        OperatorError: there is no such file, or it is not TOML.
        StorageError: the store failed.
    """
    origin = str(override) if override is not None else TOURNAMENT_FILE
    try:
        data = override.read_bytes() if override is not None else store.read(TOURNAMENT_FILE)
    except MissingFileError as error:
        raise OperatorError(f"{error}; a tournament needs one") from error
    except OSError as error:
        raise OperatorError(f"{origin}: cannot be read: {error.strerror}") from error
    return parse_toml(data, origin), hashlib.sha256(data).hexdigest()


def tournament_of(top: Section, store: Store, digest: str) -> Tournament:
    """Returns the tournament that a file's content describes.

    Args:
        top: the content.
        store: the tournament's data, which may hold transfers.
        digest: hexadecimal SHA-256 that stands for the content.

    Raises:
        OperatorError: a key is unknown, missing or wrong.
    """
    top.check_keys(_KEYS)
    decimals = top.whole("decimals", (0, MAX_DECIMALS))
    return Tournament(
        name=top.text("name"),
        currency=top.text("currency"),
        decimals=decimals,
        chained=_chained(top, store),
        rulebook=_rulebook(top),
        weights=_weight_steps(top, decimals),
        scores=_score_options(top.section("scores")),
        portfolio=_portfolio_terms(top.section("portfolio")) if "portfolio" in top.values else None,
        true_contribution=_true_contribution_options(top.section("true_contribution")),
        hash=digest,
    )


def _rulebook(top: Section) -> Rulebook:
    """Returns the built-in rulebook that is named, or the one that is written out."""
    if ("rulebook" in top.values) == ("rules" in top.values):
        found = "both" if "rules" in top.values else "neither"
        must = 'must have either rulebook = "numerai" or [[rules]]'
        raise OperatorError(f"{top.origin}: {must}, found {found}")
    if "rulebook" in top.values:
        try:
            return builtin(top.text("rulebook"))
        except OperatorError as error:
            raise OperatorError(f"{top.origin}: {error}") from error
    rules = top.values["rules"]
    if not isinstance(rules, list) or not all(isinstance(row, dict) for row in rules):
        raise top.wrong("rules", "a list of tables [[rules]]")
    return parse_rules(rules, book=top.text("name"), origin=top.origin)


def _chained(top: Section, store: Store) -> bool:
    """Says whether stakes are chained: as the file says, else where there are transfers to chain them from."""
    there = store.exists(TRANSFERS_FILE)
    chosen = top.choice("stakes", ["chained", "snapshot"], "chained" if there else "snapshot") == "chained"
    if chosen and not there:
        raise OperatorError(f"{TRANSFERS_FILE}: no such file; chained stakes need it")
    return chosen


def _weight_steps(top: Section, decimals: int) -> tuple[WeightStep, ...]:
    steps = tuple(_weight_step(step, decimals) for step in top.sections("weights"))
    try:
        check_order(steps)
    except OperatorError as error:
        raise OperatorError(f"{top.origin}: {error}") from error
    return steps


def _weight_step(step: Section, decimals: int) -> WeightStep:
    step.check_keys(["policy", *sorted({name for names in PARAMETERS.values() for name in names}), "example"])
    policy = step.text("policy") if "policy" in step.values else "stake"
    if not is_named_function(policy):
        step.choice("policy", PARAMETERS, "stake")
    wanted = PARAMETERS.get(policy, ())
    for key in step.values:
        if key not in ("policy", *wanted) and (key, policy) != ("example", "minimum_example_correlation"):
            raise OperatorError(f"{step.origin}: {step.path}{key} means nothing with the policy {policy}; leave it out")
    numbers = {name: step.exact(name, Decimal(0)) for name in wanted if name in step.values}
    threshold, minimum = numbers.pop("threshold", None), numbers.pop("minimum", None)
    values = [_in_atoms(step, name, decimals) if name in _IN_CURRENCY else each for name, each in numbers.items()]
    example = step.text("example") if "example" in step.values else None
    try:
        return WeightStep(policy, values[0] if values else None, threshold, minimum, example)
    except OperatorError as error:
        raise OperatorError(f"{step.origin}: {error}") from error


def _in_atoms(step: Section, name: str, decimals: int) -> Decimal:
    """Returns an amount of the currency in atoms, exactly: `scaleb` in the default context keeps 28 digits unasked."""
    amount = step.exact(name, Decimal(0))
    if not 1 / _LARGEST_AMOUNT <= amount <= _LARGEST_AMOUNT:
        raise step.wrong(name, f"an amount of the currency above 0, from {1 / _LARGEST_AMOUNT} to {_LARGEST_AMOUNT}")
    sign, digits, exponent = amount.as_tuple()
    return Decimal((sign, digits, cast(int, exponent) + decimals))


def _score_options(scores: Section) -> ScoreOptions:
    default = ScoreOptions()
    scores.check_keys(option.name for option in fields(ScoreOptions))
    unit = scores.choice("bag_unit", ["model", "account"], default.bag_unit)
    return ScoreOptions(
        bags=scores.whole("bags", (1, MAX_BAGS), default.bags),
        bag_fraction=scores.share("bag_fraction", default.bag_fraction),
        bag_unit=cast(Literal["model", "account"], unit),
        target_buckets=scores.flag("target_buckets", default.target_buckets),
        pairwise=scores.flag("pairwise", default.pairwise),
    )


def _portfolio_terms(portfolio: Section) -> PortfolioTerms:
    default = PortfolioTerms()
    portfolio.check_keys(option.name for option in fields(PortfolioTerms))
    neutral = portfolio.choices("neutral", NEUTRALITIES, default.neutral)
    return PortfolioTerms(
        risk_aversion=portfolio.number("risk_aversion", default.risk_aversion, word="auto"),
        leverage=cast(float, portfolio.number("leverage", default.leverage)),
        cap=cast(float, portfolio.number("cap", default.cap)),
        exposure_bound=portfolio.number("exposure_bound", default.exposure_bound, word="none"),
        feature_bound=portfolio.number("feature_bound", default.feature_bound, word="none"),
        feature_penalty=portfolio.number("feature_penalty", default.feature_penalty, word="none"),
        turnover_cost=portfolio.number("turnover_cost", default.turnover_cost, word="none"),
        neutral=cast(tuple[Literal["market", "country", "sector"], ...], neutral),
        solver=portfolio.text("solver") if "solver" in portfolio.values else default.solver,
    )


def _true_contribution_options(options: Section) -> TrueContributionOptions:
    default = TrueContributionOptions()
    options.check_keys(option.name for option in fields(TrueContributionOptions))
    scaling = options.choice("scaling", _SCALINGS, default.scaling)
    try:
        return TrueContributionOptions(
            bags=options.whole("bags", (1, MAX_BAGS), default.bags),
            dropout=options.exact("dropout", default.dropout),
            chunk=options.whole("chunk", (1, MAX_BAGS), default.chunk),
            scaling=cast(Literal["raw", "normalised", "z_score"], scaling),
            spread=options.exact("spread", default.spread),
            flagged_share=options.exact("flagged_share", default.flagged_share),
        )
    except OperatorError as error:
        raise OperatorError(f"{options.origin}: {error}") from error
