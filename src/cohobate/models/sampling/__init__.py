"""The local sampler and its parts: the choice of a token, the passes through the model, the key-value cache."""
