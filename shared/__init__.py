"""What api and workers must agree on: messages, events, keys, scripts, codec. Nothing else."""
