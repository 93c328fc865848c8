"""The market of one round: what can be known about its stocks, and what came of them.

    return = exposures · factor returns + country return + residual
    residual = specific risk · (IC · alpha + payoff · fad + rest · noise)

`alpha` is what nobody sees, `fad` what everybody likes: it pays or costs at random, so that the crowd has
good and bad rounds together. Features see a little of both, models see the features, and the target sees the
residual: that is the only way from a prediction to its score. Targets are neutral to all risk factors and
countries because the residual is; a model that is nothing but a risk factor scores about 0.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from scoring.rounds import Features, Targets, Universe
from scoring.synthetic.spec import Purpose, SyntheticSpec, generator
from scoring.synthetic.universe import (
    COUNTRIES,
    country_codes,
    exposures,
    make_risk_model,
    make_universe,
    specific_risk,
    style_exposures,
)

ALPHA_IC = 0.06
"""Correlation of alpha with the standardised residual: what a model that knew alpha would score."""

FAD_PAYOFF = 0.09
"""Greatest correlation of the fad with the standardised residual, of either sign; uniform over the rounds."""

ALPHA_LOADING, FAD_LOADING = 0.25, 0.4
"""Correlation of an informed feature with alpha and with the fad."""

STYLE_LOADING = 0.7
"""Correlation of a style feature with its style."""

FEATURE_KINDS = ("informed", "style", "noise")
"""Feature j is of kind j mod 3."""

NOISE_FREEDOM = 5
"""Degrees of freedom of the residuals' Student t: fat tails with a finite fourth moment."""

COUNTRY_RISK = 0.015
"""Standard deviation of a country's own 20-day return, as a fraction; not in the factor covariance."""

WORST_RETURN = -0.95
"""A stock cannot lose more than it is worth."""

TARGET_EDGES = (0.05, 0.25, 0.75, 0.95)
"""Shares of the stocks below the target's steps 0.25, 0.5, 0.75, 1."""


@dataclass(frozen=True, slots=True)
class Market:
    """The market of one round.

    Attributes:
        universe: the stocks, sorted by id.
        factor_covariance: (factor, factor), of 20-day factor returns as fractions; symmetric, positive
            definite, in the order of `universe.factor_names`.
        features: values 0 … 4, quintiles of `feature_signals`.
        targets: of all stocks.
    """

    universe: Universe
    factor_covariance: Float64[np.ndarray, "factor factor"]
    features: Features
    targets: Targets


def make_market(spec: SyntheticSpec, round_number: int) -> Market:
    """Returns the market of a round; nothing depends on the models."""
    return Market(
        universe=make_universe(spec, round_number),
        factor_covariance=make_risk_model(spec, round_number).covariance(),
        features=_features(spec, round_number),
        targets=_targets(spec, round_number),
    )


def feature_signals(spec: SyntheticSpec, round_number: int) -> Float64[np.ndarray, "feature stock"]:
    """Returns what the features are quintiles of: signals with mean about 0 and standard deviation about 1.

    The first kind shares alpha and the fad, the second follows the risk styles in turn, the third is noise.
    """
    signals = generator(spec, Purpose.FEATURES, round_number).standard_normal((spec.features, spec.stocks))
    informed, styled = signals[0::3], signals[1::3]
    informed *= np.sqrt(1 - ALPHA_LOADING**2 - FAD_LOADING**2)
    alpha, fad = _alpha_and_fad(spec, round_number)
    informed += ALPHA_LOADING * alpha + FAD_LOADING * fad
    styles = style_exposures(spec, round_number)
    styled *= np.sqrt(1 - STYLE_LOADING**2)
    styled += STYLE_LOADING * styles[np.arange(len(styled)) % len(styles)]
    return signals


def ranks(values: Float64[np.ndarray, " stock"]) -> Float64[np.ndarray, " stock"]:
    """Returns (rank − 0.5) / n, strictly between 0 and 1, of values of which no two are equal."""
    result = np.empty(len(values))
    result[np.argsort(values)] = (np.arange(len(values)) + 0.5) / len(values)
    return result


def _features(spec: SyntheticSpec, round_number: int) -> Features:
    signals = feature_signals(spec, round_number)
    values = np.stack([(5 * ranks(signal)).astype(np.int8) for signal in signals], axis=1)
    width = max(2, len(str(spec.features // 3)))
    names = tuple(f"feature_{FEATURE_KINDS[j % 3]}_{j // 3:0{width}d}" for j in range(spec.features))
    return Features(names, values)


def _alpha_and_fad(spec: SyntheticSpec, round_number: int) -> Float64[np.ndarray, "2 stock"]:
    return generator(spec, Purpose.ALPHA, round_number).standard_normal((2, spec.stocks))


def _residual_return(spec: SyntheticSpec, round_number: int) -> Float64[np.ndarray, " stock"]:
    """Returns what moves each stock alone."""
    random = generator(spec, Purpose.RESIDUALS, round_number)
    alpha, fad = _alpha_and_fad(spec, round_number)
    payoff = random.uniform(-FAD_PAYOFF, FAD_PAYOFF)
    noise = random.standard_t(NOISE_FREEDOM, spec.stocks) * np.sqrt((NOISE_FREEDOM - 2) / NOISE_FREEDOM)
    rest = np.sqrt(1 - ALPHA_IC**2 - payoff**2)
    residual: Float64[np.ndarray, " stock"] = ALPHA_IC * alpha + payoff * fad + rest * noise
    residual *= specific_risk(spec, round_number)
    return residual


def _common_return(spec: SyntheticSpec, round_number: int) -> Float64[np.ndarray, " stock"]:
    """Returns what risk factors and countries move the stocks by."""
    random = generator(spec, Purpose.RETURNS, round_number)
    factor_returns = make_risk_model(spec, round_number).draw(random)
    country_returns = COUNTRY_RISK * random.standard_normal(len(COUNTRIES))
    common: Float64[np.ndarray, " stock"] = np.einsum("nf,f->n", exposures(spec, round_number), factor_returns)
    common += country_returns[country_codes(spec, round_number)]
    return common


def _targets(spec: SyntheticSpec, round_number: int) -> Targets:
    """Returns the realised returns and their bins: 0, 0.25, … 1 for 5/20/50/20/5 % of the residuals."""
    residual = _residual_return(spec, round_number)
    realised = _common_return(spec, round_number) + residual
    target = np.searchsorted(TARGET_EDGES, ranks(residual)) / 4
    return Targets(
        positions=np.arange(spec.stocks),
        target=target,
        full_mean=math.fsum(target) / spec.stocks,
        realised=np.round(np.maximum(realised, WORST_RETURN), 8),
    )
