"""What each device class can carry. The same numbers stand in firmware_configs/devices/*.toml, where their reasons are;
a test holds the two equal."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.bundle.manifest import Device


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """A bundle for this device has a model of at most `model_bytes`, and states (where it states them) a peak memory of
    the whole agent of at most `peak_rss_mb` and a 95th percentile of one inference of at most `p95_ms`."""

    model_bytes: int
    peak_rss_mb: float
    p95_ms: float


DEVICES: dict[Device, DeviceLimits] = {
    "raspberry_pi_4": DeviceLimits(50_000_000, 300.0, 200.0),
    "jetson_nano": DeviceLimits(100_000_000, 600.0, 150.0),
    "mobile": DeviceLimits(75_000_000, 200.0, 300.0),
    "browser": DeviceLimits(4_000_000, 200.0, 500.0),
}
