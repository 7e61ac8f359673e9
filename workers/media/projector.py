"""A model's projector: images and sounds to embeddings. The only file that calls mtmd.

It has a context of its own beside the model's, so that it works while the engine decodes.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp import mtmd_cpp as mtmd

from shared.errors import Internal, RequestError
from shared.messages import Audio, Image
from workers.engine.media import Media, Places
from workers.engine.weights import BadModel, Weights, hear_library
from workers.media import images, sounds
from workers.models.projectors import ProjectorFacts
from workers.prompt.attachments import Attachment

MARKER = b"<__media__>"
NOWHERE = b"/nonexistent"
FULL_AXES = 4


class Projector:
    """An open mtmd context. `measure` may be called anywhere, `encode` by one thread at a time."""

    def __init__(self, context: Any, *, width: int) -> None:
        self._context = context
        self._width = width
        self._axes = FULL_AXES if mtmd.mtmd_decode_use_mrope(context) else 1
        self._rate = int(mtmd.mtmd_get_audio_sample_rate(context))
        self.vision = bool(mtmd.mtmd_support_vision(context))
        self.audio = bool(mtmd.mtmd_support_audio(context))

    def takes(self, part: Attachment) -> bool:
        """Whether it knows what to do with such a part."""
        return self.vision if isinstance(part, Image) else self.audio

    def measure(self, part: Attachment) -> tuple[int, ...]:
        """Tokens and placeholders that a part becomes. Raises RequestError for bad bytes."""
        with self._chunks(part) as chunks:
            found: list[int] = []
            for number, chunk in enumerate(chunks):
                if _is_text(chunk):
                    found += _text(chunk)
                else:
                    found += placeholders(part, number, count=_count(chunk))
            return tuple(found)

    def encode(self, part: Attachment) -> tuple[Media, ...]:
        """What the placeholders stand for. Seconds of work."""
        with self._chunks(part) as chunks:
            return tuple(
                self._encoded(part, number, chunk)
                for number, chunk in enumerate(chunks)
                if not _is_text(chunk)
            )

    def _encoded(self, part: Attachment, number: int, chunk: Any) -> Media:
        if mtmd.mtmd_encode_chunk(self._context, chunk) != 0:
            raise Internal("the projector failed at an image; the server's log has the details")
        count = _count(chunk)
        rows = np.ctypeslib.as_array(
            mtmd.mtmd_get_output_embd(self._context), shape=(count, self._width)
        )
        return Media(
            ids=placeholders(part, number, count=count),
            rows=rows.copy(),
            places=self._places(chunk, count),
            span=int(mtmd.mtmd_input_chunk_get_n_pos(chunk)),
            whole=bool(mtmd.mtmd_decode_use_non_causal(self._context, chunk)),
        )

    def _places(self, chunk: Any, count: int) -> Places:
        line = np.arange(count, dtype=np.int32)
        if self._axes == 1:
            return line[None]
        image = mtmd.mtmd_input_chunk_get_tokens_image(chunk)
        if not image:
            return np.stack([line, line, line, 0 * line])
        found = [mtmd.mtmd_image_tokens_get_decoder_pos(image, 0, n) for n in range(count)]
        return np.array([(at.t, at.y, at.x, at.z) for at in found], np.int32).T.copy()

    @contextmanager
    def _chunks(self, part: Attachment) -> Iterator[list[Any]]:
        """A part as mtmd cuts it: text tokens and what is to be encoded."""
        text = mtmd.mtmd_input_text(MARKER, len(MARKER), False, True)
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            with self._bitmap(part) as bitmap:
                bitmaps = (ctypes.c_void_p * 1)(bitmap)
                if mtmd.mtmd_tokenize(self._context, chunks, ctypes.byref(text), bitmaps, 1):
                    raise RequestError(
                        "messages: an image or sound that the model's projector refuses",
                        param="messages",
                    )
            count = mtmd.mtmd_input_chunks_size(chunks)
            yield [mtmd.mtmd_input_chunks_get(chunks, at) for at in range(count)]
        finally:
            mtmd.mtmd_input_chunks_free(chunks)

    @contextmanager
    def _bitmap(self, part: Attachment) -> Iterator[Any]:
        bitmap = self._image(part) if isinstance(part, Image) else self._sound(part)
        if not bitmap:
            raise RequestError("messages: an image that cannot be decoded", param="messages")
        try:
            yield bitmap
        finally:
            mtmd.mtmd_bitmap_free(bitmap)

    def _image(self, part: Image) -> Any:
        images.check(part.data)
        options = mtmd.mtmd_helper_init_opt_default()
        options.video_params.ffmpeg_bin_dir = NOWHERE  # what it cannot read it would give to ffmpeg
        buffer = (ctypes.c_uint8 * len(part.data)).from_buffer_copy(part.data)
        return mtmd.mtmd_helper_bitmap_init_from_buf(
            self._context, buffer, len(part.data), False, options
        )

    def _sound(self, part: Audio) -> Any:
        numbers = sounds.samples(part.data, rate=self._rate)
        pointer = numbers.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        return mtmd.mtmd_bitmap_init_from_audio(len(numbers), pointer)


@contextmanager
def open_projector(facts: ProjectorFacts, weights: Weights, *, threads: int) -> Iterator[Projector]:
    """The projector in a file, for these weights. Raises BadModel."""
    mtmd.mtmd_helper_log_set(hear_library, ctypes.c_void_p(0))
    params = mtmd.mtmd_context_params_default()
    params.use_gpu = weights.offloaded
    params.n_threads = threads
    params.print_timings = params.warmup = False
    params.media_marker = MARKER
    context = mtmd.mtmd_init_from_file(str(facts.path).encode(), weights.pointer, params)
    if context is None:
        raise BadModel(
            f"{facts.path} is not a projector for {weights.path}; llama.cpp's words are in the log"
        )
    try:
        yield Projector(context, width=llama_cpp.llama_model_n_embd_inp(weights.pointer))
    finally:
        mtmd.mtmd_free(context)


def placeholders(part: Attachment, number: int, *, count: int) -> tuple[int, ...]:
    """Negative ids for `count` rows of a part's run `number`: of 63 bits, made of the content, so
    that nobody can make two images of which one is taken for the other."""
    seed = hashlib.sha256(part.data).digest() + f"{type(part).__name__}:{number}".encode()
    numbers = np.frombuffer(hashlib.shake_256(seed).digest(8 * count), "<i8")
    return tuple((numbers | np.int64(-1 << 63)).tolist())


def _is_text(chunk: Any) -> bool:
    return bool(mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT)


def _count(chunk: Any) -> int:
    return int(mtmd.mtmd_input_chunk_get_n_tokens(chunk))


def _text(chunk: Any) -> list[int]:
    count = ctypes.c_size_t()
    tokens = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
    return [int(tokens[at]) for at in range(count.value)]
