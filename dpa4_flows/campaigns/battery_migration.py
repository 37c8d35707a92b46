"""Stage ``migration`` of battery campaigns, which a file may add behind ``at_rest``: how the ion gets through what is
left of the candidates."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dpa4_flows.campaigns.context import Scene
from dpa4_flows.campaigns.ion import ion_of
from dpa4_flows.campaigns.measured import Measured
from dpa4_flows.campaigns.relaxed import at_rest
from dpa4_flows.campaigns.sections import Limits
from dpa4_flows.campaigns.stage import Stage
from dpa4_flows.compute.plan import Property
from dpa4_flows.documents.reasons import ReasonKind
from dpa4_flows.properties.migration import Migration, MigrationDocument


@dataclass(frozen=True)
class Hops(Measured):
    """Hops of the ion of the campaign."""

    decided: ClassVar[tuple[str, ...]] = ("working_ion",)
    measures: Property[Any] = field(default_factory=Migration)
    of: str = "hops of the ion"
    crystal: Any = at_rest

    def settled(self, scene: Scene) -> Property[Any]:
        settings: Any = super().settled(scene)
        return dataclasses.replace(settings, working_ion=ion_of(scene.run.campaign))


MIGRATION = Stage(
    name="migration",
    title="Migration",
    quantities=MigrationDocument,
    # 1 C needs less than 0.525 eV in particles of a micrometre, less than 0.65 eV in those of 100 nm (Mueller et al.,
    # Chem. Mater. 23, 3854 (2011))
    criteria={"migration_barrier": Limits(max=0.65, otherwise="flag")},
    reasons={
        "migration_barrier_too_high": ReasonKind("slow ion", "the barrier of the ion on its way exceeds the limit"),
        "no_network": ReasonKind("no way through", "hops within the longest that is looked at lead nowhere"),
        "hops_missing": ReasonKind("hops missing", "some hops have no barrier, so the lowest way may be missed"),
        "rests_between": ReasonKind("site between", "an ion rests between the sites of the crystal, and lower"),
        "path_not_converged": ReasonKind("path not at rest", "a path did not come to rest within the steps"),
    },
    needs=("at_rest",),
    computes=Hops(),
)
