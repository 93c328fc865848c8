"""The commands on the place where rounds are computed: what is missing or unsafe there, and its certificates."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.options import AsJson, Gpu, Scheduler
from scoring.errors import OperatorError


def doctor(
    data: Annotated[str | None, typer.Option(help="Also try to read this tournament; nothing is written.")] = None,
    out: Annotated[str | None, typer.Option(help="Also try to publish here; what was tried is removed.")] = None,
    scheduler: Scheduler = None,
    cluster: Annotated[str | None, typer.Option(help="Also read this cluster file; nothing is started.")] = None,
    gpu: Gpu = False,
    as_json: AsJson = False,
) -> None:
    """Say what of the environment is missing or unsafe."""
    from flows.doctor import DoctorRequest, examine, has_problem, print_checks

    checks = examine(DoctorRequest(data, out, scheduler, cluster, gpu))
    print_checks(checks, as_json=as_json)
    if has_problem(checks):
        raise typer.Exit(OperatorError.exit_code)


def certificates(
    directory: Annotated[Path, typer.Argument(help="Where the authority and its certificates are, or shall be.")],
    hosts: Annotated[
        list[str] | None, typer.Option("--host", help="Name or address of a machine of the cluster; again for each.")
    ] = None,
    installed: Annotated[
        Path | None, typer.Option(help="The folder in which the machines will have the files; default: DIRECTORY.")
    ] = None,
    renew: Annotated[bool, typer.Option("--renew", help="New certificates of the authority that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make an authority of one's own with certificates for scheduler, workers and clients, or renew these."""
    from infra.certificates import ROLES, make_certificates, renew_certificates
    from infra.errors import InfraError

    if renew and installed is not None:
        raise OperatorError("--installed: is for a new authority; with --renew Dask's settings stay as they are")
    try:
        if renew:
            made = renew_certificates(directory, hosts or ())
        else:
            made = make_certificates(directory, hosts or (), installed)
    except InfraError as error:
        raise OperatorError(str(error)) from error
    if as_json:
        files = {role: str(made.directory / f"{role}.pem") for role in ROLES}
        found = {"dask_config": str(made.dask_file), "expires_at": made.expires_at.isoformat(), **files}
        print(json.dumps(found))
        return
    print(f"{made.directory}: certificates for {', '.join(ROLES)}, valid until {made.expires_at:%Y-%m-%d}")
    print("each machine gets ca.pem, dask.yaml (DASK_CONFIG) and the file of its role; ca-key.pem stays here")
