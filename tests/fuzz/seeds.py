"""Inputs that a target knows, to start from. Made for these tests, from the protocols' own descriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

SEEDS: Mapping[str, Sequence[bytes]] = {
    "driver-json_lines": [b'\x10{"t": 71.2, "a": [{"h": 60}], "rain": 0.04, "w": 12}\n{"t": nan}\n'],
    "driver-mqtt_json": [b'\x10{"t": 71.2, "a": [{"h": "60"}], "rain": 0.04, "w": null}\0[]\0{"t": 1e999}'],
    "driver-csv_lines": [b"\x0821.5,60,0.2\r\n21.6,61,0.4\r\n# a comment\r\n21.6;61\r\n"],
    "driver-nmea": [
        b"\x20$WIMWV,39,R,1.3,M,A*06\r\n$WIMWV,61,R,1.0,M,A*08\r\n",
        b"\x20$WIMDA,30.2269,I,1.0236,B,17.7,C,,,43.3,,5.0,C,131.5,T,128.6,M,0.8,N,0.4,M*54\r\n",
    ],
    "driver-vaisala_wxt": [
        b"\x200R0,Dm=032D,Sm=0.2M,Ta=17.7C,Ua=43.3P,Pa=1023.6H,Rc=0.20M,Vs=12.1V\r\n0R0,Dn=0m=032D\r\n"
    ],
    "driver-ultimeter": [b"\x10!!000000BE02EB000027700000023A023A0025005800000000\r\n!!----\r\n"],
    "driver-sds011": [b"\x08" + bytes.fromhex("AAC0640078000102DFAB")],
    "driver-pms5003": [b"\x08" + bytes.fromhex("424D001C0001000200030001000200030064003200100005000200019700025C")],
    "driver-davis_vantage": [b"\x20LOO" + bytes(96), b"\x20\n\rOK\n\r\x06LOO\x14\x00" + bytes(range(94))],
    "driver-modbus": [b"\x20" + bytes.fromhex("010306001400FA010E9D1E")],
    "driver-ecowitt": [b"\x20tempf=71.2&humidity=60&baromabsin=29.9&dateutc=2024-05-01+12:00:00&yearlyrainin=3.2"],
    "driver-ambient": [b"\x20tempf=71.2&humidity=60&baromabsin=29.9&dateutc=2024-05-01+12:00:00&totalrainin=3.2"],
    "driver-wunderground": [b"\x20ID=x&PASSWORD=y&dateutc=now&tempf=71.2&baromin=29.9&windspeedmph=-9999"],
    "driver-tempest": [
        b'\x20{"serial_number":"ST-1","type":"obs_st","obs":[[1700000000,0.2,0.5,1.1,144,6,1012.5,22.4,50.2,328,0.03,3,'
        b"0.2,0,0,0,2.41,1]]}"
    ],
    "driver-weatherlink_live": [
        b'\x20{"data":{"did":"1","ts":1700000000,"conditions":[{"data_structure_type":1,"temp":62.7}]}}'
    ],
    "driver-rtl_433": [
        b'\x20{"time":"1700000000.5","model":"Fineoffset-WH24","id":1,"temperature_C":20.5,"rain_mm":3.3,"battery_ok":1}'
    ],
    "driver-weewx": [
        b'\x20{"dateTime":"1700000000","usUnits":"1","outTemp_F":"71.2","rain_in":"0.01","barometer_inHg":"29.9"}'
    ],
    "driver-tasmota": [
        b'\x20{"Time":"2024-05-01T12:00:00","BME280":{"Temperature":20.1,"Pressure":1003.1},"TempUnit":"C"}'
    ],
    "driver-esphome": [b"\x2021.5"],
    "driver-zigbee2mqtt": [b'\x20{"temperature":20.1,"humidity":60,"pressure":1003,"battery":97,"linkquality":80}'],
    "neighbour": [
        b'{"id":"b:roof:7","t":"2023-11-14T22:10:00Z","period_s":60,"clock":"synced","historical":false,'
        b'"v":{"temperature":21.5},"qc":{"temperature":{"flag":1}},"src":"roof",'
        b'"at":{"temperature":"2023-11-14T22:10:00Z"}}'
    ],
    "history": [
        b"time,temperature,rain\n2024-05-01T00:00:00Z,20,0\n1714521900,20.1,0.2\n",
        b"\xef\xbb\xbftime;temperature\r\n",
    ],
    "guidance-file": [
        b"issued,valid_time,temperature,temperature__spread,rain\n2024-05-01T00:00:00Z,2024-05-01T06:00:00Z,20,1.5,0.2\n",
        b"station,latitude,longitude,elevation,issued,valid_time,pressure\na,47,8,400,1714521600,1714525200,965\n",
    ],
    "guidance-open-meteo": [
        b'{"latitude":47.4,"longitude":8.5,"elevation":600.0,"utc_offset_seconds":0,"hourly_units":{"time":"unixtime",'
        b'"temperature_2m":"\xc2\xb0C","wind_speed_10m":"km/h"},"hourly":{"time":[1700000000,1700003600],'
        b'"temperature_2m":[1.5,null],"wind_speed_10m":[3,4]}}',
        b'{"error":true,"reason":"Hourly API request limit exceeded."}',
    ],
    "guidance-openweathermap": [
        b'{"cod":"200","list":[{"dt":1700000000,"main":{"temp":281.2,"humidity":80,"grnd_level":960},'
        b'"wind":{"speed":3,"deg":200},"rain":{"3h":0.4}}]}',
        b'{"hourly":[{"dt":1700000000,"temp":8.1,"pressure":1012,"humidity":70,"rain":{"1h":0.2}}]}',
    ],
    "guidance-background": [
        b'{"model":"m","run":"2023-11-14T18:00:00Z","issued":"2023-11-14T21:00:00Z","latitude":47.4,"longitude":8.5,'
        b'"valid_time":["2023-11-14T23:00:00Z"],"variables":{"temperature":{"unit":"degC","values":[3.5]}}}'
    ],
    "agent-toml": [b'[station]\nid = "abc"\nlatitude = 1\nlongitude = 2\nelevation_m = 3\n[store]\npath = "s"\n'],
}


def seeds_of(name: str) -> list[bytes]:
    """What a target starts from, an empty input among them."""
    found = [b"", *SEEDS.get(name, ())]
    if name in ("bundle", "onnx"):
        found.append(_small_bundle(name))
    return found


def _small_bundle(name: str) -> bytes:
    import tempfile

    from tests.tiny_bundle import make_tiny_bundle, tiny_model

    if name == "onnx":
        return tiny_model()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.bundle"
        make_tiny_bundle(path)
        return path.read_bytes()
