"""The HTTP side: dialects in, jobs out, streams back. No model, no state of its own."""
