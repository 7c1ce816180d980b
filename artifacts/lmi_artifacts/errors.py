"""What can go wrong in the artifacts room, one type for each party at fault."""

from collections.abc import Sequence


def _listed(items: Sequence[str]) -> str:
    return "".join(f"\n  - {item}" for item in items)


class ArtifactsError(Exception):
    """The base of every error that this room raises on purpose."""


class ReferenceInvalid(ArtifactsError):
    """Somebody wrote a reference, digest, tag or key that cannot name anything."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(f"{text!r} {why}")
        self.text = text
        self.why = why


class ReferenceAmbiguous(ArtifactsError):
    """A digest prefix fits several artifacts."""

    def __init__(self, text: str, candidates: Sequence[str]) -> None:
        super().__init__(
            f"{text!r} fits {len(candidates)} artifacts; give more digits of the one that is meant:"
            + _listed(candidates)
        )
        self.text = text
        self.candidates = tuple(candidates)


class ArtifactNotFound(ArtifactsError):
    """The registry holds nothing under that reference."""

    def __init__(self, text: str, where: str, nearest: Sequence[str] = ()) -> None:
        hint = f"; the nearest there: {', '.join(nearest)}" if nearest else ""
        super().__init__(f"{text!r} is not in the registry {where}{hint}")
        self.text = text
        self.where = where
        self.nearest = tuple(nearest)


class ArtifactRefused(ArtifactsError):
    """An artifact, or a part of one, is not what it says it is, or may not be used here."""

    def __init__(self, what: str, problems: Sequence[str]) -> None:
        super().__init__(f"{what} is refused:{_listed(problems)}")
        self.what = what
        self.problems = tuple(problems)


class PackageInvalid(ArtifactsError):
    """A tree or manifest that a build made cannot become an artifact."""

    def __init__(self, what: str, problems: Sequence[str]) -> None:
        super().__init__(f"{what} cannot be packaged:{_listed(problems)}")
        self.what = what
        self.problems = tuple(problems)


class PublishFailed(ArtifactsError):
    """A publish did not happen; whatever it left behind is invisible."""

    def __init__(self, what: str, where: str, cause: str) -> None:
        super().__init__(
            f"publishing {what} to {where} failed: {cause}\n"
            "Nothing half-published is visible; publish again when the cause is gone."
        )
        self.what = what
        self.where = where
        self.cause = cause


class PullFailed(ArtifactsError):
    """A pull could not write its destination, or found something else there."""

    def __init__(self, dest: str, cause: str) -> None:
        super().__init__(f"pulling to {dest} failed: {cause}")
        self.dest = dest
        self.cause = cause


class TagMoved(ArtifactsError):
    """A tag does not point where its mover thought: somebody else moved it first."""

    def __init__(self, name: str, tag: str, expected: str | None, found: str | None) -> None:
        super().__init__(
            f"the tag {name}:{tag} was expected at {expected or 'nothing'} and is at "
            f"{found or 'nothing'}; look at what is there now, then move it again"
        )
        self.name = name
        self.tag = tag
        self.expected = expected
        self.found = found


class RegistryUnavailable(ArtifactsError):
    """A registry URL that this program cannot open, or a registry that cannot be read."""

    def __init__(self, url: str, cause: str) -> None:
        super().__init__(f"the registry {url} cannot be used: {cause}")
        self.url = url
        self.cause = cause


class RegistryMisconfigured(RegistryUnavailable):
    """Credentials, a permission, a bucket or a setting is missing; says which."""


class RegistryTransient(RegistryUnavailable):
    """The registry did not answer, or answered that it is busy; a later try may succeed."""


class ArtifactRevoked(ArtifactRefused):
    """Somebody took an artifact back: it must not be used any more."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(what, [f"it was revoked: {reason}"])
        self.reason = reason
