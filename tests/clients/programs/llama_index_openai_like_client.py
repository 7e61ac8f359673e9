"""llama-index' OpenAI-like model: chat, streams, completion, a forced tool, embeddings."""

import os
from typing import Literal

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

URL = os.environ["CARAVAN_URL"] + "/v1"


def weather(city: Literal["Oslo", "Bergen"]) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


model = OpenAILike(
    model="ai/smollm2",
    api_base=URL,
    api_key="none",
    is_chat_model=True,
    is_function_calling_model=True,
    temperature=0,
    max_tokens=256,
)
ask = [ChatMessage(role="user", content="What is the capital of France?")]
assert model.chat(ask).message.content
pieces = [piece.delta for piece in model.stream_chat(ask)]
assert len(pieces) > 3, pieces
assert "".join(piece or "" for piece in pieces)
assert model.complete("Once upon a time").text

tool = FunctionTool.from_defaults(weather)
called = model.chat_with_tools([tool], user_msg="Weather in Oslo?", tool_required=True)
(call,) = model.get_tool_calls_from_response(called)
assert call.tool_name == "weather", call
assert isinstance(call.tool_kwargs["city"], str), call

raw = OpenAILike(model="ai/smollm2", api_base=URL, api_key="none", max_tokens=16)
assert "".join(piece.delta or "" for piece in raw.stream_complete("Once upon a time"))

vectors = OpenAILikeEmbedding(model_name="ai/smollm2", api_base=URL, api_key="none")
one, two = vectors.get_text_embedding_batch(["a camel", "a mule"])
assert len(one) == len(two) > 100, len(one)
print("ok")
