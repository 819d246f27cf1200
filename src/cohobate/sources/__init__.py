"""Questions from anywhere: rows of files and datasets, passages of documents. One file a kind of source.

A source gives rows (dicts) in order, a batch at a time; `mapping` makes questions of them, `table` collects and checks
those. A flaw of the source is one sentence that names the file, the line or row, and the remedy.
"""
