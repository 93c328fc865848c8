"""An exhibit: one question that people asked, and what the rounds answer – sentences, pictures and tables.

A finding is a sentence made of figures that were computed, so that it is true of the rounds that were looked at and of
no others. The failure guarded against: a report that states the expected answer whatever the numbers are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from tasks.lab.pictures import Picture
from tasks.lab.results import Results


@dataclass(frozen=True, slots=True)
class Table:
    """A table for people.

    Attributes:
        caption: what it shows, on one line.
        frame: its rows; the columns' names are the headings, the index is not shown.
    """

    caption: str
    frame: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Exhibit:
    """An answer to one question.

    Attributes:
        name: by which an experiment's file asks for it.
        title: on one line.
        question: whose it is and what is asked.
        findings: sentences with the figures found, the answer first.
        pictures: in the order of reading.
        tables: in the order of reading.
    """

    name: str
    title: str
    question: str
    findings: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()


Maker = Callable[[Results], Exhibit]
"""An exhibit's function."""
