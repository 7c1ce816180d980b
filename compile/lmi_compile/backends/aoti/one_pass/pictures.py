"""`preprocessor_config.json` as the steps that the packaged runtime takes.

Source: `ViTImageProcessorPil` and `ConvNextImageProcessorPil` of transformers 5.23. The
verification compares the pixels, so a processor that does more than its name says is found out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lmi_compile.errors import ModelFault

_SQUARE = frozenset({"ViTImageProcessor", "ViTFeatureExtractor", "DeiTImageProcessor"})
_SHORTEST = frozenset({"ConvNextImageProcessor", "ConvNextFeatureExtractor"})
_WHOLE = 384  # ConvNext's: pictures of this size and above are not cut
_CROP = 224 / 256
_BILINEAR, _RESCALE = 2, 1 / 255
_HALF = (0.5, 0.5, 0.5)
_FIX = "save the model's own image processor beside it"


def preparation(config: Mapping[str, Any], picture: Sequence[int]) -> dict[str, Any]:
    """How an image file becomes the graph's input.

    Args:
        config: `preprocessor_config.json`.
        picture: Channels, height and width that the graph takes.

    Raises:
        ModelFault: It is not one of the processors that the runtime knows, or it makes pictures
            of another size.
    """
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
    if kind in _SQUARE and not config.get("do_center_crop"):
        height, width = _sides(config.get("size", 224))
        resize, crop = {"height": height, "width": width}, None
    elif kind in _SHORTEST:
        resize, crop = _shortest(config)
        height, width = (crop or resize)["height"], (crop or resize)["width"]
    else:
        what = f"preprocessor_config.json: {kind} is not known to the packaged runtime"
        known = ", ".join(sorted(_SQUARE | _SHORTEST))
        raise ModelFault(what, f"known are {known}, without do_center_crop", _FIX)
    left_out = [
        name for name in ("do_resize", "do_rescale", "do_normalize") if not config.get(name, True)
    ]
    if left_out or [3, height, width] != list(picture):
        what = f"the image processor makes pictures [3, {height}, {width}]"
        why = f"the graph takes {list(picture)}; left out: {', '.join(left_out) or 'nothing'}"
        raise ModelFault(what, why, "use the image processor that the model was trained with")
    return {
        "resize": resize,
        "crop": crop,
        "resample": int(config.get("resample", _BILINEAR)),
        "scale": float(config.get("rescale_factor", _RESCALE)),
        "mean": list(config.get("image_mean") or _HALF),
        "std": list(config.get("image_std") or _HALF),
    }


def _sides(size: object) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping) and {"height", "width"} <= set(size):
        return int(size["height"]), int(size["width"])
    raise ModelFault(f"preprocessor_config.json: size {size!r} is not understood", "", _FIX)


def _shortest(config: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int] | None]:
    size = config.get("size", _WHOLE)
    shortest = size.get("shortest_edge") if isinstance(size, Mapping) else size
    if not isinstance(shortest, int):
        raise ModelFault(f"preprocessor_config.json: size {size!r} is not understood", "", _FIX)
    square = {"height": shortest, "width": shortest}
    if shortest >= _WHOLE:
        return square, None
    return {"shortest": int(shortest / float(config.get("crop_pct") or _CROP))}, square
