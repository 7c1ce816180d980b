"""Clients that other people wrote, unmodified: they get the model's own tokens."""

import json
from collections.abc import Callable
from typing import Any

import boto3
import openai
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from huggingface_hub import InferenceClient
from served import Served

PROMPT = "and the thing is"
NEW = 12
MESSAGES: list[Any] = [{"role": "user", "content": "and the thing"}]
CHAT = "<|im_start|>user\nand the thing<|im_end|>\n<|im_start|>assistant\n"

Greedy = Callable[[str, int], list[int]]
TextOf = Callable[[list[int]], str]


@pytest.fixture(scope="module")
def client(server: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def sagemaker(server: Served) -> Any:
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=server.url,
        region_name="eu-west-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - a client wants one, the server reads none
        config=Config(retries={"max_attempts": 1}),
    )


@pytest.fixture(scope="module")
def expected(greedy: Greedy, text_of: TextOf) -> str:
    return text_of(greedy(PROMPT, NEW))


@pytest.fixture(scope="module")
def chat_expected(greedy: Greedy, text_of: TextOf) -> str:
    return text_of(greedy(CHAT, NEW))


def test_openai_chat(client: openai.OpenAI, chat_expected: str) -> None:
    done = client.chat.completions.create(
        model="any", messages=MESSAGES, temperature=0, max_tokens=NEW, logprobs=True
    )
    assert done.choices[0].message.content == chat_expected
    assert done.choices[0].finish_reason == "length"
    assert done.usage is not None
    assert (done.usage.completion_tokens, done.usage.total_tokens) == (
        NEW,
        NEW + done.usage.prompt_tokens,
    )
    assert done.choices[0].logprobs is not None
    assert len(done.choices[0].logprobs.content or []) == NEW


def test_openai_chat_streamed(client: openai.OpenAI, chat_expected: str) -> None:
    chunks = list(
        client.chat.completions.create(
            model="any",
            messages=MESSAGES,
            temperature=0,
            max_completion_tokens=NEW,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    said = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in said) == chat_expected
    assert said[-1].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == NEW
    assert len({chunk.id for chunk in chunks}) == 1


def test_openai_completions(client: openai.OpenAI, expected: str) -> None:
    done = client.completions.create(model="any", prompt=PROMPT, temperature=0, max_tokens=NEW)
    assert done.choices[0].text == expected
    chunks = client.completions.create(
        model="any", prompt=PROMPT, temperature=0, max_tokens=NEW, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == expected


def test_openai_stops_before_a_stop_text_and_never_streams_a_part_of_it(
    client: openai.OpenAI, expected: str
) -> None:
    stop = expected[4:7]
    asked: dict[str, Any] = {"model": "any", "prompt": PROMPT, "temperature": 0, "max_tokens": NEW}
    done = client.completions.create(**asked, stop=[stop, "never said"])
    assert done.choices[0].text == expected[: expected.index(stop)]
    assert done.choices[0].finish_reason == "stop"
    chunks = client.completions.create(**asked, stop=stop, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == done.choices[0].text


def test_openai_without_a_number_of_tokens_takes_the_room_there_is(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(model="any", messages=MESSAGES, temperature=0)
    assert done.usage is not None
    assert done.usage.total_tokens == 128 or done.choices[0].finish_reason == "stop"


def test_openai_samples_by_seed(client: openai.OpenAI) -> None:
    def drawn(seed: int) -> str:
        done = client.completions.create(
            model="any", prompt=PROMPT, max_tokens=NEW, seed=seed, temperature=1.5
        )
        return done.choices[0].text

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_openai_lists_the_model(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_openai_reads_a_refusal(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="together more than this model's 128"):
        client.completions.create(model="any", prompt=PROMPT, max_tokens=1000)
    with pytest.raises(openai.BadRequestError, match="n: this model can only do 1"):
        client.chat.completions.create(model="any", messages=MESSAGES, n=2)


def test_hugging_face_text_generation(server: Served, greedy: Greedy, expected: str) -> None:
    client = InferenceClient(server.url)
    assert client.text_generation(PROMPT, max_new_tokens=NEW) == expected
    detailed = client.text_generation(PROMPT, max_new_tokens=NEW, details=True)
    assert detailed.generated_text == expected
    assert detailed.details is not None
    assert detailed.details.finish_reason == "length"
    assert [token.id for token in detailed.details.tokens] == greedy(PROMPT, NEW)
    assert all(token.logprob <= 0 for token in detailed.details.tokens)


def test_hugging_face_text_generation_streamed(
    server: Served, greedy: Greedy, expected: str
) -> None:
    client = InferenceClient(server.url)
    assert "".join(client.text_generation(PROMPT, max_new_tokens=NEW, stream=True)) == expected
    lines = list(
        client.text_generation(PROMPT, max_new_tokens=NEW, stream=True, details=True, stop=["@@"])
    )
    assert [line.token.id for line in lines] == greedy(PROMPT, NEW)
    assert lines[-1].generated_text == expected
    assert lines[-1].details is not None
    assert lines[-1].details.generated_tokens == NEW


def test_hugging_face_chat(server: Served, chat_expected: str) -> None:
    client = InferenceClient(server.url)
    done = client.chat_completion(MESSAGES, max_tokens=NEW, temperature=0)
    assert done.choices[0].message.content == chat_expected
    chunks = client.chat_completion(MESSAGES, max_tokens=NEW, temperature=0, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == chat_expected


def test_hugging_face_reads_a_refusal(server: Served) -> None:
    from huggingface_hub.errors import ValidationError  # noqa: PLC0415 - beside its use

    with pytest.raises(ValidationError, match="together more than this model's 128"):
        InferenceClient(server.url).text_generation(PROMPT, max_new_tokens=1000)


def _request(**more: object) -> bytes:
    parameters = {"max_new_tokens": NEW, "details": True}
    return json.dumps({"inputs": PROMPT, "parameters": parameters, **more}).encode()


def test_sagemaker_invoke_endpoint(sagemaker: Any, greedy: Greedy, expected: str) -> None:
    done = sagemaker.invoke_endpoint(
        EndpointName="tiny", ContentType="application/json", Body=_request()
    )
    assert done["ContentType"] == "application/json"
    assert done["InvokedProductionVariant"] == "AllTraffic"
    answer = json.loads(done["Body"].read())
    assert answer["generated_text"] == expected
    details = answer["details"]
    assert [token["id"] for token in details["tokens"]] == greedy(PROMPT, NEW)
    assert (details["finish_reason"], details["generated_tokens"]) == ("length", NEW)


def test_sagemaker_invoke_endpoint_with_response_stream(
    sagemaker: Any, greedy: Greedy, expected: str
) -> None:
    done = sagemaker.invoke_endpoint_with_response_stream(
        EndpointName="tiny", ContentType="application/json", Body=_request(stream=True)
    )
    assert done["ContentType"] == "application/jsonlines"
    data = b"".join(event["PayloadPart"]["Bytes"] for event in done["Body"])
    lines = [json.loads(line) for line in data.splitlines()]
    assert [line["token"]["id"] for line in lines] == greedy(PROMPT, NEW)
    assert lines[-1]["generated_text"] == expected


def test_sagemaker_wraps_the_containers_refusal(sagemaker: Any) -> None:
    bad = {"EndpointName": "tiny", "Body": b'{"inputs": 7}'}
    for operation in (sagemaker.invoke_endpoint, sagemaker.invoke_endpoint_with_response_stream):
        with pytest.raises(ClientError) as caught:
            operation(**bad)
        told = caught.value.response
        assert told["Error"]["Code"] == "ModelError"
        assert told["OriginalStatusCode"] == 400
        assert "inputs must be a text" in told["OriginalMessage"]
        assert told["ResponseMetadata"]["HTTPStatusCode"] == 424


def test_server_sent_events_and_openai_bodies_at_invocations(
    server: Served, greedy: Greedy, expected: str, chat_expected: str
) -> None:
    body = json.loads(_request(stream=True))
    events = server.post("/invocations", body, accept="text/event-stream")
    assert events.headers["content-type"].startswith("text/event-stream")
    told = [json.loads(one[6:]) for one in events.body.decode().split("\n\n") if one]
    assert [one["token"]["id"] for one in told] == greedy(PROMPT, NEW)
    asked = {"temperature": 0, "max_tokens": NEW}
    chat = server.post("/invocations", {"messages": MESSAGES, **asked}).json()
    assert chat["choices"][0]["message"]["content"] == chat_expected
    plain = server.post("/invocations", {"prompt": PROMPT, **asked}).json()
    assert plain["choices"][0]["text"] == expected
