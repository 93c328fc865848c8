"""Prints as JSON on which worker each of some units ran; `test_cluster` starts it as a process of its own."""

import json

from distributed import get_worker


def name_of_worker(_number: int) -> str:
    """A unit of work that tells where it runs."""
    return str(get_worker().name)


if __name__ == "__main__":  # workers import this file too, and must not import Prefect
    from prefect import flow

    from flows.calls import Needs
    from flows.progress import Progress
    from flows.runtime import UnitRunner, gather, map_units
    from flows.session import open_session
    from infra.settings import read_settings
    from tests.services.where import name_of_worker as unit

    @flow(task_runner=UnitRunner())
    def ask() -> dict[str, list[str]]:
        on_gpu = map_units(unit, range(12), needs=Needs(resources={"GPU": 1.0}))
        anywhere = map_units(unit, range(12))
        return {"gpu": gather(on_gpu, "gpu"), "anywhere": gather(anywhere, "anywhere")}

    with open_session(read_settings(), Progress("silent")):
        print(json.dumps(ask()))
