"""Studies on top of the stages: each with its plan, its stages and its page."""
