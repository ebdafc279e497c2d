"""docs/drivers.md names every driver and every reason under which something is counted."""

from __future__ import annotations

import re
from pathlib import Path

from edge_agent import sensors

PAGE = Path(__file__).parents[2] / "docs" / "drivers.md"
CALLS = r'(?:BadMessage|refuse|Refusal|count)\(\s*"([a-z-]+)"'
NOTES = r'"([a-z]+-total)"'


def test_the_page_names_every_driver_and_every_reason():
    page = PAGE.read_text()
    code = "".join(path.read_text() for path in Path(sensors.__file__).parent.glob("*.py"))
    reasons = {*re.findall(CALLS, code), *re.findall(NOTES, code)}
    assert len(reasons) > 20
    named = set(re.findall(r"`([a-z_0-9-]+)`", page))
    assert reasons | set(sensors.DRIVERS) <= named
    tables = page[page.index("## What is counted") :]
    assert set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", tables)) <= reasons  # and none that is gone
