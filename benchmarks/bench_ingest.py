"""Ingest against merely reading: 10 000 parquet files of 6 000 rows, both on two processes, from a warm page cache.

Merely reading is `pyarrow.parquet.read_table` and nothing else. Ingest reads, hashes, matches ids, checks every value,
digests the canonical form and ranks.
"""

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.machine import CORES, print_table, seconds
from scoring.synthetic import SyntheticSpec, stock_ids
from tasks.ingest import Source, cut_blocks, find_sources, ingest_block
from tasks.store import Store, open_store
from tasks.synthetic import FileLayout, write_submissions

SPEC = SyntheticSpec(rounds=1, models=10_000, stocks=6_000, seed=3, skip_share=0.0)
FOLDER = "rounds/1/submissions"


def read_block(sources: tuple[Source, ...], root: str) -> int:
    """Reads a block's files as pyarrow does by default."""
    return sum(pq.read_table(f"{root}/{source.files[0].path}").num_rows for source in sources)


def ingest(sources: tuple[Source, ...], store: Store, ids: tuple[str, ...]) -> int:
    """Ingests a block and keeps only its size: in the engine the ranks stay on the worker too."""
    return len(ingest_block(sources, store, ids).ranks.models)


def main() -> None:
    """Prints the table of ingest."""
    with (
        tempfile.TemporaryDirectory() as root,
        ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn")) as pool,
    ):
        write_submissions(Path(root), SPEC, 1, layout=FileLayout(csv_share=0.0))
        store = open_store(root)
        blocks = cut_blocks(find_sources(store, FOLDER))
        reading, ingesting = partial(read_block, root=root), partial(ingest, store=store, ids=stock_ids(SPEC, 1))
        list(pool.map(ingesting, blocks[:CORES]))  # imports, and loads the compiled kernels
        theirs = seconds(lambda: list(pool.map(reading, blocks)))
        ours = seconds(lambda: list(pool.map(ingesting, blocks)))
    row = [f"{ours:.1f} s", f"{theirs:.1f} s", f"{ours / theirs:.2f}", "at most 2"]
    print_table("Ingest", ["10 000 files of 6 000 rows: stakeweight", "pyarrow, reading only", "ratio", "aim"], [row])


if __name__ == "__main__":
    main()
