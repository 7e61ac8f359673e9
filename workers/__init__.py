"""What depends on the model or the hardware."""
