"""A run that only a signal ends; `test_runtime` starts it as a process of its own."""

import sys
import time

if __name__ == "__main__":  # workers import this file too, and must not import Prefect
    from prefect import flow

    from flows.progress import Progress
    from flows.runtime import UnitRunner, finish, map_units
    from flows.session import open_session
    from infra.settings import read_settings

    @flow(task_runner=UnitRunner())
    def endless() -> None:
        running = map_units(time.sleep, [600.0] * 6)
        print("running", flush=True)
        finish(running, "endless")

    try:
        with open_session(read_settings(workers=2), Progress("silent")):
            endless()
    except KeyboardInterrupt:
        sys.exit(130)
