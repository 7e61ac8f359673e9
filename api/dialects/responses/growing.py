"""Items of an answer while they grow: each says its own events, in the official order. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from api.dialects.openai.answers import TokenLogprob
from api.dialects.openai.render import logprobs
from api.dialects.responses import answers as wire
from api.dialects.responses.conversation import sealed
from api.dialects.responses.items import item_id
from shared.events import Logprob

Number = Callable[[], int]
Events = Iterator[wire.Numbered]


class Growing(Protocol):
    """An open item. `begin`, more of it, then `end`: each answers events."""

    def begin(self) -> Events: ...
    def end(self, status: wire.Status) -> Events: ...
    def item(self, status: wire.Status) -> wire.Item: ...


class Place:
    """Where an item stands, and the numbers its events get."""

    def __init__(self, *, response: str, place: int, index: int, number: Number) -> None:
        self._response = response
        self._place = place
        self._index = index
        self._number = number

    def id(self, kind: str) -> str:
        """The id of an item of this kind that stands here."""
        return item_id(kind, response=self._response, place=self._place)

    def about(self, item: wire.Item) -> dict[str, Any]:
        """Members of an event with the whole item."""
        return {"sequence_number": self._number(), "output_index": self._index, "item": item}

    def within(self, id: str) -> dict[str, Any]:
        """Members of an event about a part of the item."""
        return {"sequence_number": self._number(), "output_index": self._index, "item_id": id}


class Text:
    """A message, of one part."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.id = place.id("message")
        self._text: list[str] = []
        self._logprobs: list[TokenLogprob] = []

    @property
    def text(self) -> str:
        """What was said so far."""
        return "".join(self._text)

    def begin(self) -> Events:
        empty = wire.Message(id=self.id, status="in_progress")
        yield wire.ItemAdded(**self._place.about(empty))
        yield wire.PartAdded(**self._place.within(self.id), part=wire.OutputText(text=""))

    def more(self, text: str, found: tuple[Logprob, ...]) -> Events:
        told = logprobs(found, ()).content or ()
        self._text.append(text)
        self._logprobs += told
        yield wire.TextDelta(**self._place.within(self.id), delta=text, logprobs=told)

    def end(self, status: wire.Status) -> Events:
        part = self._part()
        within = self._place.within
        yield wire.TextDone(**within(self.id), text=part.text, logprobs=part.logprobs)
        yield wire.PartDone(**within(self.id), part=part)
        yield wire.ItemDone(**self._place.about(self.item(status)))

    def item(self, status: wire.Status) -> wire.Message:
        return wire.Message(id=self.id, status=status, content=(self._part(),))

    def _part(self) -> wire.OutputText:
        return wire.OutputText(text=self.text, logprobs=tuple(self._logprobs))


class Thought:
    """A reasoning item, told as its own text."""

    def __init__(self, place: Place, *, seal: bool) -> None:
        self._place = place
        self._seal = seal
        self.id = place.id("reasoning")
        self._text: list[str] = []

    @property
    def text(self) -> str:
        """What was thought so far."""
        return "".join(self._text)

    def begin(self) -> Events:
        empty = wire.Reasoning(id=self.id, status="in_progress")
        yield wire.ItemAdded(**self._place.about(empty))
        yield wire.PartAdded(**self._place.within(self.id), part=wire.ReasoningText(text=""))

    def more(self, text: str) -> Events:
        self._text.append(text)
        yield wire.ReasoningDelta(**self._place.within(self.id), delta=text)

    def end(self, status: wire.Status) -> Events:
        part = wire.ReasoningText(text=self.text)
        yield wire.ReasoningDone(**self._place.within(self.id), text=part.text)
        yield wire.PartDone(**self._place.within(self.id), part=part)
        yield wire.ItemDone(**self._place.about(self.item(status)))

    def item(self, status: wire.Status) -> wire.Reasoning:
        content = (wire.ReasoningText(text=self.text),)
        return self._whole(status, content=content)

    def _whole(self, status: wire.Status, **parts: Any) -> wire.Reasoning:
        more: dict[str, Any] = {"encrypted_content": sealed(self.text)} if self._seal else {}
        return wire.Reasoning(id=self.id, status=status, **parts, **more)


class Summary(Thought):
    """A reasoning item, told as a summary for those who asked for one: nothing is left out."""

    def begin(self) -> Events:
        empty = wire.Reasoning(id=self.id, status="in_progress")
        yield wire.ItemAdded(**self._place.about(empty))
        yield wire.SummaryAdded(**self._place.within(self.id), part=wire.SummaryText(text=""))

    def more(self, text: str) -> Events:
        self._text.append(text)
        yield wire.SummaryDelta(**self._place.within(self.id), delta=text)

    def end(self, status: wire.Status) -> Events:
        part = wire.SummaryText(text=self.text)
        yield wire.SummaryDone(**self._place.within(self.id), text=part.text)
        yield wire.SummaryPartDone(**self._place.within(self.id), part=part)
        yield wire.ItemDone(**self._place.about(self.item(status)))

    def item(self, status: wire.Status) -> wire.Reasoning:
        return self._whole(status, summary=(wire.SummaryText(text=self.text),))


class Call:
    """A function call; `index` is the worker's count of calls."""

    def __init__(self, place: Place, *, index: int, call: str, name: str) -> None:
        self._place = place
        self.index = index
        self.id = place.id("function_call")
        self._call = call
        self._name = name
        self._arguments: list[str] = []

    def begin(self) -> Events:
        yield wire.ItemAdded(**self._place.about(self.item("in_progress")))

    def more(self, arguments: str) -> Events:
        self._arguments.append(arguments)
        yield wire.ArgumentsDelta(**self._place.within(self.id), delta=arguments)

    def end(self, status: wire.Status) -> Events:
        whole = self.item(status)
        yield wire.ArgumentsDone(
            **self._place.within(self.id), name=self._name, arguments=whole.arguments
        )
        yield wire.ItemDone(**self._place.about(whole))

    def item(self, status: wire.Status) -> wire.FunctionCall:
        return wire.FunctionCall(
            id=self.id,
            call_id=self._call,
            name=self._name,
            arguments="".join(self._arguments),
            status=status,
        )
