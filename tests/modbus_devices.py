"""Real Modbus devices for tests: pymodbus servers on TCP or on one end of a cable, and the cable itself."""

from __future__ import annotations

import asyncio
import os
import select
import threading
import tty
from pathlib import Path
from typing import Any

from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


class Cable:
    """Two serial ports joined to each other. `path`: the agent's end, which stays the same after replugging; `device`:
    the other one. `answers`: what the device's bytes become on their way to the agent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers = lambda data: data
        self._ours, self._ours_tty = os.openpty()
        self._theirs, self._theirs_tty = os.openpty()
        for end in (self._ours_tty, self._theirs_tty):
            tty.setraw(end)
        self.device = os.ttyname(self._theirs_tty)
        path.symlink_to(os.ttyname(self._ours_tty))
        self._stop, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        while True:
            ready, _, _ = select.select([self._ours, self._theirs, self._stop], [], [])
            if self._stop in ready:
                return
            if self._ours in ready:
                os.write(self._theirs, os.read(self._ours, 4096))
            if self._theirs in ready:
                data = self.answers(os.read(self._theirs, 4096))
                if data:
                    os.write(self._ours, data)

    def prints(self, data: bytes) -> None:
        """Bytes from nowhere, to the agent."""
        os.write(self._ours, data)

    def unplug(self) -> None:
        """The agent's end is gone."""
        if self.path.is_symlink():
            self.path.unlink()
            os.write(self._wake, b"x")
            self._thread.join()
            for end in (self._ours, self._ours_tty):
                os.close(end)

    def plug(self) -> None:
        """It is back, as another port behind the same path."""
        os.read(self._stop, 1)
        self._ours, self._ours_tty = os.openpty()
        tty.setraw(self._ours_tty)
        self.path.symlink_to(os.ttyname(self._ours_tty))
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.unplug()
        for end in (self._theirs, self._theirs_tty, self._stop, self._wake):
            os.close(end)


def device(unit: int, *blocks: tuple[int, list[int]]) -> SimDevice:
    """A device whose registers are (first address, values); holding and input registers are the same ones."""
    data = [SimData(address, values=values, datatype=DataType.REGISTERS) for address, values in blocks]
    return SimDevice(id=unit, simdata=data)


class Server:
    """A thread with a pymodbus server. Units that it does not have stay silent."""

    def __init__(self, devices: list[SimDevice], *, port: str | None = None, rtu: bool = False) -> None:
        """`port`: the serial port it serves; without one it listens on TCP, at `address`."""
        self.address = ""
        self._devices, self._port, self._rtu = devices, port, rtu
        self._up = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._up.wait(20)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        units = {device.id for device in self._devices}
        unit_at = 0 if self._port or self._rtu else 6

        def silence(sending: bool, data: bytes) -> bytes:
            """pymodbus' server answers for units that it does not have; a bus does not."""
            return b"" if sending and data[unit_at] not in units else data

        more: dict[str, Any] = {"trace_packet": silence}
        server: Any
        if self._port is not None:
            server = ModbusSerialServer(self._devices, port=self._port, baudrate=9600, **more)
        else:
            framer = FramerType.RTU if self._rtu else FramerType.SOCKET
            server = ModbusTcpServer(self._devices, framer=framer, address=("127.0.0.1", 0), **more)
        await server.serve_forever(background=True)
        if self._port is None:
            host, port = server.transport.sockets[0].getsockname()
            self.address = f"tcp://{host}:{port}"
        self._up.set()
        await self._ended.wait()
        await server.shutdown()
        await asyncio.sleep(0.05)  # its transports close in the loop

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join(10)
