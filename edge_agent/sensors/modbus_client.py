"""The one place that knows pymodbus: an open line, and one question at a time on it.

pymodbus changes its interface between releases; whatever it does next has to be met here and nowhere else. It frames,
checks and waits; opening the line is ours, so that the reason why it cannot be opened can be told.
"""

from __future__ import annotations

import logging
import socket
import struct
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import serial  # type: ignore[import-untyped]

from edge_agent.errors import ConfigError, SensorError
from edge_agent.sensors.framing import Refusal
from edge_agent.sensors.modbus_frames import LONGEST, Frame, Kind, answer, frame_at, question, refusal
from edge_agent.sensors.serial import let_go, why_closed

if TYPE_CHECKING:
    from edge_agent.sensors.modbus_bus import Line

TCP_PORT = 502
_CONNECT_S = 10.0
_STALE = 64 * 1024  # bytes of late answers thrown away before a question
_NONSENSE = (ValueError, IndexError, struct.error)  # what pymodbus' decoders raise on some bytes that are no answer


def require() -> None:
    """Raises ConfigError where pymodbus is not installed."""
    try:
        import pymodbus  # noqa: F401
    except ImportError:
        raise ConfigError('driver "modbus" needs pymodbus: pip install "stationcast[modbus]"') from None


class Client:
    """An open line. For one thread."""

    def __init__(self, line: Line) -> None:
        """Raises SensorError with the remedy: the line cannot be opened."""
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # what goes wrong is counted and told by us
        self._line = line
        self._heard = self._unit = 0  # bytes since the last question; who it was for
        self._client = self._on_tcp() if line.over_network else self._on_serial()

    def close(self) -> None:
        self._client.close()

    def let_go(self) -> None:
        """Free the line that another thread hangs in, for the next one. Never blocks."""
        if isinstance(self._client.socket, serial.Serial):
            let_go(self._client.socket)
        elif self._client.socket is not None:
            with suppress(OSError):
                self._client.socket.shutdown(socket.SHUT_RDWR)

    def ask(self, unit: int, function: int, address: int, count: int) -> bytes | Refusal:
        """A question and the device's answer, or its refusal, as one message; why there is none otherwise.

        Raises:
            SensorError: the line is gone.
        """
        from pymodbus.exceptions import ConnectionException, ModbusException

        read = self._client.read_holding_registers if function == 3 else self._client.read_input_registers
        tcp, self._heard, self._unit = self._line.tcp, 0, unit
        try:
            self._forget_late_answers()
            found = read(address, count=count, device_id=unit)
        except ConnectionException as error:
            raise SensorError(f"{self._line.port} went away ({error.__context__ or 'closed'}). {_PLUG}") from None
        except (OSError, termios.error) as error:
            raise SensorError(f"{self._line.port} went away ({error}). {_PLUG}") from None
        except (ModbusException, *_NONSENSE):
            return self._unanswered(unit)
        asked = question(unit, function, address, count, tcp)
        if found.isError():
            return asked + refusal(unit, function, found.exception_code, tcp)
        if found.function_code != function or len(found.registers) != count:
            return Refusal("other-registers", f"unit {unit} gave {len(found.registers)} registers of {count}")
        return asked + answer(unit, function, list(found.registers), tcp)

    def _unanswered(self, unit: int) -> Refusal:
        if self._heard:
            return Refusal("noise", f"{self._heard} bytes that are no answer of unit {unit}: is the baud rate right?")
        return Refusal("no-answer", f"unit {unit} did not answer in {self._line.timeout_s:g} s")

    def _on_serial(self) -> Any:
        from pymodbus.client import ModbusSerialClient

        line = self._line
        client = ModbusSerialClient(
            line.port,
            baudrate=line.baud,
            parity=line.parity,
            stopbits=line.stopbits,
            timeout=line.timeout_s,
            retries=0,
            trace_packet=self._watch,
        )
        try:
            client.socket = serial.Serial(
                line.port,
                line.baud,
                parity=line.parity,
                stopbits=line.stopbits,
                timeout=line.timeout_s,
                write_timeout=line.timeout_s,
                exclusive=True,
            )
        except (serial.SerialException, OSError, termios.error, ValueError) as error:
            raise SensorError(why_closed(line.port, line.baud, error)) from None
        return client

    def _on_tcp(self) -> Any:
        from pymodbus import FramerType
        from pymodbus.client import ModbusTcpClient

        line = self._line
        host, port = line.address()
        framer = FramerType.SOCKET if line.tcp else FramerType.RTU
        client = ModbusTcpClient(
            host, port=port, framer=framer, timeout=line.timeout_s, retries=0, trace_packet=self._watch
        )
        try:
            client.socket = socket.create_connection((host, port), timeout=_CONNECT_S)
        except OSError as error:
            raise SensorError(
                f"{line.port} cannot be reached ({error}). Is it on, and are address and port right?"
            ) from None
        return client

    def _forget_late_answers(self) -> None:
        """On a serial line pymodbus does it. Raises OSError where the other side has gone."""
        if not self._line.over_network or self._client.socket is None:
            return
        self._client.socket.setblocking(False)
        for _ in range(_STALE // 4096):
            try:
                if not self._client.socket.recv(4096):
                    raise ConnectionResetError("closed by the other side")
            except BlockingIOError:
                return

    def _watch(self, sending: bool, data: bytes) -> bytes:
        """Called by pymodbus with what it sends and with all it has received since; what it returns is what pymodbus
        sees. That is the answer without the noise around it: pymodbus throws away an RTU answer behind some noise."""
        if sending:
            return data
        self._heard = len(data)
        if len(data) > 4 * LONGEST:
            raise ValueError("no answer is so long")
        if self._line.tcp:
            return data
        for at in range(len(data)):
            frame = frame_at(data, at, tcp=False)
            if isinstance(frame, Frame) and frame.kind is not Kind.QUESTION and frame.unit == self._unit:
                return data[at : at + frame.length]
        return b""


_PLUG = "Plug it in again, or look after the network."


def split(port: str) -> tuple[str, int]:
    """Host and port of `tcp://host:port`. Raises ConfigError."""
    try:
        parts = urlsplit(port)
        host, number = parts.hostname, parts.port
    except ValueError:
        host, number = None, None
    if not host:
        raise ConfigError(f'port = "{port[:60]}": write tcp://192.168.1.30:502')
    return host, number or TCP_PORT
