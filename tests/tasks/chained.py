"""Small tournaments of weekly rounds, chained or not, and a backfill of them in this process.

A round closes on Monday and resolves on the Friday of the fourth week, before the fourth round after it closes: so a
stake counts what was paid four rounds before.
"""

import random
import shutil
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.errors import StakeweightError
from scoring.synthetic import SyntheticSpec, calendar, make_traits
from tasks.backfill import Backfill, BackfillRequest, Found, Outcome, Scored, Start, begin
from tasks.backfill_report import BackfillReport, line_of
from tasks.conclude import Resolution, conclude
from tasks.inputs import round_folder
from tasks.plan import AlreadyPublished, RoundRequest, plan_round
from tasks.synthetic import write_tournament
from tests.flows.in_process import work_in_process

SPEC = SyntheticSpec(rounds=8, models=8, stocks=60, seed=5, unstaked_share=0.2, skip_share=0.05, late_share=0.05)
LATER = datetime(2100, 1, 1, tzinfo=UTC)
HORIZON = timedelta(days=25, hours=9)
RULES = '[[rules]]\nsince_round = 0\npayout = { corr = "0.5", mmc = "2.0" }\nclip = "0.05"\nstake_threshold = "500"\n'
_EXACT = Context(prec=80)

ROUNDS = list(SPEC.round_numbers)
Spoil = Callable[[Path, int], object]
Row = tuple[datetime, str, str]
"""A transfer: when, whose, how much."""


def write_weekly(directory: Path, spec: SyntheticSpec = SPEC, head: str = "") -> Path:
    """Writes a tournament whose stakes are snapshots; returns the directory."""
    write_tournament(directory, spec, rules=head + RULES)
    for number in spec.round_numbers:
        resolve_on(directory, number, closes_at(number, spec) + HORIZON, spec)
    return directory


def write_chained(directory: Path, spec: SyntheticSpec = SPEC, rows: Iterable[Row] | None = None) -> Path:
    """Writes the same with chained stakes; by default every model deposits once, before the first round closes."""
    write_weekly(directory, spec)
    write_transfers(directory, deposits(spec) if rows is None else rows)
    return directory


def resolve_on(directory: Path, number: int, resolves_at: datetime, spec: SyntheticSpec = SPEC) -> None:
    """Rewrites when a round resolves."""
    path = directory / round_folder(number) / "round.toml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("resolves_at")]
    path.write_text("\n".join([*lines, f"resolves_at = {resolves_at:%Y-%m-%dT%H:%M:%SZ}", ""]))


def opens_at(number: int, spec: SyntheticSpec = SPEC) -> datetime:
    return calendar(spec, number).opens_at


def closes_at(number: int, spec: SyntheticSpec = SPEC) -> datetime:
    return calendar(spec, number).closes_at


def resolves_at(number: int, spec: SyntheticSpec = SPEC) -> datetime:
    return closes_at(number, spec) + HORIZON


def models(spec: SyntheticSpec = SPEC) -> list[str]:
    return sorted(make_traits(spec).names)


def deposits(spec: SyntheticSpec = SPEC) -> list[Row]:
    """Returns one deposit a model on the first day; the last model has none."""
    return [
        (opens_at(spec.first_round, spec), model, f"{100 + 7 * at}.000000000000000001")
        for at, model in enumerate(models(spec)[:-1])
    ]


def write_transfers(directory: Path, rows: Iterable[Row]) -> None:
    pq.write_table(transfers_table(rows), directory / "transfers.parquet")


def transfers_table(rows: Iterable[Row]) -> pa.Table:
    rows = list(rows)
    return pa.table(
        {
            "time": pa.array([row[0] for row in rows], pa.timestamp("us", tz="UTC")),
            "model": pa.array([row[1] for row in rows], pa.string()),
            "amount": pa.array([Decimal(row[2]) for row in rows], pa.decimal128(38, 18)),
        }
    )


def atoms(amount: str | Decimal) -> int:
    return int(Decimal(amount).scaleb(18, _EXACT))


def resolve_at(data: Path, out: Path, number: int, now: datetime = LATER, **fields: object) -> Resolution:
    """Resolves one round as the command does, at a time of one's choice."""
    plan = plan_round(RoundRequest(str(data), str(out), number, **fields), now)
    return Resolution(plan.manifest) if isinstance(plan, AlreadyPublished) else conclude(plan, work_in_process(plan))


def live(data: Path, out: Path, spec: SyntheticSpec = SPEC, numbers: Iterable[int] | None = None) -> Path:
    """Resolves round after round, each at its time; returns `out`."""
    for number in spec.round_numbers if numbers is None else numbers:
        resolve_at(data, out, number, resolves_at(number, spec))
    return out


def found_of(start: Start) -> Found:
    """What the task of a round does."""
    try:
        plan = begin(start)
        return plan if isinstance(plan, AlreadyPublished) else Scored(plan, work_in_process(plan))
    except StakeweightError as error:
        return error


def backfill(
    data: Path,
    out: Path,
    *,
    rounds: tuple[int, int] | None = None,
    now: datetime = LATER,
    trust: bool = False,
    side_by_side: int = 4,
    seed: int | None = None,
) -> dict[int, Outcome]:
    """Carries a backfill out; returns the outcomes in the order of settlement.

    Args:
        data, out, rounds, now, trust: as in `BackfillRequest`.
        side_by_side: rounds in flight.
        seed: of the order in which rounds in flight finish; None: as they started.
    """
    book = Backfill(BackfillRequest(str(data), str(out), rounds, None, trust), now)
    order = random.Random(seed)
    started: list[Start] = []
    finished: dict[int, Found] = {}
    outcomes = {}
    while (number := book.next_round) is not None:
        while len(started) + len(finished) < side_by_side and (start := book.start()) is not None:
            started.append(start)
        while any(start.request.round == number for start in started):
            start = started.pop(0 if seed is None else order.randrange(len(started)))
            finished[start.request.round] = found_of(start)
        outcomes[number] = book.settle(finished.pop(number, None))
    assert not started
    assert not finished
    return outcomes


def statuses(outcomes: Mapping[int, Outcome]) -> dict[int, str]:
    return {number: outcome.status for number, outcome in outcomes.items()}


def published(out: Path) -> dict[str, bytes]:
    """Every published file by its path."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def ledger(out: Path, number: int) -> dict[str, dict[str, object]]:
    """The models' rows of a published ledger."""
    (path,) = (out / f"ledger/round={number}").iterdir()
    rows = pq.ParquetFile(path).read().to_pylist()
    return {row["model"]: row for row in rows if row["model"] is not None}


def column(out: Path, number: int, name: str) -> dict[str, int]:
    """One column of money of a published ledger, in atoms."""
    return {model: atoms(row[name]) for model, row in ledger(out, number).items()}


def changes(out: Path, number: int) -> dict[str, int]:
    payouts, burns = column(out, number, "payout"), column(out, number, "burn")
    return {model: payouts[model] - burns[model] for model in payouts}


def round_file(data: Path, number: int, name: str) -> Path:
    return data / round_folder(number) / name


def other_targets(data: Path, number: int) -> None:
    """Gives each stock the target of another one."""
    path = round_file(data, number, "targets.parquet")
    table = pq.read_table(path)
    at = table.column_names.index("target")
    pq.write_table(table.set_column(at, "target", pa.array(table.column("target").to_pylist()[::-1])), path)


def copy(place: Path, folder: Path) -> Path:
    return Path(shutil.copytree(place, folder / place.name))


def report(outcomes: dict[int, Outcome]) -> BackfillReport:
    return BackfillReport(tuple(line_of(each) for each in outcomes.values()))


def all_are(status: str, numbers: list[int] = ROUNDS) -> dict[int, str]:
    return dict.fromkeys(numbers, status)


def of_rounds(out: Path, numbers: list[int]) -> dict[str, bytes]:
    parts = tuple(f"/round={number}/" for number in numbers)
    return {path: content for path, content in published(out).items() if any(part in path for part in parts)}


def remove(name: str) -> Spoil:
    return lambda data, number: round_file(data, number, name).unlink()


def other_submission(data: Path, number: int) -> None:
    files = sorted(round_file(data, number, "submissions").glob("*.parquet"))
    shutil.copy(files[0], files[1])
