"""Pictures as an image classifier was trained on them: resized, cut, scaled, normalised.

The steps are those of transformers' ViT and ConvNext image processors, with the same library, so
that the pixels are the same; the verification compares them.
"""

import io
from collections.abc import Mapping
from typing import Any

import torch

from .request import BadRequest

_MOST_PIXELS = 50_000_000


def prepare(file: bytes, steps: Mapping[str, Any]) -> torch.Tensor:
    """An image file as float32 `[3, H, W]`.

    Args:
        file: Its bytes.
        steps: `image` of `runtime.json`: `resize` (`height` and `width`, or `shortest`), `crop`
            (`height` and `width`, or null), `resample`, `scale`, `mean` and `std`.

    Raises:
        BadRequest: It is no picture that can be read, or too large.
    """
    try:
        from PIL import Image  # noqa: PLC0415 - only files need it; prepared pictures do not
    except ImportError as error:
        what = f"this container cannot read image files ({error}): send pixel_values"
        raise BadRequest(what) from error
    try:
        opened = Image.open(io.BytesIO(file))
        width, height = opened.size
        if width * height > _MOST_PIXELS:
            what = f"the picture has {width} x {height} pixels; at most {_MOST_PIXELS} are taken"
            raise BadRequest(what)
        picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadRequest(f"the picture cannot be read ({error})") from error
    size = _size(picture.size, steps["resize"])
    resized = picture.resize(size, resample=Image.Resampling(steps["resample"]))
    if steps["crop"] is not None:
        resized = resized.crop(_middle(resized.size, steps["crop"]))
    raw = torch.frombuffer(bytearray(resized.tobytes()), dtype=torch.uint8)
    colours = raw.reshape(resized.height, resized.width, 3).permute(2, 0, 1)
    scaled: torch.Tensor = colours.float() * steps["scale"]
    mean, std = (torch.tensor(steps[name])[:, None, None] for name in ("mean", "std"))
    pixels = (scaled - mean) / std
    return pixels.contiguous()


def _size(old: tuple[int, int], resize: Mapping[str, int]) -> tuple[int, int]:
    if "shortest" not in resize:
        return resize["width"], resize["height"]
    short, long = min(old), max(old)
    shortest = resize["shortest"]
    longest = int(shortest * long / short)
    return (shortest, longest) if old[0] <= old[1] else (longest, shortest)


def _middle(size: tuple[int, int], crop: Mapping[str, int]) -> tuple[int, int, int, int]:
    left, top = (size[0] - crop["width"]) // 2, (size[1] - crop["height"]) // 2
    return left, top, left + crop["width"], top + crop["height"]
