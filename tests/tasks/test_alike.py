"""Who is alike, over blocks: the same as over all at once; and correlations with an example."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.errors import OperatorError
from scoring.families import edges, families, netted
from scoring.pairwise import Panel
from scoring.published import units_to_float
from scoring.ranks import rank, select
from scoring.rules import Rules
from scoring.stakes import Stake, Stakes
from scoring.weight_policies import EXAMPLE, WeightStep
from tasks.alike import (
    Alike,
    benchmark_example,
    counted_of,
    example_correlations,
    examples_of,
    families_of,
    find_edges,
    merged,
    netting_families,
    thresholds_of,
)
from tasks.ingest import Block, Receipt
from tests.reference import naive
from tests.scoring.shared_data import shared_file

LOW, HIGH = Decimal("0.55"), Decimal("0.95")
RULES = Rules("tiny:R1", 1, {"corr": Decimal(1)}, Decimal("0.05"))
CAP = WeightStep("cap_family", Decimal("0.1"), threshold=HIGH)


def receipt(model: str, *, valid: bool = True) -> Receipt:
    return Receipt(model, f"submissions/{model}.csv", {}, "digest" if valid else None, None)


def blocks() -> list[Block]:
    """Three blocks of seven models around one idea; one submission of each was refused."""
    rng = np.random.default_rng(11)
    idea = rng.normal(size=60)
    everybody = rank(
        [f"model_{at:02}" for at in range(21)],
        rng.choice([1, -1], size=(21, 1)) * idea + rng.uniform(0, 0.9, size=(21, 1)) * rng.normal(size=(21, 60)),
    )
    found = []
    for at in range(0, 21, 7):
        ranks = select(everybody, range(at, at + 7))
        receipts = [*(receipt(model) for model in ranks.models), receipt(f"refused_{at}", valid=False)]
        found.append(Block(ranks, tuple(receipts)))
    return found


def stakes() -> Stakes:
    """Everybody staked but model_03, who has none, model_04, who is late, and model_05, who has no row."""
    rows = [Stake(f"model_{at:02}", "a", 5, late=at == 4) for at in range(21) if at != 5]
    return Stakes(tuple(replace(row, atoms=0) if row.model == "model_03" else row for row in rows))


def test_counted_of__are_the_valid_staked_submissions_on_time_in_the_order_of_the_ranks() -> None:
    first = blocks()[0]
    assert counted_of(first.receipts, stakes()).tolist() == [True, True, True, False, False, False, True]


def test_families_of__blocks_find_what_one_panel_finds_at_every_threshold() -> None:
    cut = blocks()
    counted = [counted_of(block.receipts, stakes()) for block in cut]
    found = families_of(
        [model for block in cut for model in block.ranks.models],
        [find_edges(start, cut, counted, LOW) for start in range(3)],
        (LOW, HIGH),
    )
    everybody = rank(
        [model for block in cut for model in block.ranks.models],
        np.concatenate([block.ranks.doubled for block in cut]).astype(float),
    )
    panels = [Panel(everybody, np.concatenate(counted))]
    assert found == {each: families(everybody.models, [edges(panels, 0, each)], each) for each in (LOW, HIGH)}
    assert len({family for family, _ in found[LOW].member.values()}) < len({f for f, _ in found[HIGH].member.values()})


def test_example_correlations__are_those_of_the_powers_of_gaussian_ranks() -> None:
    one, example = blocks()[0], rank(("",), np.random.default_rng(3).normal(size=(1, 60)))
    expected = naive.power(naive.g(example.doubled[0]))
    found = example_correlations(one, example)
    assert list(found) == list(one.ranks.models)
    for model, row in zip(one.ranks.models, one.ranks.doubled, strict=True):
        exact = found[model]
        assert exact is not None
        assert units_to_float(exact) == pytest.approx(naive.rho(naive.power(naive.g(row)), expected), abs=1e-12)


def test_benchmark_example__is_one_row_or_an_error() -> None:
    one = blocks()[0]
    found = benchmark_example(one, "model_02")
    assert (found.models, found.doubled.tolist()) == (("model_02",), [one.ranks.doubled[2].tolist()])
    with pytest.raises(OperatorError, match="the example 'bench' is no benchmark model of the round"):
        benchmark_example(one, "bench")


def test_thresholds_of__are_those_of_steps_and_rules() -> None:
    assert thresholds_of([], RULES) == ()
    assert thresholds_of([CAP], replace(RULES, net_opposites=LOW)) == (LOW, HIGH)
    assert thresholds_of([CAP, CAP], replace(RULES, net_opposites=HIGH)) == (HIGH,)


def test_examples_of__are_those_that_steps_name_and_the_rounds_own_where_it_was_read() -> None:
    near = WeightStep("minimum_example_correlation", minimum=Decimal(0), example="bench")
    own = blocks()[0].ranks
    assert examples_of([CAP, near], None) == ("bench",)
    assert examples_of([near], own) == (EXAMPLE, "bench")
    assert examples_of([], None) == ()


def test_netting_families__are_those_at_the_rules_threshold() -> None:
    alike = Alike(families=families_of(["a"], [], (LOW, HIGH)))
    assert netting_families(RULES, alike) is None
    found = netting_families(replace(RULES, net_opposites=HIGH), alike)
    assert found is not None
    assert found.threshold == HIGH


def test_merged__is_what_all_blocks_say() -> None:
    assert merged([{"a": 1}, {"b": None}]) == {"a": 1, "b": None}


# Real predictions ---------------------------------------------------------------------------------------------------


def _sp500(number: int) -> Iterator[tuple[str, np.ndarray]]:
    for path in sorted(Path(shared_file("sp500"), f"rounds/{number}/submissions").glob("*.parquet")):
        table: pa.Table = pq.read_table(path, partitioning=None).sort_by("id")
        column = next(name for name in table.column_names if name in ("prediction", "probability", "signal"))
        values = table.column(column).to_numpy()
        if np.isfinite(values).all() and len(set(values.tolist())) > 1:
            yield path.stem, values.astype(float)


def test_families_of__real_models_are_grouped_as_scipy_groups_them() -> None:
    """Single linkage by another library, over the models of a real round that have all stocks."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    everybody = list(_sp500(117))
    most = max(values.size for _, values in everybody)
    names, rows = zip(*[(name, values) for name, values in everybody if values.size == most], strict=True)
    ranks = rank(names, np.stack(rows))
    block = Block(ranks, tuple(receipt(name) for name in names))
    rho = np.corrcoef([naive.power(naive.g(values)) for values in rows])
    for threshold in (Decimal("0.6"), Decimal("0.8"), Decimal("0.95")):
        found = families_of(names, [find_edges(0, [block], [np.ones(len(names), dtype=bool)], threshold)], [threshold])
        for got, likeness in (
            ([family for family, _ in found[threshold].member.values()], np.abs(rho)),
            (list(found[threshold].alike.values()), rho),
        ):
            distance = squareform(1 - likeness, checks=False).clip(0)
            groups = fcluster(linkage(distance, "single"), 1 - float(threshold) + 1e-12, "distance")
            assert {tuple(np.flatnonzero(np.array(got) == each)) for each in set(got)} == {
                tuple(np.flatnonzero(groups == each)) for each in set(groups.tolist())
            }
        assert netted(found[threshold], dict.fromkeys(names, 0)) == {}
