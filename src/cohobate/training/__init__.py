"""Training: the one loop, where its batches come from, and what it leaves behind."""
