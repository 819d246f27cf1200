"""JSON values, as text, that no parser expects."""

# What no `json.dumps` writes: deeper than any stack, longer than any number, twice the same name.
ODD_VALUES = [
    *("[" * depth + "]" * depth for depth in (50, 900, 5_000, 200_000)),
    *('{"text":' * depth + "1" + "}" * depth for depth in (50, 900, 5_000, 100_000)),
    *('{"content":[' * depth + '"deep"' + "]}" * depth for depth in (3, 400, 2_000)),
    *("9" * digits for digits in (10, 400, 4_301, 100_000)),
    *("1e400", "-1e400", "NaN", "-Infinity", "1e-400", "-0", "0.5", "1" + "0" * 300 + ".0"),
    *('{"a": 1, "a": 2}', '"\\ud800"', '"\\u0000"', '{"\\udc00": 1}', '"' + "x" * 100_000 + '"'),
]
