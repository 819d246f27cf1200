"""The maker of the shipped models: `python -m cohobate.experiments.world.make`."""
