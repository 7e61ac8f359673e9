"""Everything about one loaded model that turns requests into tokens and tokens into events."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from shared.errors import BadTemplate
from workers.engine.constraints import Compiler
from workers.models.gguf import ModelFacts
from workers.models.vocab import Vocab
from workers.prompt.attachments import Measures
from workers.prompt.families import Family, detect
from workers.prompt.quirks import probe
from workers.prompt.template import CHATML, Template


class ModelText:
    """Vocabulary, chat template and family of one model; immutable, for any thread.

    `template_error` says why the model's own template is not usable: chats are then refused with
    it. A model without a template gets ChatML. `media` where it takes images or sounds.
    """

    def __init__(self, vocab: Vocab, facts: ModelFacts, *, media: Measures | None = None) -> None:
        self.vocab = vocab
        self.media = media
        self.facts = facts
        source = facts.chat_template or CHATML
        self.family: Family = detect(source)
        self.template_error: BadTemplate | None = None
        self.template = self._compile(source)
        quirks = probe(self.template, short_ids=self.family.short_ids)
        # Tools shown in a way whose answers no reader here understands are better described by us.
        self.quirks = replace(quirks, tools=quirks.tools and self.family.tools != "generic")
        self.compiler = Compiler(vocab)

    @classmethod
    def of(cls, model: Any, facts: ModelFacts) -> ModelText:
        """From a llama_cpp model pointer, which stays the caller's and must outlive this."""
        return cls(Vocab(model), facts)

    def special(self, marker: str) -> int | None:
        """The token that is `marker`, if grammars must name it as a token and not as text."""
        token = self.vocab.single(marker)
        is_special = token is not None and self.compiler.tokenizer().is_special_token(token)
        return token if is_special else None

    def _compile(self, source: str) -> Template:
        bos, eos = self.vocab.text(self.vocab.bos), self.vocab.text(self.vocab.eos)
        try:
            return Template(source, bos=bos, eos=eos)
        except BadTemplate as error:
            self.template_error = error
            return Template(CHATML, bos=bos, eos=eos)
