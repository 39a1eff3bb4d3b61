"""The pages on configuration and logs say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from kvshim.config.tables import BY_NAME
from kvshim.logs import Event
from tests.config.reference import PAGE, rendered

LOGS = Path(__file__).parents[2] / "docs" / "logs.md"


def test_the_tables_of_flags_are_up_to_date():
    page = PAGE.read_text(encoding="utf-8")
    assert rendered(page) == page, "run: python -m tests.config.reference"


def test_every_flag_is_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    missing = [name for name in BY_NAME if f"`--{name}`" not in page]
    assert missing == []


def test_the_page_on_logs_lists_exactly_the_named_lines():
    found = re.findall(r"^\| `([^`]+)` \| (\w+) \|", LOGS.read_text(encoding="utf-8"), re.M)
    rows = [(text, level) for text, level in found if text != "msg"]
    listed = [text for text, _ in rows]
    assert sorted(listed) == sorted(event.value for event in Event)
    assert {level for _, level in rows} <= {"debug", "info", "warn", "error"}
