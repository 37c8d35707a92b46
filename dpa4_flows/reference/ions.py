"""Files of ions in water: measured Gibbs energies of formation, each beside that of a solid it is compared with.

source = "D. D. Wagman et al., The NBS Tables, J. Phys. Chem. Ref. Data 11, Suppl. 2 (1982)"

[[ion]]
formula = "Zn[2+]"                 # as pymatgen writes ions: Zn[2+], Zn(OH)4[2-], H2SiO3(aq)
gibbs = -147.06                    # kJ/mol from the elements, 1 mol/L, 298.15 K
reference_solid = "ZnO"
reference_gibbs = -318.30          # kJ/mol of the formula as written, from the same tables
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pymatgen.core import Composition
from pymatgen.core.ion import Ion

from dpa4_core.errors import DPA4Error
from dpa4_core.strict import read_toml
from dpa4_flows.analysis.pourbaix import ReferencedIon

_NUMBERS, _WORDS = ("gibbs", "reference_gibbs"), ("formula", "reference_solid")


BUNDLED = Path(__file__).parents[1] / "data" / "ions.toml"
"""Measured ions of 41 elements, each with its source."""


class IonFileError(DPA4Error):
    """A file of ions that cannot be used; one sentence that names it."""


def read_ions(path: Path) -> list[ReferencedIon]:
    """Ions of a TOML file, see above.

    Raises:
        IonFileError: the file or one of its ions cannot be used.
    """
    content = read_toml(path, "file of ions", IonFileError)
    rows = content.get("ion")
    if not isinstance(rows, list) or not rows:
        raise IonFileError(f"{path} holds no ions; give each one a table [[ion]] with {', '.join(_WORDS + _NUMBERS)}")
    source = str(content.get("source", path.name))
    return [_ion(row, number, source, path) for number, row in enumerate(rows, start=1)]


def _ion(row: Any, number: int, source: str, path: Path) -> ReferencedIon:
    where = f"ion {number} of {path}"
    if not isinstance(row, dict):
        raise IonFileError(f"{where} is no table")
    if unknown := set(row) - {*_NUMBERS, *_WORDS, "source"}:
        raise IonFileError(f"{where} has the unknown key {sorted(unknown)[0]!r}")
    for key in (*_WORDS, *_NUMBERS):
        kind = str if key in _WORDS else (int, float)
        if not isinstance(row.get(key), kind) or isinstance(row.get(key), bool):
            raise IonFileError(f"{where} needs {key}, {'a formula' if key in _WORDS else 'a number in kJ/mol'}")
    try:
        ion = Ion.from_formula(row["formula"])
        solid = Composition(row["reference_solid"])
    except (ValueError, KeyError, IndexError) as error:
        raise IonFileError(f"{where} has a formula that cannot be read: {error}") from error
    own = {e.symbol for e in ion.composition.elements} - {"O", "H"}
    if len(own) != 1 or not own <= set(solid.get_el_amt_dict()):
        raise IonFileError(
            f"{where} ({row['formula']}) must hold one element besides O and H, which its reference solid "
            f"{row['reference_solid']} shares"
        )
    return ReferencedIon(
        formula=row["formula"],
        gibbs_kj_mol=float(row["gibbs"]),
        reference_solid=row["reference_solid"],
        reference_gibbs_kj_mol=float(row["reference_gibbs"]),
        source=str(row.get("source", source)),
    )
