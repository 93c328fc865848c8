"""The file of an experiment: which rounds, what they were paid by, what else they could have been paid by.

    title = "A conformity tax"
    question = "Does it pay to be unlike the others?"
    data = "../tournament"                 # from the file's own folder; or a table [synthetic] that makes one
    rounds = "101-130"                     # all that have targets by default
    [baseline]                             # what every variant starts from, beside tournament.toml
    portfolio = {}
    [[variants]]
    name = "taxed"
    rules = { adjust = [{ policy = "conformity_tax", threshold = "50" }] }
    [attacks]
    names = ["split_models"]               # all by default
    against = ["baseline", "taxed"]        # all by default
    exhibits = ["score_stability"]

All is read and checked before anything is started. The failure guarded against: a variant that differs from the
baseline in more than it says, or, by a misspelt key, in nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

from scoring.errors import OperatorError, nearest
from scoring.lab.statistics import Resampling
from scoring.published import SCORE_KEYS
from scoring.synthetic import SyntheticSpec
from tasks.backfill import read_range
from tasks.lab.mechanism import Mechanism, changed_row, mechanism_of
from tasks.store import open_store
from tasks.toml_file import Section, parse_toml
from tasks.tournament import tournament_file, tournament_of

BASELINE = "baseline"
"""The name of the mechanism that the others are compared with."""

KEYS = (
    "title",
    "question",
    "data",
    "synthetic",
    "tournament",
    "published",
    "rounds",
    "seed",
    "standings",
    "bootstrap",
    "baseline",
    "variants",
    "attacks",
    "exhibits",
)
_LEFT = "leave_out_largest"
"""Where accounts have left, the question is another: nobody attacks there."""
_MAX_SEED = 2**64 - 1


@dataclass(frozen=True, slots=True)
class AttackPlan:
    """Which attacks are tried, against which mechanisms."""

    names: tuple[str, ...]
    against: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where an experiment's rounds are.

    Attributes:
        data: directory or URL of the tournament; None where it is to be made.
        synthetic: what to make; None where there is data.
        tournament: a file in place of the data's `tournament.toml`.
        published: where its ledgers are published; None where they are not.
        rounds: the first and the last; None for all.
    """

    data: str | None
    synthetic: SyntheticSpec | None
    tournament: Path | None
    published: str | None
    rounds: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class ExperimentFile:
    """What an experiment's file says; its mechanisms are read with the tournament (`mechanisms_of`).

    Attributes:
        name: the file's name without its ending.
        content: its bytes.
        title, question: for the report.
        sources: where its rounds are.
        standings: the score that standings are made of: a model's, its mean over the past.
        resampling: how intervals are found.
        baseline: what every variant starts from.
        variants: the tables of the variants.
        attacks: which are tried; None for none.
        exhibits: names of the analyses to show.
    """

    name: str
    content: bytes
    title: str
    question: str
    sources: Sources
    standings: str
    resampling: Resampling
    baseline: Section
    variants: tuple[Section, ...]
    attacks: AttackPlan | None
    exhibits: tuple[str, ...]


def read_experiment(
    path: Path, attacks: Sequence[str], exhibits: Sequence[str], data: str | None = None
) -> ExperimentFile:
    """Reads an experiment's file.

    Args:
        path: the file.
        attacks: names of all attacks there are.
        exhibits: names of all exhibits there are.
        data: a tournament to use in place of the file's.

    Raises:
        OperatorError: it cannot be read, or a key is unknown, missing or wrong.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OperatorError(f"{path}: cannot be read: {error.strerror}") from error
    top = parse_toml(content, str(path))
    top.check_keys(KEYS)
    variants = tuple(top.sections("variants"))
    names = [BASELINE, *(_variant_name(variant) for variant in variants)]
    for name in names:
        if names.count(name) > 1:
            raise OperatorError(
                f"{path}: every variant needs a name of its own other than {BASELINE!r}, found {name!r} twice"
            )
    return ExperimentFile(
        name=path.stem,
        content=content,
        title=top.text("title"),
        question=top.text("question") if "question" in top.values else "",
        sources=_sources(top, path.parent, data),
        standings=top.choice("standings", SCORE_KEYS, "mmc"),
        resampling=_resampling(top),
        baseline=top.section("baseline"),
        variants=variants,
        attacks=_attacks(top, attacks, variants),
        exhibits=_words(top, "exhibits", exhibits, ()),
    )


def mechanisms_of(experiment: ExperimentFile, data: str) -> tuple[Mechanism, ...]:
    """Returns the baseline and the variants, in this order.

    Args:
        experiment: as read.
        data: directory or URL of the tournament.

    Raises:
        OperatorError: a file or a change is wrong; the message names it.
    """
    store = open_store(data)
    base, digest = tournament_file(store, experiment.sources.tournament)
    tournament_of(base, store, digest)  # so that what is wrong there already is not put down to a change
    changes = experiment.baseline
    if "leave_out_largest" in changes.values:
        raise changes.wrong("leave_out_largest", "absent; it is the baseline that says which accounts are the largest")
    found = [mechanism_of(BASELINE, base, changes, store)]
    for variant in experiment.variants:
        own = {key: value for key, value in variant.values.items() if key != "name"}
        path = f"{variant.path}{_variant_name(variant)}."
        both = Section(variant.origin, _on_top(changes.values, own), path)
        found.append(mechanism_of(_variant_name(variant), base, both, store))
    return tuple(found)


def _on_top(baseline: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a variant's changes on top of the baseline's; what is a table is merged key by key, but for weights."""
    both = dict(baseline)
    for key, value in own.items():
        before = both.get(key)
        if key == "weights" or not isinstance(before, Mapping) or not isinstance(value, Mapping):
            both[key] = value
        else:
            both[key] = changed_row(before, value) if key == "rules" else {**before, **value}
    return both


def _variant_name(variant: Section) -> str:
    return variant.text("name")


def _sources(top: Section, folder: Path, data: str | None) -> Sources:
    """Returns where the rounds are; paths are meant from the file's own folder, as its author sees them."""
    named = top.text("data") if "data" in top.values else None
    if data is None and (named is None) == ("synthetic" not in top.values):
        found = "neither" if named is None else "both"
        raise OperatorError(f"{top.origin}: needs data, or a table [synthetic] that makes some, found {found}")
    made = data is None and named is None
    here = {key: _beside(folder, top.text(key)) for key in ("tournament", "published") if key in top.values}
    return Sources(
        data=data or (None if named is None else _beside(folder, named)),
        synthetic=_synthetic(top.section("synthetic")) if made else None,
        tournament=Path(here["tournament"]) if "tournament" in here else None,
        published=here.get("published"),
        rounds=_rounds(top),
    )


def _rounds(top: Section) -> tuple[int, int] | None:
    try:
        return read_range(top.values.get("rounds"))
    except OperatorError as error:
        raise OperatorError(f"{top.origin}: {error}") from error


def _beside(folder: Path, location: str) -> str:
    return location if "://" in location else str(folder / location)


def _synthetic(table: Section) -> SyntheticSpec:
    table.check_keys(field.name for field in fields(SyntheticSpec))
    for key in table.values:
        if key in ("rounds", "models", "stocks", "seed", "first_round", "features"):
            table.whole(key, (0, _MAX_SEED))
        else:
            table.exact(key, Decimal(0))
    missing = [key for key in ("rounds", "models", "stocks", "seed") if key not in table.values]
    if missing:
        raise OperatorError(f"{table.origin}: [synthetic] needs {', '.join(missing)}")
    values: dict[str, Any] = {key: v if isinstance(v, int) else float(v) for key, v in table.values.items()}
    try:
        return SyntheticSpec(**values)
    except OperatorError as error:
        raise OperatorError(f"{table.origin}: [synthetic]: {error}") from error


def _resampling(top: Section) -> Resampling:
    default, table = Resampling(), top.section("bootstrap")
    table.check_keys(("samples", "block"))
    return Resampling(
        samples=table.whole("samples", (100, 1_000_000), default.samples),
        block=table.whole("block", (1, 1000), default.block),
        seed=top.whole("seed", (0, _MAX_SEED), 1),
    )


def _attacks(top: Section, known: Sequence[str], variants: Sequence[Section]) -> AttackPlan | None:
    if "attacks" not in top.values:
        return None
    table = top.section("attacks")
    table.check_keys(("names", "against"))
    left = [_variant_name(variant) for variant in variants if _LEFT in variant.values]
    named = table.values.get("against")
    if isinstance(named, list) and (wrong := [name for name in named if name in left]):
        raise table.wrong("against", f"without {wrong[0]!r}, from which accounts are left out; attack what it varies")
    stays = [BASELINE, *(name for name in map(_variant_name, variants) if name not in left)]
    return AttackPlan(_words(table, "names", known, known), _words(table, "against", stays, stays))


def _words(table: Section, key: str, known: Sequence[str], default: Sequence[str]) -> tuple[str, ...]:
    found = table.values.get(key, list(default))
    if not isinstance(found, list):
        raise table.wrong(key, "a list of names")
    for word in found:
        if word not in known:
            hint = nearest(str(word), known)
            raise OperatorError(
                f"{table.origin}: {table.path}{key}: there is no {word!r}{hint}; there are {', '.join(known)}"
            )
    return tuple(dict.fromkeys(found))  # one that is named twice counts once
