"""OpenAI's Responses: conversations that the server remembers."""
