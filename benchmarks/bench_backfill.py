"""A backfill of many rounds: rounds a minute, what of the time is not scoring, memory, and one worker against two.

    python -m benchmarks.bench_backfill --rounds 100 --models 1000 --stocks 5000

Scoring is what units did on the workers; the rest of workers × time is overhead: planning, settling and publishing in
the driver, Prefect, Dask, moving results, and waiting. The tournament is made first, which takes longer than to score
it; `--keep DIR` keeps it for another run.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil
from distributed import Client

from benchmarks.machine import CORES, describe, print_table
from flows.backfill import backfill
from flows.progress import Progress
from flows.session import open_session
from infra.settings import read_settings
from scoring.synthetic import SyntheticSpec
from tasks.synthetic import RULES, write_round_tables, write_submissions, write_tournament

BAGS = 20
TC = f"\n[portfolio]\n\n[true_contribution]\nbags = {BAGS}\n"
MIB = 2**20
SAMPLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One backfill: seconds in all and on the workers, and the workers' memory over time, in bytes."""

    workers: int
    rounds: int
    seconds: float
    scoring_s: float
    memory: list[int]

    @property
    def overhead(self) -> float:
        """Share of the workers' time that is not scoring."""
        return 1 - self.scoring_s / (self.workers * self.seconds)


def make(directory: Path, spec: SyntheticSpec) -> None:
    """Writes the tournament, rounds side by side; one that is there is kept."""
    if directory.exists():
        return
    first = replace(spec, rounds=1)
    write_tournament(directory, first, rules=RULES + TC)
    with ProcessPoolExecutor(CORES) as pool:
        list(pool.map(partial(_make_round, directory, spec), list(spec.round_numbers)[1:]))


def _make_round(directory: Path, spec: SyntheticSpec, number: int) -> None:
    write_round_tables(directory, spec, number)
    write_submissions(directory, spec, number)


def measure(data: Path, out: Path, rounds: str, workers: int) -> Measured:
    """Runs one backfill with all its starts done before the clock runs."""
    with open_session(read_settings(workers=workers), Progress("lines")) as session:
        backfill(str(data), str(out / "warm"), rounds.split("-")[0])  # kernels are loaded once a process
        session.client.get_task_stream()  # the scheduler records from the first question on
        begun = time.time()
        with _watched(session.client) as memory:
            report = backfill(str(data), str(out / "out"), rounds)
        seconds = time.time() - begun
        stream = session.client.get_task_stream(start=begun)
    spans = (span for task in stream for span in task["startstops"] if span["action"] == "compute")
    return Measured(workers, len(report.lines), seconds, sum(s["stop"] - s["start"] for s in spans), memory)


@contextmanager
def _watched(client: Client) -> Iterator[list[int]]:
    """Yields the largest worker's memory, again and again until the block ends."""
    processes = [psutil.Process(pid) for pid in client.run(_pid).values()]
    samples: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_S):
            samples.append(max(process.memory_info().rss for process in processes))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def _pid() -> int:
    return psutil.Process().pid


def main(rounds: int = 100, models: int = 1_000, stocks: int = 5_000, keep: Path | None = None) -> None:
    """Prints the table of backfill."""
    spec = SyntheticSpec(rounds=rounds, models=models, stocks=stocks, seed=5)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        data = keep or root / "data"
        make(data, spec)
        chosen = f"{spec.first_round}-{spec.first_round + rounds - 1}"
        one, two = (measure(data, root / f"out-{workers}", chosen, workers) for workers in (1, CORES))
    thirds = [max(part) / MIB for part in _thirds(two.memory)]
    rows = [
        ["rounds a minute, 2 workers", f"{60 * two.rounds / two.seconds:.1f}", ""],
        ["rounds a minute, 1 worker", f"{60 * one.rounds / one.seconds:.1f}", ""],
        ["2 workers against 1", f"{one.seconds / two.seconds:.2f}", "at least 1.7"],
        ["share of the time that is not scoring, 2 workers", f"{two.overhead:.0%}", "at most 25 %"],
        ["the same, 1 worker", f"{one.overhead:.0%}", ""],
        ["largest worker, MiB", f"{max(two.memory) / MIB:.0f}", "at most 2048"],
        ["the same in each third of the run", ", ".join(f"{third:.0f}" for third in thirds), "flat"],
    ]
    title = f"Backfill, {rounds} rounds × {models} models × {stocks} stocks, {BAGS} bags of MMC2 and {BAGS} of TC"
    print_table(title, ["", "", "aim"], rows)


def _thirds(samples: list[int]) -> list[list[int]]:
    cut = max(1, len(samples) // 3)
    return [samples[:cut], samples[cut : 2 * cut] or samples, samples[2 * cut :] or samples]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--models", type=int, default=1_000)
    parser.add_argument("--stocks", type=int, default=5_000)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    print(f"Measured on {describe()}.")
    main(options.rounds, options.models, options.stocks, options.keep)
