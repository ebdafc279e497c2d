"""Golden samples decide whether a bundle answers here as it did where it was made, without risking the agent."""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_agent.bundle import golden
from edge_agent.bundle.golden import compare, pack_golden, run_child, unpack_golden, verify_golden
from edge_agent.bundle.limits import Limits
from edge_agent.bundle.reader import read_bundle
from edge_agent.errors import BundleError
from tests.tiny_bundle import make_tiny_bundle, tiny_expected, tiny_golden, tiny_inputs, tiny_model

GOLDEN = tiny_golden()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def word(error: pytest.ExceptionInfo[BundleError]) -> str:
    return error.value.refused


def test_a_bundle_that_answers_as_it_should_passes(tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle")
    verify_golden(path, digest(path))


def test_a_bundle_that_answers_differently_is_refused_with_the_variable(tmp_path: Path) -> None:
    inputs = tiny_inputs()
    outputs = tiny_expected(inputs)
    outputs["mean"][0, 3, 2] += 0.5
    path = make_tiny_bundle(tmp_path / "a.bundle", golden=pack_golden(inputs, outputs))
    with pytest.raises(BundleError, match=r"mean of pressure: differs by 0\.5") as caught:
        verify_golden(path, digest(path))
    assert word(caught) == "golden"


def test_rows_that_see_each_other_are_tried_together(tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle", near=True)
    verify_golden(path, digest(path))
    inputs = tiny_inputs(3, near=True)
    alone = tiny_expected({name: value for name, value in inputs.items() if name != "group"})
    other = make_tiny_bundle(tmp_path / "b.bundle", near=True, golden=pack_golden(inputs, alone))
    with pytest.raises(BundleError, match="mean of temperature: differs"):
        verify_golden(other, digest(other))


def test_a_graph_that_lets_rows_see_beyond_their_group_is_refused(tmp_path: Path) -> None:
    model = onnx.load_from_string(tiny_model(near=True))
    (sees,) = (node for node in model.graph.node if node.output[0] == "sees")
    sees.input[0] = "origin_same"  # whatever the group
    inputs = tiny_inputs(3, near=True)
    leaky = tiny_expected(inputs | {"group": np.zeros(3, np.int64)})
    path = make_tiny_bundle(
        tmp_path / "a.bundle", near=True, model=model.SerializeToString(), golden=pack_golden(inputs, leaky)
    )
    with pytest.raises(BundleError, match="without the rows of other groups, mean of temperature: differs") as caught:
        verify_golden(path, digest(path))
    assert word(caught) == "golden"


def test_what_the_reader_refuses_keeps_its_word(tmp_path: Path) -> None:
    path = make_tiny_bundle(tmp_path / "a.bundle", counter=0)
    with pytest.raises(BundleError) as caught:
        verify_golden(path, digest(path))
    assert word(caught) == "counter"


def test_a_file_that_is_replaced_while_it_is_tried_is_refused(tmp_path: Path) -> None:
    read = digest(make_tiny_bundle(tmp_path / "a.bundle"))
    path = make_tiny_bundle(tmp_path / "a.bundle", version="0.0.2")
    with pytest.raises(BundleError, match="replaced") as caught:
        verify_golden(path, read)
    assert word(caught) == "digest-mismatch"


def test_a_model_the_runtime_cannot_load_is_refused(tmp_path: Path) -> None:
    broken = tiny_model().replace(b"Unsqueeze", b"Unsqueezy")
    path = make_tiny_bundle(tmp_path / "a.bundle", model=broken)
    with pytest.raises(BundleError) as caught:
        verify_golden(path, digest(path))
    assert word(caught) == "runtime"


@pytest.mark.parametrize(
    ("signal", "remedy"), [("SIGILL", "another processor"), ("SIGKILL", "memory"), ("SIGSEGV", "another onnxruntime")]
)
def test_a_runtime_that_dies_refuses_the_bundle_and_not_the_agent(signal: str, remedy: str) -> None:
    code = f"import os, signal; os.kill(os.getpid(), signal.{signal})"
    with pytest.raises(BundleError, match=f"{signal}.*{remedy}") as caught:
        run_child([sys.executable, "-c", code], 20.0)
    assert word(caught) == "golden-crash"


def test_a_runtime_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "_MIN_TIMEOUT_S", 0.1)
    with pytest.raises(BundleError) as caught:
        run_child([sys.executable, "-c", "import time; time.sleep(60)"], 0.2)
    assert word(caught) == "golden-timeout"


def test_a_graph_that_would_run_for_hours_is_cut_off(tmp_path: Path) -> None:
    """Nothing in it repeats, so reading it finds nothing wrong; it is the child that is killed."""
    path = make_tiny_bundle(tmp_path / "slow.bundle", model=slow_model())
    read_bundle(path)
    with pytest.raises(BundleError, match=r"took longer than 3 s here") as caught:
        verify_golden(path, digest(path), Limits(golden_s=3.0))
    assert word(caught) == "golden-timeout"
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(path) in command_of(p)]


def command_of(process: Path) -> str:
    try:
        return process.read_text()
    except OSError:
        return ""  # ended meanwhile


def slow_model() -> bytes:
    """The tiny model behind 5,000 products of 3,000 x 3,000 matrices: 3e14 operations that depend on its input."""
    model = onnx.load_model_from_string(tiny_model())
    graph, node = model.graph, helper.make_node
    products = 5000
    last = next(n for n in graph.node if list(n.input) == ["kept", "no_change"])
    last.input[1] = "checked"
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([3000, 3000], np.int64), "large"),
            numpy_helper.from_array(np.array(1e-12, np.float32), "small"),
        ]
    )
    before = [
        node("Cast", ["origin"], ["number"], to=TensorProto.FLOAT),
        node("ReduceMax", ["number"], ["scalar"], keepdims=0),
        node("Mul", ["scalar", "small"], ["seed"]),
        node("Expand", ["seed", "large"], ["product0"]),
        *(node("MatMul", [f"product{n}", "product0"], [f"product{n + 1}"]) for n in range(products)),
        node("ReduceMin", [f"product{products}"], ["least"], keepdims=0),
        node("Sub", ["least", "least"], ["nothing"]),
        node("Add", ["no_change", "nothing"], ["checked"]),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*before, *rest])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_any_other_end_of_the_child_is_a_crash_with_its_last_words() -> None:
    with pytest.raises(BundleError, match="status 1: ValueError: broken") as caught:
        run_child([sys.executable, "-c", "raise ValueError('broken')"], 20.0)
    assert word(caught) == "golden-crash"
    with pytest.raises(BundleError) as caught:
        run_child(["/nonexistent/python"], 20.0)
    assert word(caught) == "golden-crash"


def test_packing_and_unpacking_are_inverse() -> None:
    inputs, outputs = tiny_inputs(), tiny_expected(tiny_inputs())
    back_in, back_out = unpack_golden(pack_golden(inputs, outputs))
    for before, after in ((inputs, back_in), (outputs, back_out)):
        assert list(before) == list(after)
        for name, value in before.items():
            np.testing.assert_array_equal(value, after[name])
            assert value.dtype == after[name].dtype


def test_arrays_saved_by_numpy_are_read_in_either_order() -> None:
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    for value in (
        table,
        np.asfortranarray(table),
        np.array(3, np.int64),
        np.zeros((0, 4), np.float32),
        np.ones(5, np.float32),
    ):
        inputs, _ = unpack_golden(npz(in_history=npy(value), out_mean=npy(table)))
        np.testing.assert_array_equal(inputs["history"], value)


def test_packing_is_reproducible() -> None:
    inputs, outputs = tiny_inputs(), tiny_expected(tiny_inputs())
    assert pack_golden(inputs, outputs) == pack_golden(inputs, outputs)


def test_missing_must_meet_missing(tmp_path: Path) -> None:
    manifest = read_bundle(make_tiny_bundle(tmp_path / "a.bundle")).manifest
    expected = tiny_expected(tiny_inputs())
    assert compare(manifest, expected, expected) == []
    found = {name: value.copy() for name, value in expected.items()}
    found["mean"][0, 0, 0] = np.nan
    assert "missing" in compare(manifest, expected, found)[0]


def test_directions_differ_along_the_circle(tmp_path: Path) -> None:
    manifest = read_bundle(make_tiny_bundle(tmp_path / "a.bundle")).manifest
    expected = tiny_expected(tiny_inputs())
    found = {name: value.copy() for name, value in expected.items()}
    found["mean"][0, :, 5] += 360.0
    found["quantiles"][0, :, 5] -= 360.0
    assert compare(manifest, expected, found) == []
    found["mean"][0, :, 5] += 180.0
    assert "wind_direction" in compare(manifest, expected, found)[0]


def test_directions_of_a_calm_do_not_count(tmp_path: Path) -> None:
    manifest = read_bundle(make_tiny_bundle(tmp_path / "a.bundle")).manifest
    expected = tiny_expected(tiny_inputs())
    expected["wind_uv"][0] = 0.1
    found = {name: value.copy() for name, value in expected.items()}
    found["mean"][0, :, 5] += 180.0
    found["quantiles"][0, :, 5] += 90.0
    assert compare(manifest, expected, found) == []


def test_an_output_without_its_golden_is_a_problem(tmp_path: Path) -> None:
    manifest = read_bundle(make_tiny_bundle(tmp_path / "a.bundle")).manifest
    expected = tiny_expected(tiny_inputs())
    del expected["wind_uv"]
    assert any("wind_uv" in line for line in compare(manifest, expected, tiny_expected(tiny_inputs())))


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def test_pickles_are_refused_unopened() -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (pytest.fail, ("a pickle was opened",))

    trap = np.array([None], object)
    trap[0] = Trap()
    with pytest.raises(BundleError) as caught:
        unpack_golden(npz(in_history=npy(trap), out_mean=npy(np.zeros(1, np.float32))))
    assert word(caught) == "golden"


def test_a_header_that_promises_more_than_there_is_allocates_nothing() -> None:
    huge = npy(np.zeros((1, 1), np.float32)).replace(b"(1, 1), ", b"(9999999999, 9999),")
    with pytest.raises(BundleError) as caught:
        unpack_golden(npz(in_history=huge, out_mean=npy(np.zeros(1, np.float32))))
    assert word(caught) == "golden"


def test_an_archive_that_unpacks_too_large_is_refused() -> None:
    big = npz(in_history=npy(np.zeros(1_000_000, np.float32)), out_mean=npy(np.zeros(1, np.float32)))
    assert len(big) < 100_000
    for limits in (Limits(golden_unpacked_bytes=1_000_000), Limits(golden_arrays=1)):
        with pytest.raises(BundleError) as caught:
            unpack_golden(big, limits)
        assert word(caught) == "oversize"


@pytest.mark.parametrize("members", [{}, {"in_history": np.zeros(1, np.float32)}, {"history": np.zeros(1, np.float32)}])
def test_an_archive_without_samples_is_refused(members: dict[str, np.ndarray]) -> None:
    with pytest.raises(BundleError) as caught:
        unpack_golden(npz(**{name: npy(value) for name, value in members.items()}))
    assert word(caught) == "golden"


@given(st.binary(max_size=300), st.integers(0, 40), st.binary(min_size=1, max_size=40))
@settings(max_examples=200)
def test_damaged_samples_are_refused_or_read(junk: bytes, at: int, patch: bytes) -> None:
    member = bytearray(npy(np.zeros((2, 3), np.float32)))
    member[at : at + len(patch)] = patch
    for raw in (junk, npz(in_history=bytes(member), out_mean=npy(np.zeros(1, np.float32)))):
        try:
            unpack_golden(raw)
        except BundleError as error:
            assert error.refused in ("golden", "oversize")
