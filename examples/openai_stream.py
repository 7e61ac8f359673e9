"""Stream a chat with OpenAI's SDK. `python examples/openai_stream.py [BASE_URL]`"""

import sys

from openai import OpenAI

base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:12434"
client = OpenAI(base_url=f"{base}/v1", api_key="any")

stream = client.chat.completions.create(
    model="ai/smollm2",
    messages=[{"role": "user", "content": "Name three things a caravan carries."}],
    max_tokens=64,
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
