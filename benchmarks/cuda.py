"""What a CUDA device makes of True Contribution: kernel launches, and how far from the arithmetic it stays."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.machine import print_table, seconds

FLOP = 17e9
"""Counted for 100 bags of 5 000 stocks with 70 factors and 60 groups: the Gram matrices of all active sets, the
Cholesky factors and the products with the columns of six steps."""

FLOAT64_A_CYCLE = {(6, 0): 32, (7, 0): 32, (8, 0): 32, (9, 0): 64, (10, 0): 64}
"""Fused multiply-adds of doubles that a multiprocessor ends each cycle, by compute capability; 2 where none is named.

CUDA C++ Programming Guide, "Throughput of native arithmetic instructions"; without tensor cores.
"""


def peak_flops(properties: Any) -> tuple[float, str]:
    """Returns the most operations on doubles a second that a device's properties allow, and how it was reckoned."""
    capability = properties.major, properties.minor
    units, hertz = FLOAT64_A_CYCLE.get(capability, 2), 1e3 * properties.clock_rate  # clock_rate is in kHz
    how = f"{properties.multi_processor_count} multiprocessors × {units} × 2 × {hertz / 1e9:.2f} GHz, no tensor cores"
    return properties.multi_processor_count * units * 2.0 * hertz, how


def launches(work: Callable[[], Any]) -> int:
    """Returns how many kernels the work launches."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as watched:
        work()
        torch.cuda.synchronize()
    return sum(event.count for event in watched.key_averages() if "LaunchKernel" in event.key)


def describe_cuda(work: Callable[[], Any], bags: int, stocks: int) -> None:
    """Prints the table of a CUDA device.

    Args:
        work: solves that many bags and brings the gradients to the CPU, so that it ends when they are there.
        bags: their number.
        stocks: of the problem.
    """
    work()
    took, properties = seconds(work), torch.cuda.get_device_properties(0)
    peak, how = peak_flops(properties)
    floor = FLOP * (bags / 100) * (stocks / 5_000) / peak
    rows = [
        ["seconds", f"{took:.4f}", "0.005 to 0.010 at 5 000 stocks"],
        ["kernel launches", f"{launches(work)}", ""],
        ["peak of float64", f"{peak / 1e12:.1f} TFLOP/s = {how}", ""],
        ["arithmetic alone at that peak", f"{1e3 * floor:.2f} ms", ""],
        ["share of the time that the arithmetic explains", f"{floor / took:.1%}", ""],
    ]
    print_table(f"{properties.name}, {bags} bags of {stocks} stocks", ["", "", "aim"], rows)
