"""LoRA adapters on the real model: the library's own numbers, and each answer as it is alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.requests import Sampling
from tests.model.lora import write_lora
from tests.model.reference import Reference
from tests.workers.engine.desk import Desk
from tests.workers.real_vocab import MODEL
from workers.engine.adapters import AdapterSet
from workers.engine.runner import LlamaRunner
from workers.engine.weights import BadModel, Weights, open_weights

COUNT = 24
PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
)
ONE: AdapterSet = (("one", 1.0),)
FAINT: AdapterSet = (("one", 0.3),)
BOTH: AdapterSet = (("one", 0.5), ("two", 0.5))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("lora")
    return {
        name: write_lora(folder / f"{name}.gguf", seed=n) for n, name in enumerate(("one", "two"))
    }


@pytest.fixture(scope="module")
def adapted(weights: Weights, files: dict[str, Path]) -> Iterator[Weights]:
    """The default model once more, with two adapters. Skips with `weights`."""
    with open_weights(MODEL) as loaded:
        for name, path in files.items():
            loaded.add_lora(name, path)
        yield loaded


@pytest.fixture(scope="module")
def runner(adapted: Weights) -> Iterator[LlamaRunner]:
    with LlamaRunner.share(adapted, slots=8, cells=2048, exact=True) as opened:
        yield opened


@pytest.fixture
def desk(runner: LlamaRunner) -> Iterator[Desk]:
    opened = Desk(runner)
    yield opened
    opened.engine.slots.drop_idle()
    opened.engine.step()


@pytest.fixture(scope="module")
def prompts(weights: Weights) -> list[tuple[int, ...]]:
    return [weights.vocab.tokenize(text, parse_special=True) for text in PROMPTS]


def said(desk: Desk, prompt: tuple[int, ...], adapters: AdapterSet) -> list[int]:
    """What it says, alone."""
    key = f"{prompt} {adapters}"
    desk.answer(prompt, key=key, adapters=adapters, max_tokens=COUNT)
    return desk.tokens[key][0]


def test_each_set_says_something_else(desk: Desk, prompts: list[tuple[int, ...]]) -> None:
    answers = {tuple(said(desk, prompts[1], one)) for one in ((), ONE, FAINT, BOTH)}
    assert len(answers) == 4


def test_without_adapters_a_model_that_has_some_is_what_it_was(
    desk: Desk, shared_runner: LlamaRunner, prompts: list[tuple[int, ...]]
) -> None:
    said(desk, prompts[0], ONE)
    plain = Desk(shared_runner)
    assert said(desk, prompts[1], ()) == said(plain, prompts[1], ())
    plain.engine.slots.drop_idle()
    plain.engine.step()


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_it_is_the_librarys_own(
    desk: Desk, files: dict[str, Path], prompts: list[tuple[int, ...]], scale: float
) -> None:
    agreed = total = 0
    with Reference.open(MODEL, lora_path=str(files["one"]), lora_scale=scale) as reference:
        for prompt in prompts:
            answer = said(desk, prompt, (("one", scale),))
            agreed += reference.check(prompt, answer)
            total += len(answer)
    assert agreed > 0.9 * total


def test_sets_side_by_side_say_what_each_says_alone(
    desk: Desk, prompts: list[tuple[int, ...]]
) -> None:
    sets: tuple[AdapterSet, ...] = ((), ONE, FAINT, BOTH)
    for n, adapters in enumerate(sets):
        desk.submit(prompts[1], key=str(n), adapters=adapters, max_tokens=COUNT)
        desk.step()
    desk.run()
    assert sum(stats.cached_tokens for stats in desk.stats) == 0
    together = [desk.tokens[str(n)][0] for n in range(len(sets))]
    desk.engine.slots.drop_idle()
    assert together == [said(desk, prompts[1], adapters) for adapters in sets]


def test_a_prefix_is_found_again_with_the_same_adapters_only(
    desk: Desk, prompts: list[tuple[int, ...]]
) -> None:
    first = said(desk, prompts[1], ONE)
    desk.answer(prompts[1], key="other", max_tokens=1)
    assert desk.ends["other"].cached_tokens == 0
    desk.answer(prompts[1], key="again", adapters=ONE, max_tokens=COUNT)
    assert desk.ends["again"].cached_tokens == len(prompts[1]) - 1
    assert desk.tokens["again"][0] == first


@pytest.mark.parametrize("scale", [10.0, -10.0])
def test_the_strongest_scale_harms_nobody_else(
    desk: Desk, prompts: list[tuple[int, ...]], scale: float
) -> None:
    before = said(desk, prompts[0], ())
    desk.engine.slots.drop_idle()
    hot = Sampling(temperature=1.0)
    desk.submit(
        prompts[1], key="strong", adapters=(("one", scale),), sampling=hot, max_tokens=COUNT
    )
    desk.submit(prompts[0], key="plain", max_tokens=COUNT)
    desk.run()
    assert desk.ends["strong"].kind == "finished"
    assert desk.tokens["plain"][0] == before


def test_an_adapter_of_another_model_is_refused_by_name(adapted: Weights, tmp_path: Path) -> None:
    path = write_lora(tmp_path / "wide.gguf", width=640)
    with pytest.raises(BadModel, match=r"the adapter 'wide' .*wide\.gguf.* does not fit"):
        adapted.add_lora("wide", path)
    assert "wide" not in adapted.lora
