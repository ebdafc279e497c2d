"""How large anything in a bundle may be, in one place, each with its unit in its name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a station bundle. `golden_unpacked_bytes` bounds what golden.npz may unpack to, `golden_s` how many
    seconds reading a bundle and running its golden samples may take on this device."""

    bundle_bytes: int = 128 * 1024 * 1024
    directory_bytes: int = 16 * 1024
    files: int = 32
    json_bytes: int = 4 * 1024 * 1024
    model_bytes: int = 112 * 1024 * 1024
    golden_bytes: int = 16 * 1024 * 1024
    golden_unpacked_bytes: int = 64 * 1024 * 1024
    golden_arrays: int = 32
    golden_s: float = 60.0
    card_bytes: int = 256 * 1024
    plot_bytes: int = 2 * 1024 * 1024

    def bytes_of(self, name: str) -> int:
        """The bound for a file of that name."""
        named = {"bundle.json": self.json_bytes, "model.onnx": self.model_bytes, "golden.npz": self.golden_bytes}
        named["model.tflite"] = self.model_bytes
        return named.get(name, self.card_bytes if name.endswith(".md") else self.plot_bytes)
