"""The manifest: exactly what is in an artifact, and the artifact's identity.

An artifact's digest is the sha256 of its manifest's canonical JSON. The manifest holds only what
is the same whenever the same thing is built; what is measured or said later is a statement.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmi_artifacts.digest import (
    HEX64,
    Digest,
    JSONValue,
    digest_bytes,
    read_canonical_json,
)
from lmi_artifacts.errors import ArtifactRefused
from lmi_artifacts.fields import Fields, written
from lmi_artifacts.paths import MANIFEST_NAME, path_problem, set_problems

FORMAT_VERSION: Final = 2
"""What is written; 1, which has no `blake3`, is still read."""
MANIFEST_BYTES: Final = 64 * 2**20
FILES: Final = 100_000
FILE_BYTES: Final = 5 * 2**40  # S3's older object limit; no model file comes near it
NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_TOP: Final = (
    "format_version", "name", "recipe", "toolchain", "build_key", "steps", "serving", "licence",
    "simulated", "files",
)  # fmt: skip
_FILE: Final = {
    1: ("path", "size", "sha256", "executable"),
    2: ("path", "size", "sha256", "blake3", "executable"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    """One file of an artifact.

    Attributes:
        path: relative to the root, segments joined by `/`.
        size: bytes.
        sha256: of the content, 64 lower-case hex digits.
        blake3: of the content, in the same form; None in a manifest of format 1.
        executable: whether its mode is 755 instead of 644.
    """

    path: str
    size: int
    sha256: str
    blake3: str | None = None
    executable: bool = False

    def to_json(self) -> dict[str, JSONValue]:
        """Give the file as a JSON object."""
        plain: dict[str, JSONValue] = {
            "path": self.path,
            "size": self.size,
            "sha256": self.sha256,
            "executable": self.executable,
        }
        return plain if self.blake3 is None else plain | {"blake3": self.blake3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an artifact is and holds; see the module's sentence on identity.

    Attributes:
        name: the artifact's name, as references use it.
        recipe: the resolved recipe.
        toolchain: the toolchain's identity.
        build_key: the key of the whole plan.
        steps: step name -> step key.
        serving: the container contract and the hardware that the artifact loads on.
        licence: the model's licence, or None where the model has none.
        simulated: made by a simulator; never published outside the tests' own registries.
        files: sorted by path; everything in the tree except the manifest itself.
        format_version: of the manifest; 2, or 1 where the files have no `blake3`.
    """

    name: str
    recipe: Mapping[str, JSONValue]
    toolchain: Mapping[str, JSONValue]
    build_key: str
    steps: Mapping[str, str]
    serving: Mapping[str, JSONValue]
    licence: Mapping[str, JSONValue] | None
    simulated: bool
    files: tuple[ManifestFile, ...]
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, JSONValue]:
        """Give the manifest as a JSON object."""
        return {
            "format_version": self.format_version,
            "name": self.name,
            "recipe": self.recipe,
            "toolchain": self.toolchain,
            "build_key": self.build_key,
            "steps": self.steps,
            "serving": self.serving,
            "licence": self.licence,
            "simulated": self.simulated,
            "files": [file.to_json() for file in self.files],
        }

    def to_bytes(self) -> bytes:
        """Give the manifest's canonical bytes, after reading them back as a stranger would.

        Raises:
            PackageInvalid: no reader would accept this manifest; names every problem.
        """
        return written(f"the manifest of {self.name}", self.to_json(), Manifest.parse)

    @property
    def digest(self) -> Digest:
        """The artifact's identity; raises what `to_bytes` raises."""
        return digest_bytes(self.to_bytes())

    @property
    def size(self) -> int:
        """Bytes of all files together, without the manifest."""
        return sum(file.size for file in self.files)

    @classmethod
    def parse(cls, data: bytes) -> "Manifest":
        """Read canonical manifest bytes.

        Raises:
            ArtifactRefused: anything but a manifest of a known format version, in canonical form,
                with safe paths in order; names every problem.
        """
        if len(data) > MANIFEST_BYTES:
            raise ArtifactRefused(MANIFEST_NAME, [f"is larger than {MANIFEST_BYTES} bytes"])
        try:
            value = read_canonical_json(data)
        except ValueError as error:
            raise ArtifactRefused(MANIFEST_NAME, [str(error)]) from None
        fields = Fields(value, "", _TOP)
        version = fields.whole("format_version", 2**31)
        if not fields.problems and version not in _FILE:
            known = " and ".join(map(str, _FILE))
            problem = f"format_version {version} is unknown; this program reads {known}"
            raise ArtifactRefused(MANIFEST_NAME, [problem])
        manifest = cls(
            format_version=version,
            name=fields.text("name"),
            recipe=fields.mapping("recipe"),
            toolchain=fields.mapping("toolchain"),
            build_key=fields.text("build_key"),
            steps=fields.texts("steps"),
            serving=fields.mapping("serving"),
            licence=fields.optional_mapping("licence"),
            simulated=fields.flag("simulated"),
            files=_files(fields, _FILE.get(version, _FILE[FORMAT_VERSION])),
        )
        problems = fields.problems
        if NAME.fullmatch(manifest.name) is None and isinstance(value, dict) and "name" in value:
            problems.append(f"name: {manifest.name!r} does not fit {NAME.pattern}")
        if problems:
            raise ArtifactRefused(MANIFEST_NAME, problems)
        return manifest


def manifest_schema_text() -> str:
    """The JSON Schema of both formats."""
    return Path(__file__).with_name("manifest.schema.json").read_text(encoding="utf-8")


def _files(fields: Fields, names: Sequence[str]) -> tuple[ManifestFile, ...]:
    items = fields.items("files")
    if len(items) > FILES:
        fields.problems.append(f"files: {len(items)} files are more than {FILES}")
        return ()
    files = tuple(
        _file(item, f"files[{index}].", names, fields.problems) for index, item in enumerate(items)
    )
    if not fields.problems:
        fields.problems += _order_problems([file.path for file in files])
    return files


def _file(item: JSONValue, where: str, names: Sequence[str], problems: list[str]) -> ManifestFile:
    fields = Fields(item, where, names)
    file = ManifestFile(
        path=fields.text("path"),
        size=fields.whole("size", FILE_BYTES),
        sha256=fields.text("sha256"),
        blake3=fields.text("blake3") if "blake3" in names else None,
        executable=fields.flag("executable"),
    )
    if not fields.problems:
        for name, digits in (("sha256", file.sha256), ("blake3", file.blake3)):
            if digits is not None and HEX64.fullmatch(digits) is None:
                fields.problems.append(f"{where}{name}: is not 64 lower-case hex digits")
        wrong = path_problem(file.path)
        if wrong is not None:
            fields.problems.append(f"{where}path: {wrong}")
    problems += fields.problems
    return file


def _order_problems(paths: Sequence[str]) -> list[str]:
    problems = [f"files: {problem}" for problem in set_problems(paths)]
    if not problems and list(paths) != sorted(paths):
        problems.append("files: not sorted by path")
    return problems
