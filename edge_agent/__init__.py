"""Stationcast's light runtime: reads sensors, checks them, forecasts on the spot and publishes over MQTT.

Never imports torch, pandas, xarray, scipy or `model_factory`.
"""

__version__ = "0.1.0"
