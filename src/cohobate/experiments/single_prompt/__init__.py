"""On-policy distillation on one prompt, against many prompts and against SFT on its answers."""
