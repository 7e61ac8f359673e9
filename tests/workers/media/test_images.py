"""Which bytes a decoder may see: real images yes; what is cut, lies or unpacks to too much no."""

from __future__ import annotations

import struct
import zlib

import pytest

from shared.errors import RequestError
from tests.model.tiny_vision import png, png_of
from workers.media import images


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    """Markers with bodies; a frame of 8 x 16 unless others are given."""
    frames = segments or ((0xE0, b"JFIF"), frame(8, 16), (0xDA, b"\0" * 10))
    parts = (struct.pack(">BBH", 0xFF, mark, len(body) + 2) + body for mark, body in frames)
    return b"\xff\xd8" + b"".join(parts) + b"\x12\xff\x00\x34\xff\xd9"


def frame(width: int, height: int, mark: int = 0xC0) -> tuple[int, bytes]:
    """A frame header."""
    return mark, struct.pack(">BHHB", 8, height, width, 3)


def test_images_pass() -> None:
    images.check(png(1))
    images.check(png(1, width=3, height=200))
    images.check(jpeg())
    images.check(jpeg(frame(4096, 4096, 0xC2), (0xDA, b"")))


PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
ALL_PASSES = (*PASSES, (0, 1, 1, 2))  # first column, first row, step of columns, step of rows


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (64, 64)])
def test_an_interlaced_image_passes(width: int, height: int) -> None:
    raw = b""
    for x, y, dx, dy in ALL_PASSES:
        columns, rows = len(range(x, width, dx)), len(range(y, height, dy))
        raw += b"\0" * (rows * (1 + (columns + 7) // 8) if columns else 0)
    images.check(png_of(struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 1), raw))


HEAD = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a PNG or JPEG"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "not a PNG or JPEG"),
        (b"GIF89a\1\0\1\0", "not a PNG or JPEG"),
        (png(1)[:-30], "cut short"),
        (png(1)[:40], "cut short"),
        (png_of(HEAD[:5], b""), "damaged PNG"),
        (png_of(HEAD + b"x", b""), "damaged PNG"),
        (png_of(struct.pack(">IIBBBBB", 8, 8, 3, 2, 0, 0, 0), b""), "unknown kind"),
        (png_of(struct.pack(">IIBBBBB", 0, 8, 8, 2, 0, 0, 0), b""), "no size"),
        (png_of(struct.pack(">IIBBBBB", 4097, 4096, 8, 2, 0, 0, 0), b""), "4097 x 4096"),
        (png_of(struct.pack(">IIBBBBB", 2000, 8, 8, 2, 0, 0, 0), b""), "strip"),
        (png_of(HEAD, b"\0" * 1_000_000), "more than its size says"),
        (png(1).replace(b"IDAT", b"IHDR"), "damaged PNG"),
        (jpeg((0xE0, b"JFIF")), "damaged JPEG"),
        (b"\xff\xd8", "damaged JPEG"),
        (jpeg(frame(8, 16), frame(60000, 60000)), "60000 x 60000"),
        (jpeg(frame(0, 16)), "no size"),
        (jpeg(frame(8, 8, 0xC9)), "unknown kind"),
        (jpeg((0xC0, b"\x08\0")), "unknown kind"),
        (jpeg(frame(8, 8), *[(0xDA, b"")] * 101), "passes"),
        (jpeg(frame(8, 8), *[(0xE1, b"")] * 1001), "segments"),
    ],
)
def test_what_a_decoder_should_not_see(data: bytes, why: str) -> None:
    with pytest.raises(RequestError, match=why) as refused:
        images.check(data)
    assert refused.value.param == "messages"


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zlib.compressobj(9)
    packed = b"".join(bomb.compress(b"\0" * (1 << 20)) for _ in range(64)) + bomb.flush()
    assert len(packed) < 100_000
    with pytest.raises(RequestError, match="more than its size says"):
        images.check(png_of(HEAD, packed=packed))


def test_damaged_data_is_a_refusal() -> None:
    with pytest.raises(RequestError, match="damaged PNG"):
        images.check(png_of(HEAD, packed=b"no zlib stream"))


def test_hostile_repetition_takes_no_time_to_speak_of() -> None:
    for data in (b"\xff" * 5_000_000, b"\xff\xd0" * 2_500_000, b"\xff\x00" * 2_500_000):
        with pytest.raises(RequestError, match="damaged JPEG"):
            images.check(b"\xff\xd8" + data)
    with pytest.raises(RequestError, match="cut short"):
        images.check(png_of(HEAD, packed=b"")[:-12] + b"\0\0\0\0IDAT\0\0\0\0" * 100_000)
