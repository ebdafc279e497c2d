"""Stationcast's factory: station data in; trained, verified, quantized and bundled models out.

Imports `edge_agent` for the contracts; `edge_agent` must never import it.
"""
