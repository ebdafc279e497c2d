"""docs/mqtt.md shows what is really published."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from edge_agent.publish.schemas import load_schema, validate
from edge_agent.publish.topics import KINDS, TEXT

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "mqtt.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_of_each_kind_is_valid(kind):
    (section,) = re.findall(rf"^## `{re.escape(kind)}`$(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    (example,) = re.findall(r"^```(?:json|text)\n(.*?)^```$", section, re.M | re.S)
    document = example.strip() if KINDS[kind].content_type == TEXT else json.loads(example)
    Draft202012Validator(load_schema(kind)).validate(document)
    validate(kind, example.strip().encode())


def test_the_table_says_how_each_kind_travels():
    rows = re.findall(r"^\| `([a-z/]+)` \| (yes|no) \| (yes|no) \|", PAGE, re.M)
    assert rows == [(k.name, "yes" if k.retained else "no", "yes" if k.expires else "no") for k in KINDS.values()]
