"""Images and sounds: what may be read, and what a model's projector makes of them."""
