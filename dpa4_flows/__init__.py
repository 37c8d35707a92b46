"""Materials screening with the DPA4 interatomic potential: jobflow Makers, hulls, campaigns and reports.

    job = dpa4_flows.ConvexHullMaker(model="dpa4-neo").make(structures, "hull.sqlite")
    dpa4_flows.run_local(job, "hull")

Public names, those of ``__init__.pyi``, are imported when they are first used: `dpa4 --help` and a worker that needs
one Maker do not wait for the rest of the package.
"""

from dpa4_core.lazy import import_when_used, names_in_stub
from dpa4_core.version import __version__
from dpa4_flows.moved import import_moved_modules

_HOMES = names_in_stub(__name__, __file__)

__all__ = ["__version__", *(name for names in _HOMES.values() for name in names)]

import_when_used(__name__, _HOMES)
import_moved_modules()
