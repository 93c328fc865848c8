"""Where the tests find data that is not part of the project: a folder `shared` beside the repository."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2].parent / "shared"


def shared_file(name: str) -> Path:
    """Returns the path of a shared data file; skips the test where there is none."""
    path = SHARED / "data" / name
    if not path.exists():
        pytest.skip(f"needs {name} in a folder shared/data beside the repository; it may not be redistributed")
    return path
