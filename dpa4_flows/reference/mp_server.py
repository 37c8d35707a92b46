"""Questions to the Materials Project, with the genuine client over a transport that waits and retries.

``MPRester`` reads some answers from tables on S3 whatever its endpoint is. The one search used here,
`materials.thermo.search` with chemical systems or a material and a thermo type, goes over REST (routes ``heartbeat``
and ``materials/thermo``) to the endpoint given.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from requests.exceptions import RequestException

from dpa4_core.errors import words_of
from dpa4_flows.reference.mp_cache import MaterialsProjectError
from dpa4_flows.reference.mp_http import PAUSES_S, check_endpoint, find_key, session, without_key

if TYPE_CHECKING:
    from mp_api.client import MPRester

FIELDS = ("material_id", "chemsys", "thermo_type", "energy_type", "energy_above_hull", "deprecated", "entries")
"""Fields of a thermo document that are asked for."""

UNKNOWN_VERSION = "unknown"

_PAGE = 500
_LONGEST_LIST = 1500  # characters of chemical systems in one address; servers refuse addresses of 4 to 8 kB


class Server:
    """One endpoint. Nothing is sent and `mp_api` is not imported before the first question."""

    def __init__(self, endpoint: str | None = None, api_key: str | None = None) -> None:
        self.endpoint = check_endpoint(endpoint)
        self._key = api_key
        self._rester: MPRester | None = None

    def __repr__(self) -> str:
        return f"Server({self.endpoint!r})"

    def database_version(self) -> str:
        """Version of the database at this moment; "unknown" where a network forbids the question (403)."""
        with session(self.endpoint) as connection:
            try:
                response = connection.get(self.endpoint + "heartbeat")
                version = response.json()["db_version"]
            except MaterialsProjectError as error:
                if error.status == HTTPStatus.FORBIDDEN:
                    return UNKNOWN_VERSION
                raise
            except (RequestException, ValueError, KeyError, TypeError):
                version = None
        if not isinstance(version, str) or not re.fullmatch(r"\w[\w.+-]*", version):
            raise MaterialsProjectError(
                f"{self.endpoint} does not answer like the Materials Project (its heartbeat names no database "
                "version); check the endpoint, a log-in page of the network, or update mp-api"
            )
        return version

    def thermo(
        self, chemical_systems: Sequence[str], thermo_type: str, max_above_hull: float | None
    ) -> list[dict[str, Any]]:
        """Thermo documents of exactly these systems, or of one material by its id, as plain dictionaries.

        Raises:
            MaterialsProjectError: no key, refused, unreachable, or an answer that contradicts itself.
        """
        rester = self._rester or self._connect()
        self._rester = rester
        documents: list[dict[str, Any]] = []
        for systems in _batches(chemical_systems):
            try:
                documents += _search(rester, systems, thermo_type, max_above_hull)
            except MaterialsProjectError:
                raise
            except Exception as error:  # noqa: BLE001  whatever the client trips over is an unreadable answer
                raise MaterialsProjectError(
                    f"the Materials Project client cannot read the answer of {self.endpoint} "
                    f"({self._safe(words_of(error))}); its format may have changed: update mp-api"
                ) from None
        return documents

    def _connect(self) -> MPRester:
        # here, not above: it takes seconds (S3, Arrow), and a warm cache does without
        from mp_api.client import MPRester

        self._key = find_key(self._key)
        for pause in (*PAUSES_S, None):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of its heartbeat and server version; failures come as errors
                    return MPRester(
                        self._key,
                        endpoint=self.endpoint,
                        use_document_model=False,
                        mute_progress_bars=True,
                        session=session(self.endpoint, self._key),
                    )
            except Exception as error:  # noqa: BLE001  its heartbeat checks nothing: any error may come out
                if pause is None:
                    raise MaterialsProjectError(
                        f"the Materials Project client cannot start at {self.endpoint} ("
                        f"{self._safe(words_of(error))}); try again later, or update mp-api"
                    ) from None
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _safe(self, text: str) -> str:
        return without_key(text, self._key)


def _search(
    rester: MPRester, systems: Sequence[str], thermo_type: str, max_above_hull: float | None
) -> list[dict[str, Any]]:
    """One search over REST. Pages are not sorted by the server, so a long answer is checked for gaps."""
    thermo = rester.materials.thermo
    # rounding may put a phase below its hull, hence a lower end that excludes nothing
    window = None if max_above_hull is None else (-100.0, max_above_hull)
    asked = "material_ids" if systems[0].startswith(("mp-", "mvc-")) else "chemsys"
    documents = thermo.search(
        **{asked: list(systems)},
        thermo_types=[thermo_type],
        energy_above_hull=window,
        fields=list(FIELDS),
        chunk_size=_PAGE,
    )
    if len(documents) < _PAGE:
        return documents
    limit = {} if window is None else {"energy_above_hull_min": window[0], "energy_above_hull_max": window[1]}
    stored_type = "r2SCAN" if thermo_type == "R2SCAN" else thermo_type
    expected = thermo.count({"chemsys": ",".join(systems), "thermo_types": stored_type, **limit})
    if len({document.get("material_id") for document in documents}) != expected:
        raise MaterialsProjectError(
            f"the Materials Project sent {len(documents)} of {expected} documents, some twice or not at all; ask again"
        )
    return documents


def _batches(systems: Sequence[str]) -> Iterator[list[str]]:
    """Lists of systems that fit an address; the client itself splits other lists, not this one."""
    batch: list[str] = []
    for system in systems:
        if batch and len(",".join((*batch, system))) > _LONGEST_LIST:
            yield batch
            batch = []
        batch.append(system)
    if batch:
        yield batch
