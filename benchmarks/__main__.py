"""Runs every benchmark but that of a backfill, which takes an hour, and prints their tables."""

from benchmarks import bench_experiment, bench_ingest, bench_resolve, bench_scoring, bench_true_contribution
from benchmarks.machine import describe


def main() -> None:
    print(f"Measured on {describe()}.")
    for benchmark in (bench_scoring, bench_ingest, bench_resolve, bench_true_contribution, bench_experiment):
        benchmark.main()


if __name__ == "__main__":
    main()
