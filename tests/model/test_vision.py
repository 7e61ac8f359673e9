"""Tiny models with projectors: what the engine makes of an image is what llama.cpp makes of it,
alone and in company, from the cache, forked and taken up by another worker."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from shared.errors import RequestError
from shared.messages import Audio, Image
from shared.requests import Sampling
from tests.model.sight import Question, Sight
from tests.model.tiny_vision import png
from workers.engine.weights import BadModel
from workers.media.projector import open_projector
from workers.models import projectors

COUNT = 12
SEEN = Image(data=png(1, width=40, height=72))
OTHER = Image(data=png(2, width=40, height=72))
BEFORE, BEHIND = "What is in ", " this picture, then?"
QUESTION: Question = (BEFORE, SEEN, BEHIND)
HOT = Sampling(temperature=1.0)


@pytest.fixture(params=["gemma", "llava", "qwen"], scope="module")
def sight(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sight]:
    """Plain positions; positions of three axes; images that are computed whole."""
    with Sight.open(tmp_path_factory.mktemp("sight"), request.param) as opened:
        yield opened


def test_the_answer_is_the_librarys_own(sight: Sight) -> None:
    desk = sight.desk()
    sight.ask(desk, QUESTION, key="seen", max_tokens=COUNT)
    desk.run()
    assert desk.tokens["seen"][0] == sight.reference(QUESTION, COUNT)


def test_another_image_is_another_answer(sight: Sight) -> None:
    desk = sight.desk()
    for key, image in (("seen", SEEN), ("other", OTHER)):
        sight.ask(desk, (BEFORE, image, BEHIND), key=key, max_tokens=COUNT)
        desk.run()
    assert desk.tokens["seen"][0] != desk.tokens["other"][0]


def test_equal_images_share_what_was_computed_and_others_do_not(sight: Sight) -> None:
    desk = sight.desk()
    images = {"first": SEEN, "same": Image(data=bytes(SEEN.data)), "other": OTHER}
    for key, image in images.items():
        sight.ask(desk, (BEFORE, image, f"{key}?"), key=key, max_tokens=COUNT)
        desk.run()
    prompt, media = sight.prompt((BEFORE, SEEN, ""))
    cached = {key: end.cached_tokens for key, end in desk.ends.items()}
    if sight.weights.can_cut:
        assert cached["same"] >= len(prompt)
        assert cached["other"] == prompt.index(media[0].ids[0])
    else:
        assert set(cached.values()) == {0}
    for key, image in images.items():
        assert desk.tokens[key][0] == sight.reference((BEFORE, image, f"{key}?"), COUNT)


def test_an_image_beside_three_streams(sight: Sight) -> None:
    desk = sight.desk()
    prompts = {f"text {n}": sight.weights.vocab.tokenize(f"text {n}") for n in range(3)}
    for key, prompt in prompts.items():
        desk.submit(prompt, key=key, max_tokens=30, ignore_eos=True)
    desk.step(6)
    sight.ask(desk, QUESTION, key="seen", max_tokens=COUNT)
    desk.run()
    together = [stats for stats in desk.stats if stats.decode_rows == 3 and stats.prefill_rows]
    whole = sight.prompt(QUESTION)[1][0].whole
    assert len(together) >= 3, "the image was computed in steps beside the streams"
    assert whole or all(stats.prefill_rows <= 10 for stats in together)
    assert desk.tokens["seen"][0] == sight.reference(QUESTION, COUNT)
    for key, prompt in prompts.items():
        alone = sight.desk()
        alone.submit(prompt, key=key, max_tokens=30, ignore_eos=True)
        alone.run()
        assert desk.tokens[key][0] == alone.tokens[key][0]


def test_several_images_and_several_askers(sight: Sight) -> None:
    together, expected = sight.desk(prefill_budget=40), {}
    for key, image in (("a", SEEN), ("b", OTHER), ("c", SEEN)):
        prompt, media = sight.prompt((BEFORE, image, BEHIND))
        twice = {"prompt": (*prompt, *prompt), "media": (*media, *media), "key": key}
        alone = sight.desk()
        for desk in (together, alone):
            desk.submit(**twice, max_tokens=COUNT)
        alone.run()
        expected[key] = alone.tokens[key][0]
    together.run()
    assert {key: together.tokens[key][0] for key in "abc"} == expected


def test_choices_fork_and_another_worker_goes_on(sight: Sight) -> None:
    fields = {"max_tokens": COUNT, "sampling": HOT, "seed": 4, "choices": 3}
    desk = sight.desk()
    sight.ask(desk, QUESTION, key="job", **fields)
    desk.run()
    said = [tuple(desk.tokens["job"][choice]) for choice in range(3)]
    assert len(set(said)) == 3
    for cut in (0, 5):
        other = sight.desk()
        sight.ask(other, QUESTION, key="job", resumed=tuple(ids[:cut] for ids in said), **fields)
        other.run()
        assert [tuple(other.tokens["job"][choice]) for choice in range(3)] == [
            ids[cut:] for ids in said
        ]


def test_every_worker_makes_the_same_prompt_of_an_image(
    sight: Sight, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["sight"]
    prompt, media = sight.prompt(QUESTION)
    with Sight.open(tmp_path_factory.mktemp("again"), kind) as successor:
        again, encoded = successor.prompt(QUESTION)
        desk = successor.desk()
        successor.ask(desk, QUESTION, key="seen", max_tokens=COUNT)
        desk.run()
    assert again == prompt
    assert all(np.array_equal(a.rows, b.rows) for a, b in zip(media, encoded, strict=True))
    assert desk.tokens["seen"][0] == sight.reference(QUESTION, COUNT)


def test_what_is_no_image_is_refused(sight: Sight) -> None:
    noise = png(3)
    wrong = (b"", b"GIF89a" + noise, noise[:-20], noise[:60] + b"\xff" * 40 + noise[100:])
    for data in wrong:
        with pytest.raises(RequestError, match="messages: an image"):
            sight.projector.measure(Image(data=data))
    assert not sight.projector.takes(Audio(data=b""))
    assert sight.projector.takes(SEEN)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 100), (100, 1), (700, 7), (33, 31)])
def test_images_of_odd_shapes(sight: Sight, width: int, height: int) -> None:
    image = Image(data=png(4, width=width, height=height))
    media = sight.projector.encode(image)
    ids = [token for token in sight.projector.measure(image) if token < 0]
    assert ids == [token for one in media for token in one.ids]
    assert all(np.isfinite(one.rows).all() for one in media)


def test_a_projector_of_another_model_is_refused(sight: Sight) -> None:
    facts = projectors.read(sight.projector_path)
    wrong = facts.path.with_name("model.gguf")
    with pytest.raises(projectors.BadModelFile, match="no projector"):
        projectors.read(wrong)
    broken = facts.path.with_name("broken.gguf")
    broken.write_bytes(facts.path.read_bytes().replace(b"attn_out", b"attn_xxx"))
    with (
        pytest.raises(BadModel, match="not a projector for"),
        open_projector(projectors.read(broken), sight.weights, threads=1),
    ):
        pass
