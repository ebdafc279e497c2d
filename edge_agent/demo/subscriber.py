"""Prints what a broker publishes, `topic payload` a line, for machines without `mosquitto_sub`.

A process of its own, `python -m edge_agent.demo.subscriber HOST PORT TOPIC`, that shares nothing with the agent.
"""

from __future__ import annotations

import sys
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion


def main(host: str, port: str, topic: str) -> None:
    """Until the broker ends the connection or the process is ended. Raises OSError: no broker."""
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)

    def subscribe(client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        client.subscribe(topic, qos=1)

    def show(client: Client, userdata: Any, message: MQTTMessage) -> None:
        sys.stdout.buffer.write(message.topic.encode() + b" " + message.payload + b"\n")
        sys.stdout.buffer.flush()

    client.on_connect, client.on_message = subscribe, show
    client.connect(host, int(port))
    client.loop_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
