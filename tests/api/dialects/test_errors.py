"""Every error of the tree in Anthropic's and Ollama's shape: status, type, headers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from api.dialects.anthropic.errors import respond as anthropic
from api.dialects.ollama.errors import respond as ollama
from api.dialects.openai.errors import respond as openai
from api.dialects.responses.errors import respond as responses
from api.faults import MethodNotAllowed
from shared import errors
from shared.errors import CaravanError

CASES: list[tuple[CaravanError, int, str, int]] = [
    (errors.RequestError("m"), 400, "invalid_request_error", 400),
    (errors.Unsupported("f", "why"), 400, "invalid_request_error", 400),
    (errors.ContextTooLong.of(prompt_tokens=9, context=8), 400, "invalid_request_error", 400),
    (errors.BadTemplate("m"), 400, "invalid_request_error", 400),
    (errors.UnknownModel.of("m"), 404, "not_found_error", 404),
    (errors.NotFound("m"), 404, "not_found_error", 404),
    (MethodNotAllowed("m"), 405, "invalid_request_error", 405),
    (errors.TooLarge("m"), 413, "request_too_large", 413),
    (errors.QueueFull("m", retry_after_s=2.2), 429, "rate_limit_error", 429),
    (errors.WorkerCrashed("m"), 500, "api_error", 500),
    (errors.CannotLoad("m"), 500, "api_error", 500),
    (errors.ModelTooBig.of("m", needed_bytes=2, most_bytes=1), 500, "api_error", 500),
    (errors.Internal(), 500, "api_error", 500),
    (errors.QueueDown(), 503, "api_error", 503),
    (errors.Unavailable("m"), 529, "overloaded_error", 503),
    (errors.DeadlineExceeded("m"), 529, "overloaded_error", 504),
]


@pytest.mark.parametrize(("error", "status", "kind", "_"), CASES)
def test_anthropic(error: CaravanError, status: int, kind: str, _: int) -> None:
    response = anthropic(error)
    assert response.status_code == status
    assert msgspec.json.decode(response.content) == {
        "type": "error",
        "error": {"type": kind, "message": error.message},
    }


@pytest.mark.parametrize(("error", "_", "__", "status"), CASES)
def test_ollama(error: CaravanError, _: int, __: str, status: int) -> None:
    response = ollama(error)
    assert response.status_code == status
    assert msgspec.json.decode(response.content) == {"error": error.message}


@pytest.mark.parametrize("respond", [anthropic, ollama])
def test_a_full_queue_says_when_to_come_back(respond: object) -> None:
    response = respond(errors.QueueFull("m", retry_after_s=2.2))  # type: ignore[operator]
    assert response.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("respond", "param"),
    [
        (openai, "reasoning_effort"),
        (responses, "reasoning"),
        (ollama, "think"),
        (anthropic, "thinking"),
    ],
)
def test_a_field_has_the_name_its_caller_knows(respond: Any, param: str) -> None:
    """An error from a worker, which knows one name for what has four."""
    error = errors.error_of(errors.Unsupported("thinking", "there is none here").event())
    told = msgspec.json.decode(respond(error).content)["error"]
    message = told if isinstance(told, str) else told["message"]
    assert message == f"{param}: there is none here"
    if respond in (openai, responses):
        assert told["param"] == param
    if respond is openai:
        assert told["code"] == "unsupported_parameter"


def test_only_the_field_itself_is_called_another_name() -> None:
    error = errors.BadTemplate("the messages of this model alternate", param="messages")
    told = msgspec.json.decode(responses(error).content)["error"]
    assert (told["param"], told["message"]) == ("input", "the messages of this model alternate")
    inner = errors.Unsupported("template_options.colour", "the template does not read it")
    told = msgspec.json.decode(openai(inner).content)["error"]
    assert told["param"] == "chat_template_kwargs.colour"
    assert told["message"] == "chat_template_kwargs.colour: the template does not read it"


def test_every_error_is_tried() -> None:
    tried = {type(error) for error, *_ in CASES}
    assert {kind for kind in errors.BY_CODE.values() if kind.__module__ == "shared.errors"} <= tried
