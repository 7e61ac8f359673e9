"""A request's body, decoded strictly: what is wrong is said with the field's name.

The Content-Type is never looked at: half the curl lines of this world send JSON as a form.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

import msgspec

from api.faults import HTTPRequest
from shared.errors import RequestError, Unsupported

T = TypeVar("T")

# A member that is known and not honoured: decoded, so that it can be refused with a reason. What is
# empty asks for nothing; the OpenAPI document says that nothing else will do.
EMPTY: dict[str, Any] = {"enum": [None, False, 0, "", [], {}]}
Refused = Annotated[Any, msgspec.Meta(extra_json_schema=EMPTY)]

# Of an object whose keys are token ids, for the document.
TOKEN_KEYS = msgspec.Meta(extra_json_schema={"propertyNames": {"pattern": "^(0|[1-9][0-9]{0,8})$"}})

PLACE = re.compile(r" - at (?:`key` in )?`\$\.?(?P<path>.*)`$")
UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`")
MISSING = re.compile(r"Object missing required field `(?P<name>.*)`")


async def read(request: HTTPRequest, decoder: msgspec.json.Decoder[T]) -> T:
    """The body as `decoder`'s type. Raises RequestError or Unsupported with `param` set, and
    Litestar's own 413 for a body over the limit."""
    return parse(await request.body(), decoder)


def parse(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """JSON bytes as `decoder`'s type. Raises as `read`."""
    if not body:
        raise RequestError("the request has no body; JSON is expected")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise named(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None


def query(request: HTTPRequest, kind: type[T]) -> T:
    """The query's parameters as a Struct. Raises RequestError or Unsupported with `param` set."""
    try:
        return msgspec.convert(dict(request.query_params), kind, strict=False)
    except msgspec.ValidationError as error:
        raise named(error) from None


def named(error: msgspec.ValidationError) -> RequestError:
    """A validation error with the field it is about: `messages[0].content`."""
    text = str(error)
    place = PLACE.search(text)
    path = place["path"] if place else ""
    why = PLACE.sub("", text)
    if unknown := UNKNOWN.fullmatch(why):
        return Unsupported(_joined(path, unknown["name"]), "there is no such field here")
    if missing := MISSING.fullmatch(why):
        param = _joined(path, missing["name"])
        return RequestError(f"{param}: this field is required", param=param)
    return RequestError(f"{path}: {why}" if path else why, param=path or None)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
