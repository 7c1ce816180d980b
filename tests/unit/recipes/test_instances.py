import re

import pytest

from lmi_recipes.errors import UnknownTarget
from lmi_recipes.instance import accelerators, instance_names, read_instance, sources
from lmi_recipes.target import load_instance

_FIGURES = {"bandwidth": "memory_gbps", "link": "link_gbps"}


def test_all_63_instance_types_are_there_once() -> None:
    names = instance_names()
    assert len(names) == len(set(names)) == 63
    assert {name.split(".")[1] for name in names} >= {"g5", "p4d", "p5", "inf1", "inf2", "trn2"}


@pytest.mark.parametrize("name", instance_names())
def test_an_instance_type_is_known_by_both_its_names(name: str) -> None:
    instance = load_instance(name)
    assert load_instance(instance.ec2_name) == instance
    assert instance.family == name.split(".")[1]
    assert instance.to_json()["ranks"] == instance.ranks


@pytest.mark.parametrize("name", sorted(accelerators()))
def test_a_figure_has_a_source_and_no_source_stands_alone(name: str) -> None:
    device = accelerators()[name]
    assert set(device.sources.values()) <= set(sources())
    assert "memory" in device.sources
    for source, field in _FIGURES.items():
        assert (getattr(device, field) is not None) == (source in device.sources), field
    known = [kind for kind in ("fp32", "fp16", "bf16", "int8", "fp8")
             if getattr(device.tflops, kind) is not None]  # fmt: skip
    assert bool(known) == ("flops" in device.sources)
    assert (device.sm is None) != (device.neuroncore is None)


def test_the_reference_tables_a10g_is_the_catalogues() -> None:
    device = load_instance("ml.g5.2xlarge").accelerator
    assert device is not None
    assert (device.tflops.fp16, device.memory_gbps, device.sm) == (70, 600, 86)
    assert device.rank_bytes == 22888 << 20


def test_a_neuroncore_has_its_share_of_the_device() -> None:
    instance = load_instance("ml.inf2.48xlarge")
    assert (instance.devices, instance.ranks) == (12, 24)
    assert instance.accelerator is not None
    assert instance.accelerator.rank_bytes == 16 << 30
    assert instance.tensor_parallel_degrees == (1, 2, 4, 8, 12, 24)
    trainium2 = load_instance("ml.trn2.48xlarge")
    assert trainium2.ranks == 64
    assert trainium2.accelerator is not None
    assert trainium2.accelerator.rank_bytes == 24 << 30


def test_what_nobody_read_is_unknown() -> None:
    instance = load_instance("ml.p6e-gb200.36xlarge")
    assert instance.accelerator is None
    assert (instance.ranks, instance.vcpu, instance.memory_mib) == (0, None, None)
    blackwell = load_instance("ml.p6-b300.48xlarge").accelerator
    assert blackwell is not None
    assert blackwell.rank_bandwidth is None
    assert blackwell.rank_flops("bf16") is None


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ml.p4d.xlarge", "ml.p4d.24xlarge"),
        ("ml.g5.2xlage", "ml.g5.2xlarge"),
        ("g6.2xlage", "ml.g6.2xlarge"),
        ("ml.inf2.4xlarge", "ml.inf2.48xlarge"),
    ],
)
def test_an_unknown_one_tells_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownTarget, match=re.escape(nearest)) as caught:
        load_instance(name)
    assert nearest in caught.value.nearest


@pytest.mark.parametrize("name", ["", "ml.", "ml..", "../targets.x.y", "ml.a.b" * 99, "ml.\0.x"])
def test_a_name_leaves_no_folder(name: str) -> None:
    with pytest.raises(UnknownTarget):
        read_instance(name)
