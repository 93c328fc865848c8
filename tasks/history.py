"""The history of a tournament: its calendar, and the chain of balances through the rounds that are published.

Where stakes are chained, a round's stakes follow from every round that settled before it: from `transfers.parquet` and
the published ledgers, nothing else. So a weekly run and a backfill of years give the same stakes. The failure guarded
against: a round that is scored while an earlier one, which it rests on, was never paid.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Context
from functools import partial

import pyarrow.parquet as pq
from pyarrow import BufferReader

from scoring.chain import Balances, Chain, RoundDates
from scoring.errors import NotDueError, NothingToPayError, OperatorError, StorageError
from tasks.checks import refuse_unstaked
from tasks.ingest import Source, find_sources, ingest_block
from tasks.inputs import parse_round, read_round, refuse_unknown, round_folder, round_numbers
from tasks.publish import Manifest, latest_manifest
from tasks.stakes import parse_transfers
from tasks.store import MissingFileError, Store
from tasks.tournament import TRANSFERS_FILE, Tournament

_EXACT = Context(prec=80)
_READERS = 8


def round_dates(data: Store, tournament: Tournament) -> list[RoundDates]:
    """Returns the dates of all rounds, in the order in which they settle.

    Raises:
        OperatorError: a `round.toml` is missing or wrong.
        StorageError: the store failed.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        return sorted(pool.map(partial(_dates, data, tournament), round_numbers(data)))


def read_chain(data: Store, tournament: Tournament) -> Chain:
    """Returns the chain at its start: nothing has settled.

    Raises:
        OperatorError: the transfers or a `round.toml` are wrong, or a withdrawal exceeds its balance.
        StorageError: the store failed.
    """
    transfers = parse_transfers(data.read(TRANSFERS_FILE), TRANSFERS_FILE, decimals=tournament.decimals)
    return Chain(round_dates(data, tournament), transfers)


def balances_of(
    data: Store, history: Store, tournament: Tournament, number: int, *, provisional: bool = False
) -> Balances:
    """Returns the chained stakes of a round, from the ledgers of all rounds that settle before it.

    Args:
        data: the tournament's data.
        history: where earlier rounds are published.
        tournament: with chained stakes.
        number: the round's.
        provisional: what was at risk is enough; the balance before settlement is left out where it is not known.

    Raises:
        NotDueError: a round that settles before it is not published.
        OperatorError: the data is wrong.
        StorageError: a store failed.
    """
    refuse_unknown(data, number)
    chain = read_chain(data, tournament)
    while chain.next_round not in (None, number) and not (provisional and chain.at_close(number) is not None):
        earlier = int(chain.next_round or 0)
        manifest = latest_manifest(history, earlier)
        if manifest is not None:
            chain.settle(earlier, changes_of(history, manifest, tournament.decimals))
        elif pays_nothing(data, tournament, earlier, Balances(chain.at_close(earlier) or {})):
            chain.settle(earlier, {})
        else:
            raise NotDueError(
                f"round {number}: not due, its stakes follow from round {earlier}, which is not published; "
                "resolve that one first, or run backfill"
            )
    return Balances(chain.at_close(number) or {}, None if provisional else chain.balances)


def pays_nothing(data: Store, tournament: Tournament, number: int, balances: Balances) -> bool:
    """Says whether nobody was at risk in a round: nobody had a stake when it closed, or no staker a valid submission.

    Submissions are read one by one until a staker's is valid, which in a sound round is the first. Where every single
    one is refused something is wrong, and the round has not been paid nothing: it has to be looked at.

    Raises:
        OperatorError: the round's files are wrong.
        StorageError: the store failed.
    """
    inputs = read_round(data, tournament, number, balances)
    try:
        refuse_unstaked(inputs)
    except NothingToPayError:
        return True
    staked = {stake.model for stake in inputs.stakes.rows if stake.atoms and not stake.late}
    sources = find_sources(data, f"{round_folder(number)}/submissions")

    def valid(source: Source) -> bool:
        return bool(ingest_block([source], data, inputs.universe.ids).ranks.models)

    if any(valid(source) for source in sources if source.model in staked):
        return False
    return any(valid(source) for source in sources if source.model not in staked)


def changes_of(history: Store, manifest: Manifest, decimals: int) -> Mapping[str, int]:
    """Returns what a published round changed: model → payout − burn in atoms.

    Raises:
        StorageError: the ledger is missing or damaged.
    """
    output = manifest.outputs.get("ledger", {})
    data, digest = history.read_with_hash(str(output.get("path")))
    if digest != output.get("sha256"):
        raise StorageError(f"{history.url}/{output.get('path')}: SHA-256 is {digest}, its manifest says otherwise")
    table = pq.read_table(BufferReader(data), columns=["model", "payout", "burn"], use_threads=False)
    columns = (table.column(name).to_pylist() for name in ("model", "payout", "burn"))
    return {
        model: int((payout - burn).scaleb(decimals, _EXACT))  # one of the two is 0: exact
        for model, payout, burn in zip(*columns, strict=True)
        if model is not None
    }


def _dates(data: Store, tournament: Tournament, number: int) -> RoundDates:
    path = f"{round_folder(number)}/round.toml"
    try:
        calendar = parse_round(data.read(path), path, tournament=tournament, number=number)
    except MissingFileError as error:
        raise OperatorError(f"{path}: no such file; every round needs it") from error
    return RoundDates(calendar.resolves_at, number, calendar.closes_at, calendar.opens_at)
