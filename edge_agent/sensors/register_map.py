"""Register maps: what the registers of a Modbus device mean, as data. Checked as they are read; knows no wires.

Built-in maps are the files in `register_maps/`; an operator's own is a file of the same form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from edge_agent.config_values import nearest
from edge_agent.errors import ConfigError
from edge_agent.variables import VARIABLES, Kind, conversion, per_ppb

MAX_FILE = 65_536  # bytes of a map
MAX_BLOCKS, MAX_COUNT = 16, 125  # of a map; registers of one answer, Modbus' own bound
_FOLDER = "register_maps"


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Registers asked for at once. `function`: 3 (holding) or 4 (input); `count` from `address` on. `optional`: some
    models refuse it. `ask = false`: never asked for, but known by its length in a recording."""

    function: Literal[3, 4]
    address: int
    count: int
    optional: bool = False
    ask: bool = True

    def __post_init__(self) -> None:
        if not (self.address >= 0 and 1 <= self.count <= MAX_COUNT and self.address + self.count <= 65_536):
            raise ValueError(f"a block has 1 to {MAX_COUNT} registers between 0 and 65535")


class Register(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One quantity: (count x `scale` + `offset`) in `unit`. `words`: order of the two registers of a 32-bit type.
    `missing`: counts that mean no value. `counter`: a running total."""

    address: int
    variable: str
    unit: str
    type: Literal["int16", "uint16", "int32", "uint32"] = "uint16"
    words: Literal["high-low", "low-high"] = "high-low"
    scale: float = 1.0
    offset: float = 0.0
    missing: tuple[int, ...] = ()
    counter: bool = False

    @property
    def size(self) -> int:
        """How many registers it takes."""
        return 2 if self.type.endswith("32") else 1

    def count(self, registers: Sequence[int]) -> int:
        """The number that its registers (each 0-65535) hold."""
        if self.size == 1:
            raw, bits = registers[0], 16
        else:
            high, low = registers if self.words == "high-low" else reversed(registers)
            raw, bits = high << 16 | low, 32
        return raw - (1 << bits) if self.type.startswith("int") and raw >> (bits - 1) else raw


class WindScale(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`candidates`: m/s that a count of 1 may mean; `force`: register of the Beaufort number, which shows it."""

    candidates: tuple[float, float]
    force: int


class RegisterMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device. `unit`, `baud`: as delivered, None where its models differ. `absent`: groups of variables; counts of 0
    in all of a group mean that this sensor is not fitted."""

    title: str
    block: tuple[Block, ...]
    register: tuple[Register, ...]
    baud: int = 9600
    unit: int | None = None
    absent: tuple[tuple[str, ...], ...] = ()
    wind_scale: WindScale | None = None

    def asked(self) -> list[Block]:
        """The blocks of one poll."""
        return [block for block in self.block if block.ask]

    def known(self, function: int, count: int) -> Block | None:
        """The block an answer belongs to, where it is not known what was asked: the first of that length."""
        return next((b for b in self.block if (b.function, b.count) == (function, count)), None)

    def __post_init__(self) -> None:
        if not 1 <= len(self.block) <= MAX_BLOCKS or not self.asked():
            raise ValueError(f"it needs 1 to {MAX_BLOCKS} blocks, one of them to ask for")
        names = [register.variable for register in self.register]
        if len(set(names)) < len(names) or not names:
            raise ValueError("it needs registers, each of another variable")
        for register in self.register:
            _check(register, self.block)
        for name in {name for group in self.absent for name in group} - set(names):
            raise ValueError(f'"absent" names "{name[:40]}", which no register holds')


def read_map(name: str) -> RegisterMap:
    """A built-in map by its name, or the file of that path.

    Raises:
        ConfigError: no such map, not readable, or not a map; with what is wrong.
    """
    if "/" in name or name.endswith(".toml"):
        return _parse(_text(Path(name)), name)
    return _built_in(name)


@cache
def _built_in(name: str) -> RegisterMap:
    known = built_in()
    if name not in known:
        raise ConfigError(f'no register map "{name[:60]}"{nearest(name, known)}; a file of your own ends in .toml')
    file = resources.files("edge_agent.sensors") / _FOLDER / f"{name}.toml"
    return _parse(file.read_bytes(), name)


def built_in() -> list[str]:
    """Names of the maps that come with the package."""
    folder = resources.files("edge_agent.sensors") / _FOLDER
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def factors(register: Register, reference: Mapping[str, float]) -> tuple[float, float]:
    """(factor, offset) from a register's count to its variable's own unit. `reference`: `temperature` (degC) and
    `pressure` (hPa) at which ppb are converted."""
    if register.unit == "ppb":
        factor, offset = per_ppb(register.variable, **reference), 0.0
    else:
        factor, offset = conversion(register.variable, register.unit)
    return register.scale * factor, register.offset * factor + offset


def _check(register: Register, blocks: Sequence[Block]) -> None:
    """Raises ValueError or ConfigError."""
    if register.variable not in VARIABLES:
        raise ValueError(f'unknown variable "{register.variable[:40]}"{nearest(register.variable, VARIABLES)}')
    conversion(register.variable, register.unit)
    if (VARIABLES[register.variable].kind is Kind.SUM) != register.counter:
        raise ValueError(f'"{register.variable}": rain is a running total (counter = true), and nothing else is')
    first, last = register.address, register.address + register.size
    if not any(block.address <= first and last <= block.address + block.count for block in blocks):
        raise ValueError(f'"{register.variable}": no block holds register {register.address}')


def _text(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(f"register map {path}: cannot be read ({error.strerror})") from None
    if len(text) > MAX_FILE:
        raise ConfigError(f"register map {path}: larger than {MAX_FILE} bytes: this is no map")
    return text


def _parse(text: bytes, name: str) -> RegisterMap:
    try:
        return msgspec.toml.decode(text, type=RegisterMap)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, ConfigError) as error:
        raise ConfigError(f"register map {name}: {error}") from None
