"""Weights: what each model counts in a meta model; they sum to 1.

Stakes, and what `weight_policies` makes of them, are integers beyond 64 bits, so each share is one correctly rounded
division of two integers.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64


def stake_weights(atoms: Sequence[int]) -> Float64[np.ndarray, " model"]:
    """Returns each stake's share of the total, the nearest double to the exact fraction.

    Args:
        atoms: stakes ≥ 0 in atoms, or a policy's amounts; models that do not count carry 0. All zero gives all zero.
    """
    total = sum(atoms)
    if total == 0:
        return np.zeros(len(atoms))
    return np.array([stake / total for stake in atoms], dtype=np.float64)
