"""Two resolvers at once: exactly one publishes, the other says so, and nothing half is left.

100 races of two processes on the disk and 100 on an object store, at the level of `conclude`: half of them begin
together, half meet right before the manifest. In every other race the two have the same inputs. Then whole commands.
"""

import json
import multiprocessing
import os
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from scoring.errors import ConflictError, StakeweightError
from tasks.conclude import conclude
from tasks.plan import RoundPlan
from tasks.store import Store, open_store
from tasks.verify import VerifyRequest, verify_published
from tests.faults.processes import command, ended, wait_until
from tests.faults.published import check_published, contents, plan, undisturbed
from tests.faults.tiny import ROUNDS
from tests.flows.in_process import work_in_process

pytestmark = pytest.mark.faults

RACES = 100
WRITERS = 2
LIMIT_S = 180
NUMBER = ROUNDS[0]


def _inputs(race: int, writer: int) -> int:
    """Which of the two tournaments a writer resolves: in even races the same, in odd ones each its own."""
    return (race // 2) % 2 if race % 2 == 0 else (writer + race // 2) % 2


def _meet_at_the_manifest(start: Barrier, late: list[bool]) -> None:
    create = Store.create

    def meet(self: Store, path: str, data: bytes) -> bool:
        if late[0] and path.startswith("manifests/"):
            start.wait(LIMIT_S)
        return create(self, path, data)

    Store.create = meet


def _racer(results: Queue, start: Barrier, data: tuple[str, str], place: str, writer: int) -> None:
    late = [False]
    _meet_at_the_manifest(start, late)
    plans = [plan(each, f"{place}/race-0", NUMBER) for each in data]
    ready = [(each, work_in_process(each)) for each in plans if isinstance(each, RoundPlan)]
    ends = []
    for race in range(RACES):
        resolving, work = ready[_inputs(race, writer)]
        ours = replace(resolving, request=replace(resolving.request, out=f"{place}/race-{race}"))
        late[0] = race % 4 >= 2
        start.wait(LIMIT_S)
        try:
            ends.append(conclude(ours, work).manifest.identity)
        except StakeweightError as error:
            ends.append(f"exit {error.exit_code}")
    results.put((writer, os.getpid(), ends))


def _race(data: tuple[str, str], place: str) -> dict[int, list[str]]:
    """Has the two processes race; returns how each race ended, by writer."""
    spawn = multiprocessing.get_context("spawn")
    start, results = spawn.Barrier(WRITERS), spawn.Queue()
    racers = [spawn.Process(target=_racer, args=(results, start, data, place, each)) for each in range(WRITERS)]
    for process in racers:
        process.start()
    try:
        wait_until(lambda: not results.empty() or any(process.exitcode for process in racers), "a racer is done")
        found = [results.get(timeout=20) for _ in racers]
    finally:
        for process in racers:
            process.kill()
            process.join()
    assert len({pid for _, pid, _ in found} | {os.getpid()}) == WRITERS + 1
    return {writer: ends for writer, _, ends in found}


def test_conclude__of_two_resolvers_that_race_exactly_one_publishes(
    tiny: str, other: str, place: str, tmp_path: Path
) -> None:
    each = [undisturbed(data, tmp_path / f"alone-{at}", [NUMBER]) for at, data in enumerate((tiny, other))]
    identities = [plan_identity(tmp_path / f"alone-{at}") for at in range(2)]
    assert identities[0] != identities[1]
    ends = _race((tiny, other), place)
    won = [0] * WRITERS
    for race in range(RACES):
        inputs = [_inputs(race, writer) for writer in range(WRITERS)]
        out = f"{place}/race-{race}"
        found = contents(open_store(out))
        winner = each.index(found)  # nothing but the undisturbed files of one of the two
        expected = [identities[winner] if mine == winner else "exit 4" for mine in inputs]
        assert [ends[writer][race] for writer in range(WRITERS)] == expected
        if inputs[0] != inputs[1]:
            won[inputs.index(winner)] += 1
    assert sum(won) == RACES // 2
    assert all(won), f"one of the two always won: {won}; that is no race"
    check_published(f"{place}/race-0", each[each.index(contents(open_store(f"{place}/race-0")))])


def plan_identity(out: Path) -> str:
    return verify_published(VerifyRequest(str(out), NUMBER)).newest.manifest.identity


@pytest.mark.parametrize("same", [True, False], ids=["same_inputs", "other_inputs"])
def test_resolve__of_two_commands_at_once_one_publishes_and_the_other_says_so(
    tiny: str, other: str, place: str, tmp_path: Path, api: Mapping[str, str], same: bool
) -> None:
    data = (tiny, tiny if same else other)
    each = [undisturbed(one, tmp_path / f"alone-{at}", [NUMBER]) for at, one in enumerate(data)]
    options = ["--out", place, "--round", str(NUMBER), "--workers", "1", "--json"]
    runs = [command(["resolve", "--data", one, *options], tmp_path / f"run-{at}", api) for at, one in enumerate(data)]
    ends = [ended(run) for run in runs]
    winner = each.index(contents(open_store(place)))
    check_published(place, each[winner])
    if same:
        assert [end.code for end in ends] == [0, 0]
        assert sorted(json.loads(end.out)["published"] for end in ends) == [False, True]
    else:
        assert ends[winner].code == 0
        assert ends[1 - winner].code == ConflictError.exit_code
        assert ends[1 - winner].says("published")
