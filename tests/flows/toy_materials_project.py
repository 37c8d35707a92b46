"""A server of the two routes that the client uses, over documents in the real schema, with failures on request."""

import gzip
import json
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

from emmet.core.mpid import AlphaID

KEY = "0123456789abcdefABCDEF0123456789"
DOCUMENTS = json.loads(
    gzip.decompress((Path(__file__).parents[1] / "data" / "mp" / "thermo_Co-Li-O.json.gz").read_bytes())
)
_KNOWN = {
    *("chemsys", "material_ids", "thermo_types", "energy_above_hull_min", "energy_above_hull_max"),
    *("_fields", "_limit", "_skip"),
}


class ToyMaterialsProject:
    """Attributes: documents; version; asked (path and query of each request); heartbeat and thermo (queues of
    (status, headers, body) sent instead of an answer; the last one stays)."""

    def __init__(self):
        self.documents = DOCUMENTS
        self.version = "2026.04.13"
        self.asked = []
        self.heartbeat = deque()
        self.thermo = deque()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def searches(self):
        """Queries that reached materials/thermo."""
        return [query for path, query in self.asked if "thermo" in path]

    def answer(self, handler):
        parts = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.asked.append((parts.path, query))
        if parts.path == "/heartbeat":
            assert handler.headers.get("x-api-key") is None, "the heartbeat needs no key"
            self.send(handler, self.heartbeat, lambda: self.beat())
        elif parts.path == "/materials/thermo/":
            if handler.headers.get("x-api-key") != KEY:
                self.send(handler, [(401, {}, {"message": "Unauthorized"})], None)
            elif query.keys() - _KNOWN:
                self.send(handler, [(400, {}, {"detail": f"cannot be used: {query.keys() - _KNOWN}"})], None)
            else:
                self.send(handler, self.thermo, lambda: self.search(query))
        else:
            self.send(handler, [(404, {}, {"detail": "Not Found"})], None)

    def beat(self):
        return {
            "status": "OK",
            "version": "0.87.3",
            "db_version": self.version,
            "access_controlled_batch_ids": [],
        }

    def search(self, query):
        by_id = "material_ids" in query
        key, field, kind = ("material_ids", "material_id", AlphaID) if by_id else ("chemsys", "chemsys", str)
        wanted = [kind(name) for name in query[key].split(",")]
        low, high = (
            float(query.get(f"energy_above_hull_{end}", sign)) for end, sign in (("min", "-inf"), ("max", "inf"))
        )
        found = [
            document
            for document in self.documents
            if kind(document[field]) in wanted
            and document["thermo_type"] in query["thermo_types"].split(",")
            and low <= document.get("energy_above_hull", 0) <= high
        ]
        skip = int(query.get("_skip", 0))
        page = found[skip : skip + int(query.get("_limit", 100))]
        fields = query.get("_fields", "material_id").split(",")
        return {
            "data": [{name: document[name] for name in fields if name in document} for document in page],
            "meta": {"total_doc": len(found)},
        }

    @staticmethod
    def send(handler, queue, make):
        status, headers, body = 200, {}, None
        if queue:
            status, headers, body = queue.popleft() if len(queue) > 1 else queue[0]
        if body is None:
            body = make()
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(raw)
