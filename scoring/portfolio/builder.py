"""The function that an operator's `solver = "module:function"` names: it builds the portfolio's problem.

Nothing here imports cvxpy, which takes 3 s.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scoring import named_function
from scoring.named_function import Place

STRUCTURED = "factor"
"""The built-in solver's name."""

_PLACE = Place("portfolio", "solver", (STRUCTURED,))


def load_builder(name: str) -> Callable[..., Any]:
    """Returns the function that `module:function` names.

    Raises:
        OperatorError: there is no such function, see `named_function.load_function`.
    """
    return named_function.load_function(name, _PLACE)


def source_file(name: str) -> Path:
    """Returns the file that the module of `module:function` is read from.

    Raises:
        OperatorError: the name has another form, or the module has no file.
    """
    return named_function.source_file(name, _PLACE)
