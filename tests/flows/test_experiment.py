"""The experiment as a command: on real workers, to the atom, with the same bytes on any number of them."""

import hashlib
import html
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.experiment import experiment
from flows.session import Session
from scoring.synthetic import SyntheticSpec
from tasks.lab.laboratory import Findings
from tasks.synthetic import write_tournament
from tests.flows.in_process import resolve_in_process

SPEC = SyntheticSpec(rounds=9, models=40, stocks=60, seed=4)
FILE = """
title = "Small"
question = "Does it run?"
data = "data"
published = "out"
bootstrap = {{ samples = 200, block = 2 }}
exhibits = ["conformity_tax_seed", "drawdown_combination", "stake_influence"]
[baseline]
portfolio = {{}}
true_contribution = {{ bags = 10 }}
[[variants]]
name = "root"
weights = [{{ policy = "power", exponent = "0.5" }}]
[[variants]]
name = "by-standing"
weights = [{{ policy = "equal" }}, {{ policy = "reputation" }}]
[[variants]]
name = "on-tc"
rules = {{ payout = {{ tc = "1" }} }}
[[variants]]
name = "taxed"
rules = {{ adjust = [{{ policy = "conformity_tax", threshold = "1" }}] }}
[attacks]
names = ["split_models", "throttle_pair", "leave_ids_out"]
against = ["baseline", "taxed"]
{more}
"""
COMMAND = "from flows.cli import main; main()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tournament with the ledgers of all rounds but the last, and an experiment on it."""
    folder = tmp_path_factory.mktemp("lab")
    write_tournament(folder / "data", SPEC)
    for number in range(1, SPEC.rounds):
        resolve_in_process(folder / "data", folder / "out", number)
    (folder / "small.toml").write_text(FILE.format(more=""), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def findings(session: Session, folder: Path) -> Findings:
    return experiment(str(folder / "small.toml"), str(folder / "results"))


def digests(folder: Path) -> Mapping[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", COMMAND, "experiment", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd, check=False)


def test_experiment__the_baseline_reproduces_every_published_ledger(findings: Findings) -> None:
    assert findings.reproduced == (SPEC.rounds - 1, SPEC.rounds - 1)


def test_experiment__pays_every_variant_in_every_round(findings: Findings, folder: Path) -> None:
    rounds = pq.read_table(folder / "results" / "results" / "rounds.parquet").to_pylist()
    paid = {(row["variant"], row["round"]) for row in rounds}
    names = ("baseline", "root", "by-standing", "on-tc", "taxed")
    assert paid == {(name, number) for name in names for number in range(1, SPEC.rounds + 1)}
    by_variant = {name: [row["payout"] for row in rounds if row["variant"] == name] for name in names}
    assert len({tuple(payouts) for payouts in by_variant.values()}) == len(names)
    assert all(row["payout"] <= row["gross_payout"] for row in rounds)


def test_experiment__leaves_a_page_that_is_complete_in_itself(findings: Findings, folder: Path) -> None:
    page = (folder / "results" / "report.html").read_text(encoding="utf-8")
    assert f"{SPEC.rounds - 1} of {SPEC.rounds - 1} reproduced" in page
    for exhibit in findings.exhibits:
        assert exhibit.title in html.unescape(page)
    assert "<script" not in page
    assert (folder / "results" / "experiment.toml").read_bytes() == (folder / "small.toml").read_bytes()


@pytest.fixture(scope="module")
def finished(
    findings: Findings, folder: Path, tmp_path_factory: pytest.TempPathFactory, prefect_home: Path
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The command, on one worker, in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(prefect_home))
        patch.delenv("PREFECT_API_URL", raising=False)
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        return run(str(folder / "small.toml"), "--json", "--workers", "1", cwd=elsewhere), elsewhere


def test_experiment__gives_the_same_bytes_on_one_worker(
    finished: tuple[subprocess.CompletedProcess[str], Path], folder: Path
) -> None:
    command, elsewhere = finished
    assert command.returncode == 0, command.stderr
    assert digests(elsewhere / "experiments" / "small") == digests(folder / "results")


def test_experiment__prints_json_for_programs(finished: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    command, elsewhere = finished
    document = json.loads(command.stdout)
    assert (document["reproduced"], document["published"]) == (SPEC.rounds - 1, SPEC.rounds - 1)
    assert {row["variant"] for row in document["comparison"]} >= {"baseline", "root", "taxed"}
    assert {row["attack"] for row in document["matrix"]} == {"split_models", "throttle_pair", "leave_ids_out"}
    assert document["report"] == "experiments/small/report.html"
    assert (elsewhere / document["report"]).is_file()


def test_experiment__a_mistake_is_one_line_before_anything_starts(folder: Path, tmp_path: Path) -> None:
    file = folder / "wrong.toml"
    file.write_text(FILE.format(more='[[variants]]\nname = "x"\nweight = []'), encoding="utf-8")
    finished = run(str(file), cwd=tmp_path)
    assert finished.returncode == 2
    (line,) = finished.stderr.splitlines()
    assert line.startswith(f"stakeweight: {file}: unknown key variants.x.weight (did you mean 'weights'?)")
    assert list(tmp_path.iterdir()) == []
