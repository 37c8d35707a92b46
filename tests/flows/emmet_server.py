"""The Materials Project's own REST code (emmet-api) over a database of test documents.

A program: ``python emmet_server.py PORT MONGODB_URI DOCUMENTS``, in an environment with emmet-api.
"""

import gzip
import json
import sys
from pathlib import Path

import uvicorn
from emmet.api.core.api import MAPI
from emmet.api.resource.utils import CollectionWithKey
from emmet.api.routes.materials.thermo.resources import thermo_resource
from pymongo import AsyncMongoClient, MongoClient


def main(port: int, uri: str, documents: Path) -> None:
    with MongoClient(uri) as client:
        collection = client["emmet_test"]["thermo"]
        collection.drop()
        collection.insert_many(json.loads(gzip.decompress(documents.read_bytes())))
    store = CollectionWithKey(AsyncMongoClient(uri)["emmet_test"]["thermo"], "material_id")
    uvicorn.run(MAPI({"materials": [thermo_resource(store)]}).app, host="127.0.0.1", port=port, log_level="info")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
