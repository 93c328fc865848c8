"""Under test every annotated shape and type of the numeric modules is checked at each call.

Kernels are left out, because numba compiles their functions as they are written.
"""

from pathlib import Path

from jaxtyping import install_import_hook

_ROOT = Path(__file__).parents[1]


def _annotated_modules() -> list[str]:
    files = (path.relative_to(_ROOT) for layer in ("scoring", "tasks") for path in (_ROOT / layer).rglob("*.py"))
    chosen = (file for file in files if "kernels" not in file.parts)
    return [
        ".".join(file.with_suffix("").parts)
        for file in chosen
        if "from jaxtyping import" in (_ROOT / file).read_text(encoding="utf-8")
    ]


install_import_hook(_annotated_modules(), "beartype.beartype")
