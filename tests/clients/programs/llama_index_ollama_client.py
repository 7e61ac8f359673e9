"""llama-index' Ollama model: chat, streams, completion, a schema, vectors."""

import os

from llama_index.core.llms import ChatMessage
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.llms.ollama import Ollama
from pydantic import BaseModel, Field

URL = os.environ["CARAVAN_URL"]


class Dog(BaseModel, extra="forbid"):
    """A dog."""

    name: str = Field(max_length=20)
    age: int


model = Ollama(
    model="smollm2",
    base_url=URL,
    request_timeout=120,
    temperature=0,
    context_window=2048,
    additional_kwargs={"num_predict": 48},
)
ask = [ChatMessage(role="user", content="What is the capital of France?")]
assert model.chat(ask).message.content
pieces = [piece.delta for piece in model.stream_chat(ask)]
assert len(pieces) > 3, pieces
assert "".join(piece or "" for piece in pieces)
assert model.complete("Once upon a time").text
dog = model.as_structured_llm(Dog).complete("Invent a dog.").raw
assert isinstance(dog, Dog), dog

vectors = OllamaEmbedding(model_name="smollm2", base_url=URL)
one, two = vectors.get_text_embedding_batch(["a camel", "a mule"])
assert len(one) == len(two) > 100, len(one)
print("ok")
