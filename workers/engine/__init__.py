"""Continuous batching over llama.cpp's C API. No asyncio, no Redis, no HTTP in here."""
