"""Tool calls in a model's text: formats as data, readers, and grammars that force a call."""
