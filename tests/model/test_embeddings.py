"""all-MiniLM-L6-v2 through the worker's own embedding room, against another run of its weights.

The other run shares nothing with llama.cpp: Hugging Face's tokenizer, and BERT written in numpy.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from deploy import embedding_model
from shared.errors import RequestError
from shared.requests import Embed, Rerank
from tests.model.bert import Bert
from workers.embedding import Embeddings
from workers.engine.weights import Weights, open_weights

LEAST_COSINE = 0.999
TEXTS = (
    "The cat sits on the mat.",
    "A dog barks at the moon.",
    "Grüße aus Köln, der Stadt am Rhein!",
    "naïve café, élan vital, señor",
    "東京は日本の首都です",
    "Привет, мир",
    "e = mc², π ≈ 3.14159",
    "def f(x):\n    return x ** 2  # square",
    "  spaces   and\ttabs\n\nand lines  ",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "a",
    "!!! ??? ... --- ***",
    "https://example.org/path?query=1&other=two#end",
    "MiXeD CaSe and UPPER CASE and lower case",
    "1234567890 12,345.67 0x1F 1e-9",
    "emoji 🙂🚀 and more",
    "don't, can't, it's; O'Neill's",
    "word " * 200,
)
TOPICS = (
    "astronomy", "bread", "chess", "deserts", "engines", "forests", "gardens", "history",
)  # fmt: skip
SAYINGS = (
    "What do you know about {}?",
    "{} is the subject of this short note, which says little.",
    "She wrote three long books on {} and gave all of them away.",
    "No {} today.",
)
ALL = (*TEXTS, *(saying.format(topic) for topic in TOPICS for saying in SAYINGS))

Vectors = NDArray[np.float32]


@pytest.fixture(scope="module")
def minilm() -> Path:
    """The folder of the model."""
    if not embedding_model.model().exists():
        pytest.skip("`python -m deploy.embedding_model` makes all-MiniLM-L6-v2")
    return embedding_model.folder()


@pytest_asyncio.fixture
async def embeddings(minilm: Path) -> AsyncIterator[Embeddings]:
    """The worker's embeddings over it."""
    with open_weights(embedding_model.model()) as weights:
        opened = Embeddings(weights, weights.vocab)
        yield opened
        opened.close()


def nothing(_: Callable[[], None]) -> None:
    """Nobody stops these."""


async def vectors(embeddings: Embeddings, *texts: str, **fields: Any) -> tuple[Vectors, int]:
    """The vectors [texts, width] and the number of tokens."""
    request = Embed(id="job", model="minilm", inputs=texts, **fields)
    answer = await embeddings.vectors(request, on_stop=nothing)
    assert answer is not None
    found, tokens = answer
    return np.frombuffer(found.data, np.float32).reshape(len(texts), found.width), tokens


async def test_vectors_are_those_of_another_library(embeddings: Embeddings, minilm: Path) -> None:
    assert len(ALL) == 50
    bert = Bert(minilm)
    ours, tokens = await vectors(embeddings, *ALL)
    assert tokens == sum(len(bert.tokens(text)) for text in ALL)
    theirs = np.stack([bert.embed(text) for text in ALL])
    cosines = np.sum(ours * theirs, axis=1)
    print(f"\ncosines of {len(ALL)} texts: least {cosines.min():.6f}, mean {cosines.mean():.6f}")
    assert cosines.min() >= LEAST_COSINE, ALL[int(cosines.argmin())]
    assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)


async def test_alone_or_in_company_is_the_same(embeddings: Embeddings) -> None:
    together, _ = await vectors(embeddings, *ALL)
    for at in (0, 7, 17, 49):
        alone, _ = await vectors(embeddings, ALL[at])
        assert float(alone[0] @ together[at]) > 0.9999


async def test_dimensions_cut_and_normalise_again(embeddings: Embeddings) -> None:
    whole, _ = await vectors(embeddings, "cut me")
    cut, _ = await vectors(embeddings, "cut me", dimensions=100)
    assert cut.shape == (1, 100)
    assert np.allclose(cut[0], whole[0, :100] / np.linalg.norm(whole[0, :100]), atol=1e-5)
    with pytest.raises(RequestError, match="dimensions: 385 asked, minilm has 384"):
        await vectors(embeddings, "cut me", dimensions=385)


async def test_too_long_is_refused_or_cut_when_asked(embeddings: Embeddings) -> None:
    with pytest.raises(RequestError, match="802 tokens and minilm takes 512"):
        await vectors(embeddings, "fine", "word " * 800)
    _, tokens = await vectors(embeddings, "word " * 800, truncate=True)
    assert tokens == 512


async def test_neither_kind_of_model_ranks(embeddings: Embeddings, weights: Weights) -> None:
    request = Rerank(id="job", model="m", query="q", documents=("a", "b"))
    with pytest.raises(RequestError, match="m cannot rank"):
        await embeddings.scores(request, on_stop=nothing)
    generation = Embeddings(weights, weights.vocab)
    try:
        with pytest.raises(RequestError, match="m cannot rank"):
            await generation.scores(request, on_stop=nothing)
    finally:
        generation.close()


def test_the_file_says_what_it_is(minilm: Path) -> None:
    config = json.loads((minilm / "config.json").read_text())
    with open_weights(embedding_model.model()) as weights:
        assert not weights.generates
        assert weights.vocab.n_vocab == config["vocab_size"]
        assert weights.trained_context == config["max_position_embeddings"]
