"""The plan: every mistake of the operator, and every earlier run, is told before any work starts."""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest

from scoring.errors import ConflictError, NotDueError, NothingToPayError, OperatorError, StakeweightError
from tasks.plan import AlreadyPublished, RoundPlan, RoundRequest, draft_manifest, hash_submissions, plan_round
from tasks.publish import Manifest, publish
from tests.tasks.fixtures import (
    MODELS,
    ROUND,
    STOCKS,
    TOURNAMENT,
    File,
    money,
    round_tables,
    stock_ids,
    submission,
    with_column,
    with_value,
    write_round,
)
from tests.tasks.test_submission import parquet_bytes

RESOLVES_AT = datetime(2026, 2, 4, 22, tzinfo=UTC)
NOW = RESOLVES_AT + timedelta(days=30)
LATER_RULES = """
[[rules]]
since_round = {since}
payout = {{ corr = "1.0" }}
clip = "0.25"
"""
CHOSEN_RULES = TOURNAMENT.replace(
    'payout = { corr = "0.5", mmc = "2.0" }',
    'multipliers = "model"\nchoices = [{ corr = ["0.5"], mmc = ["0.5", "2.0"] }]',
)
STAKES = round_tables()["stakes"]


def plan(root: Path, *, now: datetime = NOW, number: int = 7, **options: object) -> RoundPlan | AlreadyPublished:
    """Plans the round of the tournament that lies in `root/data`."""
    return plan_round(RoundRequest(str(root / "data"), str(root / "out"), number, **options), now)


def write(root: Path, **files: File | dict[str, File]) -> None:
    write_round(root / "data", **files)


def publish_plan(planned: RoundPlan | AlreadyPublished) -> Manifest:
    """Publishes a planned round, with one small table in place of its work."""
    assert isinstance(planned, RoundPlan)
    hashes = hash_submissions(planned.data, [*planned.sources, *planned.benchmarks])
    tables = {"scores": pa.table({"revision": [planned.terms.revision]})}
    return publish(planned.out, draft_manifest(planned, hashes, {"totals": {}}), tables)


def stopped(
    kind: type[StakeweightError], exit_code: int, run: Callable[[], object], *fragments: str
) -> StakeweightError:
    with pytest.raises(StakeweightError) as caught:
        run()
    error = caught.value
    assert type(error) is kind
    assert error.exit_code == exit_code
    assert "\n" not in str(error)
    for fragment in fragments:
        assert fragment in str(error)
    return error


# ---------------------------------------------------------------------------------------------- the plan itself


def test_plan_round__says_what_there_is_to_do(tmp_path: Path) -> None:
    write(tmp_path)
    found = plan(tmp_path)
    assert isinstance(found, RoundPlan)
    assert [source.model for source in found.sources] == list(MODELS)
    assert [source.model for source in found.benchmarks] == ["bench_one", "bench_two"]
    assert (found.supersedes, found.terms.revision, found.terms.rules.rules_id) == (None, 1, "tiny:R1")
    assert (found.tournament.name, found.inputs.round.number) == ("tiny", 7)
    assert found.targets is found.inputs.targets


def test_plan_round__without_benchmark_stakes_needs_no_benchmarks(tmp_path: Path) -> None:
    write(tmp_path, benchmark_stakes=None)
    found = plan(tmp_path)
    assert isinstance(found, RoundPlan)
    assert found.benchmarks == ()


def test_plan_round__publishes_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    plan(tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


def test_draft_manifest__names_every_input_with_its_digest(tmp_path: Path) -> None:
    write(tmp_path)
    manifest = publish_plan(plan(tmp_path))
    folder = tmp_path / "data/rounds/7"
    unread = {"factor_covariance.parquet", "example_predictions.parquet"}
    expected = {
        path.relative_to(tmp_path / "data").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in unread
    }
    assert manifest.inputs == expected
    assert manifest.facts["rules_id"] == "tiny:R1"
    assert manifest.facts["rules"]["payout"] == {"corr": "0.5", "mmc": "2.0"}
    tournament = (tmp_path / "data/tournament.toml").read_bytes()
    assert manifest.facts["tournament_sha256"] == hashlib.sha256(tournament).hexdigest()


# ---------------------------------------------------------------------------------------------- not due, exit 3


@pytest.mark.parametrize("early", [timedelta(microseconds=1), timedelta(days=400)])
def test_plan_round__is_not_due_before_it_resolves(tmp_path: Path, early: timedelta) -> None:
    write(tmp_path)
    fragment = "round 7: not due before 2026-02-04T22:00:00+00:00"
    stopped(NotDueError, 3, lambda: plan(tmp_path, now=RESOLVES_AT - early), fragment)
    assert not (tmp_path / "out").exists()


def test_plan_round__is_due_from_the_instant_it_resolves(tmp_path: Path) -> None:
    write(tmp_path)
    elsewhere = RESOLVES_AT.astimezone(timezone(timedelta(hours=-5)))
    assert isinstance(plan(tmp_path, now=RESOLVES_AT), RoundPlan)
    assert isinstance(plan(tmp_path, now=elsewhere), RoundPlan)


def test_plan_round__is_not_due_without_targets(tmp_path: Path) -> None:
    write(tmp_path, targets=None)
    stopped(NotDueError, 3, lambda: plan(tmp_path), "round 7: not due, rounds/7/targets.parquet is missing")


@pytest.mark.parametrize("stakes", [with_column(STAKES, "stake", money(*["0"] * 4)), STAKES.slice(0, 0)])
def test_plan_round__pays_nothing_where_nothing_is_staked(tmp_path: Path, stakes: pa.Table) -> None:
    write(tmp_path, stakes=stakes)
    stopped(NothingToPayError, 3, lambda: plan(tmp_path), "round 7: nothing to pay, all stakes are zero")


# ---------------------------------------------------------------------------------------------- bad input, exit 2

NO_SUBMISSIONS: dict[str, File] = dict.fromkeys([*(f"{name}.parquet" for name in MODELS), "model_d.csv"])
OTHER_TARGETS = with_column(round_tables()["targets"], "id", [f"stock_{at:02d}" for at in range(50, 50 + STOCKS)])
NOT_UTF_8 = parquet_bytes(STAKES, compression="none", store_schema=False).replace(b"model_b", b"mod\xff\xfe_b")
OPERATOR_ERRORS: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "no_submissions": (
        {"submissions": NO_SUBMISSIONS},
        ("rounds/7/submissions: needs at least one submission, found none",),
    ),
    "no_universe": ({"universe": None}, ("rounds/7/universe.parquet: no such file; every round needs it",)),
    "no_stakes": ({"stakes": None}, ("rounds/7/stakes.parquet: no such file; every round needs it",)),
    "no_tournament": ({"tournament": None}, ("tournament.toml: there is no such file", "a tournament needs one")),
    "unknown_tournament_key": (
        {"tournament": TOURNAMENT.replace("currency", "curency")},
        ("tournament.toml: unknown key curency (did you mean 'currency'?)",),
    ),
    "unknown_rules_key": (
        {"tournament": TOURNAMENT.replace("stake_threshold", "stake_treshold")},
        ("tournament.toml", "stake_treshold", "(did you mean 'stake_threshold'?)"),
    ),
    "unknown_scores_key": (
        {"tournament": TOURNAMENT + "[scores]\nbag = 3\n"},
        ("tournament.toml: unknown key scores.bag (did you mean 'bags'?)",),
    ),
    "unknown_round_key": (
        {"round": ROUND.format(number=7).replace("resolves_at", "resolve_at")},
        ("rounds/7/round.toml: unknown key resolve_at (did you mean 'resolves_at'?)",),
    ),
    "float_stakes": (
        {"stakes": with_column(STAKES, "stake", [1.0, 2.0, 3.0, 4.0])},
        ("rounds/7/stakes.parquet: column stake must hold decimal128(38, 18)", "found double"),
    ),
    "nan_stakes": (
        {"stakes": with_column(STAKES, "stake", [1.0, float("nan"), 3.0, 4.0])},
        ("rounds/7/stakes.parquet: column stake must hold decimal128(38, 18)", "found double"),
    ),
    "negative_stake": (
        {"stakes": with_column(STAKES, "stake", money("1", "-1", "1", "1"))},
        ("rounds/7/stakes.parquet: column stake must be ≥ 0, found -1.000000000000000000 in row 1",),
    ),
    "null_stake": (
        {"stakes": with_column(STAKES, "stake", money("1", None, "1", "1"))},
        ("rounds/7/stakes.parquet: column stake must not be null", "in row 1"),
    ),
    "too_fine_stake": (
        {"tournament": TOURNAMENT.replace("decimals = 18", "decimals = 6")},
        ("rounds/7/stakes.parquet: column stake must have at most the tournament's 6 decimals", "in row 1"),
    ),
    "duplicate_stake": (
        {"stakes": with_value(STAKES, "model", 3, "model_d")},
        ("rounds/7/stakes.parquet: column model must name each only once, found 'model_d' in row 3",),
    ),
    "targets_of_another_round": (
        {"targets": OTHER_TARGETS},
        ("rounds/7/targets.parquet: at least 80%", "found 0 common ids", "are these the targets of another round?"),
    ),
    "multipliers_not_on_offer": (
        {
            "tournament": CHOSEN_RULES,
            "stakes": with_column(
                with_column(STAKES, "corr_multiplier", ["0.5"] * 4), "mmc_multiplier", ["0.5", "2.0", "3.0", "9.0"]
            ),
        },
        (
            "stakes: model model_b: multipliers must be on offer under tiny:R1 (corr 0.5, mmc 0.5|2.0)",
            "found corr 0.5, mmc 3.0",
        ),
    ),
    "no_rules_for_the_round": ({"tournament": TOURNAMENT.replace("since_round = 1", "since_round = 8")}, ("7",)),
    "not_utf_8_model": ({"stakes": NOT_UTF_8}, ("rounds/7/stakes.parquet",)),
}


@pytest.mark.parametrize("name", OPERATOR_ERRORS)
def test_plan_round__bad_operator_input_stops_before_any_work(tmp_path: Path, name: str) -> None:
    files, fragments = OPERATOR_ERRORS[name]
    write(tmp_path, **files)
    stopped(OperatorError, 2, lambda: plan(tmp_path), *fragments)
    assert not (tmp_path / "out").exists()


def test_plan_round__a_zero_stake_may_choose_anything(tmp_path: Path) -> None:
    """Nobody pays for it, so it cannot stop the round; row 3, model_a, has no stake."""
    chosen = with_column(with_column(STAKES, "corr_multiplier", ["0.5"] * 4), "mmc_multiplier", ["0.5"] * 3 + ["9"])
    write(tmp_path, tournament=CHOSEN_RULES, stakes=chosen)
    assert isinstance(plan(tmp_path), RoundPlan)


def test_plan_round__names_the_nearest_rounds(tmp_path: Path) -> None:
    for number in (7, 8, 9, 30):
        write(tmp_path, number=number)
    fragment = "there is no round 10; the nearest rounds are 7, 8, 9"
    stopped(OperatorError, 2, lambda: plan(tmp_path, number=10), fragment)


def test_plan_round__names_the_missing_directory(tmp_path: Path) -> None:
    stopped(OperatorError, 2, lambda: plan(tmp_path), "data: must be a directory, found nothing")
    write(tmp_path)
    missing = tmp_path / "no.toml"
    stopped(OperatorError, 2, lambda: plan(tmp_path, tournament=missing), "no.toml: cannot be read")


def test_plan_round__wide_table_beside_a_folder(tmp_path: Path) -> None:
    write(tmp_path, submissions={"../submissions.parquet": pa.table({"id": stock_ids()})})
    stopped(OperatorError, 2, lambda: plan(tmp_path), "either this folder or rounds/7/submissions.parquet, found both")


# ---------------------------------------------------------------------------------------------- published before


def test_plan_round__a_published_round_is_left_as_it_is(tmp_path: Path) -> None:
    write(tmp_path)
    manifest = publish_plan(plan(tmp_path))
    assert plan(tmp_path) == AlreadyPublished(manifest)
    assert plan(tmp_path, revise=True) == AlreadyPublished(manifest)  # nothing to correct
    write(tmp_path)  # the same bytes, written again
    assert plan(tmp_path) == AlreadyPublished(manifest)


def test_plan_round__rules_of_another_round_are_no_conflict(tmp_path: Path) -> None:
    write(tmp_path)
    manifest = publish_plan(plan(tmp_path))
    write(tmp_path, tournament="# a remark\n" + TOURNAMENT + LATER_RULES.format(since=8))
    assert plan(tmp_path) == AlreadyPublished(manifest)


def test_plan_round__another_round_is_no_conflict(tmp_path: Path) -> None:
    write(tmp_path)
    publish_plan(plan(tmp_path))
    write(tmp_path, number=70)
    found = plan(tmp_path, number=70)
    assert isinstance(found, RoundPlan)
    assert found.terms.revision == 1


CHANGES: dict[str, tuple[dict[str, object], str]] = {
    "other_submission": (
        {"submissions": {"model_b.parquet": submission(77)}},
        "with other inputs: rounds/7/submissions/model_b.parquet;",
    ),
    "new_submission": (
        {"submissions": {"late.csv": b"junk"}},
        "with other inputs: rounds/7/submissions/late.csv;",
    ),
    "submission_gone": (
        {"submissions": {"model_a.parquet": None}},
        "with other inputs: rounds/7/submissions/model_a.parquet;",
    ),
    "renamed_submission": (
        {"submissions": {"model_a.parquet": None, "model_x.parquet": submission(0)}},
        "with other inputs: rounds/7/submissions/model_a.parquet, rounds/7/submissions/model_x.parquet;",
    ),
    "other_benchmark": (
        {"submissions": {"../benchmarks/bench_one.parquet": submission(78)}},
        "with other inputs: rounds/7/benchmarks/bench_one.parquet;",
    ),
    "other_stakes": (
        {"stakes": with_column(STAKES, "stake", money("1", "2", "3", "4"))},
        "with other inputs: rounds/7/stakes.parquet;",
    ),
    "other_targets": (
        {"targets": with_value(round_tables()["targets"], "return", 0, 0.5)},
        "with other inputs: rounds/7/targets.parquet;",
    ),
    "features_gone": ({"features": None}, "with other inputs: rounds/7/features.parquet;"),
    "four_files": (
        {"features": None, "submissions": {f"new_{at}.csv": b"" for at in range(3)}},
        "new_0.csv, rounds/7/submissions/new_1.csv and 1 more;",
    ),
    "other_rules": (
        {"tournament": TOURNAMENT.replace('"2.0"', '"1.0"')},
        "with other rules, options or version;",
    ),
    "rules_since_this_round": (
        {"tournament": TOURNAMENT + LATER_RULES.format(since=7)},
        "with other rules, options or version;",
    ),
    "other_currency": (
        {"tournament": TOURNAMENT.replace("NMR", "USD")},
        "with other rules, options or version;",
    ),
    "other_options": (
        {"tournament": TOURNAMENT + "[scores]\nbags = 3\n"},
        "with other rules, options or version;",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_plan_round__a_change_is_a_conflict_that_names_it(tmp_path: Path, name: str) -> None:
    files, fragment = CHANGES[name]
    write(tmp_path)
    publish_plan(plan(tmp_path))
    before = sorted((tmp_path / "out").rglob("*"))
    write(tmp_path, **files)
    fragments = ("round 7: already published as revision 1", fragment, "publish a correction with --revise")
    stopped(ConflictError, 4, lambda: plan(tmp_path), *fragments)
    assert sorted((tmp_path / "out").rglob("*")) == before


@pytest.mark.parametrize("name", CHANGES)
def test_plan_round__revise_is_the_next_revision(tmp_path: Path, name: str) -> None:
    files, _ = CHANGES[name]
    write(tmp_path)
    publish_plan(plan(tmp_path))
    write(tmp_path, **files)
    revised = plan(tmp_path, revise=True)
    assert isinstance(revised, RoundPlan)
    assert (revised.supersedes, revised.terms.revision) == (1, 2)
    manifest = publish_plan(revised)
    assert (manifest.supersedes, manifest.revision) == (1, 2)
    assert plan(tmp_path) == AlreadyPublished(manifest)
    assert plan(tmp_path, revise=True) == AlreadyPublished(manifest)


def test_plan_round__going_back_is_a_revision_of_its_own(tmp_path: Path) -> None:
    changed = {"submissions": {"model_b.parquet": submission(77)}}
    write(tmp_path)
    first = publish_plan(plan(tmp_path))
    write(tmp_path, **changed)
    publish_plan(plan(tmp_path, revise=True))
    write(tmp_path)
    stopped(ConflictError, 4, lambda: plan(tmp_path), "already published as revision 2", "model_b.parquet")
    third = publish_plan(plan(tmp_path, revise=True))
    assert (third.supersedes, third.revision) == (2, 3)
    assert third.identity == first.identity


def test_plan_round__revise_of_an_unpublished_round_is_its_first_revision(tmp_path: Path) -> None:
    write(tmp_path)
    found = plan(tmp_path, revise=True)
    assert isinstance(found, RoundPlan)
    assert (found.supersedes, found.terms.revision) == (None, 1)


def test_plan_round__a_wide_table_counts_as_one_input(tmp_path: Path) -> None:
    predictions = {name: submission(at).column("prediction") for at, name in enumerate(MODELS)}
    table = pa.table({"id": stock_ids(), **predictions})
    gone: dict[str, File] = dict.fromkeys(NO_SUBMISSIONS)
    write(tmp_path, submissions=gone | {"../submissions.parquet": table})
    found = plan(tmp_path)
    assert isinstance(found, RoundPlan)
    assert [source.model for source in found.sources] == list(MODELS)
    manifest = publish_plan(found)
    path = tmp_path / "data/rounds/7/submissions.parquet"
    assert manifest.inputs["rounds/7/submissions.parquet"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert plan(tmp_path) == AlreadyPublished(manifest)
    changed = with_column(table, "model_a", submission(77).column("prediction").combine_chunks())
    write(tmp_path, submissions=gone | {"../submissions.parquet": changed})
    error = stopped(ConflictError, 4, lambda: plan(tmp_path))
    assert re.search(r"with other inputs: rounds/7/submissions\.parquet;", str(error))
