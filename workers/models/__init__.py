"""Models: what their files say, their vocabularies, where they come from."""
