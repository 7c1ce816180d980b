"""Verbs about trust: sign, promote, rollback, revoke."""

from pathlib import Path

import click

from lmi_artifacts import promotion
from lmi_artifacts.errors import ReferenceInvalid
from lmi_artifacts.reference import parse_reference
from lmi_artifacts.trust import make_keys
from lmi_artifacts.trust import sign as make_signature
from lmi_compile.cli.options import (
    registry_of,
    settings_options,
    voice_options,
    why_option,
)
from lmi_compile.console import Console
from lmi_compile.errors import EnvironmentFault, ExitCode
from lmi_compile.settings import Settings

_NO_CRYPTOGRAPHY = "pip install 'lmi-compile[trust]'"


@click.command()
@click.argument("ref", required=False)
@click.option("--key", type=click.Path(path_type=Path), required=True, help="Private key (PEM).")
@click.option("--new-key", is_flag=True, help="Make the key, and KEY.pub beside it.")
@settings_options
@voice_options
def sign(
    ref: str | None,
    *,
    key: Path,
    new_key: bool,
    settings: Settings,
    console: Console,
) -> int:
    """Sign the artifact REF and what is said about it so far (ed25519)."""
    try:
        made = make_keys(key, key.with_name(key.name + ".pub")) if new_key else None
        if ref is None:
            console.data(str(made))
            return ExitCode.OK
        registry = registry_of(settings)
        artifact = registry.resolve(ref)
        signature = make_signature(artifact, registry.statements(artifact), key)
    except ModuleNotFoundError as error:
        what = f"signing needs {error.name}"
        raise EnvironmentFault(what, fix=_NO_CRYPTOGRAPHY) from error
    registry.add_statement(artifact, signature)
    keyid = signature.predicate["keyid"]
    told = {"artifact": str(artifact), "keyid": keyid}
    console.answer(told, f"{artifact} signed by {keyid}")
    return ExitCode.OK


@click.command()
@click.argument("ref")
@click.argument("tag", default="prod")
@click.option("--policy", type=click.Path(path_type=Path), help="TOML; default: verified, proven.")
@why_option
@settings_options
@voice_options
def promote(
    ref: str,
    tag: str,
    *,
    policy: Path | None,
    why: str,
    settings: Settings,
    console: Console,
) -> int:
    """Move TAG (default: prod) to the artifact REF, if the policy accepts it."""
    registry = registry_of(settings)
    artifact = registry.resolve(ref)
    rules = promotion.Policy() if policy is None else promotion.read_policy(policy)
    promotion.promote(registry, artifact, tag, rules, why)
    said = f"{artifact.name}:{tag} -> {artifact.digest}"
    console.answer({"artifact": str(artifact), "tag": tag}, said)
    return ExitCode.OK


@click.command()
@click.argument("tagged")
@why_option
@settings_options
@voice_options
def rollback(tagged: str, *, why: str, settings: Settings, console: Console) -> int:
    """Move a tag (NAME:TAG) back to what its last promotion replaced."""
    wanted = parse_reference(tagged)
    if wanted.tag is None or wanted.name is None:
        raise ReferenceInvalid(tagged, "is not NAME:TAG")
    registry = registry_of(settings)
    back = promotion.rollback(registry, wanted.name, wanted.tag, why)
    said = f"{wanted.name}:{wanted.tag} -> {back.digest}"
    console.answer({"artifact": str(back), "tag": wanted.tag}, said)
    return ExitCode.OK


@click.command()
@click.argument("ref")
@why_option
@settings_options
@voice_options
def revoke(ref: str, *, why: str, settings: Settings, console: Console) -> int:
    """Take the artifact REF back; pull, resolve and deploy refuse it at once, and say why."""
    registry = registry_of(settings)
    artifact = registry.resolve(ref)
    promotion.revoke(registry, artifact, why)
    said = f"{artifact} revoked: {why}"
    console.answer({"artifact": str(artifact), "revoked": why}, said)
    return ExitCode.OK
