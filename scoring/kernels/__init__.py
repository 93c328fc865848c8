"""The loops that cost time, compiled by numba; plain arrays in, plain arrays out.

Three rules hold for every kernel, because a published number must have the same bytes on every machine:

- no `fastmath`, so the compiler may neither reorder a sum nor contract a multiplication and an addition;
- a floating-point sum over stocks runs over the stocks in order in eight fixed lanes, combined in one fixed way;
- whatever is added over models is added as integers, which have no order.

Kernels that call each other stand in one file, see `passes`. All of them release the GIL: threads, processes and
workers are the callers' choice and change no bit.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])

Array = NDArray[Any]
"""Any array: numba compiles a kernel for the types that it meets."""


def kernel(function: F) -> F:
    """Compiles a function with the project's options: no Python objects, no GIL, cached on disk."""
    compiled: F = numba.njit(function, nogil=True, cache=True, fastmath=False, error_model="numpy")
    return compiled
