"""The stocks of one round and their risk model: ids, labels, exposures, specific risk, factor covariance.

The factors are 8 styles (z-scores) and 11 sectors (dummies that sum to 1, so that the sectors carry the
market and no market factor is needed). Their covariance is built the way it is drawn from, by a few common
shocks:

    Σ = B Bᵀ + diag(own²),    factor returns = B u + own · w,    u, w standard normal

which makes it symmetric and positive definite by construction. `B` and `own` belong to the tournament; one
number a round, its mood, scales both, as calm and nervous months do.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from scoring.rounds import Universe
from scoring.synthetic.spec import Purpose, SyntheticSpec, generator

STYLES = ("beta", "size", "value", "momentum", "reversal", "volatility", "liquidity", "quality")
SECTORS = (
    "Communication Services",
    "Consumer Discretionary",
    "Consumer Staples",
    "Energy",
    "Financials",
    "Health Care",
    "Industrials",
    "Information Technology",
    "Materials",
    "Real Estate",
    "Utilities",
)
COUNTRIES = (
    "United States",
    "Japan",
    "United Kingdom",
    "Canada",
    "Germany",
    "France",
    "South Korea",
    "Australia",
    "Taiwan",
    "Sweden",
    "Switzerland",
    "Italy",
    "India",
    "Brazil",
    "Netherlands",
    "Spain",
    "Poland",
    "Norway",
    "Denmark",
    "Finland",
    "South Africa",
    "Belgium",
    "Turkey",
    "Mexico",
)
"""Largest first: country k has a share proportional to 1/k."""

FACTOR_NAMES = (*STYLES, *("sector_" + sector.lower().replace(" ", "_") for sector in SECTORS))

STOCKS_PER_COUNTRY = 60
"""There is a country more for every 60 stocks, until all 24 are there: small universes stay solvable when a
portfolio must be neutral to every country."""

STYLE_LIMIT = 3.0
"""Styles are winsorised at this many standard deviations."""

MEDIAN_SPECIFIC_RISK = 0.08
"""Of a 20-day residual return, as a fraction."""

MARKET_RISK = 0.05
"""Standard deviation of the market's 20-day return, as a fraction."""


@dataclass(frozen=True, slots=True)
class RiskModel:
    """Where factor returns come from; 20-day returns as fractions.

    Attributes:
        loadings: (factor, shock), standard deviation of each factor's response to each common shock.
        own: (factor,), standard deviation of the rest, > 0.
    """

    loadings: Float64[np.ndarray, "factor shock"]
    own: Float64[np.ndarray, " factor"]

    def covariance(self) -> Float64[np.ndarray, "factor factor"]:
        """Returns Σ, rounded to 12 decimals; symmetric to the last bit."""
        common = np.einsum("is,js->ij", self.loadings, self.loadings)
        total: Float64[np.ndarray, "factor factor"] = (common + common.T) / 2 + np.diag(self.own**2)
        return total.round(12)

    def draw(self, random: np.random.Generator) -> Float64[np.ndarray, " factor"]:
        """Returns one draw of the factor returns."""
        shocks = random.standard_normal(self.loadings.shape[1])
        returns: Float64[np.ndarray, " factor"] = self.own * random.standard_normal(len(self.own))
        returns += np.einsum("is,s->i", self.loadings, shocks)
        return returns


def make_risk_model(spec: SyntheticSpec, round_number: int) -> RiskModel:
    """Returns the risk model of a round: the tournament's own, scaled by the round's mood (0.7 … 1.4)."""
    random = generator(spec, Purpose.COVARIANCE)
    styles, sectors = len(STYLES), len(SECTORS)
    loadings = np.concatenate(
        [0.004 * random.standard_normal((styles, 4)), 0.008 * random.standard_normal((sectors, 4))]
    )
    loadings[STYLES.index("beta"), 0] = 0.4 * MARKET_RISK
    loadings[styles:, 0] = MARKET_RISK * random.uniform(0.8, 1.2, sectors)
    own = np.concatenate([random.uniform(0.006, 0.015, styles), random.uniform(0.015, 0.030, sectors)])
    mood = generator(spec, Purpose.COVARIANCE, round_number, index=1).uniform(0.7, 1.4)
    return RiskModel(mood * loadings, mood * own)


def make_universe(spec: SyntheticSpec, round_number: int) -> Universe:
    """Returns the stocks of a round, sorted by id, with labels, exposures and specific risk."""
    return Universe(
        ids=stock_ids(spec, round_number),
        country=tuple(COUNTRIES[code] for code in country_codes(spec, round_number).tolist()),
        sector=tuple(SECTORS[code] for code in sector_codes(spec, round_number).tolist()),
        factor_names=FACTOR_NAMES,
        exposures=exposures(spec, round_number),
        specific_risk=specific_risk(spec, round_number),
    )


def stock_ids(spec: SyntheticSpec, round_number: int) -> tuple[str, ...]:
    """Returns sorted ids: 40 random bits, then 20 bits that number the stocks, so that no two are equal."""
    random = generator(spec, Purpose.IDS, round_number)
    high = random.integers(1 << 40, size=spec.stocks, dtype=np.int64)
    return tuple(f"n{value:015x}" for value in np.sort(high << 20 | np.arange(spec.stocks)).tolist())


def country_codes(spec: SyntheticSpec, round_number: int) -> Int64[np.ndarray, " stock"]:
    """Returns the position in `COUNTRIES` of each stock's country."""
    countries = min(1 + spec.stocks // STOCKS_PER_COUNTRY, len(COUNTRIES))
    weights = 1 / np.arange(1, countries + 1)
    random = generator(spec, Purpose.COUNTRIES, round_number)
    return random.choice(countries, size=spec.stocks, p=weights / weights.sum())


def sector_codes(spec: SyntheticSpec, round_number: int) -> Int64[np.ndarray, " stock"]:
    """Returns the position in `SECTORS` of each stock's sector; no sector is empty."""
    random = generator(spec, Purpose.SECTORS, round_number)
    others = random.integers(len(SECTORS), size=spec.stocks - len(SECTORS))
    return random.permutation(np.concatenate([np.arange(len(SECTORS)), others]))


def style_exposures(spec: SyntheticSpec, round_number: int) -> Float64[np.ndarray, "style stock"]:
    """Returns z-scores over the stocks: mean 0 and standard deviation 1 up to their 6 decimals."""
    raw = generator(spec, Purpose.STYLES, round_number).standard_normal((len(STYLES), spec.stocks))
    limited = np.clip(raw, -STYLE_LIMIT, STYLE_LIMIT)
    scores: Float64[np.ndarray, "style stock"] = limited - limited.mean(axis=1, keepdims=True)
    scores /= scores.std(axis=1, keepdims=True)
    return scores.round(6)


def exposures(spec: SyntheticSpec, round_number: int) -> Float64[np.ndarray, "stock factor"]:
    """Returns the styles, then a 1 in each stock's sector; in the order of `FACTOR_NAMES`."""
    in_sector = np.eye(len(SECTORS))[sector_codes(spec, round_number)]
    return np.concatenate([style_exposures(spec, round_number).T, in_sector], axis=1)


def specific_risk(spec: SyntheticSpec, round_number: int) -> Float64[np.ndarray, " stock"]:
    """Returns log-normal risks around their median, higher where the volatility style is."""
    volatility = style_exposures(spec, round_number)[STYLES.index("volatility")]
    noise = generator(spec, Purpose.RISK, round_number).standard_normal(spec.stocks)
    risk: Float64[np.ndarray, " stock"] = MEDIAN_SPECIFIC_RISK * np.exp(0.35 * volatility + 0.15 * noise)
    return risk.round(6)
