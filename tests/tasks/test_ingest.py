"""Ingest: one file a model or one wide table, in any form, give the same ranks, digests and receipts."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.errors import OperatorError, StorageError
from scoring.ranks import rank
from tasks import store as store_module
from tasks.ingest import (
    BLOCK_MODELS,
    Block,
    Source,
    cut_blocks,
    file_hashes,
    find_sources,
    ingest_block,
    receipts_of,
)
from tasks.store import Entry, Store, open_store
from tasks.submission_file import byte_limit
from tests.tasks.fixtures import STOCKS, csv_bytes, stock_ids, submission, with_column, with_value

IDS = tuple(sorted(stock_ids()))
FOLDER = "rounds/7/submissions"
GOOD = {f"model_{letter}": submission(at) for at, letter in enumerate("abcde")}
SCATTERED = [IDS[(11 * at + 3) % STOCKS] for at in range(STOCKS)]


def write(root: Path, files: dict[str, pa.Table | bytes]) -> Store:
    """Writes files below the folder of submissions; a name that begins with `/` counts from the round's folder."""
    for name, content in files.items():
        path = root / "rounds/7" / (name[1:] if name.startswith("/") else f"submissions/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            pq.write_table(content, path)
    return open_store(root)


def wide(columns: dict[str, object], ids: list[str] = SCATTERED) -> pa.Table:
    return pa.table({"id": ids, **columns})


def values(table: pa.Table, ids: list[str] = SCATTERED) -> list[float]:
    """A submission's predictions in the order of `ids`."""
    found = dict(zip(table.column("id").to_pylist(), table.column("prediction").to_pylist(), strict=True))
    return [found[stock] for stock in ids]


def ingest(store: Store) -> Block:
    return ingest_block(find_sources(store, FOLDER), store, IDS)


def codes(block: Block) -> dict[str, str | None]:
    return {receipt.model: receipt.rejection.code if receipt.rejection else None for receipt in block.receipts}


def assert_one_line(error: Exception) -> None:
    assert "\n" not in str(error)


# ---------------------------------------------------------------------------------------------- finding


def test_find_sources__are_the_files_of_the_folder_by_model(tmp_path: Path) -> None:
    store = write(tmp_path, {"zeta.csv": b"", "alpha.parquet": b"", "beta.v2.parquet": b"", "a b é.csv": b""})
    found = find_sources(store, FOLDER)
    assert [(source.model, source.files[0].path) for source in found] == [
        ("a b é", f"{FOLDER}/a b é.csv"),
        ("alpha", f"{FOLDER}/alpha.parquet"),
        ("beta.v2", f"{FOLDER}/beta.v2.parquet"),
        ("zeta", f"{FOLDER}/zeta.csv"),
    ]
    assert all(source.rejection is None and not source.wide and len(source.files) == 1 for source in found)


def test_find_sources__none_where_nobody_submitted(tmp_path: Path) -> None:
    assert find_sources(open_store(tmp_path), FOLDER) == []
    assert cut_blocks([]) == []


def test_find_sources__looks_into_sub_folders(tmp_path: Path) -> None:
    store = write(tmp_path, {"team/alpha.parquet": b"", "beta.csv": b"", "/submissions_old/gamma.csv": b""})
    assert [(source.model, source.files[0].path) for source in find_sources(store, FOLDER)] == [
        ("alpha", f"{FOLDER}/team/alpha.parquet"),
        ("beta", f"{FOLDER}/beta.csv"),
    ]


@pytest.mark.parametrize("names", [("a.parquet", "a.csv"), ("a.csv", "old/a.csv"), ("x/a.parquet", "y/a.parquet")])
def test_find_sources__two_files_of_one_model_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    (source,) = find_sources(write(tmp_path, dict.fromkeys(names, b"")), FOLDER)
    assert source.model == "a"
    assert sorted(entry.path for entry in source.files) == sorted(f"{FOLDER}/{name}" for name in names)
    assert source.rejection is not None
    assert source.rejection.code == "two_files"
    assert source.rejection.message.startswith("a model has one file, found a.")
    assert source.rejection.message.endswith("; remove all but one")


@pytest.mark.parametrize("name", ["a.txt", "a.PARQUET", "a.csv.gz", "a.feather", "a", ".DS_Store", "a.parquet.tmp"])
def test_find_sources__other_kinds_of_files_are_refused(tmp_path: Path, name: str) -> None:
    (source,) = find_sources(write(tmp_path, {name: b"x"}), FOLDER)
    assert source.rejection is not None
    assert source.rejection.code == "unknown_file_type"
    assert source.rejection.message == f"a submission ends in .parquet or .csv, found {name}; rename it"


def test_find_sources__a_note_beside_a_submission_does_no_harm(tmp_path: Path) -> None:
    store = write(tmp_path, {"a.csv": b"", "a.txt": b"", "a.md": b""})
    assert find_sources(store, FOLDER) == [Source("a", (store.entry(f"{FOLDER}/a.csv"),))]


def test_find_sources__a_hidden_file_is_a_model_of_its_own(tmp_path: Path) -> None:
    """So that it is told in the rejects and harms nobody."""
    store = write(tmp_path, {".a.csv": b"", "a.csv": b"", "unfinished.csv#123": b""})
    assert [source.model for source in find_sources(store, FOLDER)] == [".a", "a"]


def test_find_sources__a_wide_table_has_a_model_a_column(tmp_path: Path) -> None:
    store = write(tmp_path, {"/submissions.parquet": wide({"zeta": [0.5] * STOCKS, "alpha": [0.5] * STOCKS})})
    entry = store.entry(f"{FOLDER}.parquet")
    assert find_sources(store, FOLDER) == [Source("alpha", (entry,), wide=True), Source("zeta", (entry,), wide=True)]


def test_find_sources__refuses_a_folder_beside_a_wide_table(tmp_path: Path) -> None:
    store = write(tmp_path, {"/submissions.parquet": wide({}), "a.csv": b""})
    with pytest.raises(
        OperatorError, match=r"either this folder or rounds/7/submissions\.parquet, found both"
    ) as caught:
        find_sources(store, FOLDER)
    assert_one_line(caught.value)


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _spoil_footer(data: bytes) -> bytes:
    return data[:-60] + b"\xff" * 48 + data[-12:]


@pytest.mark.parametrize(
    "spoil",
    [lambda data: b"", lambda data: b"id,alpha\n", _cut, _spoil_footer],
    ids=["empty", "csv", "truncated", "spoilt_footer"],
)
def test_find_sources__a_wide_table_that_is_none_stops_the_operator(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    store = write(tmp_path, {"/submissions.parquet": wide({"alpha": values(GOOD["model_a"])})})
    path = tmp_path / f"{FOLDER}.parquet"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(OperatorError, match=r"rounds/7/submissions\.parquet: must be a parquet file") as caught:
        find_sources(store, FOLDER)
    assert_one_line(caught.value)


@pytest.mark.parametrize(
    ("table", "count"),
    [
        (pa.table({"alpha": [0.5]}), 0),
        (pa.Table.from_arrays([pa.array(["a"]), pa.array(["a"])], names=["id", "id"]), 2),
    ],
    ids=["no_id", "id_twice"],
)
def test_find_sources__a_wide_table_has_one_id_column(tmp_path: Path, table: pa.Table, count: int) -> None:
    store = write(tmp_path, {"/submissions.parquet": table})
    with pytest.raises(OperatorError, match=f"needs one column 'id', found {count}"):
        find_sources(store, FOLDER)


# ---------------------------------------------------------------------------------------------- blocks


@pytest.mark.parametrize(
    ("models", "sizes"), [(0, []), (1, [1]), (512, [512]), (513, [512, 1]), (1300, [512, 512, 276])]
)
def test_cut_blocks__are_full_but_for_the_last(models: int, sizes: list[int]) -> None:
    sources = [Source(f"{at:04d}", (Entry(f"{at}.csv", 0, None),)) for at in range(models)]
    blocks = cut_blocks(sources)
    assert BLOCK_MODELS == 512
    assert [len(block) for block in blocks] == sizes
    assert [source for block in blocks for source in block] == sources


# ---------------------------------------------------------------------------------------------- reading


def test_ingest_block__folder_and_wide_table_give_identical_ranks_and_digests(tmp_path: Path) -> None:
    files = {
        f"{model}.csv" if at % 2 else f"{model}.parquet": csv_bytes(table) if at % 2 else table
        for at, (model, table) in enumerate(GOOD.items())
    }
    folder = ingest(write(tmp_path / "folder", files))
    orders = {"scattered": SCATTERED, "sorted": list(IDS)}
    for name, ids in orders.items():
        columns = {model: values(table, ids) for model, table in reversed(GOOD.items())}
        table = ingest(write(tmp_path / name, {"/submissions.parquet": wide(columns, ids)}))
        assert table.ranks.models == folder.ranks.models == tuple(GOOD)
        assert table.ranks.doubled.dtype == folder.ranks.doubled.dtype == np.uint16
        assert np.array_equal(table.ranks.doubled, folder.ranks.doubled)
        assert [each.digest for each in table.receipts] == [each.digest for each in folder.receipts]
        assert all(each.hashes == {} and each.file == f"{FOLDER}.parquet" for each in table.receipts)


def test_ingest_block__ranks_are_those_of_the_predictions(tmp_path: Path) -> None:
    tied = with_column(submission(9), "prediction", [round(at / 7) / 4 for at in range(STOCKS)])
    block = ingest(write(tmp_path, {"tied.csv": csv_bytes(tied), "alpha.parquet": GOOD["model_a"]}))
    expected = rank(("alpha", "tied"), np.array([values(GOOD["model_a"], list(IDS)), values(tied, list(IDS))]))
    assert block.ranks.models == ("alpha", "tied")
    assert np.array_equal(block.ranks.doubled, expected.doubled)


def test_ingest_block__a_refused_file_moves_nobody(tmp_path: Path) -> None:
    good = {f"{model}.parquet": table for model, table in GOOD.items()}
    alone = ingest(write(tmp_path / "alone", good))
    bad: dict[str, pa.Table | bytes] = {
        "model_a0.parquet": b"junk",
        "model_b.0.csv": b"",
        "zz.parquet": with_value(submission(3), "prediction", 4, math.nan),
        "aa.txt": b"hello",
    }
    mixed = ingest(write(tmp_path / "mixed", good | bad))
    assert mixed.ranks.models == alone.ranks.models
    assert np.array_equal(mixed.ranks.doubled, alone.ranks.doubled)
    kept = [receipt for receipt in mixed.receipts if receipt.rejection is None]
    assert tuple(kept) == alone.receipts
    assert codes(mixed) == dict.fromkeys(GOOD) | {
        "aa": "unknown_file_type",
        "model_a0": "unreadable",
        "model_b.0": "empty_file",
        "zz": "not_finite",
    }
    assert receipts_of(mixed) == mixed.receipts


def test_ingest_block__nobody_valid_is_a_block_without_models(tmp_path: Path) -> None:
    block = ingest(write(tmp_path, {"a.csv": b"", "b.parquet": b"x"}))
    assert block.ranks.models == ()
    assert block.ranks.doubled.shape == (0, STOCKS)
    assert ingest_block([], open_store(tmp_path), IDS).receipts == ()


def test_ingest_block__receipts_hold_the_hashes_of_the_files(tmp_path: Path) -> None:
    store = write(
        tmp_path,
        {
            "good.parquet": GOOD["model_a"],
            "good2.csv": csv_bytes(GOOD["model_b"]),
            "bad.csv": b"id,prediction\n",
            "empty.parquet": b"",
            "large.parquet": b"x" * (byte_limit(STOCKS) + 1),
            "odd.txt": b"odd",
            "two.csv": b"1",
            "two.parquet": b"2",
        },
    )
    sources = find_sources(store, FOLDER)
    hashes: dict[str, str] = {}
    for receipt, source in zip(ingest_block(sources, store, IDS).receipts, sources, strict=True):
        assert receipt.file in receipt.hashes
        assert dict(receipt.hashes) == file_hashes(store, source)
        hashes |= receipt.hashes
    files = sorted(path for path in (tmp_path / FOLDER).iterdir())
    assert hashes == {f"{FOLDER}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_ingest_block__a_large_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = byte_limit(STOCKS)
    padded = csv_bytes(GOOD["model_a"]).ljust(limit, b"\n")
    store = write(tmp_path, {"fits.csv": padded, "large.csv": padded + b"\n"})
    read: list[str] = []

    def read_with_hash(self: Store, path: str) -> tuple[bytes, str]:
        read.append(path)
        return original(self, path)

    original = Store.read_with_hash
    monkeypatch.setattr(Store, "read_with_hash", read_with_hash)
    monkeypatch.setattr(store_module, "HASH_CHUNK_BYTES", 100_000)  # the digest is taken in parts
    block = ingest(store)
    assert read == [f"{FOLDER}/fits.csv"]
    assert codes(block) == {"fits": None, "large": "too_large"}
    rejection = block.receipts[1].rejection
    assert rejection is not None
    assert rejection.message == f"the file may have at most {limit} bytes for {STOCKS} stocks, found {limit + 1}"


def test_ingest_block__a_file_that_is_gone_is_the_stores_failure(tmp_path: Path) -> None:
    store = write(tmp_path, {"a.csv": b"", "b.csv": b""})
    sources = find_sources(store, FOLDER)
    (tmp_path / FOLDER / "b.csv").unlink()
    with pytest.raises(StorageError, match=r"b\.csv: there is no such file"):
        ingest_block(sources, store, IDS)


def test_ingest_block__takes_any_name_that_the_store_takes(tmp_path: Path) -> None:
    names = ["a b", "é", "a%20b", "a~b", "x?y", "*", "a..b", "日本", "a&b", "a'b"]
    block = ingest(write(tmp_path, {f"{name}.parquet": GOOD["model_a"] for name in names}))
    assert block.ranks.models == tuple(sorted(names))
    assert {each.digest for each in block.receipts} == {block.receipts[0].digest}


# ---------------------------------------------------------------------------------------------- wide tables


def wide_codes(root: Path, table: pa.Table) -> dict[str, str | None]:
    return codes(ingest(write(root, {"/submissions.parquet": table})))


def test_ingest_block__a_wide_column_breaks_the_same_rules(tmp_path: Path) -> None:
    good = values(GOOD["model_a"])
    found = wide_codes(
        tmp_path,
        wide(
            {
                "constant": [0.5] * STOCKS,
                "good": good,
                "high": [*good[1:], 1.5],
                "infinite": [*good[1:], math.inf],
                "nan": [*good[1:], math.nan],
                "some": [None, *good[1:]],
                "text": ["0.5"] * STOCKS,
                "whole": list(range(STOCKS)),
            }
        ),
    )
    assert found == {
        "constant": "constant",
        "good": None,
        "high": "out_of_range",
        "infinite": "not_finite",
        "nan": "not_finite",
        "some": "missing_id",
        "text": "wrong_type",
        "whole": "wrong_type",
    }


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.null(), pa.string()])
def test_ingest_block__a_wide_column_of_nulls_is_no_submission(tmp_path: Path, kind: pa.DataType) -> None:
    table = wide({"good": values(GOOD["model_a"]), "none": pa.nulls(STOCKS, kind)})
    good, none = ingest(write(tmp_path, {"/submissions.parquet": table})).receipts
    assert good.digest is not None
    assert (none.model, none.digest, none.rejection, none.hashes) == ("none", None, None, {})


def test_ingest_block__a_wide_column_with_some_nulls_says_how_many(tmp_path: Path) -> None:
    table = wide({"some": [None, None, *values(GOOD["model_a"])[2:]]})
    (receipt,) = ingest(write(tmp_path, {"/submissions.parquet": table})).receipts
    assert receipt.rejection is not None
    assert receipt.rejection.message == "needs all 20 ids of the universe; 2 have no value"


def test_ingest_block__a_wide_column_that_is_there_twice_harms_nobody_else(tmp_path: Path) -> None:
    good = values(GOOD["model_a"])
    arrays = [pa.array(SCATTERED), pa.array(good), pa.array(good[::-1]), pa.array(good)]
    table = pa.Table.from_arrays(arrays, names=["id", "twice", "good", "twice"])
    block = ingest(write(tmp_path, {"/submissions.parquet": table}))
    assert codes(block) == {"good": None, "twice": "duplicate_column"}
    assert block.ranks.models == ("good",)
    alone = ingest(write(tmp_path / "alone", {"/submissions.parquet": table.select([0, 2])}))
    assert np.array_equal(block.ranks.doubled, alone.ranks.doubled)
    assert block.receipts[0].digest == alone.receipts[0].digest


def test_ingest_block__wide_models_may_have_dots_in_their_names(tmp_path: Path) -> None:
    columns = {name: values(submission(at)) for at, name in enumerate(["a", "a.b", "a.b.c"])}
    block = ingest(write(tmp_path, {"/submissions.parquet": wide(columns)}))
    for receipt, table in zip(block.receipts, map(submission, range(3)), strict=True):
        files = {f"{receipt.model}.parquet": table}
        assert ingest(write(tmp_path / receipt.model, files)).receipts[0].digest == receipt.digest


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_ingest_block__wide_ids_may_be_written_in_any_text_type(tmp_path: Path, kind: pa.DataType) -> None:
    table = wide({"good": values(GOOD["model_a"])})
    plain = ingest(write(tmp_path / "plain", {"/submissions.parquet": table}))
    other = with_column(table, "id", table.column("id").combine_chunks().cast(kind))
    assert ingest(write(tmp_path / "other", {"/submissions.parquet": other})).receipts == plain.receipts


WIDE_IDS = {
    "twice": with_value(wide({"a": [0.5] * STOCKS}), "id", 3, SCATTERED[4]),
    "unknown": with_value(wide({"a": [0.5] * STOCKS}), "id", 3, "stock_99"),
    "null": with_value(wide({"a": [0.5] * STOCKS}), "id", 3, None),
    "too_few": wide({"a": [0.5] * STOCKS}).slice(2),
    "too_many": pa.concat_tables([wide({"a": [0.5] * STOCKS}), pa.table({"id": ["other"], "a": [0.5]})]),
    "numbers": with_column(wide({"a": [0.5] * STOCKS}), "id", pa.array(range(STOCKS))),
    "records": with_column(wide({"a": [0.5] * STOCKS}), "id", pa.array([{"id": stock} for stock in SCATTERED])),
    "no_rows": wide({"a": [0.5] * STOCKS}).slice(0, 0),
}


@pytest.mark.parametrize("table", WIDE_IDS.values(), ids=WIDE_IDS.keys())
def test_ingest_block__wide_ids_are_the_operators(tmp_path: Path, table: pa.Table) -> None:
    store = write(tmp_path, {"/submissions.parquet": table})
    with pytest.raises(OperatorError, match=r"rounds/7/submissions\.parquet: column 'id' must hold") as caught:
        ingest(store)
    assert_one_line(caught.value)


def test_ingest_block__wide_ids_that_are_not_utf_8_stop_the_operator(tmp_path: Path) -> None:
    store = write(tmp_path, {})
    path = tmp_path / f"{FOLDER}.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(wide({"a": values(GOOD["model_a"])}), path, compression="none", store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"stock_07", b"stock\xff\xfe7"))
    with pytest.raises(OperatorError, match=r"rounds/7/submissions\.parquet"):
        ingest(store)


def test_ingest_block__a_wide_table_with_spoilt_pages_stops_the_operator(tmp_path: Path) -> None:
    store = write(tmp_path, {"/submissions.parquet": wide({"alpha": values(GOOD["model_a"])})})
    path = tmp_path / f"{FOLDER}.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:4] + b"\xff" * 60 + data[64:])
    with pytest.raises(OperatorError, match=r"rounds/7/submissions\.parquet") as caught:
        ingest(store)
    assert_one_line(caught.value)


def test_ingest_block__a_wide_table_that_is_replaced_meanwhile_is_the_stores_failure(tmp_path: Path) -> None:
    table = wide({model: values(each) for model, each in GOOD.items()})
    store = write(tmp_path, {"/submissions.parquet": table})
    sources = find_sources(store, FOLDER)
    before = ingest_block(sources, store, IDS)
    write(tmp_path, {"/submissions.parquet": with_column(table, "model_a", values(submission(77)))})
    with pytest.raises(StorageError, match="was replaced while it was read; start again"):
        ingest_block(sources, store, IDS)
    assert ingest(store).receipts[0].digest != before.receipts[0].digest


def test_ingest_block__blocks_of_one_wide_table_read_their_own_columns(tmp_path: Path) -> None:
    store = write(tmp_path, {"/submissions.parquet": wide({model: values(each) for model, each in GOOD.items()})})
    sources = find_sources(store, FOLDER)
    whole = ingest_block(sources, store, IDS)
    parts = [ingest_block(sources[:2], store, IDS), ingest_block(sources[2:], store, IDS)]
    assert tuple(receipt for part in parts for receipt in part.receipts) == whole.receipts
    assert np.array_equal(np.concatenate([part.ranks.doubled for part in parts]), whole.ranks.doubled)
