"""The flow of an experiment: every round once to the workers, then all mechanisms and attacks on what lies there.

    open_case ─ baseline ─► what was known when ─ variants ─ attacks ─ fits ─► findings

A round's ranks stay on the worker that read them; a variant more is a little more work there, and no file is read
again.
"""

from collections.abc import Mapping
from pathlib import Path

from prefect import flow

from flows.runtime import UnitRunner, finish, gather, map_units, run_unit
from tasks.lab.attack_case import attack_case
from tasks.lab.case import open_case
from tasks.lab.combine import combined, gram_of
from tasks.lab.laboratory import Findings, Laboratory, combined_by, find, known_of, left_of, open_laboratory
from tasks.lab.matrix import finer_choices
from tasks.lab.mechanism import Mechanism
from tasks.lab.paid import evaluate_case
from tasks.lab.write import write_results


@flow(
    name="experiment",
    flow_run_name="experiment {file}",
    task_runner=UnitRunner(),  # type: ignore[arg-type]  # Prefect types the runner by its futures, invariantly
    validate_parameters=False,
    persist_result=False,
)
def experiment(file: str, out: str, data: str | None = None) -> Findings:
    """Compares mechanisms on history, and writes the results.

    Args:
        file: the experiment's file.
        out: the folder of its results.
        data: a tournament to use in place of the file's.
    """
    laboratory = open_laboratory(Path(file), Path(out), data)
    findings = carry_out(laboratory)
    write_results(laboratory, findings, Path(out))
    return findings


def carry_out(laboratory: Laboratory) -> Findings:
    """Carries out every stage that needs the workers."""
    cases = finish(map_units(open_case, laboratory.requests), "rounds")
    numbers = [each.number for each in laboratory.rounds]
    paid = gather(map_units(evaluate_case, cases, [laboratory.baseline], {}), "baseline")
    baseline = [each for found in paid for each in found]
    known, left = known_of(laboratory, baseline), left_of(laboratory, baseline)
    paying = {number: case for number, case in zip(numbers, cases, strict=True) if number in known}
    variants = [run_unit(evaluate_case, c, laboratory.mechanisms[1:], left, known[n]) for n, c in paying.items()]
    attacks = laboratory.attacks
    blows = [run_unit(attack_case, c, laboratory.attacked, attacks, known[n]) for n, c in paying.items() if attacks]
    grams = [run_unit(gram_of, case) for case in paying.values()] if laboratory.needs_grams else []
    everything = [*baseline, *(each for found in gather(variants, "variants") for each in found)]
    struck = [each for found in gather(blows, "attacks") for each in found] if attacks else None
    while struck and (finer := finer_choices(struck)):
        more = [run_unit(attack_case, c, laboratory.attacked, attacks, known[n], finer) for n, c in paying.items()]
        struck += [each for found in gather(more, "attacks") for each in found]
    fits = dict(zip(paying, gather(grams, "fits"), strict=True)) if grams else {}

    def ask(number: int, mechanism: Mechanism, shares: Mapping[str, float]) -> tuple[float, float]:
        return run_unit(combined, paying[number], mechanism, dict(shares)).small()

    return find(laboratory, everything, struck, fits, combined_by(laboratory, ask))
