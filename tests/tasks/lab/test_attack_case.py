"""An attack is worth what it is worth when it is really handed in: two tournaments, resolved by the weekly run."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scoring.errors import OperatorError
from scoring.lab.attacks import ATTACKS
from scoring.lab.plays import Attack, Ground, Pair, Play
from scoring.stakes import Stake
from tasks.lab import attack_case as module
from tasks.lab.attack_case import Blow, attack_case
from tasks.lab.case import RoundCase
from tasks.lab.evaluate import Known
from tests.reference import naive
from tests.tasks import fixtures
from tests.tasks.lab.history import FIRST, as_stated, case_of, mechanism, resolve, submissions, table, with_play

NMR = 10**18


@pytest.fixture(scope="module")
def case(data: Path) -> RoundCase:
    return case_of(data, FIRST)


def play_it(monkeypatch: pytest.MonkeyPatch, *pairs: Pair | None) -> list[Ground]:
    """Puts an attack of ours, a choice a pair, in the place of all; returns what it gets to see."""
    seen: list[Ground] = []

    def plays(ground: Ground, choice: int) -> Pair | None:
        seen.append(ground)
        return pairs[choice]

    made = Attack("ours", "Ours", "as we say", plays, tuple(range(len(pairs))))
    monkeypatch.setattr(module, "ATTACKS", {"ours": made})
    return seen


def largest(case: RoundCase) -> Stake:
    rows = [row for row in case.scene.stakes.rows if row.model in case.ranks.models and not row.late]
    return max(rows, key=lambda row: row.atoms)


def given(data: Path, model: str) -> np.ndarray:
    return np.array([p for _, p in sorted(submissions(data, FIRST)[model].items())])


def ledger(data: Path, folder: Path, play: Play) -> dict[str, dict[str, Any]]:
    """The models' rows that the weekly run publishes when the play was handed in."""
    copy = with_play(data, folder / "data", FIRST, play)
    rows = as_stated(table(resolve(copy, folder / "out", FIRST), "ledger", FIRST))
    return {row["model"]: row for row in rows if row["model"]}


def by_hand(honest: Mapping[str, Any], attacking: Mapping[str, Any], pair: Pair) -> tuple[float, float, float, float]:
    """Stake in the currency, gain, harm and throttle, from two published ledgers."""
    own = pair.honest.own | pair.attacking.own

    def net(rows: Mapping[str, Any], models: frozenset[str] | set[str]) -> int:
        return sum(row["payout"] - row["burn"] for model, row in rows.items() if model in models)

    staked = sum(row["stake_before"] for model, row in attacking.items() if model in pair.attacking.own)
    others = (set(honest) & set(attacking)) - own
    at_risk = sum(honest[model]["at_risk"] for model in others)
    gain = Fraction(net(attacking, pair.attacking.own) - net(honest, pair.honest.own), staked)
    harm = Fraction(net(honest, others) - net(attacking, others), at_risk)
    factors = [next(iter(rows.values()))["factor"] for rows in (honest, attacking)]
    return staked / NMR, float(gain), float(harm), float(1 - Fraction(factors[1], factors[0]))


def pairs(case: RoundCase, data: Path) -> dict[str, Pair]:
    row = largest(case)
    mine = given(data, row.model)
    hole = mine.copy()
    hole[:6] = np.nan
    newcomers = Play(
        frozenset({"new_a", "new_b"}),
        (Stake("new_a", "new", 900 * NMR), Stake("new_b", "other", 300 * NMR + 1)),
        {"new_a": mine, "new_b": 1 - mine},
    )
    own = frozenset({row.model, *(each.model for each in case.scene.stakes.rows if each.account == row.account)})
    half = row.atoms // 2
    halves = (replace(row, atoms=half), Stake("second", row.account, row.atoms - half))
    return {
        "comes": Pair(Play(), newcomers),
        "splits": Pair(Play(own=own), Play(own | {"second"}, halves, {"second": mine})),
        "leaves ids out": Pair(Play(own=own, withdrawn=frozenset({row.model})), Play(own, uploads={row.model: hole})),
        "swaps late": Pair(Play(own=own), Play(own, (replace(row, late=True),), {row.model: 1 - mine})),
    }


@pytest.mark.parametrize("name", ["comes", "splits", "leaves ids out", "swaps late"])
def test_attack_case__gain_harm_and_throttle_are_those_of_two_published_ledgers(
    data: Path, case: RoundCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pair = pairs(case, data)[name]
    play_it(monkeypatch, pair)
    (blow,) = attack_case(case, [mechanism(data)], ["ours"], Known())
    honest, attacking = (ledger(data, tmp_path / side, getattr(pair, side)) for side in ("honest", "attacking"))
    expected = by_hand(honest, attacking, pair)
    assert (blow.stake, blow.gain, blow.harm, blow.throttle) == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert (blow.mechanism, blow.attack, blow.choice, blow.round) == ("variant", "ours", 0, FIRST)
    if name in {"comes", "splits"}:
        assert blow.gain
    if name == "leaves ids out":
        assert (blow.gain, blow.harm, blow.throttle) == (0.0, 0.0, 0.0)


def test_attack_case__who_changes_nothing_gains_nothing_to_the_last_bit(
    data: Path, case: RoundCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file once more, another seed where nothing is drawn, the same stake written again."""
    row = largest(case)
    own = frozenset({row.model})
    again = [
        Play(own),
        Play(own, uploads={row.model: given(data, row.model)}),
        Play(own, (row,)),
        Play(own, seed=5),
    ]
    play_it(monkeypatch, *(Pair(Play(own), each) for each in again))
    blows = attack_case(case, [mechanism(data)], ["ours"], Known())
    assert [each.choice for each in blows] == [0, 1, 2, 3]
    assert {(each.gain, each.harm, each.throttle) for each in blows} == {(0.0, 0.0, 0.0)}


def test_attack_case__a_seed_is_another_play_where_bags_are_paid(
    data: Path, case: RoundCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = largest(case)
    own = frozenset({row.model})
    pair = Pair(Play(own), Play(own, seed=5))
    play_it(monkeypatch, pair)
    (blow,) = attack_case(case, [mechanism(data, 'rules.payout = { mmc_bagged = "2" }')], ["ours"], Known())
    found = []
    for side in ("honest", "attacking"):
        copy = with_play(data, tmp_path / side, FIRST, getattr(pair, side))
        text = (copy / "tournament.toml").read_text()
        (copy / "tournament.toml").write_text(text.replace('corr = "0.5", mmc = "2.0"', 'mmc_bagged = "2"'))
        rows = as_stated(table(resolve(copy, tmp_path / f"{side}-out", FIRST), "ledger", FIRST))
        found.append({each["model"]: each for each in rows if each["model"]})
    expected = by_hand(found[0], found[1], pair)
    assert (blow.stake, blow.gain, blow.harm, blow.throttle) == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert blow.harm


def test_attack_case__the_ground_is_the_round_as_it_was(
    data: Path, case: RoundCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = play_it(monkeypatch, None, None)
    rates = {largest(case).model: -5}
    variants = [mechanism(data), mechanism(data, 'weights = [{ policy = "equal" }]', name="equal")]
    assert attack_case(case, variants, ["ours"], Known(rates=rates)) == []
    assert len(seen) == 4
    for ground in seen:
        assert (ground.stakes, ground.past_rate, ground.seed) == (case.scene.stakes, rates, case.scene.seed)
        assert ground.ranks.models == case.ranks.models
    stakes = {row.model: 0.0 if row.late else float(row.atoms) for row in case.scene.stakes.rows}
    handed_in = submissions(data, FIRST)
    for ground, weights in ((seen[0], stakes), (seen[2], {model: float(each > 0) for model, each in stakes.items()})):
        expected = naive.meta_model(handed_in, weights)
        assert ground.meta_model.tolist() == pytest.approx([expected[stock] for stock in sorted(expected)], abs=1e-13)


def test_attack_case__a_round_without_anything_at_risk_has_no_blows(tmp_path: Path) -> None:
    stakes = fixtures.with_column(fixtures.round_tables()["stakes"], "stake", fixtures.money("0", "0", "5", "0"))
    data = fixtures.write_round(tmp_path, stakes=stakes, submissions={"model_b.parquet": None})
    assert attack_case(case_of(data, 7), [mechanism(data)], list(ATTACKS), Known()) == []


def test_attack_case__every_attack_can_be_carried_out_by_every_rule(data: Path, case: RoundCase) -> None:
    rates = {row.model: (-1) ** at * at for at, row in enumerate(case.scene.stakes.rows)}
    at_risk = sum(row.atoms for row in case.scene.stakes.rows if row.model in case.ranks.models and not row.late)
    changes = ['rules.stake_threshold = "at_risk"', 'weights = [{ policy = "cap_account", cap = "0.2" }]']
    variants = [mechanism(data, change, name=str(at)) for at, change in enumerate(changes)]
    blows = attack_case(case, variants, list(ATTACKS), Known(rates=rates, at_risk_atoms=at_risk))
    struck = {(each.mechanism, each.attack, each.choice) for each in blows}
    assert struck == {(str(at), name, choice) for at in (0, 1) for name in ATTACKS for choice in ATTACKS[name].choices}
    for each in blows:
        assert 0 <= each.detectability <= 1
        assert each.stake > 0
    throttled = {each.attack: each.throttle for each in blows if each.mechanism == "0"}
    assert throttled["throttle_pair"] == pytest.approx(0.5, abs=1e-15)
    assert throttled["split_models"] == throttled["grind_seed"] == 0


def detect(case: RoundCase, data: Path, play: Play, monkeypatch: pytest.MonkeyPatch) -> Blow:
    play_it(monkeypatch, Pair(Play(), play))
    (blow,) = attack_case(case, [mechanism(data)], ["ours"], Known())
    return blow


def test_attack_case__detectability_is_the_likest_other_by_stake(
    data: Path, case: RoundCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(1)
    first, second = np.round(random.random(60), 1), random.random(60)
    mirror = 1 - given(data, largest(case).model)
    everybody = {name: [p for _, p in sorted(each.items())] for name, each in submissions(data, FIRST).items()}
    everybody |= {"new_1": first.tolist(), "new_2": second.tolist(), "new_3": mirror.tolist()}
    powered = {name: naive.power(naive.g(each)) for name, each in everybody.items()}

    def likest(name: str) -> float:
        return max(abs(naive.rho(powered[name], each)) for other, each in powered.items() if other != name)

    stakes = (Stake("new_1", "x", 3 * NMR), Stake("new_2", "y", NMR), Stake("new_3", "z", 4 * NMR))
    own = frozenset({"new_1", "new_2", "new_3"})
    uploads = {"new_1": first, "new_2": second, "new_3": mirror}
    expected = (3 * likest("new_1") + likest("new_2") + 4 * likest("new_3")) / 8
    assert likest("new_3") == pytest.approx(1)
    assert detect(case, data, Play(own, stakes, uploads), monkeypatch).detectability == pytest.approx(expected)
    late = (replace(stakes[0], late=True), *stakes[1:])
    expected = (3 + likest("new_2") + 4 * likest("new_3")) / 8
    assert detect(case, data, Play(own, late, uploads), monkeypatch).detectability == pytest.approx(expected)


def test_attack_case__what_is_refused_is_on_record(
    data: Path, case: RoundCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    hole = np.full(60, np.nan)
    play = Play(frozenset({"new"}), (Stake("new", "x", NMR),), {"new": hole})
    blow = detect(case, data, play, monkeypatch)
    assert (blow.gain, blow.harm, blow.throttle, blow.detectability, blow.stake) == (0, 0, 0, 1, 1)


def test_attack_case__without_a_stake_there_is_no_gain_and_nothing_to_see(
    data: Path, case: RoundCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play(frozenset({"new"}), (), {"new": np.linspace(0, 1, 60)})
    blow = detect(case, data, play, monkeypatch)
    assert (blow.stake, blow.gain, blow.detectability, blow.throttle) == (0, 0, 0, 0)


def test_attack_case__a_sole_submission_that_leaves_ids_out(tmp_path: Path) -> None:
    """Then nothing is at risk in either play."""
    others = {f"{name}.parquet": None for name in ("model_a", "model_c")} | {"model_d.csv": None}
    data = fixtures.write_round(tmp_path, submissions=others)
    (blow,) = attack_case(case_of(data, 7), [mechanism(data)], ["leave_ids_out"], Known())
    assert (blow.gain, blow.harm, blow.throttle) == (0, 0, 0)


def test_attack_case__an_attack_that_does_not_exist_is_none(data: Path, case: RoundCase) -> None:
    with pytest.raises((KeyError, OperatorError)):
        attack_case(case, [mechanism(data)], ["no_such_attack"], Known())
