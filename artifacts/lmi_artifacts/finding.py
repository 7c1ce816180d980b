"""What a reference means, whatever holds the registry."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from lmi_artifacts.digest import Digest
from lmi_artifacts.errors import ArtifactNotFound, ReferenceAmbiguous
from lmi_artifacts.manifest import Manifest
from lmi_artifacts.reference import ArtifactRef, parse_reference


class Finding(ABC):
    """The part of a registry that resolves references, by what each registry can look up."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the registry is, without credentials."""

    @abstractmethod
    def manifest(self, ref: ArtifactRef) -> Manifest:
        """Read an artifact's manifest, checked against the reference's digest."""

    @abstractmethod
    def tag(self, name: str, tag: str) -> Digest | None:
        """Read where a tag points."""

    @abstractmethod
    def _by_digest(self, prefix: str, name: str | None) -> Sequence[ArtifactRef]:
        """Give the visible artifacts (of a name) whose digest starts so."""

    @abstractmethod
    def _newest(self, name: str) -> Sequence[ArtifactRef]:
        """Give visible artifacts of a name, the newest first; at least one if there is any."""

    @abstractmethod
    def _nearest(self, text: str) -> tuple[str, ...]:
        """Give the references there that look most like one that is not."""

    def resolve(self, text: str) -> ArtifactRef:
        """Find the one artifact that a reference means; see the Protocol. On S3 <= 5 requests."""
        wanted = parse_reference(text)
        name = str(wanted.name)
        found: Sequence[ArtifactRef]
        if wanted.digest_prefix is not None:
            found = self._by_digest(wanted.digest_prefix, wanted.name)
            if len(found) > 1:
                raise ReferenceAmbiguous(text, sorted(map(str, found)))
        elif wanted.tag is not None:
            digest = self.tag(name, wanted.tag)
            found = [] if digest is None else [ArtifactRef(name=name, digest=digest)]
        else:
            found = self._newest(name)
        if not found:
            raise ArtifactNotFound(text, self.url, self._nearest(text))
        self.manifest(found[0])
        return found[0]
