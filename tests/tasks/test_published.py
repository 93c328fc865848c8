"""Reading what is published: manifests decide, not what happens to lie in a folder."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import stakeweight

from tasks.publish import Manifest, publish
from tasks.published import published_rounds, tables
from tasks.store import open_store


def publish_round(out: Path, number: int, revision: int, corr: float) -> None:
    draft = Manifest(number, revision, revision - 1 or None, f"{number}-{revision}", {}, {}, {})
    publish(open_store(out), draft, {"scores": pa.table({"model": ["a"], "corr": [corr]})})


def test_tables__names_the_newest_revision_of_every_round_in_order(tmp_path: Path) -> None:
    for number, revision, corr in ((10, 1, 0.1), (9, 1, 0.2), (10, 2, 0.3)):
        publish_round(tmp_path, number, revision, corr)
    (tmp_path / "scores/round=9/1-ffffffffffffffff.parquet").write_bytes(b"of a run that died")
    found = tables(tmp_path)
    assert list(found) == ["scores"]
    scores = pd.read_parquet(found["scores"])
    assert scores["corr"].tolist() == [0.2, 0.3]
    assert scores["round"].astype(int).tolist() == [9, 10]
    assert published_rounds(open_store(tmp_path)) == [9, 10]


def test_tables__of_an_empty_store_is_empty(tmp_path: Path) -> None:
    assert tables(tmp_path) == {}


def test_tables__is_what_a_notebook_imports_under_the_name_of_the_distribution() -> None:
    assert stakeweight.tables is tables
