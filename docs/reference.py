"""The site's reference pages, made from the code that they describe each time it is built."""

import dataclasses
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from lmi_artifacts.manifest import Manifest, ManifestFile, manifest_schema_text
from lmi_compile.errors import _CODES, ExitCode
from lmi_compile.explain import explained_codes, explanation
from lmi_recipes.schema import recipe_schema_text
from lmi_verify import gates

_MEANINGS = {
    ExitCode.OK: "done, or a cache hit",
    ExitCode.BUG: "a bug of ours",
    ExitCode.USAGE: "the command line, or a recipe that is unreadable or breaks the schema",
    ExitCode.IMPOSSIBLE: "valid, but this model, target or toolchain cannot do it",
    ExitCode.COMPILE_FAILED: "a compiler or another tool failed",
    ExitCode.VERIFICATION_FAILED: "the outputs are not the reference's",
    ExitCode.PROOF_FAILED: "serving would compile, write or connect",
    ExitCode.PUBLISH_FAILED: "packaging, publishing or pulling failed",
    ExitCode.ENVIRONMENT: "a toolchain, a program or a permission is missing",
    ExitCode.MATRIX_PART_FAILED: "part of a matrix failed",
    ExitCode.REFUSED: "the artifact is refused, revoked, not loadable there, or not found",
    ExitCode.TRANSIENT: "a later try may succeed",
    ExitCode.INTERRUPTED: "interrupted; the same command resumes",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    for name, lines in _pages().items():
        page = File.generated(config, f"reference/{name}.md", content="\n".join(lines))
        files.append(page)
    return files


def _pages() -> Mapping[str, list[str]]:
    return {
        "cli": list(_cli()),
        "recipe": list(_recipe()),
        "gates": list(_gates()),
        "exit-codes": list(_exit_codes()),
        "errors": list(_errors()),
        "manifest": list(_manifest()),
    }


def _cli() -> Iterator[str]:
    yield "# Command line\n"
    yield "::: mkdocs-click"
    yield from (
        "    :module: lmi_compile.cli.app",
        "    :command: command",
        "    :prog_name: lmi-compile",
        "    :depth: 1",
        "    :style: plain",
    )


def _recipe() -> Iterator[str]:
    yield "# Recipe\n\nEvery field, from the schema that `lmi-compile schema` prints.\n"
    yield "| field | type | default | meaning |\n|---|---|---|---|"
    yield from _fields(json.loads(recipe_schema_text()), "")


def _fields(schema: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        inner = next((one for one in (field, *field.get("anyOf", ())) if "properties" in one), None)
        default = "" if inner else _code(field.get("default", ""))
        meaning = _cell(field.get("description", ""))
        yield f"| `{prefix}{name}` | {_type(field)} | {default} | {meaning} |"
        if inner:
            yield from _fields(inner, f"{prefix}{name}.")


def _type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return " ".join(_code(value) for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(one) for one in field["anyOf"]))
    if "const" in field:
        return _code(field["const"])
    return str(field.get("type", "any"))


def _gates() -> Iterator[str]:
    yield "# Gates\n\nThe limits that a verdict holds a build to, by dtype and quantisation.\n"
    data = json.loads(
        (Path(inspect.getfile(gates)).parent / "data" / "gates.json").read_text("utf-8")
    )
    yield f"```json\n{json.dumps(data, indent=1, ensure_ascii=False)}\n```"


def _exit_codes() -> Iterator[str]:
    yield "# Exit codes\n\n| code | meaning | errors |\n|---|---|---|"
    for code in ExitCode:
        kinds = ", ".join(f"`{kind.__name__}`" for kind, own in _CODES if own == code)
        yield f"| {int(code)} | {_MEANINGS[code]} | {kinds} |"


def _errors() -> Iterator[str]:
    yield "# Errors\n\nWhat `lmi-compile explain CODE` says.\n"
    for code in explained_codes():
        yield explanation(code).replace("\n## ", "\n### ").replace("# E", "## E", 1)


def _manifest() -> Iterator[str]:
    yield "# Manifest\n\n`lmi-artifact.json`: only what is the same for the same build."
    yield "The artifact's digest is the sha256 of its canonical JSON.\n"
    yield f"```\n{inspect.cleandoc(Manifest.__doc__ or '')}\n```\n"
    yield "| field | type |\n|---|---|"
    for field in dataclasses.fields(Manifest):
        yield f"| `{field.name}` | `{_cell(str(field.type))}` |"
    yield f"\n```\n{inspect.cleandoc(ManifestFile.__doc__ or '')}\n```\n"
    yield f"`lmi-compile schema manifest`:\n\n```json\n{manifest_schema_text()}```"


def _code(value: object) -> str:
    return f"`{json.dumps(value)}`" if value != "" else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
