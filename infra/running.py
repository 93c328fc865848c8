"""A Dask cluster that runs already, in the form of a cluster that a command starts: for a cluster file.

`--scheduler tls://…` names an address; a file names it together with the certificates and Dask's other settings, so
everybody of a team uses the same ones. Nothing is started, and nothing is stopped at the end.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class RunningCluster:
    """A cluster of which only the address is known.

    Attributes:
        scheduler_address: `tcp://…` or `tls://…`.
    """

    scheduler_address: str

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        """Leaves it as it is."""
