"""litellm as a client to three APIs: OpenAI, Anthropic and Ollama."""

import os

import litellm

URL = os.environ["CARAVAN_URL"]
PROVIDERS = {
    "openai/ai/smollm2": f"{URL}/v1",
    "anthropic/ai/smollm2": f"{URL}/anthropic",
    "ollama_chat/smollm2": URL,
}
ASK = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Oslo", "Bergen"]}},
            "required": ["city"],
        },
    },
}
FORCED = ("openai/ai/smollm2", "anthropic/ai/smollm2")  # Ollama's API cannot ask for a call


def ask(model: str, *, max_tokens: int = 48, **more: object) -> object:
    """One answer."""
    return litellm.completion(
        model=model,
        api_base=PROVIDERS[model],
        api_key="none",
        messages=ASK,
        temperature=0,
        max_tokens=max_tokens,
        **more,
    )


for model in PROVIDERS:
    whole = ask(model)
    assert whole.choices[0].message.content, whole
    assert whole.usage.completion_tokens > 0, whole
    pieces = [chunk.choices[0].delta.content or "" for chunk in ask(model, stream=True)]
    assert len(pieces) > 3, pieces
    assert "".join(pieces), pieces

for model in FORCED:
    called = ask(model, tools=[WEATHER], tool_choice="required", max_tokens=256)
    (call,) = called.choices[0].message.tool_calls
    assert call.function.name == "weather", called
    assert "city" in call.function.arguments, called

for model in ("openai/ai/smollm2", "ollama/smollm2"):
    base = URL if model.startswith("ollama") else f"{URL}/v1"
    found = litellm.embedding(model=model, api_base=base, api_key="none", input=["camel", "mule"])
    assert len(found.data) == 2, found
    assert len(found.data[0]["embedding"]) > 100, found
print("ok")
