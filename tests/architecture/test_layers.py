"""The house rules that a tool can check: who may import whom, and what no module may do."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]
PACKAGES = ("scoring", "tasks", "flows", "infra")
MODULES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_LINES = {"package": 400, "tests": 500}

READS_THE_ENVIRONMENT = {"infra/settings.py", "infra/prefect_api.py", "infra/prefect_file.py"}
# Where a heavy or loose-typed package may be imported; every other module of the four packages must not.
ONLY_IN = {
    "pandas": ("scoring/frames.py", "tasks/", "flows/"),
    "torch": ("scoring/portfolio/", "scoring/true_contribution"),
    "cvxpy": ("scoring/portfolio/", "scoring/true_contribution"),
    "cvxpylayers": ("scoring/portfolio/", "scoring/true_contribution"),
    "diffcp": ("scoring/portfolio/", "scoring/true_contribution"),
    "prefect": ("flows/", "infra/prefect_api.py", "infra/prefect_file.py"),
    "distributed": ("flows/", "infra/clusters.py"),
    "dask": ("flows/", "infra/clusters.py", "infra/doctor_certificates.py"),
}


def _nodes(module: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8")))


def _imported(module: Path) -> set[str]:
    names = set()
    for node in _nodes(module):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and bool({"environ", "getenv"} & {alias.name for alias in node.names})
    return isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}


def test_layers__import_contracts_hold(capsys: pytest.CaptureFixture[str]) -> None:
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize("package", ONLY_IN)
def test_layers__a_package_is_imported_only_where_it_belongs(package: str) -> None:
    importers = [module.as_posix() for module in MODULES if package in _imported(module)]
    assert [importer for importer in importers if not importer.startswith(ONLY_IN[package])] == []


def test_packages__are_all_named_in_the_project_file() -> None:
    """The list is explicit, because one package is installed under another name than its folder's."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    renamed = {folder: name for name, folder in setuptools["package-dir"].items()}
    folders = {module.parent.as_posix() for module in MODULES if module.name == "__init__.py"}
    assert {renamed.get(folder, folder.replace("/", ".")) for folder in folders} == set(setuptools["packages"])


def test_kernels__call_only_kernels_of_their_own_file() -> None:
    """numba keeps compiled code until the caller's own file changes: a callee elsewhere would stay what it was."""
    kernels = [module for module in MODULES if module.parent.name == "kernels" and module.name != "__init__.py"]
    assert kernels
    imported = {
        f"{module.name}: {node.module}"
        for module in kernels
        for node in _nodes(module)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scoring.kernels.")
    }
    assert imported == set()


def test_modules__check_data_with_raise_and_never_with_assert() -> None:
    """`python -O` removes every assert."""
    asserts = [
        f"{module}:{node.lineno}" for module in MODULES for node in _nodes(module) if isinstance(node, ast.Assert)
    ]
    assert asserts == []


def test_modules__only_the_settings_read_the_environment() -> None:
    readers = {module.as_posix() for module in MODULES if any(map(_reads_environment, _nodes(module)))}
    assert readers <= READS_THE_ENVIRONMENT


def test_modules__open_with_their_idea() -> None:
    silent = [
        module.as_posix()
        for module in MODULES
        if module.name != "__init__.py"
        and not ast.get_docstring(ast.parse((ROOT / module).read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_modules__stay_short_enough_to_be_read() -> None:
    tests = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))
    limits = dict.fromkeys(MODULES, MAX_LINES["package"]) | dict.fromkeys(tests, MAX_LINES["tests"])
    lengths = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in limits}
    assert {file.as_posix(): length for file, length in lengths.items() if length > limits[file]} == {}
