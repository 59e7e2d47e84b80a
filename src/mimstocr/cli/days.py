"""Days and times on the command line."""

from __future__ import annotations

from datetime import UTC, date, datetime

from mimstocr.errors import ConfigError


def read_day(text: str, option: str) -> date:
    """A date, or a datetime where a time of day is given, brought to UTC from its zone. Raises ConfigError."""
    try:
        if len(text.strip()) <= len("2020-01-31"):
            return date.fromisoformat(text.strip())
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(
            f"{option}: expected YYYY-MM-DD, or YYYY-MM-DDTHH:MM for a bar within the day, got {text!r}"
        ) from None
    return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
