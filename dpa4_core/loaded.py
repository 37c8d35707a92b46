"""The potentials of this process: a model named twice is loaded once."""

from __future__ import annotations

import threading
from pathlib import Path

from dpa4_core.potential import PotentialLike, load

_potentials: dict[tuple[str, int, str, str], PotentialLike] = {}
_lock = threading.Lock()


def as_potential(potential: PotentialLike | str | Path, device: str = "cpu", dtype: str = "float32") -> PotentialLike:
    """``potential`` itself, or the one of that registry name or file, shared within the process.

    A file that was written again since it was loaded is loaded again.

    Args:
        potential: an object with ``cutoff``, ``device``, ``elements`` and ``compute``, a name or a path.
        device: where to load to; ignored for an object.
        dtype: "float32" or "float64"; ignored for an object.
    """
    if not isinstance(potential, str | Path):
        return potential
    file = Path(potential).expanduser()
    written = file.stat().st_mtime_ns if file.is_file() else 0
    key = (str(file.resolve()) if written else str(potential), written, device, dtype)
    with _lock:
        if key not in _potentials:
            _potentials[key] = load(file if written else potential, device=device, dtype=dtype)
        return _potentials[key]
