"""What carries a tag, for each model, in one object: choosing among thousands is one request.

Derived from tags and manifests, which stay the truth: whoever chooses reads both again.
"""

import time
from collections.abc import Mapping

from lmi_artifacts.digest import Digest, JSONValue
from lmi_artifacts.errors import ReferenceInvalid
from lmi_artifacts.folder_upkeep import candidate_of, model_of
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Candidate
from lmi_artifacts.s3 import keys, sealed
from lmi_artifacts.s3.store import Store


class Catalog:
    """Catalogue objects, changed by compare-and-swap."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def enter(self, manifest: Manifest, tag: str) -> None:
        """Note that a tag of an artifact's name now points at it; under model id and name."""
        one = candidate_of(manifest, time.time())
        entry: dict[str, JSONValue] = {
            "digest": str(one.ref.digest),
            "created": one.created,
            "serving": one.serving,
            "quantization": one.quantization,
            "simulated": one.simulated,
        }

        def change(found: Mapping[str, JSONValue] | None) -> Mapping[str, JSONValue]:
            return {**(found or {}), manifest.name: entry}

        for model in sorted({model_of(manifest), manifest.name}):
            sealed.swap(self._store, keys.catalog(tag, model), change)

    def read(self, tag: str, model: str) -> tuple[Candidate, ...]:
        """Give the entries for a tag and a model, newest first."""
        found = sealed.read(self._store, keys.catalog(tag, model))
        entries = {} if found is None else found.value
        candidates = [_candidate(name, entry) for name, entry in entries.items()]
        kept = [one for one in candidates if one is not None]
        return tuple(sorted(kept, key=lambda one: one.created, reverse=True))


def _candidate(name: str, entry: JSONValue) -> Candidate | None:
    match entry:
        case {
            "digest": str(digest),
            "created": int() | float() as created,
            "serving": dict(serving),
            "quantization": str(quantization),
            "simulated": bool(simulated),
        }:
            try:
                ref = ArtifactRef(name=name, digest=Digest.parse(digest))
            except ReferenceInvalid:
                return None
            return Candidate(
                ref=ref,
                created=created,
                serving=serving,
                quantization=quantization,
                simulated=simulated,
            )
        case _:
            return None
