"""The teacher's log-probabilities of given tokens: by a model in this process or by a server."""
