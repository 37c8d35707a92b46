"""The potentials of this process: a model named twice is loaded once."""

from __future__ import annotations

import threading
from pathlib import Path

from ase.calculators.calculator import Calculator

from dpa4_core.ase_potential import ASEPotential
from dpa4_core.errors import DPA4Error
from dpa4_core.potential import PotentialLike, load

_potentials: dict[tuple[str, str, str, bool | str], tuple[tuple[int, int], PotentialLike]] = {}
"""By name, device, dtype and compilation, with time of writing and size of the file."""
_lock = threading.Lock()


def as_potential(
    potential: PotentialLike | Calculator | str | Path,
    device: str = "cpu",
    dtype: str = "float32",
    compile: bool | str = "auto",
) -> PotentialLike:
    """``potential`` itself, or the one of that registry name or file, shared within the process.

    A file that was written again since it was loaded is loaded again and takes the place of the old one.

    Args:
        potential: an object with ``cutoff``, ``device``, ``elements`` and ``compute``, an ASE calculator, a name,
            or a path (``FILE#BRANCH`` for a checkpoint with several branches).
        device: where to load to; ignored for an object.
        dtype: "float32" or "float64"; ignored for an object.
        compile: see `load`; ignored for an object.

    Raises:
        DPA4Error: none of these, or a model that cannot be loaded.
    """
    if not isinstance(potential, str | Path):
        return _of_object(potential)
    name, mark, branch = str(potential).partition("#")
    file = Path(name).expanduser()
    written, source, where = (0, 0), potential, str(potential)
    if file.is_file():
        status = file.stat()
        written = (status.st_mtime_ns, status.st_size)
        source, where = Path(f"{file}{mark}{branch}"), f"{file.resolve()}{mark}{branch}"
    with _lock:
        key = (where, device, dtype, compile)
        loaded = _potentials.get(key)
        if loaded is None or loaded[0] != written:
            loaded = _potentials[key] = (written, load(source, device=device, dtype=dtype, compile=compile))
        return loaded[1]


def _of_object(candidate: object) -> PotentialLike:
    if isinstance(candidate, Calculator):
        inner = getattr(candidate, "potential", None)  # of DPA4Calculator, which computes one structure at a time
        return inner if isinstance(inner, PotentialLike) else ASEPotential(candidate)
    if isinstance(candidate, PotentialLike):
        return candidate
    raise DPA4Error(
        f"{type(candidate).__name__} is no potential; pass a name, a path, an ASE calculator, or an object with "
        "cutoff, device, elements and compute(graph)"
    )
