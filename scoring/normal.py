"""The quantile of the normal distribution, Φ⁻¹, with the same bits on every machine.

A library's Φ⁻¹ calls the C library's logarithm in the tails, and that one chooses its instructions by the processor: of
the tables for 50 to 7 000 stocks 87 differed in their last bit with and without AVX2. Here everything is additions,
multiplications, divisions and square roots of doubles, which IEEE 754 rounds in one way only.

References:
    Wichura, Algorithm AS 241: the percentage points of the normal distribution (Applied Statistics 37, 1988), routine
    PPND16: rational approximations with a relative error of about 1e-16.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

_Vector = Float64[np.ndarray, " any"]

_MIDDLE, _MIDDLE_SQUARED = 0.425, 0.180625
_FAR = 5.0
_NEAR_SHIFT = 1.6

# Coefficients of Wichura's numerators and denominators, the constant first.
_CENTRE = (
    (
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_NEAR_TAIL = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)
_FAR_TAIL = (
    (
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ),
    (
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ),
)

_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
"""ln 2 in two parts: the first has 20 zero bits at its end, so that its products with exponents are exact."""
_LOG_TERMS = 11
"""Terms of the series of atanh for |s| ≤ 3 − 2√2: the first one left out is below 1e-18."""


def normal_quantile(shares: _Vector) -> _Vector:
    """Returns Φ⁻¹ of each share.

    Args:
        shares: 0 < share ≤ ½: the lower half, the upper one is its mirror.

    Raises:
        ValueError: a share is outside; Φ⁻¹ of 0 is not finite.
    """
    if shares.size and not (shares.min() > 0 and shares.max() <= 0.5):
        raise ValueError(f"shares must lie in 0 < share ≤ ½, found {shares.min()} to {shares.max()}")
    from_half = shares - 0.5
    squared = _MIDDLE_SQUARED - from_half * from_half
    root = np.sqrt(-_log(shares))
    tail = np.where(
        root <= _FAR, _ratio(_NEAR_TAIL, root - _NEAR_SHIFT), _ratio(_FAR_TAIL, np.maximum(root - _FAR, 0.0))
    )
    return np.where(-from_half <= _MIDDLE, from_half * _ratio(_CENTRE, squared), -tail)


def _ratio(polynomials: tuple[Sequence[float], Sequence[float]], at: _Vector) -> _Vector:
    numerator, denominator = (_polynomial(coefficients, at) for coefficients in polynomials)
    return numerator / denominator


def _polynomial(coefficients: Sequence[float], at: _Vector) -> _Vector:
    value = np.full_like(at, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * at + coefficient
    return value


def _log(values: _Vector) -> _Vector:
    """Returns ln x = e·ln 2 + 2 atanh((m − 1)/(m + 1)), x = m·2^e with m in [√½, √2)."""
    mantissa, exponent = np.frexp(values)
    small = mantissa < np.sqrt(0.5)
    mantissa, exponent = np.where(small, 2 * mantissa, mantissa), exponent - small
    share = (mantissa - 1) / (mantissa + 1)
    series = _polynomial([1 / (2 * term + 1) for term in range(_LOG_TERMS)], share * share)
    return exponent * _LN2_HIGH + (2 * share * series + exponent * _LN2_LOW)
