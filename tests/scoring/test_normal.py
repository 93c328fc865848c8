"""Φ⁻¹: right to the last bits, and the same bits whatever the processor may use."""

import os
import subprocess
import sys

import numpy as np
import pytest
from numpy._core import _multiarray_umath as numpy_core
from scipy.special import ndtri

from scoring.normal import normal_quantile

DIGEST = """
import hashlib
from scoring.ranks import gauss_table
digest = hashlib.sha256()
for stocks in [*range(50, 7000, 7), 706, 2388, 6001, 32767]:
    digest.update(gauss_table(stocks).tobytes())
print(digest.hexdigest())
"""
LATER_FEATURES = [
    feature
    for feature in numpy_core.__cpu_dispatch__
    if feature not in numpy_core.__cpu_baseline__ and numpy_core.__cpu_features__.get(feature)
]


def digest(**environment: str) -> str:
    command = [sys.executable, "-c", DIGEST]
    run = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_normal_quantile__is_right_to_a_few_units_of_the_last_place() -> None:
    shares = np.concatenate([np.arange(1, 5001) / 10_000, np.logspace(-15, -0.302, 2000)])
    expected = ndtri(shares)
    away = np.abs(shares - 0.5) > 1e-9
    assert (np.abs(normal_quantile(shares) - expected)[away] <= 2e-15 * np.abs(expected)[away]).all()
    assert normal_quantile(np.array([0.5]))[0] == 0.0


def test_normal_quantile__rises_through_the_joints_of_its_pieces() -> None:
    for joint in (0.075, np.exp(-25.0)):
        around = joint * (1 + np.arange(-200, 201) * 1e-13)
        assert (np.diff(normal_quantile(around)) >= -1e-15).all()


@pytest.mark.parametrize("share", [0.0, -0.1, 0.6, float("nan")])
def test_normal_quantile__refuses_what_is_outside_its_half(share: float) -> None:
    with pytest.raises(ValueError, match="shares must lie in"):
        normal_quantile(np.array([share]))


@pytest.mark.parametrize(
    "environment",
    [
        {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F"},
        {"NPY_DISABLE_CPU_FEATURES": " ".join(LATER_FEATURES)},
    ],
    ids=["c_library", "numpy"],
)
def test_gauss_table__has_the_same_bits_with_fewer_instructions(environment: dict[str, str]) -> None:
    assert digest(**environment) == digest()
