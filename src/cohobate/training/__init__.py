"""Training: the loop, the sources of its batches, objectives, the teacher's scores, and the log of rollouts."""
