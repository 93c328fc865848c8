"""What a command prints: whatever models, tournaments and currencies are called, it is their name on one line."""

import io
import json
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from flows.render import print_findings, print_resolution, print_written
from scoring.synthetic import SyntheticSpec
from tasks.conclude import Resolution
from tasks.findings import Findings
from tasks.publish import Manifest
from tasks.summary import ModelLine, RoundSummary

ODD_NAMES = {
    "closing_tag": "[/b]",
    "unknown_tag": "[/nothing] [red]x[/red]",
    "link": "[link=x]y[/link]",
    "emoji": ":smile:",
    "backslash": "a\\",
    "brackets": "[0.5]",
    "accents": "Zoë 株",
}
BREAKING = {"a\nb": "a\\nb", "\x1b[31mred": "\\x1b[31mred", "a\r\tb": "a\\r\\tb", "\u202eback": "\\u202eback"}


def resolution(name: str) -> Resolution:
    line = ModelLine(name, Decimal(10), Decimal(1), {"corr": Decimal("0.01")})
    loss = ModelLine("other", Decimal(10), Decimal(-1), {"corr": None})
    totals = (Decimal(20), Decimal(0), Decimal(1), Decimal(1), Decimal(1), Decimal(1))
    summary = RoundSummary(2, {"scored": 2}, *totals, (line,), (loss,), {"corr": Decimal("0.02")})
    outputs = {"ledger": {"path": f"{name}/round=1/1.parquet", "rows": 2, "sha256": "", "bytes": 1}}
    facts = {"tournament": name, "currency": name}
    return Resolution(Manifest(1, 1, None, "", facts, {}, outputs), summary)


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES.keys())
def test_print_resolution__shows_names_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_resolution(resolution(name), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{name}: round 1, revision 1"
    assert lines[2].endswith(f" {name}")
    assert f"at risk, {name}" in lines[6]
    assert any(line.startswith(f" {name} ") for line in lines[7:])
    assert lines[-1] == f"  {name}/round=1/1.parquet  2 rows"


@pytest.mark.parametrize(("name", "shown"), BREAKING.items(), ids=["line", "colour", "return_and_tab", "backwards"])
def test_print_resolution__a_name_stays_on_its_line(name: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_resolution(resolution("plain"), as_json=False)
    plain = capsys.readouterr().out.splitlines()
    print_resolution(resolution(name), as_json=False)
    text = capsys.readouterr().out
    assert len(text.splitlines()) == len(plain)
    assert text.count(shown) == 8  # title, three amounts, two columns, model and path
    assert name not in text


def test_print_resolution__shows_corr_mmc_and_tc_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the meta model, the best and the worst, in this order, whatever order and other scores they come with."""
    scores = {"fnc": Decimal("0.5"), "tc": Decimal("-0.0312"), "mmc": Decimal("0.0201"), "corr": Decimal("0.0103")}
    found = resolution("plain")
    assert found.summary is not None
    lines = {
        name: (replace(line, scores=scores),) for name in ("best", "worst") for line in getattr(found.summary, name)
    }
    print_resolution(replace(found, summary=replace(found.summary, meta_model=scores, **lines)), as_json=False)
    table = capsys.readouterr().out.splitlines()[6:10]
    assert table[0].split()[-4:] == ["corr", "mmc", "tc", "fnc"]
    assert [line.split()[0] for line in table[1:]] == ["meta", "plain", "other"]
    for line in table[1:]:
        assert line.split()[-4:] == ["+0.0103", "+0.0201", "-0.0312", "+0.5000"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_print_resolution__names_that_the_output_cannot_encode_are_escaped(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    print_resolution(resolution("株"), as_json=False)
    sys.stdout.flush()
    assert raw.getvalue().startswith(b"\\u682a: round 1, revision 1\n")


def test_print_resolution__json_holds_the_name_itself(capsys: pytest.CaptureFixture[str]) -> None:
    print_resolution(resolution("[/b]\n"), as_json=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["tournament"] == "[/b]\n"


def test_print_written__shows_the_directory_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    directory = Path("/x[/b]") / ":smile:" / ("d" * 500)
    print_written(directory, SyntheticSpec(rounds=1, models=1, stocks=20, seed=1), as_json=False)
    assert capsys.readouterr().out.startswith(f"{directory}: rounds ")


def test_print_findings__a_finding_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_findings(Findings(problems=["model '[/b]\n\x1b[31m' differs"]), as_json=False)
    assert capsys.readouterr().out.splitlines()[0] == "problem  model '[/b]\\n\\x1b[31m' differs"
