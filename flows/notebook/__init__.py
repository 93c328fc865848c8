"""What `import stakeweight` gives in a notebook: this package is installed under that name, beside the four layers.

`pandas.read_parquet(stakeweight.tables("out")["scores"])` reads the scores of all rounds, with a column `round`.
"""

from tasks.published import tables

__all__ = ["tables"]
