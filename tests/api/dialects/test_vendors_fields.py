"""Every field of the vendors' own request types is known here: honoured, without effect, or refused
with a reason. What only a newer client knows is refused as unknown, by its name."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
import ollama
import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params

from api.dialects.anthropic import types as anthropic_types
from api.dialects.ollama import types as ollama_types
from api.dialects.openai import embeddings
from api.dialects.openai import types as openai_types
from api.dialects.responses import types as responses_types

CASES: list[tuple[Any, type[msgspec.Struct]]] = [
    (chat_create_params.CompletionCreateParamsBase, openai_types.ChatRequest),
    (completion_create_params.CompletionCreateParamsBase, openai_types.CompletionRequest),
    (embedding_create_params.EmbeddingCreateParams, embeddings.EmbeddingRequest),
    (response_create_params.ResponseCreateParamsBase, responses_types.CreateResponse),
    (message_create_params.MessageCreateParamsBase, anthropic_types.MessageCreate),
    (message_count_tokens_params.MessageCountTokensParams, anthropic_types.CountTokens),
]


def known(struct: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


@pytest.mark.parametrize(("vendors", "ours"), CASES, ids=lambda one: one.__name__)
def test_a_typed_request(vendors: Any, ours: type[msgspec.Struct]) -> None:
    assert set(vendors.__annotations__) - known(ours) == set()


@pytest.mark.parametrize(
    ("method", "ours"),
    [
        ("chat", ollama_types.Chat),
        ("generate", ollama_types.Generate),
        ("embed", ollama_types.Embed),
        ("embeddings", ollama_types.Embeddings),
        ("show", ollama_types.Show),
        ("create", ollama_types.Create),
        ("pull", ollama_types.Pull),
        ("push", ollama_types.Push),
        ("copy", ollama_types.Copy),
    ],
)
def test_a_method_of_ollama_s(method: str, ours: type[msgspec.Struct]) -> None:
    names = set(inspect.signature(getattr(ollama.Client, method)).parameters) - {"self"}
    assert {name.rstrip("_") for name in names} - known(ours) == set()


def test_ollama_s_options() -> None:
    assert set(ollama.Options.model_fields) - known(ollama_types.Options) == set()
