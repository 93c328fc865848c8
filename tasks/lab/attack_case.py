"""A case under attack: what an attacker gains, whom it costs, and whether it shows.

    mechanism ─ attack ─ choice ─► two plays ─► two ledgers ─► gain, harm, detectability

    gain            (payout less burn of his models, attacking − honest) / his stake
    harm            (the others' payout less burn, honest − attacking) / the others' stakes
    throttle        1 − payout factor, attacking / honest: what everybody loses of whatever he is paid
    detectability   the greatest |ρ| of his submissions with another submission of the round, by stake; 1 where a
                    submission is refused or late, for then it is on record

The same models count as others in both plays. Each distinct play is carried out once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scoring.lab.attacks import ATTACKS
from scoring.lab.plays import Ground, Pair, Play
from scoring.ledger import Ledger
from scoring.ranks import power_table, values
from tasks.lab.case import RoundCase, Scene, example_of, staged
from tasks.lab.evaluate import evaluate, models_of
from tasks.lab.mechanism import Mechanism
from tasks.lab.score_scene import Known

Choices = Mapping[tuple[str, str], tuple[int, ...]]
"""What an attacker tries, by mechanism and attack."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One attack in one round.

    Attributes:
        mechanism, attack: names.
        choice: in how many parts, or which try.
        round: the round's number.
        stake, others: what he has at stake, and what they have, in the currency.
        honest, attacking: what he earns per unit of his stake, in each of the two plays.
        gain: their difference.
        harm: per unit of the others' stakes.
        throttle: share of the payout factor that is lost.
        detectability: 0 … 1.
    """

    mechanism: str
    attack: str
    choice: int
    round: int
    stake: float
    others: float
    honest: float
    attacking: float
    gain: float
    harm: float
    throttle: float
    detectability: float


def attack_case(
    case: RoundCase,
    mechanisms: Sequence[Mechanism],
    attacks: Sequence[str],
    known: Known,
    choices: Choices | None = None,
) -> list[Blow]:
    """Returns what each attack gives under each mechanism; a round without an occasion gives nothing.

    Args:
        case: the round.
        mechanisms: what is attacked.
        attacks: names of the attacks.
        known: what is known of the round when nobody attacks.
        choices: by mechanism and attack; None for each attack's own.
    """
    found = []
    scenes: dict[object, Scene] = {}
    for mechanism in mechanisms:
        if choices is not None and mechanism.name not in {name for name, _ in choices}:
            continue
        siege = _Siege(case, mechanism, known, scenes)
        ground = siege.ground()
        if ground is None:
            continue
        for name in attacks:
            for choice in ATTACKS[name].choices if choices is None else choices.get((mechanism.name, name), ()):
                pair = ATTACKS[name].plays(ground, choice)
                if pair is not None:
                    found.append(siege.blow(name, choice, pair))
    return found


_DRAWN = frozenset({"mmc_bagged", "tc", "tc_raw"})
"""The scores that depend on the round's seed."""


class _Siege:
    """One mechanism in one round; remembers the plays that were carried out.

    The scenes are shared by all mechanisms, so that those of the same weights share their scores as well.
    """

    def __init__(self, case: RoundCase, mechanism: Mechanism, before: Known, scenes: dict[object, Scene]) -> None:
        self._case, self._mechanism, self._before, self._scenes = case, mechanism, before, scenes
        rules = mechanism.tournament.rulebook.at(case.number)
        self._draws = not _DRAWN.isdisjoint(rules.shown_scores)  # else another seed is the same play
        self._ledgers: dict[object, Ledger | None] = {}

    def ground(self) -> Ground | None:
        """Returns what the attacker can know; None where nothing is at risk."""
        case, scene = self._case, self._scene(Play())
        outcome = evaluate(case, scene, self._mechanism, self._before, "money")
        if outcome is None:
            return None
        self._ledgers[self._key(Play())] = outcome.ledger
        return Ground(case.ranks, scene.stakes, outcome.meta_model, example_of(case), self._before.rates, scene.seed)

    def blow(self, attack: str, choice: int, pair: Pair) -> Blow:
        """Returns what the attack gives."""
        honest, attacking = self._played(pair.honest), self._played(pair.attacking)
        scene = self._scene(pair.attacking)
        before, after = _changes(honest), _changes(attacking)
        own = pair.honest.own | pair.attacking.own
        stake = sum(row.atoms for row in scene.stakes.rows if row.model in pair.attacking.own)
        earned, instead = _sum(after, pair.attacking.own), _sum(before, pair.honest.own)
        others = (before.keys() & after.keys()) - own
        at_risk = sum(row.at_risk for row in models_of(honest) if row.model in others) if honest else 0
        lost = _sum(before, others) - _sum(after, others)
        decimals = self._mechanism.tournament.decimals
        return Blow(
            mechanism=self._mechanism.name,
            attack=attack,
            choice=choice,
            round=self._case.number,
            stake=stake / 10**decimals,
            others=at_risk / 10**decimals,
            honest=instead / stake if stake else 0.0,
            attacking=earned / stake if stake else 0.0,
            gain=(earned - instead) / stake if stake else 0.0,
            harm=lost / at_risk if at_risk else 0.0,
            throttle=_throttle(honest, attacking),
            detectability=_detectability(scene, pair.attacking),
        )

    def _key(self, play: Play) -> object:
        """Returns what the play does, whoever's it is; where nothing is drawn, another seed is the same play."""
        uploads = tuple(sorted((model, predictions.tobytes()) for model, predictions in play.uploads.items()))
        stakes = tuple((s.model, s.account, s.atoms, tuple(sorted(s.multipliers.items())), s.late) for s in play.stakes)
        return stakes, uploads, play.withdrawn, play.seed if self._draws else None

    def _scene(self, play: Play) -> Scene:
        key = self._key(play)
        if key not in self._scenes:
            self._scenes[key] = staged(self._case, play)
        return self._scenes[key]

    def _played(self, play: Play) -> Ledger | None:
        key = self._key(play)
        if key not in self._ledgers:
            outcome = evaluate(self._case, self._scene(play), self._mechanism, self._before, "money")
            self._ledgers[key] = None if outcome is None else outcome.ledger
        return self._ledgers[key]


def _changes(ledger: Ledger | None) -> dict[str, int]:
    return {row.model or "": row.payout - row.burn for row in models_of(ledger)} if ledger else {}


def _throttle(honest: Ledger | None, attacking: Ledger | None) -> float:
    """Returns what is lost of the payout factor; nothing where there was none."""
    if honest is None or attacking is None or not honest.rows[0].factor:
        return 0.0
    return 1.0 - attacking.rows[0].factor / honest.rows[0].factor


def _sum(changes: Mapping[str, int], models: frozenset[str] | set[str]) -> int:
    return sum(change for model, change in changes.items() if model in models)


def _detectability(scene: Scene, play: Play) -> float:
    """Returns the greatest |ρ| of his submissions with another one, weighted by stake."""
    place = {model: row for row, model in enumerate(scene.ranks.models)}
    stakes = {row.model: row for row in scene.stakes.rows if row.model in play.own}
    total = sum(row.atoms for row in stakes.values())
    if not total:
        return 0.0
    every = values(scene.ranks, power_table(scene.ranks.stocks))
    every = every - every.mean(axis=1, keepdims=True)
    every = every / np.linalg.norm(every, axis=1, keepdims=True)
    seen = 0.0
    for model, row in stakes.items():
        found = 1.0
        if model in place and not row.late:
            alike = np.abs(every @ every[place[model]])
            alike[place[model]] = 0.0
            found = min(1.0, float(alike.max()))
        seen += found * (row.atoms / total)
    return min(1.0, seen)  # the parts of 1 may sum to a bit more
