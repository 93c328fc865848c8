"""README.md says what happens: its demo is resolved, its example runs, and both give what it prints."""

import ast
import re
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import stakeweight
from scipy.stats import norm

from flows.render import print_resolution
from tasks.conclude import Resolution
from tasks.synthetic import write_demo
from tests.flows.in_process import resolve_in_process

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ROUND = 1


def _block(language: str, holding: str) -> str:
    """The one fenced block of a language that holds a text."""
    found = [block for kind, block in re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL) if kind == language]
    (block,) = [each for each in found if holding in each]
    return str(block)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Resolution]:
    """The demo's data, what is published of it, and how it went."""
    folder = tmp_path_factory.mktemp("demo")
    data, out = write_demo(folder), folder / "out"
    return data, out, resolve_in_process(data, out, ROUND)


def _values(example: str, names: dict[str, object]) -> list[pd.Series]:
    """What the example's expressions give, in their order."""
    given = dict(names)
    values = []
    for statement in ast.parse(example).body:
        if isinstance(statement, ast.Expr):
            values.append(eval(ast.unparse(statement), given))
        else:
            exec(ast.unparse(statement), given)
    return values


def _predictions(data: Path) -> pd.DataFrame:
    columns = {}
    for path in (data / f"rounds/{ROUND}/submissions").iterdir():
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path, partitioning=None)
        columns[path.stem] = table.set_index("id")["prediction"]
    return pd.DataFrame(columns)


def test_readme__prints_what_the_demo_prints(
    demo: tuple[Path, Path, Resolution], capsys: pytest.CaptureFixture[str]
) -> None:
    print_resolution(demo[2], as_json=False)
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    shown = [line.rstrip() for line in _block("", "synthetic-1: round 1").splitlines()]
    kept = [line for line in shown if line.strip() != "…"]
    assert [line for line in printed if line in kept] == kept
    for holding in ("models ", "at risk ", "paid ", "burned ", "factor ", "meta model", "ledger/", "scores/"):
        assert any(line.strip().startswith(holding) for line in kept), holding


def test_readme__its_demo_names_the_ledger_that_is_published(demo: tuple[Path, Path, Resolution]) -> None:
    for table in ("ledger", "scores"):
        (name,) = re.findall(rf"  ({table}/\S+\.parquet)  (\d+) rows", README)
        assert pq.ParquetFile(demo[1] / name[0]).metadata.num_rows == int(name[1])


def test_readme__its_example_gives_what_is_published(demo: tuple[Path, Path, Resolution]) -> None:
    data, out, _ = demo
    tables = {name: pd.read_parquet(paths, partitioning=None) for name, paths in stakeweight.tables(str(out)).items()}
    ledger, scores = (tables[name].dropna(subset="model").set_index("model") for name in ("ledger", "scores"))
    vectors = tables["meta_model"].set_index("id")
    names = {
        "predictions": _predictions(data),
        "stakes": ledger["at_risk"],
        "target": vectors["target"],
        "price": vectors["mmc_price"],  # the demo has no True Contribution; a price is a price
    }
    mmc, tc = _values(_block("python", "from scoring import frames"), names)
    published = scores["mmc"].dropna()
    assert sorted(mmc.index) == sorted(published.index)
    assert (mmc - published).abs().max() <= 1e-12
    gaussian = (names["predictions"].rank() - 0.5).div(len(vectors)).apply(norm.ppf)
    assert (tc - gaussian.mul(vectors["mmc_price"], axis=0).sum()).abs().max() <= 1e-12
