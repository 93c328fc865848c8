"""The experiments in examples/ as a reader of the README runs them, held to what the README says that they find."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
COMMAND = "from flows.cli import main; main()"
Document = Mapping[str, Any]


def said(example: str) -> str:
    """What the README says that an example finds."""
    (row,) = re.findall(
        rf"^\| \[`examples/{example}\.toml`\].*\|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    return str(row)


def run(example: str, out: Path) -> Document:
    command = [sys.executable, "-c", COMMAND, "experiment", f"examples/{example}.toml", "--out", str(out), "--json"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT, check=False)
    assert finished.returncode == 0, finished.stderr
    found: Document = json.loads(finished.stdout)
    assert Path(found["report"]).stat().st_size > 100_000
    return found


def findings(found: Document, exhibit: str) -> str:
    return " ".join(found["exhibits"][exhibit])


def test_conformity_tax__splits_beat_the_threshold_that_the_readme_says_they_beat(tmp_path: Path) -> None:
    found, text = run("conformity_tax", tmp_path), said("conformity_tax")
    cells = {(row["mechanism"], row["attack"]): row for row in found["matrix"]}
    by_model, by_account = cells["tax-10-model", "split_models"], cells["tax-10-account", "split_accounts"]
    assert (by_model["verdict"], by_account["verdict"]) == ("pays", "pays")
    assert cells["tax-10-account", "split_models"]["gain"] == 0
    assert f"{100 * by_model['gain']:+.2f} %" in text
    assert f"{100 * by_account['gain']:+.2f} %" in text
    for total in (30192.954174991097, 26297.006830040107, 23360.652071561824, 16060.869966036134):
        assert repr(total) in findings(found, "conformity_tax_seed")
        assert f"{total:.2f}" in text


def test_score_stability__neither_is_the_steadier_score(tmp_path: Path) -> None:
    told, text = findings(run("score_stability", tmp_path), "score_stability"), said("score_stability")
    assert "neither MMC nor TC is the steadier score" in told
    assert "2 of 4 measures" in told
    assert "each is the steadier one by two of four measures" in text
    (least,) = re.findall(r"Murky's and Richard's MMC correlate [\d.]+ .*?at least (0\.\d+)", told)
    assert least[:9] in text
    assert re.search(r"Murky's and Mike's MMC correlate 1\.000000000", told)


def test_stake_concentration__answers_a_by_the_past_and_b_in_hindsight(tmp_path: Path) -> None:
    found, text = run("stake_concentration", tmp_path), said("stake_concentration")
    influence, drawdowns = findings(found, "stake_influence"), findings(found, "drawdown_combination")
    assert re.search(r"59 accounts, stake and stake × TC correlate: Pearson 0\.97", influence)
    assert "Stake and TC itself: −0.28" in influence
    assert re.search(r"largest holds 53\.\d % of stake and 61\.\d % of influence", influence)
    assert "By what could be known the answer is A: " in drawdowns
    assert "By hindsight the answer is B: " in drawdowns
    for figure in ("0.97", "−0.29", "53 %", "62 %", "(B)", "(A)"):
        assert figure in text
