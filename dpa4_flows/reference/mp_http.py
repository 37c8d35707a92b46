"""Transport to the Materials Project: endpoint and API key, bounded retries, failures as one sentence.

The key travels in a header of requests to the endpoint and appears in no message.
"""

from __future__ import annotations

import os
import re
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import requests
from pymatgen.core import SETTINGS
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ContentDecodingError, Timeout

from dpa4_flows.reference.mp_cache import ENDPOINT, MaterialsProjectError

PAUSES_S = (1.0, 3.0, 9.0, 27.0)
"""Waits between attempts."""

_MAX_PAUSE_S = 60.0  # a server may ask for hours (Retry-After); then the user decides, not a sleeping process
_TIMEOUT_S = (10.0, 60.0)  # to connect, between bytes
_RETRIED = (429, 500, 502, 503, 504)
_HINT = "answers in the cache remain usable with offline=True"


def session(endpoint: str, key: str = "") -> requests.Session:
    """Session that retries and fails with `MaterialsProjectError`; ``key`` is only what messages must not show."""
    made = requests.Session()
    made.headers["user-agent"] = "dpa4-flows (mp-api)"
    for scheme in ("http://", "https://"):
        made.mount(scheme, _PoliteAdapter(endpoint, key))
    return made


def check_endpoint(endpoint: str | None) -> str:
    """Endpoint as `mp_api` writes it; without one, ``MP_API_ENDPOINT`` or the public server."""
    address = (endpoint or os.environ.get("MP_API_ENDPOINT") or ENDPOINT).strip()
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        known = False
    if not known or "@" in address or "?" in address or "#" in address:
        raise MaterialsProjectError(
            "the endpoint must be an address such as https://api.materialsproject.org/, without user, password or query"
        )
    return address if address.endswith("/") else address + "/"


def find_key(api_key: str | None = None) -> str:
    """API key: the argument, MP_API_KEY, PMG_MAPI_KEY, or the settings of pymatgen.

    Raises:
        MaterialsProjectError: there is none, or it cannot be one; the sentence does not show it.
    """
    candidates = (
        ("argument api_key", api_key),
        ("variable MP_API_KEY", os.environ.get("MP_API_KEY")),
        ("variable PMG_MAPI_KEY", os.environ.get("PMG_MAPI_KEY")),
        ("PMG_MAPI_KEY of the pymatgen settings", SETTINGS.get("PMG_MAPI_KEY")),
    )
    given = next(((place, str(text).strip()) for place, text in candidates if text and str(text).strip()), None)
    if given is None:
        raise MaterialsProjectError(
            "no Materials Project API key: set MP_API_KEY to the one from https://materialsproject.org/api"
        )
    place, key = given
    if re.fullmatch(r"[A-Za-z0-9]{32}", key):
        return key
    if len(key) in (15, 16, 17):
        raise MaterialsProjectError(
            f"the {place} holds a key of the legacy Materials Project ({len(key)} characters), which this API no "
            "longer knows; get a new one (32 characters) from https://materialsproject.org/api"
        )
    raise MaterialsProjectError(
        f"the {place} holds no Materials Project API key: it has {len(key)} characters, a key has 32 letters and digits"
    )


def without_key(text: str, key: str | None) -> str:
    """Text on one line, without the key, not longer than 200 characters."""
    line = " ".join(text.split())
    return (line.replace(key, "***") if key else line)[:200]


class _PoliteAdapter(HTTPAdapter):
    """Sends with bounded retries; every final failure is one `MaterialsProjectError`.

    Errors raised here pass through `mp_api`, which wraps only errors of `requests`.
    """

    def __init__(self, endpoint: str, key: str) -> None:
        super().__init__(max_retries=0)
        self._endpoint = endpoint
        self._key = key

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        for pause in (*PAUSES_S, None):
            asked = 0.0
            try:
                response = super().send(request, stream, _TIMEOUT_S, verify, cert, proxies)
                _ = response.content  # the body may break off too
            except (requests.ConnectionError, Timeout, ChunkedEncodingError, ContentDecodingError) as error:
                failure = MaterialsProjectError(
                    f"cannot reach the Materials Project at {self._endpoint}: {_broken(error)}; check the "
                    f"network and its proxy; {_HINT}"
                )
            else:
                if response.status_code < HTTPStatus.MULTIPLE_CHOICES:
                    return response
                failure = self._failure(response)
                if response.status_code not in _RETRIED:
                    raise failure
                asked = _retry_after(response)
            if pause is None or asked > _MAX_PAUSE_S:
                break
            time.sleep(max(pause, asked))
        raise failure from None

    def _failure(self, response: requests.Response) -> MaterialsProjectError:
        status = response.status_code
        if status < HTTPStatus.BAD_REQUEST:  # a key must not follow to another host
            message = f"{self._endpoint} redirects to another address; give the final one as endpoint"
        elif status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            message = (
                f"the Materials Project refused the API key (HTTP {status} from {self._endpoint}); copy the current "
                "one from https://materialsproject.org/api into MP_API_KEY"
            )
        elif status == HTTPStatus.NOT_FOUND:
            message = f"there is no Materials Project API at {self._endpoint} (HTTP 404); check the endpoint"
        elif status == HTTPStatus.TOO_MANY_REQUESTS:
            message = f"the Materials Project limits the rate of requests (HTTP 429); wait some minutes; {_HINT}"
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            message = f"the Materials Project has a server error (HTTP {status}); try again later; {_HINT}"
        else:
            message = (
                f"the Materials Project did not accept the query (HTTP {status}{self._detail(response)}); update mp-api"
            )
        return MaterialsProjectError(message, status=status)

    def _detail(self, response: requests.Response) -> str:
        try:
            detail = response.json()["detail"]
        except (ValueError, KeyError, TypeError):
            return ""
        return f": {without_key(str(detail), self._key)}"


def _retry_after(response: requests.Response) -> float:
    """Seconds that the server asks to wait; 0 where it does not say a number."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0


def _broken(error: Exception) -> str:
    """What kept a request from its answer."""
    if isinstance(error, Timeout):
        return "it does not answer in time"
    if isinstance(error, requests.ConnectionError):
        return "there is no connection"
    return "its answer broke off" if isinstance(error, ChunkedEncodingError) else "its answer is damaged"
