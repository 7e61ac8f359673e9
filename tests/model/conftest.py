"""The default model, loaded once for all tests here; they are skipped where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.model.asking import Asking
from tests.workers.engine.desk import Desk
from tests.workers.real_vocab import MODEL
from workers.engine.runner import LlamaRunner
from workers.engine.weights import Weights, open_weights
from workers.models import gguf
from workers.prompt.model_text import ModelText

OpenDesk = Callable[..., Desk]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder decodes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.model)


@pytest.fixture(scope="session")
def weights() -> Iterator[Weights]:
    """The default model's weights."""
    if not MODEL.exists():
        pytest.skip(f"{MODEL} is not there: `make install` fetches it")
    with open_weights(MODEL) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def shared_runner(weights: Weights) -> Iterator[LlamaRunner]:
    """One context for all tests that need no special one. Use it through `desk`."""
    with LlamaRunner.share(weights, slots=16, cells=4096, exact=True) as runner:
        yield runner


@pytest.fixture
def desk(shared_runner: LlamaRunner) -> Iterator[Desk]:
    """An engine over the shared context, whose memory is empty again when the test ends."""
    opened = Desk(shared_runner)
    yield opened
    for key in [job.key for job in opened.engine._jobs]:
        opened.engine.cancel(key)
    opened.engine.step()
    opened.engine.slots.drop_idle()
    opened.engine.step()
    assert opened.engine.slots.used == 0


@pytest.fixture
def asking(shared_runner: LlamaRunner) -> Iterator[Asking]:
    """Requests through the shared context, as a worker plans them."""
    opened = Asking(shared_runner, ModelText(shared_runner.vocab, gguf.read(MODEL)))
    yield opened
    opened.close()


@pytest.fixture
def fresh_desk(weights: Weights) -> Iterator[OpenDesk]:
    """Engines over contexts of the test's own: `fresh_desk(cells=512, slots=4)`."""
    with ExitStack() as stack:

        def open_desk(*, engine: dict[str, int] | None = None, **options: Any) -> Desk:
            options = {"exact": True, **options}
            runner = stack.enter_context(LlamaRunner.share(weights, **options))
            return Desk(runner, **engine or {})

        yield open_desk
