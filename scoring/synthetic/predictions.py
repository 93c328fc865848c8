"""What the models predict in a round, for any block of models alone.

    signal = √(1 − own) · (√(1 − TEAM_SHARE) · taste · features + √TEAM_SHARE · team noise) + √own · own noise

A family has one taste for all rounds and one team noise a round. A derived model makes its source's signal
again from the source's address, so that no block needs another block. What is submitted is the signal in the
model's style; a prediction is a whole number of millionths strictly between 0 and 1, and no submission is
constant.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from jaxtyping import Float64, Int64

from scoring.synthetic.crowd import Kind, Style, Traits, make_traits
from scoring.synthetic.market import feature_signals, ranks
from scoring.synthetic.spec import Purpose, SyntheticSpec, generator

MILLION = 1_000_000
"""Predictions are whole millionths: six decimals in a file, and 1 − p is exact."""

TEAM_SHARE = 0.25
"""Share of a family's variance that is not in the features."""

NEAR_SHARE = 0.01
"""Share of a near copy's variance that is not its source's: a correlation of 0.995."""

TASTE_SPREAD = 0.8
"""Standard deviation of a family's weight of a feature around what all families have in common: 1 for an
informed feature, 0 for the others."""

BENCHMARKS = ("bench_example", "bench_few", "bench_wide", "bench_ensemble")
"""Means: of the informed features, of three of them, of informed and style features, and of these three."""

BENCHMARK_NOISE_SHARE = 0.1
"""Share of a benchmark's variance that is its own."""

Signal = Float64[np.ndarray, " stock"]


def predictions(
    spec: SyntheticSpec, round_number: int, models: slice | Int64[np.ndarray, " model"] = slice(None)
) -> Float64[np.ndarray, "model stock"]:
    """Returns what a block of models predicts; the same however the models are cut into blocks.

    Memory is 8 bytes a cell of the result, and a row for each family in the block. A model that skips the
    round has predictions here too.

    Args:
        spec: the tournament.
        round_number: the round.
        models: positions of the models, in any order; all by default.

    Returns:
        Whole millionths, 0.000001 … 0.999999; stocks in the order of the universe.
    """
    traits = make_traits(spec)
    block = np.arange(spec.models)[models]
    families = _family_signals(spec, round_number, np.unique(traits.family[block]).tolist())
    result = np.empty((len(block), spec.stocks))
    for row, model in zip(result, block.tolist(), strict=True):
        signal = _model_signal(spec, round_number, traits, families, model)
        row[:] = STYLES[Style(traits.style[model])](signal)
        if traits.kind[model] == Kind.OPPOSITE:
            row[:] = MILLION - row
    result /= MILLION
    return result


def benchmarks(spec: SyntheticSpec, round_number: int) -> Float64[np.ndarray, "benchmark stock"]:
    """Returns what the benchmark models predict, in the order of `BENCHMARKS`: ranks, in whole millionths."""
    signals = feature_signals(spec, round_number)
    result = np.empty((len(BENCHMARKS), spec.stocks))
    for index, taste in enumerate(_benchmark_tastes(spec.features)):
        noise = generator(spec, Purpose.BENCHMARK_NOISE, round_number, index).standard_normal(spec.stocks)
        result[index] = _rank(_mix(_read(signals, taste), noise, BENCHMARK_NOISE_SHARE))
    return result / MILLION


def _benchmark_tastes(features: int) -> Float64[np.ndarray, "benchmark feature"]:
    tastes = np.zeros((len(BENCHMARKS), features))
    tastes[0, 0::3] = 1
    tastes[1, 0:9:3] = 1
    tastes[2, 0::3] = tastes[2, 1::3] = 1
    tastes[3] = (tastes[:3] / tastes[:3].sum(axis=1, keepdims=True)).mean(axis=0)
    return tastes


def _model_signal(
    spec: SyntheticSpec, round_number: int, traits: Traits, families: Mapping[int, Signal], model: int
) -> Signal:
    source = int(traits.source[model])
    noise = _model_noise(spec, round_number, source)
    signal = _mix(families[int(traits.family[model])], noise, float(traits.own_share[model]))
    if traits.kind[model] == Kind.NEAR:
        return _mix(signal, _model_noise(spec, round_number, model), NEAR_SHARE)
    return signal


def _model_noise(spec: SyntheticSpec, round_number: int, model: int) -> Signal:
    return generator(spec, Purpose.MODEL_NOISE, round_number, model).standard_normal(spec.stocks)


def _family_signals(spec: SyntheticSpec, round_number: int, families: Iterable[int]) -> dict[int, Signal]:
    """Returns the signal of each family: what it reads in the features, and its team's noise of the round."""
    signals = feature_signals(spec, round_number)
    result = {}
    for family in families:
        taste = TASTE_SPREAD * generator(spec, Purpose.TASTE, index=family).standard_normal(spec.features)
        taste[0::3] += 1
        noise = generator(spec, Purpose.TEAM_NOISE, round_number, family).standard_normal(spec.stocks)
        result[family] = _mix(_read(signals, taste), noise, TEAM_SHARE)
    return result


def _read(signals: Float64[np.ndarray, "feature stock"], taste: Float64[np.ndarray, " feature"]) -> Signal:
    """Returns the weighted features, with standard deviation 1."""
    blend: Signal = np.einsum("f,fn->n", taste, signals)
    blend /= blend.std()
    return blend


def _mix(most: Signal, rest: Signal, share: float) -> Signal:
    """Returns a signal with `share` of its variance from `rest`; both have standard deviation about 1."""
    mixed: Signal = np.sqrt(1 - share) * most + np.sqrt(share) * rest
    return mixed


def _whole(values: Signal) -> Signal:
    """Returns the nearest whole millionths strictly between 0 and 1."""
    whole: Signal = np.clip(np.rint(MILLION * values), 1, MILLION - 1)
    return whole


def _rank(signal: Signal) -> Signal:
    return _whole(ranks(signal))


def _raw(signal: Signal) -> Signal:
    return _whole(0.5 + 0.05 * signal)


def _minmax(signal: Signal) -> Signal:
    return _whole((signal - signal.min()) / (signal.max() - signal.min()))


def _two_decimals(signal: Signal) -> Signal:
    hundredths: Signal = np.clip(np.rint(_minmax(signal) / 10_000), 1, 99)
    return 10_000 * hundredths


def _ten_bins(signal: Signal) -> Signal:
    bins: Signal = np.floor(10 * ranks(signal))
    return 50_000 + 100_000 * bins


STYLES: Mapping[Style, Callable[[Signal], Signal]] = {
    Style.RANK: _rank,
    Style.RAW: _raw,
    Style.MINMAX: _minmax,
    Style.TWO_DECIMALS: _two_decimals,
    Style.TEN_BINS: _ten_bins,
}
"""How each style writes a signal, in millionths."""
