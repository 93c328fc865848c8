"""Ingest against merely reading: 10 000 parquet files of 6 000 rows, both on two processes, from a warm page cache.

Merely reading is `pyarrow.parquet.read_table` and nothing else. Ingest reads, hashes, matches ids, checks every value,
digests the canonical form and ranks.
"""

import argparse
import multiprocessing
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.machine import CORES, print_table, resident, seconds
from scoring.ranks import Ranks
from scoring.synthetic import SyntheticSpec, stock_ids
from tasks.ingest import Source, cut_blocks, find_sources, ingest_block
from tasks.store import Store, open_store
from tasks.synthetic import FileLayout, write_submissions

SPEC = SyntheticSpec(rounds=1, models=10_000, stocks=6_000, seed=3, skip_share=0.0)
FOLDER = "rounds/1/submissions"

_kept: list[Ranks] = []


def read_block(sources: tuple[Source, ...], root: str) -> int:
    """Reads a block's files as pyarrow does by default."""
    return sum(pq.read_table(f"{root}/{source.files[0].path}").num_rows for source in sources)


def ingest(sources: tuple[Source, ...], store: Store, ids: tuple[str, ...]) -> int:
    """Ingests a block and keeps only its size: in the engine the ranks stay on the worker too."""
    return len(ingest_block(sources, store, ids).ranks.models)


def ingest_and_keep(sources: tuple[Source, ...], store: Store, ids: tuple[str, ...]) -> tuple[int, int]:
    """Ingests a block and keeps its ranks, as a worker of the engine does.

    Returns:
        The process, and the most memory it has had, in bytes.
    """
    _kept.append(ingest_block(sources, store, ids).ranks)
    return os.getpid(), resident("VmHWM")


def workers() -> ProcessPoolExecutor:
    """Returns new processes: what one has had at most holds for its whole life."""
    return ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn"))


def main(spec: SyntheticSpec = SPEC) -> None:
    """Prints the table of ingest."""
    with tempfile.TemporaryDirectory() as root:
        write_submissions(Path(root), spec, 1, layout=FileLayout(csv_share=0.0))
        store = open_store(root)
        blocks = cut_blocks(find_sources(store, FOLDER))
        given = {"store": store, "ids": stock_ids(spec, 1)}
        with workers() as pool:
            memory: dict[int, int] = {}
            for process, peak in pool.map(partial(ingest_and_keep, **given), blocks):
                memory[process] = max(peak, memory.get(process, 0))
        with workers() as pool:
            reading, ingesting = partial(read_block, root=root), partial(ingest, **given)
            list(pool.map(ingesting, blocks[:CORES]))  # imports, and loads the compiled kernels
            theirs = seconds(lambda: list(pool.map(reading, blocks)))
            ours = seconds(lambda: list(pool.map(ingesting, blocks)))
    files = f"{spec.models} files of {spec.stocks} rows"
    row = [f"{ours:.1f} s", f"{theirs:.1f} s", f"{ours / theirs:.2f}", "at most 2"]
    print_table("Ingest", [f"{files}: stakeweight", "pyarrow, reading only", "ratio", "aim"], [row])
    peaks = [[f"{number}", f"{peak / 1e6:.0f} MB", ""] for number, peak in enumerate(memory.values(), start=1)]
    print_table(f"Peak memory of ingest (VmHWM), ranks of all {files} kept", ["worker", "peak", "aim"], peaks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=SPEC.models)
    parser.add_argument("--stocks", type=int, default=SPEC.stocks)
    chosen = parser.parse_args()
    main(replace(SPEC, models=chosen.models, stocks=chosen.stocks))
