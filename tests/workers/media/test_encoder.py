"""One encoding at a time, each once, as long as there is room to remember it."""

from __future__ import annotations

import numpy as np

from shared.messages import Image
from workers.engine.media import Media
from workers.media.encoder import Encoder
from workers.media.projector import placeholders
from workers.prompt.attachments import Attachment

ROW_BYTES = 4 * 8


class Lens:
    """encoder.Projects that counts."""

    def __init__(self) -> None:
        self.measured = 0
        self.encoded = 0

    def takes(self, part: Attachment) -> bool:
        return isinstance(part, Image)

    def measure(self, part: Attachment) -> tuple[int, ...]:
        self.measured += 1
        return (7, *placeholders(part, 0, count=2))

    def encode(self, part: Attachment) -> tuple[Media, ...]:
        self.encoded += 1
        rows = np.full((2, 8), part.data[0], np.float32)
        places = np.zeros((0, 2), np.int32)
        return (Media(ids=placeholders(part, 0, count=2), rows=rows, places=places, span=2),)


def image(n: int) -> Image:
    return Image(data=bytes([n]))


def go_on() -> bool:
    return False


def test_equal_images_are_done_once() -> None:
    lens = Lens()
    encoder = Encoder(lens)
    first = encoder.media([image(1), image(2), image(1)], stopped=go_on)
    assert [one.rows[0, 0] for one in first] == [1, 2, 1]
    assert encoder.media([image(2)], stopped=go_on) == (first[1],)
    assert encoder.tokens(image(1)) == encoder.tokens(image(1)) == (7, *first[0].ids)
    assert (lens.encoded, lens.measured) == (2, 1)
    encoder.close()


def test_the_oldest_is_forgotten() -> None:
    lens = Lens()
    encoder = Encoder(lens, most_bytes=2 * 2 * ROW_BYTES)
    for n in (1, 2, 1, 3, 1, 2):  # 3 takes the place of 2, which was not asked for as lately
        encoder.media([image(n)], stopped=go_on)
    assert lens.encoded == 4
    assert len(encoder.media([image(n) for n in range(9)], stopped=go_on)) == 9
    encoder.close()


def test_who_left_is_not_waited_for() -> None:
    lens = Lens()
    encoder = Encoder(lens)
    asked = iter([False, True])
    assert encoder.media([image(1), image(2)], stopped=lambda: next(asked)) == ()
    assert lens.encoded == 1
    encoder.close()


def test_placeholders_say_what_they_stand_for() -> None:
    one, other = placeholders(image(1), 0, count=50), placeholders(image(2), 0, count=50)
    again, next_run = placeholders(image(1), 0, count=40), placeholders(image(1), 1, count=50)
    assert again == one[:40]
    assert max(*one, *other) < 0
    assert len({*one, *other, *next_run}) == 150
    assert placeholders(Image(data=b"a cat"), 0, count=1) == (-7887151657944044330,)
