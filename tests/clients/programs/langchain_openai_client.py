"""langchain-openai: chat, streams, a tool that must be called, a schema, Responses, embeddings."""

import os
from typing import Literal

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

HERE = {"base_url": os.environ["CARAVAN_URL"] + "/v1", "api_key": "none", "model": "ai/smollm2"}


@tool
def weather(city: Literal["Oslo", "Bergen"]) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


class Dog(BaseModel, extra="forbid"):
    """A dog."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=30)


# stream_usage: off by default for any URL but OpenAI's own.
model = ChatOpenAI(**HERE, temperature=0, max_tokens=48, stream_usage=True)
answer = model.invoke([("system", "Be brief."), ("user", "What is the capital of France?")])
assert answer.content, answer
assert answer.usage_metadata["output_tokens"] > 0, answer
assert answer.response_metadata["finish_reason"] in ("stop", "length"), answer

chunks = list(model.stream("Count to five."))
assert len(chunks) > 3, chunks
assert "".join(str(chunk.content) for chunk in chunks), chunks
assert any(chunk.usage_metadata for chunk in chunks), chunks

ask = HumanMessage("What is the weather in Oslo?")
# strict: no other members, which a small model would go on inventing.
bound = model.bind_tools([weather], tool_choice="required", strict=True)
called = bound.invoke([ask])
assert isinstance(called, AIMessage), called
assert called.tool_calls[0]["name"] == "weather", called
assert isinstance(called.tool_calls[0]["args"]["city"], str), called
result = ToolMessage(
    weather.invoke(called.tool_calls[0]["args"]), tool_call_id=called.tool_calls[0]["id"]
)
assert model.invoke([ask, called, result]).content

streamed = None
for chunk in bound.stream([ask]):
    streamed = chunk if streamed is None else streamed + chunk
assert streamed is not None
assert streamed.tool_calls[0]["name"] == "weather", streamed

for method in ("json_schema", "function_calling"):
    dog = model.with_structured_output(Dog, method=method).invoke("Invent a dog.")
    assert isinstance(dog, Dog), dog

responses = ChatOpenAI(**HERE, temperature=0, max_tokens=32, use_responses_api=True)
assert responses.invoke("Say hello.").text, "responses"
assert "".join(chunk.text for chunk in responses.stream("Say hello.")), "responses, streamed"

# check_embedding_ctx_length=False: else it counts tokens itself, as OpenAI's own models do.
vectors = OpenAIEmbeddings(**HERE, check_embedding_ctx_length=False)
one, two = vectors.embed_documents(["a camel", "a dromedary"])
assert len(one) == len(two) > 100, len(one)
print("ok")
