"""A small history to experiment on, what live runs publish of it, and plays written into it as files."""

import shutil
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.lab.plays import Play
from scoring.ledger import Ledger
from scoring.published import SCORE_KEYS
from scoring.synthetic import SyntheticSpec
from tasks.conclude import conclude
from tasks.lab.attack_case import attack_case
from tasks.lab.case import CaseRequest, RoundCase, open_case
from tasks.lab.combine import combined, gram_of
from tasks.lab.laboratory import Findings, Laboratory, combined_by, find, known_of, left_of
from tasks.lab.mechanism import Mechanism, mechanism_of
from tasks.lab.paid import evaluate_case
from tasks.plan import RoundPlan, RoundRequest, plan_round
from tasks.store import open_store
from tasks.toml_file import Section, parse_toml
from tests.flows.in_process import work_in_process

SPEC = SyntheticSpec(
    rounds=6, models=30, stocks=60, seed=3, first_round=11, unstaked_share=0.2, skip_share=0.05, late_share=0.1
)
RULES = """\
[[rules]]
since_round = 0
payout = { corr = "0.5", mmc = "2.0" }
clip = "0.05"
stake_threshold = "1000"
"""
FIRST, LAST = SPEC.round_numbers[0], SPEC.round_numbers[-1]
_LATER = datetime(2100, 1, 1, tzinfo=UTC)
_EXACT = Context(prec=80)
_MONEY = ("stake_before", "at_risk", "netted", "factor", "gross_payout", "payout", "burn", "stake_after")
_SAME = ("entry", "model", "account", "submission_digest", "status", "reason", "rules_id")


def mechanism(data: Path, changes: str = "", name: str = "variant") -> Mechanism:
    """The tournament's own mechanism with changes, as a variant of a file would write them."""
    store = open_store(str(data))
    base = parse_toml(store.read("tournament.toml"), "tournament.toml")
    values = tomllib.loads(changes, parse_float=Decimal)
    return mechanism_of(name, base, Section("experiment.toml", values, f"variants.{name}."), store)


def case_of(
    data: Path, number: int, *variants: Mechanism, published: Path | None = None, portfolio: bool = False
) -> RoundCase:
    out = None if published is None else str(published)
    return open_case(CaseRequest(str(data), number, mechanism(data, name="baseline"), portfolio, out, variants))


def resolve(data: Path, out: Path, number: int, tournament: Path | None = None) -> Path:
    """Publishes a round as the weekly run does; returns where."""
    plan = plan_round(RoundRequest(str(data), str(out), number, tournament), _LATER)
    assert isinstance(plan, RoundPlan)
    conclude(plan, work_in_process(plan))
    return out


def table(out: Path, name: str, number: int) -> list[dict[str, Any]]:
    """The rows of a published table."""
    (path,) = (out / name / f"round={number}").iterdir()
    rows: list[dict[str, Any]] = pq.ParquetFile(path).read().to_pylist()
    return rows


def units(number: Decimal | None, decimals: int) -> int | None:
    """A published number as a whole number of units."""
    if number is None:
        return None
    scaled = number.scaleb(decimals, _EXACT)
    assert scaled == int(scaled)
    return int(scaled)


def as_stated(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a published ledger as whole numbers, without the revision."""
    return [
        {key: row[key] for key in _SAME}
        | {key: units(row[key], 18) for key in (*_MONEY, "raw_rate")}
        | {"clipped_rate": units(row["clipped_rate"], 36)}
        | {key: units(row[key], 12) for key in SCORE_KEYS}
        | {f"{key}_multiplier": row[f"{key}_multiplier"] for key in SCORE_KEYS}
        for row in rows
    ]


def as_evaluated(ledger: Ledger) -> list[dict[str, Any]]:
    """Rows of a ledger of the lab in the same form."""
    return [
        {key: getattr(row, key) for key in (*_SAME, *_MONEY, "raw_rate", "clipped_rate")}
        | {key: row.scores.get(key) for key in SCORE_KEYS}
        | {f"{key}_multiplier": row.multipliers.get(key) for key in SCORE_KEYS}
        for row in ledger.rows
    ]


def with_play(data: Path, folder: Path, number: int, play: Play) -> Path:
    """A copy of the tournament in which the play was really handed in; returns where."""
    copy = Path(shutil.copytree(data, folder))
    place = copy / "rounds" / str(number)
    ids = sorted(pq.read_table(place / "universe.parquet").column("id").to_pylist())
    for model in play.withdrawn | play.uploads.keys():
        for file in place.glob(f"submissions/{model}.*"):
            file.unlink()
    for model, predictions in play.uploads.items():
        given = {stock: p for stock, p in zip(ids, predictions.tolist(), strict=True) if not np.isnan(p)}
        file = place / "submissions" / f"{model}.parquet"
        pq.write_table(pa.table({"id": list(given), "prediction": list(given.values())}), file)
    _rewrite_stakes(place, play)
    if play.seed is not None:
        path = place / "round.toml"
        path.write_text(f"{path.read_text()}seed = {play.seed}\n")
    return copy


def _rewrite_stakes(place: Path, play: Play) -> None:
    found = pq.read_table(place / "stakes.parquet")
    closes_at = tomllib.loads((place / "round.toml").read_text())["closes_at"]
    rows = {row["model"]: row for row in found.to_pylist() if row["model"] not in play.withdrawn}
    for stake in play.stakes:
        rows[stake.model] = {
            "model": stake.model,
            "account": stake.account,
            "stake": Decimal(stake.atoms).scaleb(-18, _EXACT),
            "submitted_at": closes_at + timedelta(hours=1 if stake.late else -1),
        }
    pq.write_table(pa.Table.from_pylist(list(rows.values()), schema=found.schema), place / "stakes.parquet")


def submissions(data: Path, number: int) -> Mapping[str, Mapping[str, float]]:
    """Predictions by model and id, as handed in."""
    found: dict[str, Mapping[str, float]] = {}
    for path in (data / "rounds" / str(number) / "submissions").iterdir():
        if path.suffix == ".csv":
            lines = [line.split(",") for line in path.read_text().splitlines()[1:]]
            found[path.stem] = {stock: float(value) for stock, value in lines}
        else:
            read = pq.read_table(path).to_pydict()
            found[path.stem] = dict(zip(read["id"], read["prediction"], strict=True))
    return found


def carry_out(laboratory: Laboratory) -> Findings:
    """The stages of an experiment one after the other in this process."""
    cases = {each.round: open_case(each) for each in laboratory.requests}
    baseline = [paid for case in cases.values() for paid in evaluate_case(case, [laboratory.baseline], {})]
    known, left = known_of(laboratory, baseline), left_of(laboratory, baseline)
    paid, blows = list(baseline), []
    for number, about in known.items():
        paid += evaluate_case(cases[number], laboratory.mechanisms[1:], left, about)
        if laboratory.attacks:
            blows += attack_case(cases[number], laboratory.attacked, laboratory.attacks, about)
    grams = {number: gram_of(cases[number]) for number in known} if laboratory.needs_grams else {}

    def ask(number: int, asked: Mechanism, shares: Mapping[str, float]) -> tuple[float, float]:
        return combined(cases[number], asked, shares)

    return find(laboratory, paid, blows if laboratory.attacks else None, grams, combined_by(laboratory, ask))
