"""A second model on the real library: a memory of its own, and nobody's text changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import llama_cpp
import pytest
from msgspec.structs import replace

from shared.model_config import ModelConfig
from shared.settings import Settings
from tests.model.test_speculation import PROMPTS, said
from tests.model.tiny_gguf import write_gemma3
from tests.model.tiny_vision import write_llava
from tests.workers.engine.desk import GREEDY, Desk
from tests.workers.engine.drafters import Free
from tests.workers.real_vocab import MODEL
from workers.engine.speculation import Speculation
from workers.engine.weights import BadModel, Weights
from workers.models import gguf
from workers.opening import Model, open_model
from workers.order import order_of

Open = Callable[[Path], Model]


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory, weights: Weights) -> Path:
    """The default model once more, with coarser weights: it thinks nearly alike."""
    path = tmp_path_factory.mktemp("draft") / "coarse.gguf"
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, True
    failed = llama_cpp.llama_model_quantize(str(MODEL).encode(), str(path).encode(), params)
    assert not failed
    return path


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens the default model with a draft model beside it, as a worker does."""
    with ExitStack() as stack:

        def open_with(draft: Path) -> Model:
            settings = Settings(slots=4, cells=2048, context=1024, exact=True)
            order = order_of("ai/smollm2:latest", MODEL, gguf.read(MODEL), ModelConfig(), settings)
            return open_model(replace(order, draft=draft), stack, lambda done: True)

        yield open_with


def test_the_same_tokens_with_a_draft_model(opened: Open, coarse: Path) -> None:
    model = opened(coarse)
    assert model.runner is not None
    speculation = Speculation(model.drafter, most=6, prices=Free())
    plain, quick = Desk(model.runner), Desk(model.runner, speculation=speculation)
    prompts = [model.weights.vocab.tokenize(text, parse_special=True) for text in PROMPTS]
    assert said(quick, prompts, GREEDY) == said(plain, prompts, GREEDY)
    accepted = sum(stats.accepted_tokens for stats in quick.stats)
    assert accepted > 0.5 * sum(stats.draft_tokens for stats in quick.stats) > 50


def test_a_small_model_with_another_vocabulary_is_refused(opened: Open, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="another vocabulary than ai/smollm2"):
        opened(write_llava(tmp_path)[0])


def test_a_small_model_whose_memory_cannot_be_cut_is_refused(opened: Open, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="cannot be cut"):
        opened(write_gemma3(tmp_path / "gemma.gguf"))
