"""Questions from anywhere: rows of files and datasets, passages of documents, the embedded world.

Sources of rows give dicts in order, a batch at a time; `mapping` makes a `Question` of each, `table` collects and
checks them. A flaw of the source is one sentence that names the file, the line or row, and the remedy. A new file
format is added in `readers`, a new kind of source in `read`.
"""
