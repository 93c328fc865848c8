"""diffcp is imported before any test: first imported inside jaxtyping's hook it is compiled anew, and then its
docstring warns.
"""

import diffcp  # noqa: F401  (for what its import does)
