"""What atomate2's Makers bring along and DPA4 does not use: refused instead of ignored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, NoReturn

from atomate2.forcefields.utils import ForceFieldMixin
from jobflow import OutputReference
from pymatgen.core import Structure

from dpa4_core.errors import DPA4Error
from dpa4_flows.makers.model_reference import ModelLike, WholeMaker
from dpa4_flows.site_conversion import crystal_problem


class MakerError(DPA4Error):
    """A Maker was asked for something that it would not do; one sentence."""


def refuse_changed(maker: Any, without_effect: Mapping[str, str], unset: Collection[Any] = ()) -> None:
    """Refuse fields that were changed and would do nothing.

    Args:
        maker: a dataclass.
        without_effect: what to do instead, by name of the field.
        unset: values that say no more than the default.

    Raises:
        MakerError: one of the fields has neither its default nor one of ``unset``.
    """
    for field in fields(maker):
        if field.name not in without_effect:
            continue
        value = getattr(maker, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if value != default and value not in unset:
            raise MakerError(
                f"{field.name} has no effect on {type(maker).__name__}, which computes with DPA4: "
                f"{without_effect[field.name]}"
            )


@dataclass(kw_only=True)
class DPA4FlowMaker(WholeMaker):
    """Base of atomate2's force-field flows with DPA4 in every sub-Maker."""

    _without_effect: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self, model: ModelLike | None) -> None:
        refuse_changed(self, self._without_effect)
        for field in fields(self):
            part = getattr(self, field.name)
            if not isinstance(part, ForceFieldMixin):
                continue
            if field.name == "born_maker":
                raise MakerError(
                    "born_maker cannot compute charges with a force field: give born and epsilon_static to make()"
                )
            if not hasattr(part, "model"):
                raise MakerError(
                    f"{field.name} of {type(self).__name__} does not compute with DPA4: use DPA4RelaxMaker or "
                    f"DPA4StaticMaker there, or atomate2's own {type(self).__mro__[2].__name__}"
                )
        super().__post_init__(model)

    @classmethod
    def from_force_field_name(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: the force field is DPA4.

        Raises:
            MakerError: always.
        """
        raise MakerError(f"{cls.__name__} computes with DPA4 only: use {cls.__name__}(model=...)")

    def make(self, structure: Any, *args: Any, **kwargs: Any) -> Any:
        """The flow of atomate2, with its arguments.

        Raises:
            MakerError: a slab or chain, or no structure at all.
        """
        if not isinstance(structure, Structure | OutputReference):
            raise MakerError(
                f"{type(self).__name__}.make: structure is a pymatgen Structure, or the output of a job, not "
                f"{structure!r:.60}"
            )
        if isinstance(structure, Structure) and (problem := crystal_problem(structure)):
            raise MakerError(problem)
        return super().make(structure, *args, **kwargs)
