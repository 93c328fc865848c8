"""The crowd: who the models of a tournament are. What they predict in a round is in `predictions`.

Models come in families of very different sizes. Some are derived from another model: near copies, identical
twins, and opposites that submit exactly 1 − p; these are the pairs that scores and payouts must treat alike,
or as mirror images.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Float64, Int64

from scoring.synthetic.spec import Purpose, SyntheticSpec, generator

MODELS_PER_FAMILY = 40
"""On average; the largest of k families has a share of √(1/k)."""

OWN_SHARE = (0.1, 0.7)
"""Least and greatest share of a model's variance that is its own and not its family's."""

PURE_NOISE_SHARE = 0.02
"""Share of the models that are nothing but their own noise."""


class Kind(IntEnum):
    """How a model comes by its predictions."""

    OWN = 0
    NEAR = 1
    TWIN = 2
    OPPOSITE = 3


class Style(IntEnum):
    """How a signal is written into a submission."""

    RANK = 0
    RAW = 1
    MINMAX = 2
    TWO_DECIMALS = 3
    TEN_BINS = 4


KIND_SHARES = (0.87, 0.08, 0.02, 0.03)
"""Shares of the models, in the order of `Kind`."""

STYLE_SHARES = (0.60, 0.22, 0.13, 0.04, 0.01)
"""Shares of the models, in the order of `Style`."""


@dataclass(frozen=True, slots=True)
class Traits:
    """Who the models are; the same in every round.

    Attributes:
        names: (model,) sorted: `model_0001` …
        kind: (model,) a `Kind` each; the first model is `OWN`.
        source: (model,) position of the earlier `OWN` model it is derived from; its own if it is `OWN`.
        family: (model,) number of the family, that of the source.
        own_share: (model,) share of the variance that is the model's own, 0 … 1; that of the source.
        style: (model,) a `Style` each; twins and opposites have their source's.
    """

    names: tuple[str, ...]
    kind: Int64[np.ndarray, " model"]
    source: Int64[np.ndarray, " model"]
    family: Int64[np.ndarray, " model"]
    own_share: Float64[np.ndarray, " model"]
    style: Int64[np.ndarray, " model"]


def make_traits(spec: SyntheticSpec) -> Traits:
    """Returns who the models of a tournament are."""
    random = generator(spec, Purpose.TRAITS)
    kind = random.choice(len(Kind), size=spec.models, p=KIND_SHARES)
    kind[0] = Kind.OWN
    source = _sources(kind, random)
    style = random.choice(len(Style), size=spec.models, p=STYLE_SHARES)
    families = 1 + spec.models // MODELS_PER_FAMILY
    family = (families * random.random(spec.models) ** 2).astype(np.int64)
    own_share = random.uniform(*OWN_SHARE, spec.models)
    own_share[random.random(spec.models) < PURE_NOISE_SHARE] = 1.0
    width = max(4, len(str(spec.models)))
    return Traits(
        names=tuple(f"model_{number:0{width}d}" for number in range(1, spec.models + 1)),
        kind=kind,
        source=source,
        family=family[source],
        own_share=own_share[source],
        style=np.where(kind == Kind.NEAR, style, style[source]),
    )


def _sources(kind: Int64[np.ndarray, " model"], random: np.random.Generator) -> Int64[np.ndarray, " model"]:
    """Returns each model's own position, or that of a random earlier `OWN` model."""
    everyone = np.arange(len(kind))
    originals = np.flatnonzero(kind == Kind.OWN)
    earlier = np.searchsorted(originals, everyone)
    drawn = originals[(earlier * random.random(len(kind))).astype(np.int64)]
    return np.where(kind == Kind.OWN, everyone, drawn)
