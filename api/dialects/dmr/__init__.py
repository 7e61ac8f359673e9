"""Docker Model Runner's own surface: what is neither OpenAI nor Anthropic nor Ollama."""
