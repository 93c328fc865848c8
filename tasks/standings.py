"""The standings table: how models and accounts stand on a leaderboard as a round opens.

The operator makes it from whatever leaderboard he trusts: mean scores of the last year, a season's points. Weight
policies read it (`scoring.weight_policies`), and a change of it is another input, so it has the round's own folder.
The failure guarded against: a standing that went through a binary float, or one whose row names nobody, or two.
"""

from decimal import ROUND_DOWN, Context, Decimal, Inexact, InvalidOperation

import pyarrow as pa

from scoring.published import SCORE_DECIMALS
from scoring.weight_policies import Standings
from tasks.tables import Column, InputTable, parse_table

STANDINGS = pa.schema(
    [("model", pa.string()), ("account", pa.string()), ("standing", pa.decimal128(38, SCORE_DECIMALS))]
)
"""What an operator writes: a row a model or an account, the other of the two being null."""
COLUMNS = (
    Column("model", "text", optional=True),
    Column("account", "text", optional=True),
    Column("standing", "exact"),
)

_ONE_OF_TWO = "or account, exactly one of the two, must be named"
_STEP = Decimal(1).scaleb(-SCORE_DECIMALS)
_LARGEST = 10**20
_EXACT = Context(prec=80, rounding=ROUND_DOWN, traps=[Inexact, InvalidOperation])


def parse_standings(data: bytes, origin: str) -> Standings:
    """Reads the bytes of `standings.parquet`.

    Args:
        data: the file's bytes.
        origin: the file, for messages.

    Raises:
        OperatorError: a column is missing, unknown or not exact; a row names neither a model nor an account, or both;
            one is there twice; a standing is null, too large or has more than 12 decimals.
    """
    table = parse_table(data, COLUMNS, origin)
    names = {name: _names(table, name) for name in ("model", "account")}
    both = list(zip(names["model"], names["account"], strict=True))
    wrong = [bool(model) == bool(account) for model, account in both]
    table.refuse("model" if table.has("model") else "standing", wrong, _ONE_OF_TWO)
    units = [_units(value) for value in table.values("standing")]
    must = f"must be a number below {_LARGEST:.0e} with at most {SCORE_DECIMALS} decimals"
    table.refuse("standing", [each is None for each in units], must)
    standings = [_standings(table, name, names[name], units) for name in names]
    table.finish()
    return Standings(*standings)


def _names(table: InputTable, name: str) -> list[str | None]:
    """Returns the names in a column; none where a table of models alone, or of accounts, leaves it out."""
    if not table.has(name):
        return [None] * table.arrow.num_rows
    found: list[str | None] = table.arrow.column(name).cast(pa.string()).to_pylist()
    return found


def _standings(table: InputTable, name: str, owners: list[str | None], units: list[int | None]) -> dict[str, int]:
    first: dict[str, int] = {}
    again = [bool(owner) and first.setdefault(str(owner), row) != row for row, owner in enumerate(owners)]
    table.refuse(name, again, "must name each only once")
    return {owner: units[row] or 0 for owner, row in sorted(first.items())}


def _units(value: object) -> int | None:
    """Returns a decimal, or its text, as a whole number of 1e-12; None where it is not one."""
    try:
        exact = value if isinstance(value, Decimal) else Decimal(str(value))
        if not exact.is_finite() or abs(exact) >= _LARGEST:
            return None
        return int(exact.quantize(_STEP, context=_EXACT).scaleb(SCORE_DECIMALS, context=_EXACT))
    except ArithmeticError:
        return None
