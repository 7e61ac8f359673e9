"""Make even a tiny model call a function. `python examples/openai_tools.py [BASE_URL]`"""

import json
import sys

from openai import OpenAI

base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:12434"
client = OpenAI(base_url=f"{base}/v1", api_key="any")

answer = client.chat.completions.create(
    model="ai/smollm2",
    messages=[{"role": "user", "content": "What is the weather in Timbuktu?"}],
    tools=[
        {
            "type": "function",
            "function": {
                "name": "weather",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string", "maxLength": 40}},
                    "required": ["city"],
                    "additionalProperties": False,
                },
            },
        }
    ],
    tool_choice="required",
    parallel_tool_calls=False,
    max_tokens=300,
)
for call in answer.choices[0].message.tool_calls or []:
    print(call.function.name, json.loads(call.function.arguments))
