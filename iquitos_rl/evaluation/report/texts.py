"""The words of a report, and its numbers as its language writes them.

Every word is in ``texts_en.yaml`` and ``texts_es.yaml``, under the same keys. Numbers have a decimal point
and commas between thousands in both: Spanish here is that of Peru, where (as in CLDR's es-PE) it is 1,234.5,
not 1.234,5. SI keeps a space before the per cent sign.
"""

from __future__ import annotations

import math
from datetime import date, timedelta
from functools import cache
from importlib.resources import files

import yaml

__all__ = ["LANGUAGES", "Texts", "load_texts"]

LANGUAGES = ("en", "es")
NOTHING = "–"  # noqa: RUF001, an en dash is meant
MINUS = "\u2212"
NO_BREAK = "\u00a0"
PER_CENT = f"{NO_BREAK}%"
NAMED = ("no_control", "best_rule", "oracle")
ACRONYMS = ("a2c", "ppo", "sac", "mpc")


class Texts:
    """The words of one language.

    Args:
        lang: code of the language.
        words: text of each key, with fields for `str.format`.
    """

    def __init__(self, lang: str, words: dict[str, str]) -> None:
        self.lang = lang
        self.words = words
        self.months = words["months"].split()
        self.short_months = words["months.short"].split()

    def __call__(self, key: str, **fields: object) -> str:
        """The text of a key. Raises KeyError for a key that is not there."""
        return self.words[key].format(**fields) if fields else self.words[key]

    def number(self, value: float | None, digits: int = 0, sign: bool = False) -> str:
        """A number with thousands separated; a dash for None and for what is not finite."""
        if value is None or not math.isfinite(value):
            return NOTHING
        rounded = round(value, digits) + 0.0  # + 0.0: never "-0"
        return f"{rounded:{'+' if sign and rounded else ''},.{digits}f}".replace("-", MINUS)

    def percent(self, share: float | None, digits: int = 0, sign: bool = False) -> str:
        """A share 0-1 as per cent."""
        text = self.number(None if share is None else 100 * share, digits, sign)
        return text if text == NOTHING else text + PER_CENT

    def day(self, day_of_year: int) -> str:
        """The date of a day of a year of 365 days, 0 being the first of January."""
        at = date(2001, 1, 1) + timedelta(days=day_of_year % 365)  # 2001: any year without a 29 February
        return self("date", day=at.day, month=self.months[at.month - 1])

    def duration(self, seconds: float | None) -> str:
        """Seconds, minutes or hours, whichever reads best."""
        if seconds is None:
            return NOTHING
        for size, unit, digits in ((3600.0, "h", 1), (60.0, "min", 0)):
            if seconds >= size:
                return f"{self.number(seconds / size, digits)}{NO_BREAK}{unit}"
        return f"{self.number(seconds)}{NO_BREAK}s"

    def controller(self, name: str) -> str:
        """What the text calls a controller; its own name unless it is a common one."""
        if name in NAMED:
            return self(f"controller.{name}")
        return name.upper() if name in ACRONYMS else name

    def subject(self, name: str) -> str:
        """A controller at the start of a sentence."""
        return self(f"subject.{name}") if name in NAMED else self.controller(name)


@cache
def load_texts(lang: str) -> Texts:
    """The texts of a language.

    Raises:
        ValueError: a language that reports are not written in.
    """
    if lang not in LANGUAGES:
        raise ValueError(f"lang {lang!r}: reports are written in {' or '.join(LANGUAGES)}")
    source = files(__package__).joinpath(f"texts_{lang}.yaml").read_text(encoding="utf-8")
    return Texts(lang, yaml.safe_load(source))
