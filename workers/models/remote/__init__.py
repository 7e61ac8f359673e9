"""Where models come from and go to: OCI registries, the Hugging Face Hub, files, URLs."""
