"""Mathematics in answers: read wholly, or not at all, and compared exactly."""
