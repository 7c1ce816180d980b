"""A model from a bucket and one from a hub go the whole way: fetched, judged, published.

The graphs are the session's tiny Llama's: neither another source of the same weights nor a
fine-tune compiles anything.
"""

from pathlib import Path
from urllib.parse import quote

import pytest
from hub import COMMIT, TOKEN, Hub
from lmi import Tiny, write_recipe
from s3servers import KEY, SECRET, Bucket, Server

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(server: Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Bucket(server)


def test_from_a_bucket_to_a_bucket(tiny: Tiny, bucket: Bucket, tmp_path: Path) -> None:
    client = bucket.server.client()
    model = tiny.lmi.home / "model"
    for path in sorted(model.iterdir()):
        client.upload_file(str(path), bucket.bucket, f"hf/{path.name}")
    client.put_object(Bucket=bucket.bucket, Key="hf/pytorch_model.bin", Body=b"\x80\x04.")
    lmi = tiny.in_another_home(tmp_path)
    endpoint = quote(bucket.server.endpoint, safe="")
    source = f"s3://{bucket.bucket}/hf?endpoint={endpoint}&region=us-east-1"
    recipe = write_recipe(tmp_path / "stored.yaml", f"'{source}'")
    ended = lmi(recipe, "--json", "--registry", bucket.url)
    assert ended.code == 0, ended.err
    built = ended.json()
    assert (built["decision"], built["proof"]) == ("ACCEPT", "PROVEN")
    assert "compile" not in built["seconds"]
    assert built["path"].startswith(f"s3://{bucket.bucket}/")
    shown = lmi("show", built["artifact"], "--json", "--registry", bucket.url).json()
    assert shown["manifest"]["recipe"]["model"]["id"] == source.partition("?")[0]
    pulled = lmi("pull", built["artifact"], tmp_path / "dest", "--registry", bucket.url)
    assert pulled.code == 0, pulled.err
    assert lmi(recipe, "--json", "--registry", bucket.url).json()["artifact"] == built["artifact"]

    client.put_object(Bucket=bucket.bucket, Key="hf/generation_config.json", Body=b"{}")
    again = lmi("plan", recipe, "--json", "--registry", bucket.url).json()
    assert "model" in {step["name"] for step in again["steps"] if not step.get("cached")}
    assert SECRET not in ended.err + ended.out + pulled.err


def test_a_fine_tune_from_a_hub(tiny: Tiny, tmp_path: Path) -> None:
    tuned = tiny.make(tmp_path / "tuned", seed=1)
    files = {path.name: path.read_bytes() for path in tuned.iterdir()}
    hub = Hub(files | {"LICENSE": b"be good", "pytorch_model.bin": b"\x80\x04."})
    hub.gate = "private"
    lmi = tiny.in_another_home(tmp_path)
    env = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    recipe = write_recipe(tmp_path / "hubbed.yaml", "org/model")
    try:
        refused = lmi(recipe, "--json", **env)
        assert refused.code != 0
        ended = lmi(recipe, "--json", HF_TOKEN=TOKEN, **env)
    finally:
        hub.close()
    assert ended.code == 0, ended.err
    built = ended.json()
    assert (built["decision"], built["proof"]) == ("ACCEPT", "PROVEN")
    assert "compile" not in built["seconds"]
    assert {"model", "reference", "weights", "package", "candidate"} <= set(built["seconds"])
    manifest = lmi("show", built["artifact"], "--json").json()["manifest"]
    assert COMMIT in str(manifest)
    assert "LICENSE" in {Path(file["path"]).name for file in manifest["files"]}
    assert not [path for path in hub.asked if path.endswith(".bin")]
    assert TOKEN not in ended.err + ended.out
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and "cache" not in path.parts]
    assert not [path for path in kept if TOKEN.encode() in path.read_bytes()]
