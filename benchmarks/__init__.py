"""What the figures of docs/ come from: each module is a command, and says what it measures."""

import sys
from types import TracebackType


def _without_extras(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """One line where a benchmark lacks what it compares with."""
    if isinstance(error, ModuleNotFoundError) and error.name in ("torch", "torch_fidelity"):
        print(f"error: this needs {error.name}, which is not installed: pip install -e '.[oracle]'", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _without_extras
