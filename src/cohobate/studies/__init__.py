"""Several students under the same conditions: which there are, what they came to, and at what cost."""
