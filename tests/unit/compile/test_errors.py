from pathlib import Path

import pytest

from lmi_artifacts.errors import ArtifactNotFound, PackageInvalid, PublishFailed
from lmi_compile.errors import (
    CompileError,
    EnvironmentFault,
    ExitCode,
    ModelFault,
    OurBug,
    ToolFailed,
    Unsupported,
    exit_code_of,
    from_failure,
    to_failure,
    to_json,
)
from lmi_recipes.errors import RecipeImpossible, RecipeInvalid, UnknownRecipe
from lmi_verify.errors import GateInvalid, LimitsTooSmall, ModelUnreadable, OutputsUnusable


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnknownRecipe("x", ()), 2),
        (RecipeInvalid(()), 2),
        (GateInvalid(("kl",)), 2),
        (RecipeImpossible(()), 3),
        (Unsupported("x"), 3),
        (ModelFault("x"), 3),
        (ToolFailed("x"), 4),
        (OutputsUnusable(("x",)), 5),
        (PackageInvalid("x", ()), 7),
        (PublishFailed("x", "y", "z"), 7),
        (EnvironmentFault("x"), 8),
        (ArtifactNotFound("x", "y"), 10),
        (ValueError("x"), 1),
    ],
    ids=repr,
)
def test_every_kind_of_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert exit_code_of(error) == ExitCode(code)


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (Unsupported("w", "y", "f"), Unsupported),
        (ModelUnreadable(Path("m"), "why"), ModelFault),
        (LimitsTooSmall(0, 0), Unsupported),
        (ZeroDivisionError("x"), OurBug),
    ],
    ids=repr,
)
def test_an_error_crosses_a_process_boundary(raised: Exception, kind: type[CompileError]) -> None:
    back = from_failure(to_failure(raised), "log")
    assert type(back) is kind
    assert str(raised).splitlines()[0] in back.what
    assert back.log == "log"


def test_json_names_the_error_of_any_room_and_calls_only_the_unknown_a_bug() -> None:
    refused = to_json(ArtifactNotFound("x", "y"))
    assert (refused["kind"], refused["fix"]) == ("ArtifactNotFound", "")
    assert refused["what"] == str(ArtifactNotFound("x", "y"))
    assert to_json(ToolFailed("w"))["kind"] == "ToolFailed"
    assert to_json(ZeroDivisionError("x"))["kind"] == "OurBug"
