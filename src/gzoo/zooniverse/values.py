"""Values of JSON text that may contain anything."""

from __future__ import annotations

import json
from typing import cast


def parsed(text: str) -> tuple[object, str]:
    """Return the value of JSON text, and why it is not valid, or "".

    >>> parsed("[1]"), parsed("")
    (([1], ''), (None, 'Expecting value: line 1 column 1 (char 0)'))
    """
    try:
        return json.loads(text), ""
    except (ValueError, RecursionError) as error:
        return None, str(error)[:120]


def record(value: object) -> dict[str, object]:
    """Return a JSON object; an empty one in place of any other value."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def listed(value: object) -> list[object]:
    """Return a JSON list; an empty one in place of any other value."""
    return cast("list[object]", value) if isinstance(value, list) else []
