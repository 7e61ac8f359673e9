"""Stream a message with Anthropic's SDK. `python examples/anthropic_stream.py [BASE_URL]`"""

import sys

from anthropic import Anthropic

base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:12434"
client = Anthropic(base_url=base, api_key="any")

with client.messages.stream(
    model="ai/smollm2",
    max_tokens=64,
    messages=[{"role": "user", "content": "Why do caravans travel by night?"}],
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
print()
