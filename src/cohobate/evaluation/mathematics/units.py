"""Units of measurement and of money: which of them measure the same thing, and by which exact factor they differ."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

# dimension: {factor to the dimension's first unit: names}. An exponent or a division makes a dimension of its own.
_UNITS: dict[str, dict[str, str]] = {
    "length": {
        "1": "m metre meter",
        "1/1000": "mm millimetre millimeter",
        "1/100": "cm centimetre centimeter",
        "1/10": "dm decimetre decimeter",
        "1000": "km kilometre kilometer",
        "1/1000000": "µm μm um micrometre micrometer micron",
        "1/1000000000": "nm nanometre nanometer",
        "127/5000": "in inch inches",
        "381/1250": "ft foot feet",
        "1143/1250": "yd yard",
        "201168/125": "mi mile",
    },
    "time": {
        "1": "s sec second",
        "1/1000": "ms millisecond",
        "60": "min minute",
        "3600": "h hr hrs hour",
        "86400": "day",
        "604800": "wk week",
    },
    "months": {"1": "month", "12": "yr year", "120": "decade", "1200": "century centuries"},
    "mass": {
        "1": "kg kilogram kilogramme",
        "1/1000": "g gram gramme",
        "1/1000000": "mg milligram",
        "1000": "tonne",
        "45359237/100000000": "lb lbs pound",
        "45359237/1600000000": "oz ounce",
    },
    "volume": {
        "1": "l litre liter",
        "1/1000": "ml millilitre milliliter cc",
        "1/100": "cl centilitre centiliter",
        "1/10": "dl decilitre deciliter",
        "473176473/125000000": "gallon gal",
        "473176473/500000000": "quart",
        "473176473/1000000000": "pint",
    },
    "temperature C": {"1": "°c celsius"},
    "temperature F": {"1": "°f fahrenheit"},
    "temperature K": {"1": "k kelvin"},
    "angle": {"1": "° degree deg"},
    "radian": {"1": "rad radian"},
    "energy": {"1": "j joule", "1000": "kj kilojoule", "1000000": "mj megajoule", "3600000": "kwh"},
    "calories": {"1": "cal calorie", "1000": "kcal kilocalorie"},
    "power": {"1": "w watt", "1000": "kw kilowatt", "1000000": "megawatt"},
    "force": {"1": "n newton", "1000": "kn kilonewton"},
    "pressure": {"1": "pa pascal", "1000": "kpa", "100000": "bar", "101325": "atm"},
    "frequency": {"1": "hz hertz", "1000": "khz", "1000000": "mhz", "1000000000": "ghz"},
    "voltage": {"1": "v volt", "1/1000": "mv millivolt", "1000": "kv"},
    "current": {"1": "a amp ampere", "1/1000": "ma milliampere"},
    "resistance": {"1": "ω ohm", "1000": "kω"},
    "data": {"1": "byte", "1/8": "bit"},
    "amount": {"1": "mol mole", "1/1000": "mmol"},
    "USD": {"1": "$ usd dollar us$", "1/100": "¢ cent c"},
    "EUR": {"1": "€ eur euro"},
    "GBP": {"1": "£ gbp", "1/100": "pence penny p"},
    "JPY": {"1": "yen jpy"},
    "CNY": {"1": "yuan rmb cny"},
    "INR": {"1": "₹ rupee inr rs"},
    "percent": {"1": "% percent percentage pct"},
}
# Short names that are read as written, since another case is another unit; other single letters are algebra.
_CASED = {"m": "m", "s": "s", "h": "h", "g": "g", "l": "l", "L": "l", "J": "j", "N": "n", "W": "w", "V": "v", "A": "a",
          "K": "k", "Ω": "ω", "MJ": "mj", "mV": "mv", "mA": "ma", "MW": "megawatt", "Pa": "pa", "Hz": "hz"}  # fmt: skip
MULTIPLES = {
    "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12, "k": 10**3,
}  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """name: one spelling of all its forms. dimension: None for a unit that no table knows, such as apples."""

    name: str
    dimension: str | None = None
    factor: Fraction = Fraction(1)


def _table() -> dict[str, Unit]:
    return {
        name: Unit(name, dimension, Fraction(factor))
        for dimension, factors in _UNITS.items()
        for factor, names in factors.items()
        for name in names.split()
    }


_KNOWN = _table()
_POWER = re.compile(r"\^?\{?(-?[1-4])\}?$")
_SQUARE = {"sq": 2, "square": 2, "squared": 2, "cubic": 3, "cubed": 3}


def unit(words: str) -> Unit:
    """The unit that `words` name, such as `cm^2`, `square metres`, `km/h`, `dollars`, `red apples`."""
    text = re.sub(r"\s+per\s+", "/", words.strip())
    parts = [part.strip() for part in text.split("/")]
    factors = [_factor(part) for part in parts]
    if all(factors) and len(parts) <= 3:
        units = [each for each in factors if each]
        factor = units[0].factor
        for other in units[1:]:
            factor /= other.factor
        return Unit("/".join(each.name for each in units), "/".join(each.dimension or "" for each in units), factor)
    return Unit(" ".join(_singular(word) for word in text.lower().split()))


def _factor(text: str) -> Unit | None:
    """A known unit, maybe raised to a power; None for others."""
    words = text.split()
    power = 1
    if len(words) == 2 and words[0].lower() in _SQUARE:
        power, words = _SQUARE[words[0].lower()], words[1:]
    elif len(words) == 2 and words[1].lower() in _SQUARE:
        power, words = _SQUARE[words[1].lower()], words[:1]
    if len(words) != 1:
        return None
    name = words[0]
    if (match := _POWER.search(name)) and name != match[0]:
        power, name = power * int(match[1]), name[: match.start()]
    named = _lookup(name)
    if named is None or power == 1:
        return named
    return Unit(f"{named.name}^{power}", f"{named.dimension}^{power}", named.factor**power)


def _lookup(name: str) -> Unit | None:
    if len(name) <= 2 and name in _CASED:
        return _KNOWN[_CASED[name]]
    lower = name.lower()
    if len(name) == 1 and name.isalpha() and name not in "Ωω":
        return None
    if lower in _KNOWN:
        return _KNOWN[lower]
    return _KNOWN.get(_singular(lower))


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 2 else word


def conversions(measured: Unit) -> Iterable[Fraction]:
    """Factors to other units of the same dimension."""
    for factor in _UNITS.get(measured.dimension or "", {}):
        if Fraction(factor) != measured.factor:
            yield measured.factor / Fraction(factor)


# Words behind a number that change it: hundredths, lakh, Millionen, 万, ‰. (million and dozen are read.)
_SCALES = re.compile(
    r"(?:half|halves|third|fourth|quarter|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|sixteenth|twentieth|"
    r"(?:hundred|thousand|million|billion)th|pair|couple|score|gross|percentile|ppm|ppb|ppt|"
    r"bn|mn|tn|mio|mrd|tsd|lakh|lac|crore|hundert|tausend|millionen|milliarden?|mille|milliers?|milliards?|mil|"
    r"millones|millón|milhões|milhão|bilhões|miljoen|miljard|milioni|miliardi|tysięcy|tysiące|tysiąc|milionów|miliardów|"
    r"тысяч[аи]?|тыс|миллион(?:ов|а)?|млн|миллиард(?:ов|а)?|млрд|ribu|juta|miliar|nghìn|ngàn|triệu|tỷ|bin|milyon|milyar|"
    r"ألف|آلاف|مليون|हज़ार|हजार|लाख|करोड़|prozent|prozente|pourcents?|procent|procenty?|процент(?:ов|а)?|yüzde|persen|"
    r"phần)s?",
    re.IGNORECASE,
)
_SCALING_CHARACTERS = re.compile("[十百千万亿兆億萬割십백천만억조‰]")


def scales(words: str) -> bool:
    """Whether what stands behind a number changes it rather than names its unit."""
    first = re.match(r"\W*([^\W\d_]*)", words)
    return bool(_SCALING_CHARACTERS.search(words) or (first and _SCALES.fullmatch(first[1])))
