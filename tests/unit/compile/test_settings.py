from pathlib import Path

import pytest

from lmi_compile.errors import EnvironmentFault
from lmi_compile.settings import load_settings


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('cache_dir = "/file/cache"\nout = "/file/out"\nregistry = "/file/registry"\n')
    environ = {"LMI_CONFIG": str(config), "LMI_OUT": "/env/out", "LMI_REGISTRY": "/env/registry"}
    settings = load_settings({"registry": "/flag/registry", "out": None}, environ)
    assert settings.registry == "/flag/registry"
    assert settings.out == Path("/env/out")
    assert settings.cache_dir == Path("/file/cache")
    assert settings.offline is False


def test_defaults(tmp_path: Path) -> None:
    settings = load_settings({}, {"XDG_CACHE_HOME": str(tmp_path), "LMI_CONFIG": "/nowhere"})
    assert settings.cache_dir == tmp_path / "lmi-compile"
    assert settings.out == Path.cwd() / "out"
    assert settings.registry is None


@pytest.mark.parametrize(("text", "said"), [("colour = 1", "colour"), ("= 1", "TOML")])
def test_a_wrong_config_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    with pytest.raises(EnvironmentFault, match=said):
        load_settings({}, {"LMI_CONFIG": str(config)})
