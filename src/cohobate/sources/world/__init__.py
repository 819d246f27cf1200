"""The embedded world: a small, verifiable distillation problem that ships with cohobate.

Arithmetic questions (expressions and short stories) solved step by step in two styles, instructions about the
answer's form, everyday chat requests, and the handbook of an invented company that no shipped model has read.
"""
