"""docs/files.md and the examples say what the code says: the code reads them, and no key, code or table is left out."""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from decimal import Decimal
from pathlib import Path

import pytest

from infra.settings import PREFIX, Settings
from scoring.portfolio.problem import PortfolioTerms
from scoring.published import SCORE_KEYS
from scoring.rounds import ScoreOptions, TrueContributionOptions
from scoring.rulebook import ROW_KEYS
from tasks.contract import TABLES
from tasks.inputs import read_round
from tasks.store import open_store
from tasks.tournament import TOURNAMENT_FILE, Tournament, read_tournament
from tests.tasks.fixtures import write_round

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
TC_EXAMPLE = ROOT / "examples" / "tournament_tc.toml"
OPTIONS = {"scores": ScoreOptions, "portfolio": PortfolioTerms, "true_contribution": TrueContributionOptions}
EVERY_OPTION = [f"{table}.{field.name}" for table, options in OPTIONS.items() for field in fields(options)]
REFUSING = {"Refused", "Rejection", "_refuse_rows"}


def _example() -> str:
    found = re.findall(r"```toml\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def _read(directory: Path) -> Tournament:
    (directory / TOURNAMENT_FILE).write_text(_example(), encoding="utf-8")
    return read_tournament(open_store(directory))


def _section(title: str) -> str:
    """The text below the heading that holds `title`, up to the next heading."""
    return next(part for part in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE) if title in part.partition("\n")[0])


def _first_cells(section: str) -> list[str]:
    """The names in the first cell of each row of the section's tables."""
    cells = re.findall(r"^\| (`[^|]+`) \|", section, flags=re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def _rule_codes() -> Iterator[str]:
    """The codes that submissions are refused with: whole words among the first two arguments of a refusal."""
    for module in (ROOT / "tasks").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REFUSING:
                words = [each.value for each in node.args[:2] if isinstance(each, ast.Constant)]
                yield from (word for word in words if re.fullmatch(r"[a-z_]+", str(word)))


def test_files_md__its_example_is_a_tournament_with_every_option_at_its_default(tmp_path: Path) -> None:
    tournament = _read(tmp_path)
    assert tournament.scores == ScoreOptions()
    assert tournament.portfolio == PortfolioTerms()
    assert tournament.true_contribution == TrueContributionOptions()
    assert (tournament.rulebook.at(99).payout is None, tournament.rulebook.at(100).payout is None) == (False, True)


def test_files_md__its_example_leaves_no_option_out() -> None:
    example = tomllib.loads(_example())
    assert sorted(f"{table}.{key}" for table in OPTIONS for key in example[table]) == sorted(EVERY_OPTION)
    assert {key for row in example["rules"] for key in row} == set(ROW_KEYS)


def test_files_md__its_example_pays_a_round_of_the_layout_it_describes(tmp_path: Path) -> None:
    inputs = read_round(open_store(write_round(tmp_path)), _read(tmp_path), 7)
    assert {Path(path).name for path in inputs.hashes} == set(
        re.findall(r"^    (\w+\.(?:toml|parquet)) ", _section("The tournament's folder"), flags=re.MULTILINE)
    )


@pytest.mark.parametrize("key", [*EVERY_OPTION, *(f"rules.{key}" for key in ROW_KEYS)])
def test_files_md__every_key_has_its_row(key: str) -> None:
    assert _first_cells(_section("tournament.toml")).count(key) == 1


@pytest.mark.parametrize("key", SCORE_KEYS)
def test_files_md__every_score_is_named(key: str) -> None:
    assert f"`{key}`" in _section("tournament.toml")


def test_files_md__the_rule_codes_are_those_of_the_code() -> None:
    codes = set(_rule_codes())
    assert {"two_files", "not_finite", "constant"} <= codes
    assert sorted(_first_cells(_section("Submissions"))) == sorted(codes)


def test_files_md__the_published_tables_are_those_of_the_contract() -> None:
    assert sorted(_first_cells(_section("What is published"))) == sorted(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_files_md__every_published_column_is_named(table: str) -> None:
    row = next(line for line in _section("What is published").splitlines() if line.startswith(f"| `{table}` |"))
    own = [name for name in TABLES[table].names if name.partition("_multiplier")[0] not in SCORE_KEYS]
    assert [name for name in own if not name.endswith("_percentile") and f"`{name}`" not in row] == []


def test_files_md__every_setting_has_its_row() -> None:
    named = {PREFIX + name.upper() for name in Settings.model_fields if name != "prefect_api_url"}
    assert named | {"PREFECT_API_URL"} <= set(_first_cells(_section("Environment variables")))


def test_tournament_tc_toml__its_options_are_the_defaults_it_says_they_are(tmp_path: Path) -> None:
    tournament = read_tournament(open_store(tmp_path), TC_EXAMPLE)
    assert tournament.portfolio == PortfolioTerms()
    assert tournament.true_contribution == TrueContributionOptions()
    assert tournament.scores == ScoreOptions()
    payout = tournament.rulebook.at(1).payout
    assert payout is not None
    assert dict(payout) == {"corr": Decimal("0.5"), "tc": Decimal("1.0")}


def test_tournament_tc_toml__leaves_no_option_of_true_contribution_out() -> None:
    example = tomllib.loads(TC_EXAMPLE.read_text(encoding="utf-8"))
    for table in ("portfolio", "true_contribution"):
        assert sorted(example[table]) == sorted(field.name for field in fields(OPTIONS[table]))
