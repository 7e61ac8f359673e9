"""langchain-ollama: chat, streams, tools offered, a schema, embeddings.

Ollama's API has no word for "a tool must be called": the model may answer as it likes.
"""

import os
from typing import Literal

from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel, Field

URL = os.environ["CARAVAN_URL"]


@tool
def weather(city: Literal["Oslo", "Bergen"]) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


class Dog(BaseModel, extra="forbid"):
    """A dog."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=30)


model = ChatOllama(
    base_url=URL, model="smollm2", temperature=0, num_predict=48, validate_model_on_init=True
)
answer = model.invoke([("system", "Be brief."), ("user", "What is the capital of France?")])
assert answer.content, answer
assert answer.usage_metadata["output_tokens"] > 0, answer
assert answer.response_metadata["done_reason"] in ("stop", "length"), answer

chunks = list(model.stream("Count to five."))
assert len(chunks) > 3, chunks
assert "".join(str(chunk.content) for chunk in chunks), chunks

offered = model.bind_tools([weather]).invoke("What is the weather in Oslo?")
assert offered.content or offered.tool_calls, offered

dog = model.with_structured_output(Dog, method="json_schema").invoke("Invent a dog.")
assert isinstance(dog, Dog), dog

assert OllamaLLM(base_url=URL, model="smollm2", num_predict=16).invoke("Once upon a time")

one, two = OllamaEmbeddings(base_url=URL, model="smollm2").embed_documents(["a camel", "a mule"])
assert len(one) == len(two) > 100, len(one)
print("ok")
