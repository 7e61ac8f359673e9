"""The OpenAI API: chat, completions, embeddings, models, and what llama-server and vLLM add."""
