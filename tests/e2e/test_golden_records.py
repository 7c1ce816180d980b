"""References travel through a real S3 server: computed once, verified on read, never trusted."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lmi import Ended, Lmi, write_recipe
from s3servers import KEY, SECRET, Server

pytestmark = pytest.mark.slow


def test_a_second_machine_takes_the_reference_from_the_registry_and_checks_it(
    server: Server, make_tiny_llama: Callable[..., Path], tmp_path: Path
) -> None:
    bucket = server.bucket("golden")
    url = server.url(bucket)
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}

    def reference(machine: str) -> Ended:
        """A build as far as the reference, with an empty cache."""
        home = tmp_path / machine
        make_tiny_llama(home / "model")
        recipe = write_recipe(home / "tiny.yaml", "./model")
        until = ("--until", "reference", "--verbose")
        return Lmi(home=home)(recipe, *until, "--registry", url, "--json", **keys)

    first, second = reference("first"), reference("second")
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "every byte verified" not in first.err
    assert "every byte verified" in second.err
    assert "reference: loading" not in second.err  # no model was run
    made, taken = (Path(each.json()["path"]) for each in (first, second))
    names = ("prompts.json", "prompts.safetensors", "outputs.json", "outputs.safetensors")
    for name in names:
        assert (taken / name).read_bytes() == (made / name).read_bytes()

    client = server.client()
    listed = client.list_objects_v2(Bucket=bucket, Prefix="")["Contents"]
    (piece,) = [each["Key"] for each in listed if each["Key"].endswith("outputs.safetensors.0")]
    data = bytearray(client.get_object(Bucket=bucket, Key=piece)["Body"].read())
    data[-1] ^= 1
    client.put_object(Bucket=bucket, Key=piece, Body=bytes(data))
    third = reference("third")
    assert third.code == 0, third.err
    assert "outputs.safetensors is damaged: computing it" in third.err
    assert "reference: loading" in third.err
    own = Path(third.json()["path"])
    assert (own / "prompts.json").read_bytes() == (made / "prompts.json").read_bytes()
