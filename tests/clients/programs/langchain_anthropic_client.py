"""langchain-anthropic: messages, streams, a tool that must be called, counted tokens."""

import os
from typing import Literal

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field


@tool
def weather(city: Literal["Oslo", "Bergen"]) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


class Dog(BaseModel, extra="forbid"):
    """A dog."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=30)


model = ChatAnthropic(
    base_url=os.environ["CARAVAN_URL"] + "/anthropic",
    api_key="none",
    model="ai/smollm2",
    temperature=0,
    max_tokens=256,
)
answer = model.invoke([SystemMessage("Be brief."), HumanMessage("What is the capital of France?")])
assert answer.text, answer
assert answer.usage_metadata["output_tokens"] > 0, answer
assert answer.response_metadata["stop_reason"] in ("end_turn", "max_tokens"), answer

chunks = list(model.stream("Count to five."))
assert len(chunks) > 3, chunks
assert "".join(chunk.text for chunk in chunks), chunks

ask = HumanMessage("What is the weather in Oslo?")
bound = model.bind_tools([weather], tool_choice="any")
called = bound.invoke([ask])
assert called.tool_calls[0]["name"] == "weather", called
assert isinstance(called.tool_calls[0]["args"]["city"], str), called
result = ToolMessage(
    weather.invoke(called.tool_calls[0]["args"]), tool_call_id=called.tool_calls[0]["id"]
)
assert bound.invoke([ask, called, result]).tool_calls

streamed = None
for chunk in bound.stream([ask]):
    streamed = chunk if streamed is None else streamed + chunk
assert streamed is not None
assert streamed.tool_calls[0]["name"] == "weather", streamed

dog = model.with_structured_output(Dog).invoke("Invent a dog.")
assert isinstance(dog, Dog), dog
assert model.get_num_tokens_from_messages([ask]) > 5
print("ok")
