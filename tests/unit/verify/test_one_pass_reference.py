"""The reference of one-pass models: transformers' own outputs; what cannot be one is refused."""

import base64
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_encoders import add_image_processor, add_tokenizer, make_encoder
from transformers import AutoModel, AutoModelForImageClassification

from lmi_verify.errors import LimitsTooSmall, ModelUnreadable
from lmi_verify.one_pass.reference import run

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_tokenizer(make_encoder(tmp_path_factory.mktemp("texts"), "sentence"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_image_processor(make_encoder(tmp_path_factory.mktemp("pictures"), "vit"), size=32)


def _referred(model: Path, out: Path, head: str, **more: Any) -> tuple[list[Any], Tensors, Tensors]:
    params = {"head": head, "prompts": "v2", "max_input_len": 24, "trust_remote_code": False}
    run({**params, **more}, {"fetch": model}, out)
    listed = json.loads((out / "prompts.json").read_bytes())
    told = json.loads((out / "outputs.json").read_bytes())
    assert (listed["head"], told["prompts_digest"]) == (head, listed["digest"])
    asked, outputs = (load_file(out / f"{name}.safetensors") for name in ("prompts", "outputs"))
    return listed["prompts"], asked, outputs


def test_texts_are_the_prompt_sets_and_outputs_transformers_own(
    texts: Path, tmp_path: Path
) -> None:
    prompts, asked, outputs = _referred(texts, tmp_path, "embedding")
    assert len(prompts) == 16
    assert max(len(asked[f"{index:03d}.input_ids"]) for index in range(16)) == 24
    model = AutoModel.from_pretrained(texts).eval()
    for index in range(16):
        ids = asked[f"{index:03d}.input_ids"][None]
        with torch.no_grad():
            states = model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        assert torch.equal(outputs[f"{index:03d}.output"], states)
        alike = torch.cosine_similarity(outputs[f"{index:03d}.embedding"], states.mean(0), dim=0)
        assert float(alike) == pytest.approx(1)


def test_pictures_of_every_kind_of_png_are_prepared_by_the_models_own_processor(
    pictures: Path, tmp_path: Path
) -> None:
    prompts, asked, outputs = _referred(pictures, tmp_path, "picture")
    kinds = [Image.open(io.BytesIO(base64.b64decode(each["image"]))).mode for each in prompts]
    assert kinds == ["RGB", "L", "RGBA", "P"]
    model = AutoModelForImageClassification.from_pretrained(pictures).eval()
    for index in range(4):
        pixels = asked[f"{index:03d}.pixel_values"]
        assert pixels.shape == (3, 32, 32)
        with torch.no_grad():
            assert torch.equal(outputs[f"{index:03d}.output"], model(pixels[None]).logits[0])


@pytest.mark.parametrize(
    ("head", "says"),
    [("label", "weights for AutoModelForSequenceClassification are missing"), ("mask", "missing")],
)
def test_a_model_without_the_weights_of_its_head_is_refused(
    texts: Path, tmp_path: Path, head: str, says: str
) -> None:
    with pytest.raises(ModelUnreadable, match=says):
        _referred(texts, tmp_path, head)


def test_what_cannot_be_asked_is_refused(texts: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(LimitsTooSmall):
        _referred(texts, tmp_path, "embedding", max_input_len=1)
    with pytest.raises(ModelUnreadable, match=r"tokenizer\.json"):
        _referred(make_encoder(tmp_path / "mute", "sentence"), tmp_path, "embedding")
    blind = Path(shutil.copytree(pictures, tmp_path / "blind"))
    (blind / "preprocessor_config.json").write_text('{"image_processor_type": "Nobodys"}')
    with pytest.raises(ModelUnreadable, match=r"preprocessor_config\.json"):
        _referred(blind, tmp_path, "picture")
    (blind / "preprocessor_config.json").unlink()
    with pytest.raises(ModelUnreadable, match=r"preprocessor_config\.json: there is no such file"):
        _referred(blind, tmp_path, "picture")


def test_a_model_that_computes_nan_is_refused(pictures: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(pictures, tmp_path / "broken"))
    tensors = load_file(broken / "model.safetensors")
    tensors["classifier.bias"][0] = float("nan")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelUnreadable, match="96x64-rgb holds NaN"):
        _referred(broken, tmp_path, "picture")
