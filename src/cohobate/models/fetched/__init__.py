"""Real models from packages of the package registry, as Hugging Face folders below the data root."""
