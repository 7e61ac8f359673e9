"""Chat and list models with Ollama's SDK. `python examples/ollama_chat.py [BASE_URL]`"""

import sys

from ollama import Client

base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:12434"
client = Client(host=base)

print("models:", ", ".join(model.model or "" for model in client.list().models))
answer = client.chat(
    model="smollm2",
    messages=[{"role": "user", "content": "Say hello to the camels."}],
    options={"num_predict": 32},
)
print(answer.message.content)
