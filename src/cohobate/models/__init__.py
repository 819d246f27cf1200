"""A language model in this process: load it, render its prompts, batch, sample, score."""
