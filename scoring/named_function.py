"""An operator's own function, named as `module:function` in his tournament's file, and the file it stands in.

The module is looked for where Python looks, and last in the working directory: the `stakeweight` command and the
workers that it starts run there, but a command's own folder is all that Python adds for it. It comes last so that no
file that happens to lie there takes a library's place.

The failures guarded against: a misspelt name that is found out after an hour of scoring, and an edited function that
passes for the one that a round was published with.
"""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoring.errors import OperatorError, nearest


@dataclass(frozen=True, slots=True)
class Place:
    """Where a name stands, for messages.

    Attributes:
        table: the table of the tournament's file, e.g. `portfolio`.
        key: the key that names the function, e.g. `solver`.
        builtin: the names of the engine's own choices there.
    """

    table: str
    key: str
    builtin: tuple[str, ...] = ()


def is_named_function(name: str) -> bool:
    """Says whether a name is an operator's own, `module:function`, and none of the engine's."""
    return ":" in name


def load_function(name: str, place: Place) -> Callable[..., Any]:
    """Returns the function that `module:function` names.

    Raises:
        OperatorError: the name has another form; there is no such module; it cannot be imported; it has no such
            function.
    """
    module_name, function_name = _parsed(name, place)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the operator's module may raise anything
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise OperatorError(f"{place.table}: there is no module {module_name!r}{_meant(module_name)}") from error
        raise OperatorError(
            f"{place.table}: cannot import the module {module_name!r} of {name!r}: {type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        meant = nearest(function_name, [known for known, value in vars(module).items() if callable(value)])
        raise OperatorError(f"{place.table}: the module {module_name!r} has no function {function_name!r}{meant}")
    found: Callable[..., Any] = function
    return found


def source_file(name: str, place: Place) -> Path:
    """Returns the file that the module of `module:function` is read from.

    Raises:
        OperatorError: the name has another form, or the module has no file.
    """
    module_name, _ = _parsed(name, place)
    try:
        spec = importlib.util.find_spec(module_name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise OperatorError(f"{place.table}: the module {module_name!r} of {name!r} must be a file, found none")
    return Path(spec.origin)


def _parsed(name: str, place: Place) -> tuple[str, str]:
    """Returns module and function; from here on the working directory is among the places that Python looks in."""
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        known = "".join(f"{word!r} or " for word in place.builtin)
        must = f"{place.key} must be {known}be named as module:function"
        raise OperatorError(f"{place.table}: {must}, found {name!r}{nearest(name, place.builtin)}")
    if "" not in sys.path:
        sys.path.append("")
    importlib.invalidate_caches()
    return module_name, function_name


def _meant(module_name: str) -> str:
    """Returns ` (did you mean …?)` for a module that is close to one that is there."""
    package = module_name.rpartition(".")[0]
    try:
        paths = importlib.import_module(package).__path__ if package else None
    except Exception:  # a package that is not there has no modules that could be meant
        return _meant(package)
    prefix = f"{package}." if package else ""
    return nearest(module_name, [f"{prefix}{found.name}" for found in pkgutil.iter_modules(paths)])
