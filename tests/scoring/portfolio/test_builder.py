"""An operator's own solver by its name: where it is looked for, and what he hears when it is not there."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

from scoring.errors import OperatorError
from scoring.portfolio import default_problem
from scoring.portfolio.builder import load_builder, source_file

MODULE = "operators_own_portfolio"
DEFAULT = "scoring.portfolio.default_problem:build"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which is not on Python's path, as it is not for the command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    return tmp_path


def test_load_builder__finds_the_default_problem() -> None:
    assert load_builder(DEFAULT) is default_problem.build
    assert source_file(DEFAULT) == Path(default_problem.__file__)


def test_load_builder__finds_a_module_in_the_working_directory(here: Path) -> None:
    (here / "fund_in_this_folder.py").write_text("def build(problem, risk_aversion):\n    return 'built'\n")
    assert load_builder("fund_in_this_folder:build")(None, 1.0) == "built"
    assert source_file("fund_in_this_folder:build") == here / "fund_in_this_folder.py"


def test_load_builder__no_file_of_the_working_directory_takes_a_librarys_place(here: Path) -> None:
    (here / "cvxpy.py").write_text("raise RuntimeError")
    command = "from scoring.portfolio.builder import load_builder; load_builder('cvxpy:Problem')"
    root = Path(__file__).parents[3]
    code = f"import sys; sys.path[:] = [p for p in sys.path if p] + [{str(root)!r}]; {command}"
    subprocess.run([sys.executable, "-c", code], cwd=here, check=True, capture_output=True, timeout=120)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("facto", "must be 'factor' or be named as module:function, found 'facto' \\(did you mean 'factor'\\?\\)"),
        (":build", "module:function"),
        (f"{MODULE}:", "module:function"),
        ("no_such_module_anywhere:build", "there is no module 'no_such_module_anywhere'"),
        ("fund_portfolo:build", "no module 'fund_portfolo' \\(did you mean 'fund_portfolio'\\?\\)"),
        (
            "scoring.portfolio.defalt_problem:build",
            "no module 'scoring.portfolio.defalt_problem' \\(did you mean 'scoring.portfolio.default_problem'\\?\\)",
        ),
        ("fund_portfolio.inner:build", "there is no module 'fund_portfolio.inner'"),
        (f"{MODULE}:biuld", "no function 'biuld' \\(did you mean 'build'\\?\\)"),
        (f"{MODULE}:number", "no function 'number'"),
        ("fund_that_needs_more:build", "cannot import .* ModuleNotFoundError: No module named 'no_such_library'"),
        ("fund_that_breaks:build", "cannot import .* ValueError: first line$"),
    ],
)
def test_load_builder__says_what_is_wrong_with_a_name(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    (here / "fund_portfolio.py").write_text("")
    (here / "fund_that_needs_more.py").write_text("import no_such_library")
    (here / "fund_that_breaks.py").write_text("raise ValueError('first line\\nsecond line')")
    module = types.ModuleType(MODULE)
    module.build, module.number = default_problem.build, 3
    monkeypatch.setitem(sys.modules, MODULE, module)
    with pytest.raises(OperatorError, match=message) as caught:
        load_builder(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["sys:exit", "no_such_module_anywhere:build", f"{MODULE}:build"])
def test_source_file__must_be_a_file(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, MODULE, types.ModuleType(MODULE))
    with pytest.raises(OperatorError, match="must be a file, found none"):
        source_file(name)
