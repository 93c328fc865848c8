"""The contract of the published tables: their columns, units and names, and one way to write them.

A published file is named by its own content, so the same table must give the same bytes in every run. No
table has a column `round`: the folder `round=<number>` states it, and dask, duckdb, pandas and polars read
all rounds as one table. The failures guarded against: a reader who guesses a unit, and a retry that
publishes the same numbers under another name.
"""

import hashlib
import io
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.published import SCORE_KEYS

MONEY = pa.decimal128(38, 18)
"""Money and rates of 18 decimals."""
_SCORE = pa.decimal128(38, 12)
_MULTIPLIER = pa.decimal128(38, 6)
_CLIPPED = pa.decimal128(38, 36)  # |rate| ≤ clip · factor ≤ 1, exact: two numbers of 18 decimals multiplied

_ROW_GROUP_ROWS = 131_072  # fixed: pyarrow's default may change, and the file's bytes with it


def _field(name: str, kind: pa.DataType, unit: str, description: str, *, required: bool = False) -> pa.Field:
    """Describes a column; `unit` is empty for names and codes."""
    metadata = {"unit": unit, "description": description}
    return pa.field(name, kind, nullable=not required, metadata=metadata)


def _text(name: str, description: str, *, required: bool = False) -> pa.Field:
    return _field(name, pa.string(), "", description, required=required)


def _number(name: str, unit: str, description: str) -> pa.Field:
    return _field(name, pa.float64(), unit, description)


def _money(name: str, description: str) -> pa.Field:
    return _field(name, MONEY, "currency", description)


SCORES = pa.schema(
    [
        _text("model", "model name", required=True),
        _text("account", "owner of the model; null where it has no stakes row"),
        *(_number(key, "1", f"score {key}, 12 decimals; null where there is no score") for key in SCORE_KEYS),
        *(
            _number(f"{key}_percentile", "1", f"tie-kept rank of {key} among all scored models, 0 to 1")
            for key in SCORE_KEYS
        ),
    ]
)
"""A row a model."""

META_MODEL = pa.schema(
    [
        _text("id", "stock", required=True),
        _number("target", "1", "target, 0 to 1"),
        _number("return", "fraction", "raw forward return"),
        _number("meta_model", "1", "stake-weighted mean of the gaussianised submissions"),
        _number("benchmark_meta_model", "1", "the same of the benchmark models"),
        _number("portfolio", "capital", "weight of the optimised portfolio, as a fraction of capital"),
        _number("mmc_price", "1", "MMC is this vector times a submission's gaussianised ranks"),
        _number("bmc_price", "1", "BMC is this vector times a submission's gaussianised ranks"),
        _number("mmc_bagged_price", "1", "bagged MMC is this vector times a submission's uniform ranks"),
        _number("tc_price", "1", "TC is this vector times a submission's gaussianised ranks"),
    ]
)
"""A row a stock, sorted by id; null where a vector leaves the stock out or was not computed."""

BAGS = pa.schema(
    [
        _text("kind", "the score the bag belongs to: mmc_bagged or tc", required=True),
        _field("bag", pa.int32(), "", "number of the bag, from 0", required=True),
        _field("seed", pa.uint64(), "", "key of the bag's randomness; the counter is the bag"),
        _field("stakers", pa.int32(), "count", "stakers drawn, with repetition"),
        _number("corr", "1", "CORR of the bag's own meta model"),
        _text("status", "how the bag's portfolio was solved; null for mmc_bagged"),
        _field("iterations", pa.int32(), "count", "iterations of the solver"),
        _number("gap", "1", "relative duality gap at the solution"),
        _number("infeasibility", "leverage", "largest violation of a constraint"),
        _number("margin", "1", "distance of the closest constraint from changing its side"),
        _field("fallback", pa.bool_(), "", "whether another solver had to finish the bag"),
        _field("pinned_groups", pa.int32(), "count", "groups whose stocks are all at 0 or at the cap; harmless"),
    ]
)
"""A row a bag."""

LEDGER = pa.schema(
    [
        _text("entry", "model, treasury or burn: whose side of the double entry this is", required=True),
        _text("model", "model name; null for treasury and burn"),
        _text("account", "owner of the model"),
        _text("submission_digest", "SHA-256 of the canonical submission"),
        _money("stake_before", "balance before the round is paid"),
        _money("at_risk", "part of the stake that the round can pay or burn"),
        _money("netted", "part of at_risk that does not count in the factor, as opposite submissions net it"),
        _field("factor", MONEY, "1", "payout factor, min(1, stake threshold / total of at_risk less netted)"),
        *(
            field
            for key in SCORE_KEYS
            for field in (
                _field(key, _SCORE, "1", f"score {key} as paid on or looked at; null where there is none"),
                _field(f"{key}_multiplier", _MULTIPLIER, "1", "its multiplier; null where it is not paid"),
            )
        ),
        _field("raw_rate", MONEY, "fraction", "sum of multiplier times score, exact"),
        _field("clipped_rate", _CLIPPED, "fraction", "rate paid, after factor and clip, exact"),
        _money("gross_payout", "payout before the rules' adjustments, ≥ 0"),
        _money("payout", "amount added, ≥ 0"),
        _money("burn", "amount destroyed, ≥ 0"),
        _money("stake_after", "balance after the round is paid"),
        _text("status", "what happened to the row, as a code"),
        _text("reason", "why, for people"),
        _field("revision", pa.int32(), "", "revision of the round that published the row", required=True),
        _text("rules_id", "the rules the row was paid by, <book>:R<first round>", required=True),
    ]
)
"""A row a model, and one each for the treasury and the burn account."""

REJECTS = pa.schema(
    [
        _text("model", "model name", required=True),
        _text("file", "path of the refused file in the store", required=True),
        _text("code", "why it was refused, for programs", required=True),
        _text("message", "what must hold, what was found, what to do", required=True),
        _field("rows", pa.list_(pa.int64()), "", "first offending rows of the file, from 0; may be empty"),
    ]
)
"""A row a refused submission."""

TABLES: Mapping[str, pa.Schema] = {
    "scores": SCORES,
    "meta_model": META_MODEL,
    "bags": BAGS,
    "ledger": LEDGER,
    "rejects": REJECTS,
}
"""Every published table by the name of its folder."""


def encode(table: pa.Table) -> bytes:
    """Returns the table as the bytes of a parquet file, the same for the same rows, columns and pyarrow.

    How the table was put together (its chunks, slices, pandas metadata) leaves no trace.
    """
    sink = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(None).combine_chunks(),
        sink,
        row_group_size=_ROW_GROUP_ROWS,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=False,
    )
    return sink.getvalue()


def content_path(table_name: str, number: int, revision: int, data: bytes) -> str:
    """Returns the path of one published file: its name holds the first 16 hex digits of its own SHA-256."""
    return f"{table_name}/round={number}/{revision}-{hashlib.sha256(data).hexdigest()[:16]}.parquet"


def manifest_path(number: int, revision: int) -> str:
    """Returns the path of the manifest of one revision of a round."""
    return f"manifests/round={number}/{revision}.json"
