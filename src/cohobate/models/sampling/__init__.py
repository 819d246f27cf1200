"""The parts of the local sampler: how a token is chosen, and the cache that rows enter and leave."""
