"""Seeded synthetic tournaments of any size: a market, a crowd of models, their stakes.

The idea: every random number has an address, (seed, purpose, round, index), and nothing is drawn in passing.
So any round, and any block of models of a round, can be made alone, in any order and on any worker, with the
same bytes as the whole. The failure guarded against: test data that change with the number of workers or the
size of a block, so that a difference between two runs says nothing about the engine.

`spec` says what to make and holds the addresses, `universe` and `market` make stocks, risk, features and
targets, `crowd` the models, `predictions` what they submit, `stakes` accounts, stakes and who submits when.
Nothing here reads or writes; `tasks.synthetic` writes the files.

The same bytes hold for one numpy version (the streams of `numpy.random.Generator` may change between
versions). All values are rounded far above the last bit of a double, so that processors whose last bits
differ agree as well.
"""

from scoring.synthetic.crowd import Kind, Style, Traits, make_traits
from scoring.synthetic.market import Market, feature_signals, make_market
from scoring.synthetic.predictions import BENCHMARKS, benchmarks, predictions
from scoring.synthetic.spec import Calendar, Purpose, SyntheticSpec, calendar, generator
from scoring.synthetic.stakes import Attendance, attendance, benchmark_stakes, make_stakes
from scoring.synthetic.universe import stock_ids

__all__ = [
    "BENCHMARKS",
    "Attendance",
    "Calendar",
    "Kind",
    "Market",
    "Purpose",
    "Style",
    "SyntheticSpec",
    "Traits",
    "attendance",
    "benchmark_stakes",
    "benchmarks",
    "calendar",
    "feature_signals",
    "generator",
    "make_market",
    "make_stakes",
    "make_traits",
    "predictions",
    "stock_ids",
]
