"""Stationcast's factory: station data in; trained, verified, quantized and bundled models out."""
