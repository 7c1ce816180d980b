"""The reference of a one-pass model: Hugging Face's own code, eagerly, in float32.

Each example runs alone, without padding. Texts are those of the prompt set; pictures are drawn,
each of another size and another kind of PNG.
"""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - nobody imports this module before it is named
import transformers  # noqa: TID253 - as above
from PIL import Image, ImageDraw  # as above
from safetensors.torch import save_file  # noqa: TID253 - as above

from lmi_verify.errors import LimitsTooSmall, ModelUnreadable
from lmi_verify.huggingface import first_line, from_pretrained, load_tokenizer
from lmi_verify.jsonread import JSONValue
from lmi_verify.one_pass.heads import Head, head_named
from lmi_verify.prompts import file_digest, load_prompts

_TEXTS = 16
_PICTURES = ((96, 64, "RGB"), (61, 131, "L"), (240, 240, "RGBA"), (33, 40, "P"))
_LEAST_TOKENS = 2


def run(params: Mapping[str, JSONValue], inputs: Mapping[str, Path], out: Path) -> None:
    """Writes prompts.json, prompts.safetensors, outputs.json and outputs.safetensors.

    `prompts.json` lists the examples, with `text` or `image` (base64 of a PNG). By number:
    `000.input_ids`, `000.token_type_ids` where the model takes them, or `000.pixel_values`; and
    of the outputs `000.output` (a head's tensor) and, of embeddings, `000.embedding`.

    Args:
        params: `head`, `prompts` (version), `max_input_len`, `trust_remote_code`.
        inputs: `fetch`, a Hugging Face directory.
        out: Where the files go.

    Raises:
        ModelUnreadable: The model cannot be loaded or run, or lacks weights of its head.
        LimitsTooSmall: No text fits.
    """
    head, source = head_named(str(params["head"])), inputs["fetch"]
    trust = bool(params["trust_remote_code"])
    model = load(source, head.loader, trust_remote_code=trust)
    if head.reads == "text":
        longest = int(str(params["max_input_len"]))
        listed, given = _texts(source, str(params["prompts"]), longest, trust_remote_code=trust)
    else:
        listed, given = _pictures(source)
    made: dict[str, torch.Tensor] = {}
    for index, asked in enumerate(given):
        output = _output(model, head, asked)
        if not bool(output.isfinite().all()):
            why = f"in float32 its output on {listed[index]['id']} holds NaN or infinity"
            raise ModelUnreadable(source, why)
        made[f"{index:03d}.output"] = output
        if head.name == "embedding":
            made[f"{index:03d}.embedding"] = torch.nn.functional.normalize(output.mean(0), dim=0)
        print(f"reference: {listed[index]['id']}, {index + 1} of {len(given)}", flush=True)  # noqa: T201 - progress
    tensors = {
        f"{index:03d}.{name}": tensor[0]
        for index, asked in enumerate(given)
        for name, tensor in asked.items()
    }
    save_file(tensors, out / "prompts.safetensors")
    digest = file_digest(out / "prompts.safetensors")
    save_file(made, out / "outputs.safetensors")
    prompts: list[JSONValue] = list(listed)
    _write(out / "prompts.json", {"head": head.name, "digest": digest, "prompts": prompts})
    told: list[JSONValue] = [{"id": each["id"]} for each in listed]
    _write(out / "outputs.json", {"prompts_digest": digest, "prompts": told})


def load(directory: Path, loader: str, *, trust_remote_code: bool) -> torch.nn.Module:
    """The model in float32, in eval mode, with every weight of its class.

    Args:
        directory: A Hugging Face directory.
        loader: The class of transformers that loads it.
        trust_remote_code: Whether Python files of the directory may run.

    Raises:
        ModelUnreadable: It cannot be loaded, or lacks weights.
    """
    torch.manual_seed(0)  # of what is missing and not read
    model, report = from_pretrained(
        getattr(transformers, loader), directory, trust_remote_code=trust_remote_code
    )
    wrong = [name for name, *_ in report["mismatched_keys"]]
    # A pooler that nobody trained is not read: embeddings come from the hidden states.
    missing = [name for name in report["missing_keys"] if not name.startswith("pooler.")]
    if wrong or missing:
        first = min([*wrong, *missing])
        why = f"{len(wrong) + len(missing)} weights for {loader} are missing or of another shape"
        raise ModelUnreadable(directory / "model.safetensors", f"{why}, the first is {first}")
    loaded: torch.nn.Module = model
    return loaded


def drawn(index: int) -> bytes:
    """Picture number `index` as a PNG: a gradient with shapes on it, the same pixels always."""
    width, height, mode = _PICTURES[index]
    picture = Image.new("RGB", (width, height))
    for x in range(width):
        for y in range(height):
            picture.putpixel((x, y), (x * 255 // width, y * 255 // height, (x * y + 37) % 256))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((width // 4, height // 4, width // 2, height - 5), fill=(200, 30 * index, 90))
    draw.line((0, height, width, 0), fill=(255, 255, 255), width=3)
    kept = io.BytesIO()
    picture.convert(mode).save(kept, "PNG")
    return kept.getvalue()


def _texts(
    source: Path, version: str, longest: int, *, trust_remote_code: bool
) -> tuple[list[dict[str, JSONValue]], list[dict[str, torch.Tensor]]]:
    if longest < _LEAST_TOKENS:
        raise LimitsTooSmall(longest, longest)
    tokenizer: Any = load_tokenizer(source, trust_remote_code=trust_remote_code)
    chosen = [prompt for prompt in load_prompts(version).prompts if prompt.text.strip()][:_TEXTS]
    given = []
    for prompt in chosen:
        encoded = tokenizer(prompt.text, truncation=True, max_length=longest, return_tensors="pt")
        kept = ("input_ids", "token_type_ids")
        given.append({name: encoded[name] for name in kept if name in encoded})
    return [{"id": prompt.id, "text": prompt.text} for prompt in chosen], given


def _pictures(source: Path) -> tuple[list[dict[str, JSONValue]], list[dict[str, torch.Tensor]]]:
    path = source / "preprocessor_config.json"
    if not path.is_file():
        raise ModelUnreadable(path, "there is no such file (the served model needs it too)")
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnreadable(path, first_line(error)) from error
    listed: list[dict[str, JSONValue]] = []
    given = []
    for index, (width, height, mode) in enumerate(_PICTURES):
        png = drawn(index)
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        given.append({"pixel_values": processor(picture, return_tensors="pt")["pixel_values"]})
        text = base64.b64encode(png).decode("ascii")
        listed.append({"id": f"{width}x{height}-{mode.lower()}", "image": text})
    return listed, given


def _output(model: Any, head: Head, asked: Mapping[str, torch.Tensor]) -> torch.Tensor:  # noqa: ANN401 - any of transformers' classes
    given = dict(asked)
    if "input_ids" in given:
        given["attention_mask"] = torch.ones_like(given["input_ids"])
    try:
        with torch.no_grad():
            found: torch.Tensor = getattr(model(**given), head.output)[0]
    except (RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
        raise ModelUnreadable(Path(type(model).__name__), first_line(error)) from error
    return found.contiguous()


def _write(path: Path, content: Mapping[str, JSONValue]) -> None:
    text = json.dumps({"format": 1, **content}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
