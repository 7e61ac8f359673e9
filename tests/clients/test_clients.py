"""Whole clients from the package registries, unchanged but for the URL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.conftest import BIN, HERE, Run

PROGRAMS = sorted((HERE / "programs").glob("*.py"))
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks a web server for prices
    "LANGCHAIN_TRACING_V2": "false",
}
EXTRA_MODELS = """
- model_id: caravan
  model_name: ai/smollm2
  api_base: {url}/v1
  supports_tools: true
  supports_schema: true
"""
DOG = json.dumps(
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}},
        "required": ["name"],
        "additionalProperties": False,
    }
)
SHORT = {"caravan": ("-o", "max_tokens", "60"), "smollm2:latest": ("-o", "num_predict", "60")}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_python_client(program: Path, run: Run) -> None:
    assert run(BIN / "python", program, **QUIET).endswith("ok\n")


@pytest.mark.parametrize("provider", ["openai-compatible", "anthropic"])
def test_the_vercel_ai_sdk(provider: str, run: Run) -> None:
    assert run("node", HERE / "vercel" / "client.mjs", provider).endswith("ok\n")


class TestLlm:
    """The `llm` command: OpenAI-compatible models from its own file, and its Ollama plugin."""

    @pytest.fixture
    def settings(self, tmp_path: Path, url: str) -> dict[str, str]:
        (tmp_path / "extra-openai-models.yaml").write_text(EXTRA_MODELS.format(url=url))
        return {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none", "OLLAMA_HOST": url}

    @pytest.mark.parametrize("stream", [(), ("--no-stream",)])
    @pytest.mark.parametrize("model", SHORT)
    def test_a_prompt(
        self, model: str, stream: tuple[str, ...], settings: dict[str, str], run: Run
    ) -> None:
        assert run(
            BIN / "llm", "-m", model, *SHORT[model], *stream, "Say hello.", **settings
        ).strip()

    @pytest.mark.parametrize("model", SHORT)
    def test_a_schema(self, model: str, settings: dict[str, str], run: Run) -> None:
        ask = ("-m", model, *SHORT[model], "--schema", DOG, "Invent a dog.")
        said = run(BIN / "llm", *ask, **settings)
        assert isinstance(json.loads(said)["name"], str)

    def test_ollama_s_models_are_listed(self, settings: dict[str, str], run: Run) -> None:
        assert "smollm2:latest" in run(BIN / "llm", "ollama", "models", **settings)
