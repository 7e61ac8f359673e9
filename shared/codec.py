"""The only encoders and decoders of what crosses Redis: msgpack, typed, never pickle.

A payload is a version byte and the request. Frames are arrays, so a list of frames is their bytes
one after another behind an array header: that is how the emit script joins them unread.
"""

from __future__ import annotations

from typing import Any

import msgspec

from shared.control import Control
from shared.errors import RequestError
from shared.events import Frame
from shared.requests import Request

VERSION = b"\x01"

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_frames = msgspec.msgpack.Decoder(tuple[Frame, ...])
_frame = msgspec.msgpack.Decoder(Frame)
_controls: msgspec.msgpack.Decoder[Control] = msgspec.msgpack.Decoder(Control)

encode = _encoder.encode
decode_frames = _frames.decode
decode_frame = _frame.decode
decode_control = _controls.decode


class BadPayload(ValueError):
    """Bytes in Redis that are not ours, or of another version."""


def encode_request(request: Request) -> bytes:
    """A request as job payload. Raises RequestError for numbers that only JSON can hold."""
    try:
        return VERSION + _encoder.encode(request)
    except OverflowError as error:
        raise RequestError("a number in this request has more than 64 bits") from error


def decode_request(payload: bytes) -> Request:
    """The request in a job payload. Raises BadPayload, never half-decodes."""
    if payload[:1] != VERSION:
        raise BadPayload(f"payload version {payload[:1]!r}, this worker reads {VERSION!r}")
    try:
        return _requests.decode(payload[1:])
    except msgspec.MsgspecError as error:
        raise BadPayload(str(error)) from error


def serialize_for_arq(job: dict[str, Any]) -> bytes:
    """arq's job_serializer."""
    return _encoder.encode(job)


def deserialize_for_arq(payload: bytes) -> dict[str, Any]:
    """arq's job_deserializer. Raises MsgspecError for bytes that are no arq job of ours."""
    job = msgspec.msgpack.decode(payload, type=dict[str, Any])
    return {**job, "a": [_Unprinted(argument) for argument in job.get("a", ())]}


class _Unprinted(bytes):
    """Payload bytes without a repr: arq puts its arguments' repr into log lines."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"
