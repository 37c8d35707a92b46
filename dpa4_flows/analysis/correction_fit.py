"""Refit of the corrections to one model, against measured formation enthalpies.

A correction scheme is linear: an entry gets Σ n_k c_k, with n_k atoms of kind k ("oxide", "S", "Co +U") and c_k in eV.
With the formation energy of the model before corrections, ΔE, and the measured one, ΔH, the c_k minimise

    Σ_i ((ΔE_i + Σ_k x_ik c_k - ΔH_i) / s_i)²,   x_ik = n_ik / n_atoms,   s_i² = σ_i² + τ²

The counts n_ik are those that ``corrected_entry`` applies, so what is fitted is what is used. (pymatgen's
``CorrectionCalculator`` counts all atoms of an element, also the nickel of NiAl and the iron of FeS2, which nothing
corrects; with such compounds in the list its +U corrections are wrong by up to an electronvolt.)

Calorimetry is far more precise (σ of some meV/atom) than the form of the scheme. The published fits weight by σ alone,
so that a few compounds decide and the errors come out as millielectronvolts; here the scatter τ of the model about the
scheme is found from the data (Paule and Mandel's condition χ² = degrees of freedom), and the errors contain it.
``scatter=0`` gives the published procedure. Compounds further than three standard deviations from the fit of the
others are left out one by one and named: wrong tabulated values, and errors of the functional of another form.

Measured values: the table of A. Wang et al., Sci. Rep. 11, 15496 (2021), as it comes with pymatgen (298 K, eV per
formula unit), to which MP2020 was fitted too.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis import compatibility
from pymatgen.core import Composition, Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry
from ruamel.yaml import YAML
from scipy.optimize import brentq

from dpa4_core.files import replacing_text
from dpa4_flows.analysis.corrections import corrections_of, short_name
from dpa4_flows.analysis.frames import check_same_frame
from dpa4_flows.analysis.schemes import SchemeError, find_scheme, refit_name
from dpa4_flows.documents.schemas import EnergyFrame

_EXPERIMENTS = Path(compatibility.__file__).parent / "exp_compounds.json.gz"
_MAX_RELATIVE_ERROR = 0.1  # of a measured value; the limit of the published fits
_MAX_SCATTER = 5.0  # eV/atom; models are closer than that
_MAX_DEVIATION = 3.0  # standard deviations
_SS_BOND = 2.4  # Å; pyrite 2.2, the closest S of sulfides 3.0
_U = " +U"

_HEADER = """\
# Energy corrections fitted to one model, eV per atom of the kind named; they hold for no other model.
# Measured formation enthalpies: A. Wang et al., Sci. Rep. 11, 15496 (2021), as bundled with pymatgen (MIT).
# Written by dpa4; a changed number makes the file unreadable, because its name is a hash of the numbers.
"""


@dataclass(frozen=True)
class Measurement:
    """A measured formation enthalpy.

    Attributes:
        formation_energy: eV/atom at 298 K.
        uncertainty: eV/atom; None where the table has none.
    """

    formation_energy: float
    uncertainty: float | None


@dataclass(frozen=True)
class FittedCompound:
    """One compound of a fit, energies in eV/atom.

    Attributes:
        formula: reduced formula.
        experiment: measured formation energy.
        uncorrected: formation energy of the model without corrections.
        residual: fitted minus measured.
        left_out_residual: the same for a fit without this compound.
    """

    formula: str
    experiment: float
    uncorrected: float
    residual: float
    left_out_residual: float


@dataclass(frozen=True)
class CorrectionFit:
    """Corrections fitted to one model.

    Attributes:
        frame: model and level of theory; ``correction`` is none.
        kinds: names of the corrections, such as "oxide", "S", "Co +U".
        values: eV per atom of the kind, by kind.
        errors: their standard errors.
        covariance: [n_kinds, n_kinds], eV².
        scatter: τ, eV/atom: what the form of the scheme cannot describe.
        compounds: what was fitted, and how well.
        left_out: compounds that were not, and why.
    """

    frame: EnergyFrame
    kinds: tuple[str, ...]
    values: dict[str, float]
    errors: dict[str, float]
    covariance: NDArray[np.float64]
    scatter: float
    compounds: tuple[FittedCompound, ...]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def mae(self) -> float:
        """Mean absolute error of the compounds that were fitted, eV/atom."""
        return float(np.mean([abs(c.residual) for c in self.compounds]))

    @property
    def left_out_mae(self) -> float:
        """The same when each compound is predicted by a fit without it, eV/atom; over those that decide no number
        alone.
        """
        return float(np.mean([abs(c.left_out_residual) for c in self.compounds if math.isfinite(c.left_out_residual)]))


@cache
def experimental_formation_energies() -> Mapping[str, Measurement]:
    """Measured formation energies by reduced formula: the 2,135 compounds that come with pymatgen."""
    rows = json.loads(gzip.decompress(_EXPERIMENTS.read_bytes()))
    found = {}
    for row in rows:
        composition = Composition(row["formula"])
        n_atoms, uncertainty = composition.num_atoms, row["uncertainty"]
        known = uncertainty is not None and math.isfinite(uncertainty) and uncertainty > 0
        found[composition.reduced_formula] = Measurement(
            row["exp energy"] / n_atoms, uncertainty / n_atoms if known else None
        )
    return found


def fit_corrections(
    compounds: Sequence[ComputedEntry],
    elements: Iterable[ComputedEntry],
    experiment: Mapping[str, Measurement] | None = None,
    *,
    scatter: float | Literal["fit"] = "fit",
    max_deviation: float = _MAX_DEVIATION,
) -> CorrectionFit:
    """Corrections that make formation energies agree with measured ones.

    Args:
        compounds: entries corrected with any scheme of the form (OMat24): its numbers do not matter, the atoms that it
            corrects do.
        elements: entries of the elements; the lowest of each is its reference.
        experiment: measured values by reduced formula; pymatgen's table by default.
        scatter: τ in eV/atom, or "fit".
        max_deviation: compounds further from the fit of the others are left out, in standard deviations.

    Raises:
        FrameError: entries of more than one model.
        SchemeError: the compounds do not decide the corrections.
    """
    frame = check_same_frame(entry.data["frame"] for entry in compounds)
    measured = experimental_formation_energies() if experiment is None else experiment
    references = _lowest(elements)
    left_out = {}
    rows = []
    for entry in compounds:
        formula = entry.composition.reduced_formula
        if reason := _why_left_out(entry, references, measured.get(formula)):
            left_out[formula] = reason
        else:
            rows.append(_row(entry, references, measured[formula]))
    fit = _fit(rows, scatter)
    while (worst := fit.worst(max_deviation)) is not None:
        left_out[rows[worst].formula] = f"{fit.left_out[worst]:+.2f} eV/atom from the fit of the others"
        del rows[worst]
        fit = _fit(rows, scatter)
    return CorrectionFit(
        frame=frame.model_copy(update={"correction": "none"}),
        kinds=fit.kinds,
        values=dict(zip(fit.kinds, fit.values.tolist(), strict=True)),
        errors=dict(zip(fit.kinds, np.sqrt(np.diag(fit.covariance)).tolist(), strict=True)),
        covariance=fit.covariance,
        scatter=fit.scatter,
        compounds=tuple(
            FittedCompound(row.formula, row.measured.formation_energy, row.uncorrected, float(residual), float(other))
            for row, residual, other in zip(rows, fit.residuals, fit.left_out, strict=True)
        ),
        left_out=left_out,
    )


def refit_content(fit: CorrectionFit, model_name: str, *, base: str = "OMat24") -> dict[str, Any]:
    """A fit in the layout of the file of a refit; see `schemes`.

    Corrections that no compound of the fit decides keep the numbers of ``base`` and are listed under ``kept``.
    """
    file = find_scheme(base).file
    if file is None:
        raise SchemeError(f"{base} cannot complete a refit: take OMat24")
    published = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    content: dict[str, Any] = {
        "Name": "",
        "Model": {
            "name": model_name,
            "sha256": fit.frame.model_sha256,
            "level_of_theory": fit.frame.level_of_theory,
        },
    }
    kept: set[str] = set()
    for section, fitted in (("Corrections", fit.values), ("Uncertainties", fit.errors)):
        anions: dict[str, float] = dict(published[section]["CompositionCorrections"])
        metals: dict[str, float] = dict(published[section]["GGAUMixingCorrections"]["O"])
        kept |= {k for k in anions if k not in fitted} | {k + _U for k in metals if k + _U not in fitted}
        anions = {kind: round(fitted.get(kind, value), 4) for kind, value in anions.items()}
        metals = {symbol: round(fitted.get(symbol + _U, value), 4) for symbol, value in metals.items()}
        content[section] = {
            "GGAUMixingCorrections": {"O": metals, "F": dict(metals)},
            "CompositionCorrections": anions,
        }
    content["Fit"] = {
        "n_compounds": len(fit.compounds),
        "mae_ev_per_atom": round(fit.mae, 4),
        "left_out_mae_ev_per_atom": round(fit.left_out_mae, 4),
        "scatter_ev_per_atom": round(fit.scatter, 4),
        "kept_from": base,
        "kept": sorted(kept),
    }
    content["Name"] = refit_name(content)
    return content


def write_refit(content: Mapping[str, Any], path: Path) -> None:
    """Write the file of a refit.

    Raises:
        SchemeError: the name does not end in .yaml, by which pymatgen knows the format.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise SchemeError(f"{path.name} cannot hold a refit: give a name that ends in .yaml")
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.width = 1000
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_text(path) as stream:
        stream.write(_HEADER)
        yaml.dump(dict(content), stream)


def _lowest(elements: Iterable[ComputedEntry]) -> dict[str, float]:
    """Uncorrected energy of the lowest phase of each element, eV/atom."""
    lowest: dict[str, float] = {}
    for entry in elements:
        if entry.composition.is_element and entry.data.get("converged", True):
            symbol = entry.composition.elements[0].symbol
            energy = entry.uncorrected_energy / entry.composition.num_atoms
            lowest[symbol] = min(energy, lowest.get(symbol, math.inf))
    return lowest


def _why_left_out(entry: ComputedEntry, references: Mapping[str, float], measurement: Measurement | None) -> str | None:
    """Why a compound cannot be fitted, if it cannot."""
    missing = sorted(set(entry.composition.get_el_amt_dict()) - set(references))
    if measurement is None:
        return "no measured formation energy"
    if missing:
        return f"no reference for {', '.join(missing)}"
    if not entry.data.get("converged", True):
        return "the relaxation did not converge"
    if not corrections_of(entry):
        return "nothing to correct"
    relative = (measurement.uncertainty or 0.0) / abs(measurement.formation_energy)
    if relative > _MAX_RELATIVE_ERROR:
        return f"measured to {100 * relative:.0f} % only"
    if isinstance(entry, ComputedStructureEntry) and _has_ss_bonds(entry.structure):
        return "S-S bonds: a polysulfide, not a sulfide"  # as in the published fits
    return None


def _has_ss_bonds(structure: Structure) -> bool:
    sulphur = [site.frac_coords for site in structure if site.specie.symbol == "S"]
    if len(sulphur) < 2:
        return False
    distances = structure.lattice.get_all_distances(sulphur, sulphur)
    return bool((distances + np.diag(np.full(len(sulphur), np.inf))).min() < _SS_BOND)


class _Row(NamedTuple):
    """One compound: both formation energies in eV/atom, and the atoms of each kind per atom."""

    formula: str
    measured: Measurement
    uncorrected: float
    counts: dict[str, float]


def _row(entry: ComputedEntry, references: Mapping[str, float], measured: Measurement) -> _Row:
    amounts = entry.composition.get_el_amt_dict()
    n_atoms = entry.composition.num_atoms
    elements = sum(amount * references[symbol] for symbol, amount in amounts.items())
    counts = {short_name(a.name): a.n_atoms / n_atoms for a in entry.energy_adjustments}
    return _Row(
        entry.composition.reduced_formula, measured, float((entry.uncorrected_energy - elements) / n_atoms), counts
    )


@dataclass(frozen=True)
class _Fit:
    """Least squares over some rows; arrays follow ``kinds`` or the rows."""

    kinds: tuple[str, ...]
    values: NDArray[np.float64]
    covariance: NDArray[np.float64]
    scatter: float
    residuals: NDArray[np.float64]
    left_out: NDArray[np.float64]  # residuals of fits without the row; inf where it alone decides a number
    deviations: NDArray[np.float64]  # the same in standard deviations; 0 where it alone decides

    def worst(self, limit: float) -> int | None:
        """The row furthest off, if it is further than ``limit`` standard deviations."""
        index = int(np.argmax(np.abs(self.deviations)))
        return index if abs(self.deviations[index]) > limit else None


def _fit(rows: Sequence[_Row], scatter: float | Literal["fit"]) -> _Fit:
    kinds = tuple(sorted({kind for row in rows for kind in row.counts}, key=lambda k: (k.endswith(_U), k)))
    design = np.array([[row.counts.get(kind, 0.0) for kind in kinds] for row in rows]).reshape(len(rows), len(kinds))
    if not rows or np.linalg.matrix_rank(design) < len(kinds):
        raise SchemeError(
            f"{len(rows)} compounds do not decide the {len(kinds)} corrections {', '.join(kinds)}: add compounds in "
            "which each of them occurs alone or beside known ones"
        )
    target = np.array([row.measured.formation_energy - row.uncorrected for row in rows])
    sigma = _uncertainties([row.measured for row in rows])
    tau = _scatter(design, target, sigma) if scatter == "fit" else float(scatter)
    values, covariance, leverage = _weighted(design, target, np.hypot(sigma, tau))
    residuals = design @ values - target
    alone = leverage > 1 - 1e-9
    free = np.where(alone, 1.0, 1 - leverage)
    deviations = residuals / (np.hypot(sigma, tau) * np.sqrt(free))
    return _Fit(
        kinds,
        values,
        covariance,
        tau,
        residuals,
        np.where(alone, np.inf, residuals / free),
        np.where(alone, 0.0, deviations),
    )


def _uncertainties(measurements: Sequence[Measurement]) -> NDArray[np.float64]:
    """σ of each; the mean of the others where there is none, as in the published fits."""
    known = [m.uncertainty for m in measurements if m.uncertainty is not None]
    mean = float(np.mean(known)) if known else 1.0
    return np.array([mean if m.uncertainty is None else m.uncertainty for m in measurements])


def _weighted(
    design: NDArray[np.float64], target: NDArray[np.float64], sigma: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Weighted least squares: values, their covariance, and the leverage of each row."""
    scaled = design / sigma[:, None]
    covariance = np.linalg.inv(scaled.T @ scaled)
    values = covariance @ (scaled.T @ (target / sigma))
    leverage = np.einsum("ij,jk,ik->i", scaled, covariance, scaled)
    return values, np.asarray(covariance, float), np.asarray(leverage, float)


def _scatter(design: NDArray[np.float64], target: NDArray[np.float64], sigma: NDArray[np.float64]) -> float:
    """τ for which χ² equals the degrees of freedom; 0 where the measured uncertainties explain everything."""
    freedom = len(target) - design.shape[1]

    def excess(tau: float) -> float:
        spread = np.hypot(sigma, tau)
        values, _, _ = _weighted(design, target, spread)
        return float((((design @ values - target) / spread) ** 2).sum()) - freedom

    if freedom <= 0 or excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, _MAX_SCATTER)) if excess(_MAX_SCATTER) < 0 else _MAX_SCATTER
