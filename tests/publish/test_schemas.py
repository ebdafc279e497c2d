"""The JSON Schemas: generated, shipped, and as strict as the check at run time."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from edge_agent.errors import DataError
from edge_agent.publish.payloads import Latest, forecast_payload, observation_payload, to_json
from edge_agent.publish.schemas import MAX_BYTES, generate, load_schema, validate
from edge_agent.publish.topics import KINDS, kind_of, topic
from tests.publish.samples import forecast, judged
from tests.publish.test_payloads import forecasts, judgements


def latest() -> bytes:
    last = Latest()
    last.add(judged().observation.t, observation_payload(judged(), False))
    payload = last.payload()
    assert payload is not None
    return to_json(payload)


SAMPLES = {
    "obs": to_json(observation_payload(judged(), False)),
    "obs/history": to_json(observation_payload(judged(), True)),
    "obs/last": latest(),
    "forecast/nowcast": to_json(forecast_payload(forecast(rain="never read"), 3600)),
}


def conforms(kind: str, data: bytes) -> bool:
    try:
        Draft202012Validator(load_schema(kind)).validate(json.loads(data))
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_the_shipped_schema_is_what_the_structs_say(kind):
    assert load_schema(kind) == generate(kind), "run: python -m edge_agent.publish.schemas"


@pytest.mark.parametrize("kind", KINDS)
def test_every_schema_is_a_schema_with_its_version_and_identity(kind):
    schema = load_schema(kind)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"].endswith("2020-12/schema") and schema["$id"]


@given(judgements())
def test_observations_conform(item):
    assert conforms("obs", to_json(observation_payload(item, False)))
    assert conforms("obs/history", to_json(observation_payload(item, True)))


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(forecasts())
def test_forecasts_conform(item):
    assert conforms("forecast/nowcast", to_json(forecast_payload(item, 60)))


def mutations(document: object, path: tuple = ()) -> list[tuple[tuple, object]]:
    """Every place of a document with something in it that cannot be right there."""
    found: list[tuple[tuple, object]] = []
    if isinstance(document, dict):
        found.append(((*path, "Surprise!"), 1))
        for key, value in document.items():
            found += [((*path, key), {"nested": {}}), *mutations(value, (*path, key))]
    elif isinstance(document, list):
        for i, value in enumerate(document[:2]):
            found += mutations(value, (*path, i))
    return found


@pytest.mark.parametrize("kind", SAMPLES)
@given(data=st.data())
def test_what_is_wrong_is_refused_by_schema_and_run_time_check_alike(kind, data):
    path, wrong = data.draw(st.sampled_from(mutations(json.loads(SAMPLES[kind]))))
    document = json.loads(SAMPLES[kind])
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = wrong
    broken = json.dumps(document).encode()
    assert not conforms(kind, broken)
    with pytest.raises(DataError):
        validate(kind, broken)


@given(st.binary(max_size=200))
def test_noise_is_an_error_and_never_a_crash(noise):
    for kind in KINDS:
        with pytest.raises(DataError):
            validate(kind, noise + b"\x00")


@pytest.mark.parametrize(
    ("kind", "find", "put"),
    [
        ("obs", b'"historical":false', b'"historical":true'),
        ("obs", b"2024-05-01T12:00:00Z", b"2024-05-01 12:00:00"),
        ("obs", b"b00t:mast:1", b"no-sequence"),
        ("forecast/nowcast", b'"level":"none","mean":null', b'"level":"none","mean":[1]'),
        ("forecast/nowcast", b'"p":[0.0', b'"p":[-0.1'),
    ],
)
def test_bounds_are_in_the_schema_too(kind, find, put):
    assert find in SAMPLES[kind]
    broken = SAMPLES[kind].replace(find, put, 1)
    assert conforms(kind, SAMPLES[kind]) and not conforms(kind, broken)
    with pytest.raises(DataError):
        validate(kind, broken)


@pytest.mark.parametrize(
    ("find", "put", "words"),
    [
        (b'"expires":"2024-05-01T13', b'"expires":"2024-05-01T11', "expires"),
        (b'"quantiles":[0.05,', b'"quantiles":[0.15,', "ascend"),
        (b'"quantiles":[0.05,', b'"quantiles":[', "steps of"),
        (b'"p":[0.0,', b'"p":[', "differ in length"),
        (b'"q":[[-30.0,', b'"q":[[90.0,', "cross"),
    ],
)
def test_parts_that_contradict_each_other_are_refused_with_the_place(find, put, words):
    data = SAMPLES["forecast/nowcast"]
    assert find in data
    with pytest.raises(DataError, match=words):
        validate("forecast/nowcast", data.replace(find, put, 1))


def test_availability_is_one_of_three_words():
    assert [validate("availability", w) for w in (b"online", b"stopped", b"offline")] == [
        "online",
        "stopped",
        "offline",
    ]
    with pytest.raises(DataError):
        validate("availability", b"ONLINE")


def test_a_flood_is_refused_unread():
    with pytest.raises(DataError, match="at most"):
        validate("obs", b" " * (MAX_BYTES + 1))


def test_an_unknown_kind_is_named_with_the_known_ones():
    with pytest.raises(DataError, match="forecast/nowcast"):
        load_schema("forecast/weekly")


@pytest.mark.parametrize("kind", KINDS)
def test_a_topic_leads_back_to_its_kind(kind):
    assert kind_of(topic("roof", kind)) == kind


@given(st.text(max_size=60))
def test_foreign_topics_have_no_kind(text):
    assert kind_of(f"other/{text}") is None
