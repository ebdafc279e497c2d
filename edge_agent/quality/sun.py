"""Where the sun stands, well enough to tell day from night: within 0.1 degree for 1950-2050."""

from __future__ import annotations

from math import asin, atan2, cos, degrees, radians, sin

_J2000 = 946_728_000  # UTC seconds of 2000-01-01 12:00


def sun_elevation(t: float, latitude: float, longitude: float) -> float:
    """Elevation of the sun's centre above the horizon, degrees, without refraction.

    Low-precision solar coordinates: mean longitude and anomaly linear in time, the equation of the centre to second
    order, sidereal time linear in time. Checked in the tests against an SPA implementation. Worked: 2003-10-17
    19:30:30 UTC at 39.742 N, 105.179 W -> 39.87.

    Args:
        t: UTC seconds since 1970.
        latitude, longitude: degrees, north and east positive.
    """
    days = (t - _J2000) / 86_400
    anomaly = radians((357.528 + 0.9856003 * days) % 360)
    along = radians((280.460 + 0.9856474 * days + 1.915 * sin(anomaly) + 0.020 * sin(2 * anomaly)) % 360)
    tilt = radians(23.439 - 4e-7 * days)
    declination = asin(sin(tilt) * sin(along))
    right_ascension = atan2(cos(tilt) * sin(along), cos(along))
    hour_angle = radians((15 * (18.697374558 + 24.06570982441908 * days) + longitude) % 360) - right_ascension
    phi = radians(latitude)
    return degrees(asin(sin(phi) * sin(declination) + cos(phi) * cos(declination) * cos(hour_angle)))
