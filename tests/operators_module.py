"""A module of an operator's own, as tests write one: in the working directory, loaded anew, forgotten afterwards."""

import sys
from pathlib import Path

import pytest


def operators_module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> Path:
    """Writes a module into a folder, makes the folder the working directory, and returns the file."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, name, sys)
    del sys.modules[name]
    file = folder / f"{name}.py"
    file.write_text(source)
    return file
