"""A batch in flight that loses only what breaks the potential."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Iterator

from dpa4_core.errors import DPA4Error, words_of
from dpa4_core.potential import PotentialLike
from dpa4_core.relax import InFlight, Request, Result

logger = logging.getLogger(__name__)


class SafeFlight(InFlight):
    """An `InFlight` whose structures are computed one by one when the batch fails, whatever a potential may raise: the
    one to blame comes out with an error, the others with their results. Keys are different from one another.
    """

    def __init__(self, potential: PotentialLike, max_atoms_per_batch: int | None = None) -> None:
        super().__init__(potential, max_atoms_per_batch)
        self._max_atoms = max_atoms_per_batch
        self._there: dict[Hashable, Request] = {}

    def put(self, requests: Iterable[tuple[Hashable, Request]]) -> None:
        for key, request in requests:
            self._there[key] = request
            try:
                super().put([(key, request)])
            except (DPA4Error, OSError):
                raise
            except Exception as problem:  # noqa: BLE001 - whatever a check may raise
                self._refused.append((key, _crashed(request, problem)))

    def refused(self) -> list[tuple[Hashable, Result]]:
        out = super().refused()
        for key, _ in out:
            self._there.pop(key, None)
        return out

    def step(self) -> Iterator[tuple[Hashable, Result]]:
        try:
            for key, result in super().step():
                self._there.pop(key, None)
                yield key, result
        except (DPA4Error, OSError):  # nothing that another structure would not meet
            raise
        except Exception:
            logger.exception("the batch failed; its structures are computed one by one")
            there, self._there = self._there, {}
            super().__init__(self.potential, self._max_atoms)
            for key, request in there.items():
                yield key, self._alone(request)

    def _alone(self, request: Request) -> Result:
        alone = InFlight(self.potential, self._max_atoms)
        try:
            alone.put([(None, request)])
            while alone:
                for _, result in alone.step():
                    return result
        except (DPA4Error, OSError):
            raise
        except Exception as problem:  # noqa: BLE001 - whatever a potential may raise
            return _crashed(request, problem)
        raise AssertionError("a request came out of its batch without a result")


def _crashed(request: Request, problem: Exception) -> Result:
    logger.warning("a calculation failed", exc_info=problem)
    return request.failed(f"the computation failed: {words_of(problem)}", "crashed")
