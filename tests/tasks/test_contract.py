"""The contract of published tables: complete, documented, and the same bytes for the same table."""

import hashlib
import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.published import SCORE_KEYS
from tasks.contract import LEDGER, SCORES, TABLES, content_path, encode, manifest_path

EVERY_FIELD = [
    pytest.param(schema.field(name), id=f"{table}.{name}") for table, schema in TABLES.items() for name in schema.names
]


@pytest.mark.parametrize("field", EVERY_FIELD)
def test_tables__every_column_states_unit_and_meaning(field: pa.Field) -> None:
    assert set(field.metadata) == {b"unit", b"description"}
    assert field.metadata[b"description"]
    assert field.metadata[b"unit"] or not (pa.types.is_floating(field.type) or pa.types.is_decimal(field.type))


def test_tables__no_column_repeats_the_folder() -> None:
    assert not [name for name, schema in TABLES.items() if "round" in schema.names]


def test_scores__has_every_key_and_then_its_percentile() -> None:
    assert tuple(SCORES.names) == (
        "model",
        "account",
        *SCORE_KEYS,
        *(f"{key}_percentile" for key in SCORE_KEYS),
    )


def test_ledger__has_every_score_beside_its_multiplier() -> None:
    paid = LEDGER.names[LEDGER.names.index("factor") + 1 : LEDGER.names.index("raw_rate")]
    assert paid == [name for key in SCORE_KEYS for name in (key, f"{key}_multiplier")]


def test_encode__keeps_schema_units_and_nulls() -> None:
    table = pa.Table.from_pylist([{"model": "a", "corr": 0.5}, {"model": "b"}], schema=SCORES)
    read = pq.read_table(pa.BufferReader(encode(table)))
    assert read.equals(table)
    assert read.schema.field("corr").metadata == SCORES.field("corr").metadata
    assert read.column("corr").null_count == 1


def test_encode__same_table_same_bytes() -> None:
    names, numbers = [f"model_{at}" for at in range(1000)], [at / 7 if at % 3 else None for at in range(1000)]
    whole = pa.table({"model": names, "corr": numbers})
    chunked = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 600), whole.slice(601)])
    sliced = pa.table({"model": ["x", *names, "y"], "corr": [9.0, *numbers, None]}).slice(1, 1000)
    from_pandas = pa.Table.from_pandas(pd.DataFrame({"model": names}).astype("string[pyarrow]"))
    assert encode(chunked) == encode(sliced) == encode(whole)
    assert encode(from_pandas.cast(pa.schema([("model", pa.string())]))) == encode(whole.select(["model"]))


def test_encode__writes_no_pandas_metadata_and_no_dictionary() -> None:
    data = encode(pa.Table.from_pandas(pd.DataFrame({"model": ["a", "a"]})))
    metadata = pq.read_metadata(io.BytesIO(data))
    column = metadata.row_group(0).column(0)
    assert b"pandas" not in (metadata.metadata or {})
    assert (column.compression, column.has_dictionary_page) == ("ZSTD", False)


def test_content_path__is_named_by_its_content() -> None:
    digest = hashlib.sha256(b"data").hexdigest()
    assert content_path("ledger", 103, 2, b"data") == f"ledger/round=103/2-{digest[:16]}.parquet"


def test_manifest_path__is_named_by_round_and_revision() -> None:
    assert manifest_path(103, 2) == "manifests/round=103/2.json"
