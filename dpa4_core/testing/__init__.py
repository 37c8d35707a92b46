"""The physics any potential must obey, as functions to call from tests, and a toy potential that obeys it.

`run_physics_suite` calls them all on a potential and returns what passed and what failed, with the numbers.
"""

from dpa4_core.testing.derivatives import check_forces_against_differences, check_stress_against_differences
from dpa4_core.testing.morse import MorsePotential, morse_committee
from dpa4_core.testing.samples import sample_systems
from dpa4_core.testing.smoothness import check_continuity_at_polar_axis, check_continuity_through_cutoff
from dpa4_core.testing.suite import CheckResult, run_physics_suite
from dpa4_core.testing.symmetry import (
    check_batch_equals_single,
    check_extensivity,
    check_input_untouched,
    check_isolated_atom,
    check_open_axes,
    check_permutation,
    check_rotation,
    check_self_images,
    check_systems_do_not_couple,
    check_translation,
)

__all__ = [
    "CheckResult",
    "MorsePotential",
    "check_batch_equals_single",
    "check_continuity_at_polar_axis",
    "check_continuity_through_cutoff",
    "check_extensivity",
    "check_forces_against_differences",
    "check_input_untouched",
    "check_isolated_atom",
    "check_open_axes",
    "check_permutation",
    "check_rotation",
    "check_self_images",
    "check_stress_against_differences",
    "check_systems_do_not_couple",
    "check_translation",
    "morse_committee",
    "run_physics_suite",
    "sample_systems",
]
