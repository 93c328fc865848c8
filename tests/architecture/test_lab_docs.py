"""docs/lab.md says what the code says: every key, figure, attack and exhibit has its row, and its example is read."""

import re
from pathlib import Path

import pytest

from scoring.lab.attacks import ATTACKS
from tasks.lab.compare import FIGURES
from tasks.lab.exhibits import EXHIBITS, NEEDED
from tasks.lab.experiment_file import KEYS, read_experiment
from tasks.lab.mechanism import CHANGES

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "lab.md").read_text(encoding="utf-8")
EXAMPLES = sorted(
    file for file in (ROOT / "examples").glob("*.toml") if "[[variants]]" in file.read_text(encoding="utf-8")
)


def _section(title: str) -> str:
    return next(part for part in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE) if title in part.partition("\n")[0])


def _first_cells(title: str) -> list[str]:
    cells = re.findall(r"^\| (`[^|]+`) \|", _section(title), flags=re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def _read(file: Path) -> object:
    return read_experiment(file, tuple(ATTACKS), tuple(EXHIBITS))


def test_lab_md__every_key_of_the_file_has_its_row() -> None:
    assert sorted(_first_cells("1. The file")) == sorted(KEYS)


def test_lab_md__every_change_is_named() -> None:
    assert [change for change in CHANGES if f"`{change}" not in _section("1. The file")] == []


def test_lab_md__every_figure_has_its_row() -> None:
    assert sorted(_first_cells("2. What is compared")) == sorted(figure.name for figure in FIGURES)


def test_lab_md__every_attack_has_its_row() -> None:
    assert sorted(_first_cells("3. Attacks")) == sorted(ATTACKS)


def test_lab_md__every_exhibit_has_its_row_and_the_variants_it_needs() -> None:
    assert sorted(_first_cells("4. Exhibits")) == sorted(EXHIBITS)
    lacking = [name for names in NEEDED.values() for name in names if f"`{name}`" not in _section("4. Exhibits")]
    assert lacking == []


def test_lab_md__its_example_is_an_experiment(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(title.*?)```", DOCUMENT, flags=re.DOTALL)
    file = tmp_path / "example.toml"
    file.write_text(example, encoding="utf-8")
    _read(file)


def test_examples__there_is_one_for_each_question() -> None:
    assert [file.stem for file in EXAMPLES] == ["conformity_tax", "score_stability", "stake_concentration"]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_examples__are_experiments_that_need_no_data(file: Path) -> None:
    experiment = read_experiment(file, tuple(ATTACKS), tuple(EXHIBITS))
    assert experiment.sources.synthetic is not None
    assert experiment.exhibits
