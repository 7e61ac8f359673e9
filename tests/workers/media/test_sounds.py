"""WAV files to one channel of floats at the projector's rate."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest

from shared.errors import RequestError
from workers.media import sounds


def wav(frames: bytes, *, channels: int = 1, width: int = 2, rate: int = 8000) -> bytes:
    """A WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(frames)
    return out.getvalue()


def test_widths_and_channels() -> None:
    two = np.array([[16384, 0], [-32768, -32768]], np.int16).tobytes()
    assert sounds.samples(wav(two, channels=2), rate=8000).tolist() == [0.25, -1.0]
    assert sounds.samples(wav(b"\x80\x00", width=1), rate=8000).tolist() == [0.0, -1.0]
    high = np.array([1 << 30], np.int32).tobytes()
    assert sounds.samples(wav(high, width=4), rate=8000).tolist() == [0.5]


def test_another_rate() -> None:
    ramp = np.arange(0, 8000, 1000, np.int16).tobytes()
    found = sounds.samples(wav(ramp), rate=16000)
    assert found.dtype == np.float32
    assert np.allclose(found[:4] * 32768, [0, 500, 1000, 1500])
    assert len(sounds.samples(wav(ramp), rate=4000)) == 4


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a WAV"),
        (b"ID3\4 an mp3", "not a WAV"),
        (wav(b"\0" * 8)[:20], "not a WAV"),
        (wav(b"\0" * 6, width=3), "24 bits"),
        (wav(b""), "0 s"),
        (wav(b"\0" * 1300, width=1, rate=2), "650 s"),
    ],
)
def test_refusals(data: bytes, why: str) -> None:
    with pytest.raises(RequestError, match=why):
        sounds.samples(data, rate=16000)
