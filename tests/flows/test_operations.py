"""`stakeweight certificates`: one's own authority by one command, renewed by another, mistakes in one line."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from flows.cli import main
from infra.certificates import ROLES

FILES = {"ca.pem", "ca-key.pem", "dask.yaml", *(f"{role}.pem" for role in ROLES)}


def _run(monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str]) -> int:
    monkeypatch.setattr("sys.argv", ["stakeweight", "certificates", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(str(caught.value.code))


def test_certificates__makes_and_renews_what_a_cluster_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tls"
    assert _run(monkeypatch, [str(folder), "--host", "127.0.0.1", "--host", "scheduler.internal"]) == 0
    assert "valid until" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == FILES
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert _run(monkeypatch, [str(folder), "--renew", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dask_config"] == str(folder / "dask.yaml")
    changed = {name for name, data in before.items() if (folder / name).read_bytes() != data}
    assert changed == {Path(told[role]).name for role in ROLES}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "certificates need at least one host"),
        (["--host", "no host"], "must be the name or the address of a host"),
        (["--renew"], "there is no authority to renew from"),
        (["--renew", "--installed", "/etc/tls"], "--installed: is for a new authority"),
    ],
)
def test_certificates__a_mistake_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: Sequence[str],
    message: str,
) -> None:
    assert _run(monkeypatch, [str(tmp_path / "tls"), *options]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "tls" / "ca.pem").exists()
