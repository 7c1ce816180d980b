import pytest

from lmi_compile.backend import find_backend
from lmi_compile.errors import EnvironmentFault, exit_code_of
from lmi_recipes.model import BACKENDS


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_of_the_schema_is_a_folder(name: str) -> None:
    assert isinstance(find_backend(name).READS_MODEL, bool)


def test_a_backend_that_is_not_built_is_named() -> None:
    with pytest.raises(EnvironmentFault, match="backend onnx is not built yet") as caught:
        find_backend("onnx")
    assert exit_code_of(caught.value) == 8
    assert "aoti" in caught.value.fix
