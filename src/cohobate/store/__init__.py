"""The artifact store: fingerprints, manifests, runs, the promotion pointer, the compute ledger."""
