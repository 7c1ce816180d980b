"""What a whole registry holds, and what looks most like a reference that is not there."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lmi_artifacts.digest import Digest
from lmi_artifacts.errors import ArtifactRefused, RegistryUnavailable
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef
from lmi_artifacts.registry import Summary
from lmi_artifacts.s3 import keys, saying
from lmi_artifacts.s3.pointers import Index, Tags
from lmi_artifacts.s3.store import Store

_READERS = 8
Read = Callable[[ArtifactRef], Manifest]


def is_visible(store: Store, ref: ArtifactRef) -> bool:
    """Whether an artifact's manifest is there: one request."""
    return store.head(keys.home(ref) + keys.MANIFEST) is not None


def summaries(store: Store, read: Read) -> tuple[Summary, ...]:
    """Give every artifact, by name and then newest first; some requests for each, in parallel."""
    index, tags = Index(store), Tags(store)
    with ThreadPoolExecutor(_READERS) as pool:
        refs = [ref for name in index.names() for ref in index.newest(name)]
        tagged = {name: tags.of(name) for name in {ref.name for ref in refs}}
        found = pool.map(lambda ref: _summary(store, ref, tagged[ref.name], read), refs)
        return tuple(summary for summary in found if summary is not None)


def _summary(store: Store, ref: ArtifactRef, tags: dict[str, Digest], read: Read) -> Summary | None:
    entry = store.head(keys.home(ref) + keys.MANIFEST)
    if entry is None:
        return None
    size, files, simulated = 0, 0, False
    types: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    try:
        manifest = read(ref)
        size, files, simulated = manifest.size, len(manifest.files), manifest.simulated
        types = tuple(item.predicate_type for item in saying.read(store, ref))
    except ArtifactRefused as error:
        problems = error.problems
    packed = store.head(keys.packed(ref)) is not None
    return Summary(
        ref=ref,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.modified)),
        size=size,
        files=files,
        tags=tuple(sorted(tag for tag, digest in tags.items() if digest == ref.digest)),
        layouts=("prefix", "tar.gz") if packed else ("prefix",),
        statements=types,
        simulated=simulated,
        problems=problems,
    )


def nearest(store: Store, text: str) -> tuple[str, ...]:
    """Give the references there that look most like one that is not."""
    from difflib import get_close_matches  # noqa: PLC0415 - only a failure needs it

    index = Index(store)
    name = text.partition("@")[0].partition(":")[0]
    try:
        refs = [ref for ref in index.newest(name, 20) if is_visible(store, ref)][:3]
        if refs:
            tags = [f"{name}:{tag}" for tag in Tags(store).of(name)]
            return (*tags[:3], *map(str, refs))
        return tuple(get_close_matches(name, index.names(), cutoff=0.5))
    except (RegistryUnavailable, ArtifactRefused):
        return ()
