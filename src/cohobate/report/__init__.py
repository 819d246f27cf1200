"""The report: what a run made and what it cost, as one HTML page, as Markdown, and as JSON."""
