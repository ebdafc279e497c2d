"""A GPS receiver on an NMEA line: the time it tells."""

from __future__ import annotations

import pytest

from edge_agent.errors import BadMessage
from tests.sensors.test_nmea import FIX, MDA, checked, decoder, refusal, sensor

NO_FIX = "GPRMC,221320.00,V,,,,,,,141123,,,N"


def test_the_time_of_a_gps_is_a_hint_for_the_clock_and_no_reading(make_desk):
    desk = make_desk(sensor())
    desk.intake.message(checked(FIX))
    desk.clock.advance(60)
    health = desk.intake.health("reading", "", 0)
    assert health.device_clock == (1_700_000_000.0, 0.0)
    assert not desk.readings and (health.accepted, health.rejected) == (0, {})
    desk.intake.message(checked("GPZDA,221420.00,14,11,2023,00,00"))
    assert desk.intake.health("reading", "", 0).device_clock == (1_700_000_060.0, 60.0)
    desk.intake.message(MDA.encode())
    assert desk.readings[0].t is None  # stamped on arrival, as ever


def test_a_gps_without_a_fix_says_no_time():
    receiver = decoder()
    for body in (NO_FIX, FIX.replace(",,,A", ",,,E"), "GPZDA,221420.00,14,11,2023,00,00"):
        with pytest.raises(BadMessage, match="not-valid"):
            receiver.decode(checked(body))
    (reading,) = receiver.decode(checked(FIX))
    assert reading.device_clock == 1_700_000_000.0


@pytest.mark.parametrize(
    "body",
    [
        FIX.replace("141123", "321323"),
        FIX.replace("141123", ""),
        FIX.replace("221320.00", "noon"),
        FIX.replace("141123", "140199"),
        "GPZDA,221420.00,14,11,,00,00",
        "GPZDA,221420.00,14,11,abcd,00,00",
        "GPZDA,221420.00,14,11," + "9" * 40 + ",00,00",
        "GPZDA,,,,,,",
    ],
)
def test_a_time_that_is_none_is_refused(body):
    assert refusal(body) == "bad-time"
