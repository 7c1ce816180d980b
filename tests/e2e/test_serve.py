"""An artifact out of a registry, served: batch 1 queues, and a real model says the right thing."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from lmi import SmolLM2, Tiny
from served import Served, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served_tiny(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    with serving(tiny.built["artifact"], home=home, registry=tiny.lmi.registry) as server:
        yield server


def test_a_batch_1_package_answers_many_clients_one_after_the_other(served_tiny: Served) -> None:
    def ask(number: int) -> str:
        prompt = f"{number} things and"
        body = {"inputs": prompt, "parameters": {"max_new_tokens": 10}}
        answer = served_tiny.post("/invocations", body)
        assert answer.status == 200
        return str(answer.json()["generated_text"])

    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(ask, range(12)))
    assert together == [ask(number) for number in range(12)]
    assert any("1 at a time" in line for line in served_tiny.said)


def test_the_tree_is_not_written_to(tiny: Tiny, served_tiny: Served) -> None:
    assert served_tiny.post("/invocations", {"inputs": "and"}).status == 200
    assert tiny.lmi("verify", tiny.built["artifact"]).code == 0


def test_a_damaged_artifact_is_not_served(tiny: Tiny, tmp_path: Path) -> None:
    pulled = tmp_path / "pulled"
    assert tiny.lmi("pull", tiny.built["artifact"], pulled).code == 0
    weights = pulled / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.unlink()
    weights.write_bytes(data)
    ended = tiny.lmi("serve", pulled, "--port", "0")
    assert ended.code == 10
    assert "weights.safetensors" in ended.err


def test_an_unknown_reference_is_exit_10(tiny: Tiny) -> None:
    assert tiny.lmi("serve", "nothing", "--port", "0").code == 10


@pytest.mark.smollm2
def test_smollm2_says_what_the_reference_says(smollm2: SmolLM2, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 - only here

    folder = smollm2.lmi(smollm2.recipe, "--until", "model", "--json").json()["path"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
    whole = model.generate(ids, max_new_tokens=16, do_sample=False)[0]
    expected = tokenizer.decode(whole[ids.shape[1] :], skip_special_tokens=True)
    with serving(smollm2.built["artifact"], home=tmp_path, registry=smollm2.lmi.registry) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        chunks = client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            temperature=0,
            max_tokens=16,
            stream=True,
        )
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        raw = server.post(
            "/invocations",
            {"inputs": prompt, "parameters": {"max_new_tokens": 16, "details": True}},
        )
    assert said == expected
    assert "Paris" in said
    told = json.loads(raw.body)["details"]["tokens"]
    assert [token["id"] for token in told] == whole[ids.shape[1] :].tolist()
