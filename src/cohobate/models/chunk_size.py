"""The number of logits that exist at a time; in a module of its own, since `estimate` must not load torch for it."""

# Elements of float32: 48 MB, and as much again for each tensor made of them. No smaller for a large vocabulary: glibc
# takes blocks below 32 MB from the heap, which fragments and grows with every chunk.
CHUNK_ELEMENTS = 12_000_000
