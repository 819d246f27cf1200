"""The rows of a dataset page as tests read them, and texts that a page must not obey."""

import base64
import gzip
import json
from collections.abc import Iterator
from typing import Any

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>&lt;&amp;",
    "]]><!-- -->{{ 7 * 7 }}{% raw %}",
    "a\x00null \x1b[31m\u202eright to left\u202c \u2028 \ud7ff\ufffe 👩‍💻",
    "مرحبا بالعالم, שלום, 日本語",
    "\\u003c/script\\u003e ${alert(1)} `+alert(1)+`",
]


def unpacked(packed: list[str], known: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    """The rows of a page, by another road than the page's own."""
    for text in packed:
        block = json.loads(gzip.decompress(base64.b64decode(text, validate=True)))
        for at, place in enumerate(block["q"]):
            row = dict(zip(("question_id", "question", "gold", "pass_rate"), block["questions"][place], strict=True))
            before, rationale, after = (block[name][at] for name in ("before", "rationale", "after"))
            row |= {"rationale": rationale, "response": after if before is None else before + rationale + after}
            row |= {"answer": block["answer"][at], "sample_id": block["id"][at]}
            codes = {name: block[name][at] for name in known}
            yield row | {name: None if code is None else known[name][code] for name, code in codes.items()}
