"""Why a JSON file cannot be used, in a few words: what Python says may contain the whole file, or names of types."""

import json

UNUSABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What comes up where a file is not JSON, or not what it should be."""
LIMIT = 60
"""Most characters of a value that a message shows."""


def reason(error: Exception) -> str:
    """Put one of `UNUSABLE` in words."""
    match error:
        case UnicodeDecodeError():
            return f"no text, from byte {error.start} on"
        case json.JSONDecodeError():
            return f"no JSON, from line {error.lineno}, column {error.colno} on"
        case KeyError() if error.args:
            return f"{shown(error.args[0])} is missing"
        case RecursionError():
            return "nested too deeply"
        case _:
            return "a value is not of the kind that belongs there"


def shown(value: object) -> str:
    """Return a value as Python writes it, cut to `LIMIT` characters."""
    return cut(repr(value))


def cut(text: str, limit: int = LIMIT) -> str:
    """Return a text, cut to that many characters."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
