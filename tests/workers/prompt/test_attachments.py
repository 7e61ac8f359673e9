"""Images in a conversation: where the template puts them, in the order they were sent."""

from __future__ import annotations

import pytest

from shared.errors import BadTemplate, ContextTooLong, RequestError, Unsupported
from shared.messages import Audio, Image, Message, Text
from shared.requests import Chat, Generate
from tests.workers.real_vocab import real_vocab
from workers.models.gguf import ModelFacts
from workers.prompt import attachments
from workers.prompt.attachments import Attachment
from workers.prompt.model_text import ModelText
from workers.prompt.plan import Prepared, prepare

CAT, DOG = Image(data=b"cat"), Image(data=b"dog")
PARTS = (
    "{%- for m in messages -%}{{ m.role }}:"
    "{%- for part in m.content -%}{{ part.text }}{%- endfor -%};{%- endfor -%}"
)
LAST_ONLY = "{{ messages[-1].content }};"


class Eyes:
    """attachments.Measures: an image is its first byte, negative, three times between two 9s."""

    def __init__(self, *, length: int = 3) -> None:
        self.length = length

    def takes(self, part: Attachment) -> bool:
        return isinstance(part, Image)

    def tokens(self, part: Attachment) -> tuple[int, ...]:
        if not part.data:
            raise RequestError("messages: an image that is none", param="messages")
        return (9, *[-part.data[0]] * self.length, 9)


def say(*parts: str | Attachment, role: str = "user") -> Message:
    content = tuple(Text(text=part) if isinstance(part, str) else part for part in parts)
    return Message(role=role, content=content)  # type: ignore[arg-type]


def plan(
    *messages: Message, template: str = "", eyes: Eyes | None = None, job: str = "j"
) -> Prepared:
    facts = ModelFacts(path="", size_bytes=0, architecture="llama", chat_template=template)
    model = ModelText(real_vocab(), facts, media=eyes or Eyes())
    request = Generate(id=job, model="m", input=Chat(messages=messages))
    return prepare(request, model, now_s=0, context=1000)


def shown(prepared: Prepared) -> str:
    """The prompt with <c> and <d> for what was seen."""
    seen = {-ord("c"): "c", -ord("d"): "d"}
    tokens = iter(prepared.prompt)
    text = ""
    for token in tokens:
        if token == 9:
            rows = [next(tokens) for _ in range(4)]
            assert (rows[0], rows[1], rows[3]) == (rows[1], rows[2], 9)
            text += f"<{seen[rows[0]]}>"
        else:
            text += real_vocab().detokenize([token]).decode()
    return text


@pytest.mark.parametrize("template", ["", PARTS])
def test_images_stand_where_they_were_sent(template: str) -> None:
    prepared = plan(
        say("first ", CAT, " second ", DOG, " what?"),
        say("aha", role="assistant"),
        say(DOG, "and this?"),
        template=template,
    )
    assert prepared.parts == (CAT, DOG, DOG)
    text = shown(prepared)
    assert "first <c> second <d> what?" in text
    assert "<d>and this?" in text
    assert "media" not in text


def test_every_worker_makes_the_same_prompt() -> None:
    assert plan(say("see ", CAT)).prompt == plan(say("see ", CAT)).prompt
    assert plan(say("see ", CAT), job="other").prompt == plan(say("see ", CAT)).prompt


def test_a_mark_cannot_be_guessed_or_given() -> None:
    sign = attachments.mark("j", (CAT,))
    assert sign not in (attachments.mark("k", (CAT,)), attachments.mark("j", (DOG,)))
    with pytest.raises(BadTemplate, match="shows 2 of 1"):
        plan(say(f"see {sign} ", CAT, "!"))


def test_a_template_that_loses_an_image_is_refused() -> None:
    with pytest.raises(BadTemplate, match="shows 0 of 1"):
        plan(say(CAT, "what?"), say("well?"), template=LAST_ONLY)


def test_a_prompt_does_not_end_in_an_image() -> None:
    with pytest.raises(BadTemplate, match="ends in an image"):
        plan(say("see ", CAT), template="{{ messages[-1].content }}")


def test_refusals() -> None:
    with pytest.raises(Unsupported, match="takes no audio") as refused:
        plan(say(Audio(data=b"x")))
    assert refused.value.param == "messages"
    with pytest.raises(RequestError, match="an image that is none"):
        plan(say(Image(data=b"")))
    with pytest.raises(RequestError, match="more than 32"):
        plan(say(*[CAT] * 33))
    with pytest.raises(ContextTooLong, match="context holds 1000"):
        plan(say("see ", CAT), eyes=Eyes(length=1000))
