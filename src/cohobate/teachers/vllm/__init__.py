"""A teacher in a vLLM engine, and the vLLM server."""
