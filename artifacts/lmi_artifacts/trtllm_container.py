"""The containers' own recognisers, re-implemented: what they do not take for engines they compile.

Source: deepjavalibrary/djl-serving, LmiUtils.isValidTrtLlmModelRepo, branch 0.33.0-dlc (8b3b685b)
and branch 0.32.0-dlc (3d6ad832).
"""

from pathlib import Path

from lmi_artifacts.foreign import read_object


def recognised(tree: Path, layout: str) -> tuple[str, ...]:
    """Why the container would not take `tree` for ready engines; empty when it does.

    Args:
        tree: the served tree.
        layout: `flat`, `triton` or `engine`.
    """
    match layout:
        case "flat":
            return _lmi_033(tree)
        case "triton":
            return _lmi_032(tree)
        case _:
            return _engine_class(tree)


def _lmi_033(tree: Path) -> tuple[str, ...]:
    config = tree / "config.json"
    if not config.is_file():
        return ("there is no config.json at the root",)
    return () if "build_config" in _keys(config) else ("config.json has no build_config",)


def _lmi_032(tree: Path) -> tuple[str, ...]:
    found = any(
        (folder / "config.pbtxt").is_file() and (folder / "tokenizer_config.json").is_file()
        for folder in tree.iterdir()
        if folder.is_dir()
    )
    return () if found else ("no folder has both config.pbtxt and tokenizer_config.json",)


def _engine_class(tree: Path) -> tuple[str, ...]:
    """`tensorrt_llm`'s LLM class: an engine has both parts in its config.json."""
    config = tree / "config.json"
    if not config.is_file():
        return ("there is no config.json at the root",)
    missing = {"pretrained_config", "build_config"} - _keys(config)
    return (f"config.json has no {' and no '.join(sorted(missing))}",) if missing else ()


def _keys(config: Path) -> set[str]:
    return set(read_object(config))
