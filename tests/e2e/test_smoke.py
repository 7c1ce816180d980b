"""Each family of the catalogue that is carried, small, through the whole flow."""

import pytest
from lmi import Lmi

pytestmark = [pytest.mark.slow, pytest.mark.families]
# One recipe of each family.
FAMILIES = (
    "llama-2-70b-float16-tp8-p4d.24xlarge", "mistral-7b-float16-tp1-g5.2xlarge",
    "qwen2-7b-smoothquant-tp1-g5.2xlarge", "gpt2-float16-tp1-g5.xlarge",
    "falcon-40b-bfloat16-tp8-p4d.24xlarge", "gemma-7b-bfloat16-tp4-g6.12xlarge",
    "phi-2-float16-tp1-g5.xlarge", "gpt-j-6b-float16-tp1-g5.2xlarge",
    "starcoderbase-bfloat16-tp4-g5.12xlarge", "mixtral-8x7b-bfloat16-tp8-p4d.24xlarge",
)  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_a_smoke_build_goes_the_whole_way_and_no_further(lmi: Lmi, name: str) -> None:
    ended = lmi("matrix", name, "--smoke", "--json")
    assert ended.code == 0, ended.err
    (build,) = ended.json()["builds"]
    assert (build["state"], build["decision"], build["proof"]) == ("built", "ACCEPT", "PROVEN")
    assert lmi.artifacts() == []
    refused = lmi("pull", build["artifact"], "there", "--registry", "out/smoke")
    assert refused.code == 10, refused.err
