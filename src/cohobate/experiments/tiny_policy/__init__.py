"""The classic tiny policy: a bag of words that chooses one of a few fixed answers, reinforced by a judge."""
