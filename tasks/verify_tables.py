"""Verifying what the tables of one revision say of one another, and of their manifest.

No private file is needed: the ledger must follow from its own columns by the rules in the manifest, its scores must be
those of the scores table, percentiles those of the scores, totals those of the ledger, and the price vectors of MMC and
BMC must follow, bit for bit, from the published meta models and target. The failure guarded against: files that are
whole and have the right digests, but were made to disagree before they were published.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from scoring.audit import problems as audit
from scoring.ledger import Ledger, LedgerRow
from scoring.published import SCORE_KEYS, units_to_decimal
from scoring.rounds import Universe
from scoring.rules import Rules
from scoring.score_table import percentiles
from scoring.true_contribution import Scaling, scaling
from tasks.contract import manifest_path
from tasks.findings import Findings, fact_mismatches, few, merge, mismatch
from tasks.read_back import Stated, ledger_of, read_stated, scores_of
from tasks.read_vectors import own_vectors, vectors_of
from tasks.scores import Units, meta_model_table
from tasks.summary import summarise
from tasks.verify_round import Revision

_PRICES = ("mmc_price", "bmc_price")


def verify_tables(revision: Revision) -> Findings:
    """Checks the tables of a revision against one another and against its manifest.

    Raises:
        StorageError: the manifest does not say what every manifest says.
    """
    stated = read_stated(revision.manifest)
    readable = set(revision.tables)
    parts = []
    if "ledger" in readable:
        parts.append(_ledger(revision, stated))
    if {"ledger", "scores"} <= readable:
        parts.append(_scores(revision, stated))
    if {"ledger", "rejects"} <= readable:
        parts.append(_rejects(revision, stated))
    if "meta_model" in readable:
        parts.append(_prices(revision, stated))
    if "bags" in readable:
        parts.append(_bags(revision, stated))
    unread = sorted(revision.manifest.outputs.keys() - readable)
    notes = [f"{revision.path(name)}: its content was not checked, it cannot be read" for name in unread]
    return merge([*parts, Findings(notes=tuple(notes))])


def _ledger(revision: Revision, stated: Stated) -> Findings:
    """Audits the ledger, and compares what the manifest repeats of it."""
    path, manifest = revision.path("ledger"), revision.manifest
    ledger, faults = ledger_of(revision.tables["ledger"], stated.terms.decimals)
    problems = [f"{path}: {fault}" for fault in few(faults)]
    if not faults:
        problems += [f"{path}: {fault}" for fault in few(audit(ledger, stated.terms))]
        problems += _totals(ledger, stated, manifest.facts, manifest_path(manifest.round, manifest.revision))
    checked = f"{path}: {len(ledger.rows)} rows follow from their own columns and the rules; totals of the manifest"
    return Findings((checked,), tuple(problems), tuple(f"{path}: {each}" for each in _on_its_word(stated.terms.rules)))


def _on_its_word(rules: Rules) -> Iterator[str]:
    """Yields what of a ledger no audit can tell from its own columns."""
    if own := rules.own_functions:
        yield f"payout was taken as published, {' and '.join(own)} made it: recomputed with --data only"
    if rules.net_opposites is not None:
        yield "netted was taken as published, it takes all submissions: recomputed with --data only"


def _totals(ledger: Ledger, stated: Stated, facts: Mapping[str, object], where: str) -> list[str]:
    """Compares rules id, statuses and totals in the manifest with the ledger."""
    try:
        sums = summarise(ledger, {}, stated.terms.decimals, {}).facts() if ledger.rows else {}
    except OverflowError as error:
        return [f"{where}: totals: {error}"]
    found: dict[str, object] = {**sums, "rules_id": stated.terms.rules.rules_id}
    how = "the ledger gives"
    return [line for name in found for line in fact_mismatches(where, name, facts.get(name), found[name], how)]


def _scores(revision: Revision, stated: Stated) -> Findings:
    """Compares the scores table with the ledger, and its percentiles with its scores."""
    path, table = revision.path("scores"), revision.tables["scores"]
    ledger, _ = ledger_of(revision.tables["ledger"], stated.terms.decimals)
    rows = [row for row in ledger.rows if row.entry == "model"]
    scores, faults = scores_of(table)
    problems = [f"{path}: {fault}" for fault in few(faults)]
    names = zip_longest(table.column("model").to_pylist(), (row.model for row in rows))
    problems += few([mismatch(path, "model", a, b, "the ledger has") for a, b in names if a != b])
    accounts = dict(zip(table.column("model").to_pylist(), table.column("account").to_pylist(), strict=True))
    other = [row for row in rows if accounts.get(row.model) != row.account]
    found = [mismatch(path, f"account of {r.model}", accounts.get(r.model), r.account, "the ledger has") for r in other]
    problems += few(found)
    for key in SCORE_KEYS:
        shown = scores if key in stated.terms.rules.shown_scores else {}
        problems += few(list(_shown_scores(revision.path("ledger"), key, rows, shown)))
        stated_percentiles = table.column(f"{key}_percentile").to_pylist()
        problems += few(list(_percentiles(path, key, scores, stated_percentiles)))
    problems += _true_contribution(path, scores, stated)
    checked = f"{path}: {len(scores)} models; scores are those of the ledger, percentiles those of the scores"
    return Findings((checked,), tuple(problems))


def _shown_scores(path: str, key: str, rows: Sequence[LedgerRow], shown: Mapping[str, Units]) -> Iterator[str]:
    """Yields where the ledger has another score than the scores table, or one that no money depends on."""
    for row in rows:
        published = shown.get(row.model or "", {}).get(key)
        in_ledger = row.scores.get(key)
        if in_ledger != published:
            yield mismatch(path, f"{key} of {row.model}", decimal(in_ledger), decimal(published), "the scores give")


def _percentiles(path: str, key: str, scores: Mapping[str, Units], stated: Sequence[float | None]) -> Iterator[str]:
    found = percentiles([units.get(key) for units in scores.values()])
    for model, given, recomputed in zip(scores, stated, found, strict=False):
        if given != recomputed:
            yield mismatch(path, f"{key}_percentile of {model}", given, recomputed, "recomputed")


def _true_contribution(path: str, scores: Mapping[str, Units], stated: Stated) -> list[str]:
    """Checks that `tc` follows from `tc_raw` by the scaling in the manifest, and the scaling from all `tc_raw`."""
    raw = {model: units.get("tc_raw") for model, units in scores.items()}
    present = [value for value in raw.values() if value is not None]
    options = stated.true_contribution
    if options is None and present:
        return [mismatch(path, "tc_raw", f"{len(present)} scores", "no True Contribution", "the manifest has")]
    scaled = Scaling() if options is None else scaling(present, options)
    expected = {model: None if value is None else scaled.apply(value) for model, value in raw.items()}
    pairs = [(model, units.get("tc"), expected[model]) for model, units in scores.items()]
    problems = [mismatch(path, f"tc of {m}", decimal(a), decimal(b), "recomputed") for m, a, b in pairs if a != b]
    if scaled != stated.scaling:
        problems.append(mismatch(path, "scaling of tc in the manifest", stated.scaling, scaled, "recomputed"))
    return list(few(problems))


def _rejects(revision: Revision, stated: Stated) -> Findings:
    """Checks that a model is in the rejects where the ledger calls it invalid, and has no scores where it is there."""
    path = revision.path("rejects")
    codes = {row["model"]: row["code"] for row in revision.tables["rejects"].to_pylist()}
    ledger, _ = ledger_of(revision.tables["ledger"], stated.terms.decimals)
    rows = {row.model or "": row for row in ledger.rows if row.entry == "model"}
    problems = [
        mismatch(path, f"code of {model}", codes.get(model), row.reason, "the ledger has")
        for model, row in rows.items()
        if row.status == "invalid" and codes.get(model) != row.reason
    ]
    problems += [mismatch(path, "model", model, "none of this name", "the ledger has") for model in codes.keys() - rows]
    problems += [
        mismatch(path, f"submission of {model}", f"refused as {codes[model]}", "a digest of it", "the ledger has")
        for model in sorted(codes.keys() & rows.keys())
        if rows[model].submission_digest is not None
    ]
    return Findings((f"{path}: {len(codes)} refused submissions",), few(problems))


def _prices(revision: Revision, stated: Stated) -> Findings:
    """Checks that the price vectors of MMC and BMC are those of the published meta models and target."""
    path, table = revision.path("meta_model"), revision.tables["meta_model"]
    published, faults = vectors_of(table, stated)
    if published is None:
        return Findings(problems=tuple(f"{path}: {fault}" for fault in few(faults)))
    problems: list[str] = []
    vectors = own_vectors(published, None, stated)
    expected = meta_model_table(Universe(published.ids), published.targets, vectors, published.models)
    for name in _PRICES:
        pairs = zip(published.ids, table.column(name).to_pylist(), expected.column(name).to_pylist(), strict=True)
        wrong = [mismatch(path, f"{name} of {i}", a, b, "recomputed") for i, a, b in pairs if bits(a) != bits(b)]
        problems += few(wrong)
    checked = f"{path}: {len(published.ids)} stocks; {' and '.join(_PRICES)} follow from meta models and target"
    return Findings((checked,), tuple(problems))


def _bags(revision: Revision, stated: Stated) -> Findings:
    """Checks that every bag has its row, in order, and the seed."""
    path, rows = revision.path("bags"), revision.tables["bags"].to_pylist()
    options = stated.true_contribution
    problems = []
    for kind, bags in (("mmc_bagged", stated.bags), ("tc", 0 if options is None else options.bags)):
        found = [row["bag"] for row in rows if row["kind"] == kind]
        if found != list(range(bags)):
            must = f"the numbers from 0 to {bags - 1}" if bags else "none"
            problems.append(mismatch(path, f"bags of {kind}", found, must, "must be"))
    seeds = sorted({str(row["seed"]) for row in rows} - {str(stated.seed)})
    problems += few([mismatch(path, "seed", seed, stated.seed, "the manifest has") for seed in seeds])
    return Findings((f"{path}: {len(rows)} bags",), tuple(problems))


def decimal(units: int | None) -> str:
    """Returns a published score as people read it."""
    return "none" if units is None else f"{units_to_decimal(units):f}"


def bits(value: float | None) -> str | None:
    """Returns a double so that equal texts are equal bits: 0.0 and -0.0 are not."""
    return None if value is None else value.hex()
