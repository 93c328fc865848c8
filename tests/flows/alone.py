"""A round resolved in a process of its own, which then says on one line of JSON what it computed with.

An environment variable that a library does not know, or that names what the processor lacks, is ignored without a word;
a test that sets one must see that it was obeyed.
"""

import ctypes
import json
import sys
from pathlib import Path

from numba.core.registry import cpu_target
from numpy._core import _multiarray_umath as numpy_core
from threadpoolctl import threadpool_info

from tests.flows.in_process import resolve_in_process

GLIBC_BITS = {"FMA": (0, 2, 12), "AVX2": (1, 1, 5), "AVX512F": (1, 1, 16)}
"""Where glibc keeps a feature: its number of the CPUID leaf, the register (eax … edx), the bit."""


def in_force() -> dict[str, object]:
    """Returns the BLAS kernels, numpy's and the C library's features, numba's processor, and whether asserts run."""
    blas = [library["architecture"] for library in threadpool_info() if library["internal_api"] == "openblas"]
    return {
        "blas": sorted(set(blas)),
        "numpy": sorted(name for name, here in numpy_core.__cpu_features__.items() if here),
        "glibc": glibc_features(),
        "numba": cpu_target.target_context.codegen().magic_tuple()[1:],
        "asserts": __debug__,
    }


def glibc_features() -> list[str] | None:
    """Returns which of the features the C library may use; None where it does not tell (before 2.33, not x86)."""
    leaf = getattr(ctypes.CDLL(None), "__x86_get_cpuid_feature_leaf", None)
    if leaf is None:
        return None
    leaf.restype = ctypes.POINTER(ctypes.c_uint32 * 8)  # four registers as the processor says, four as they are used
    return [name for name, (at, register, bit) in GLIBC_BITS.items() if leaf(at).contents[4 + register] >> bit & 1]


if __name__ == "__main__":
    resolve_in_process(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(in_force()))
