"""The command line: `cohobate`."""
