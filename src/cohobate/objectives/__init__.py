"""Training objectives, one short file each, all of one shape: see `base`."""
