"""WAV files from a stranger as the numbers a projector listens to."""

from __future__ import annotations

import io
import wave

import numpy as np
from numpy.typing import NDArray

from shared.errors import RequestError

MAX_SECONDS = 600
WIDTHS = {1: (np.uint8, 128, 128.0), 2: (np.int16, 0, 32768.0), 4: (np.int32, 0, 2147483648.0)}


def samples(data: bytes, *, rate: int) -> NDArray[np.float32]:
    """One channel at `rate` Hz, -1 to 1. Raises RequestError for what is no WAV file of PCM, and
    for sounds longer than MAX_SECONDS."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            channels, width, own_rate = (
                file.getnchannels(),
                file.getsampwidth(),
                file.getframerate(),
            )
            frames = file.readframes(file.getnframes())
    except (wave.Error, EOFError, RuntimeError) as error:
        raise _refused("is not a WAV file of PCM samples") from error
    if width not in WIDTHS or not own_rate:
        raise _refused(f"has samples of {8 * width} bits: 8, 16 and 32 are read")
    kind, middle, top = WIDTHS[width]
    usable = len(frames) // (width * channels) * width * channels
    numbers = np.frombuffer(frames[:usable], kind).reshape(-1, channels).astype(np.float32)
    if not len(numbers) or len(numbers) > MAX_SECONDS * own_rate:
        raise _refused(f"has {len(numbers) / own_rate:.0f} s: 0 to {MAX_SECONDS} are taken")
    mono = (numbers.mean(axis=1) - middle) / top
    return _resampled(mono, own_rate, rate)


def _resampled(numbers: NDArray[np.float32], own_rate: int, rate: int) -> NDArray[np.float32]:
    count = max(1, len(numbers) * rate // own_rate)
    places = np.arange(count) * (own_rate / rate)
    found = np.interp(places, np.arange(len(numbers)), numbers)
    return np.asarray(found, np.float32)


def _refused(why: str) -> RequestError:
    return RequestError(f"messages: an audio part {why}", param="messages")
