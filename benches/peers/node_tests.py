"""Writes the ONNX project's tests of single operators as files for `cargo xtask models`.

    node_tests.py FOLDER OUTPUT

FOLDER gets NAME.onnx for each test of the installed `onnx` package whose inputs and outputs are tensors of numbers, with all
operands but the first as stored values;
OUTPUT gets its inputs and expected outputs as `.in` and `.out` .safetensors files.
"""

import pathlib
import sys
import warnings

import numpy as np
import onnx
from onnx.backend.test.case.node import collect_testcases
from safetensors.numpy import save_file


def tensors(values, arrays):
    """Inputs or outputs of a test by name; `None` if one is not a tensor of numbers."""
    found = {}
    for value, array in zip(values, arrays):
        if not value.type.HasField("tensor_type") or not isinstance(array, (np.ndarray, np.generic)):
            return None
        array = np.asarray(array)
        if array.dtype == bool:
            array = array.astype(np.uint8)
        if array.dtype.kind not in "fiu" or array.dtype.name not in NUMBERS or array.size == 0:
            return None
        if array.dtype.kind in "iu" and array.dtype.name not in ("uint8", "int32", "int64"):
            array = array.astype(np.int64)
        found[value.name] = np.ascontiguousarray(array)
    return found


NUMBERS = "float16 float32 float64 uint8 uint16 uint32 uint64 int8 int16 int32 int64".split()


def main():
    folder, output = map(pathlib.Path, sys.argv[1:3])
    folder.mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    count = 0
    for test in collect_testcases(None):
        if test.model is None or not test.data_sets:
            continue
        inputs, outputs = test.data_sets[0]
        given, expected = tensors(test.model.graph.input, inputs), tensors(test.model.graph.output, outputs)
        if not given or not expected:
            continue
        # Files store weights, axes and shapes; only the first operand is computed.
        first, *others = test.model.graph.input
        for value in others:
            index = [v.name for v in test.model.graph.input].index(value.name)
            test.model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(inputs[index]), value.name))
        del test.model.graph.input[1:]
        given = {first.name: given[first.name]}
        onnx.save(test.model, folder / f"{test.name}.onnx")
        save_file(given, output / f"{test.name}.in.safetensors")
        save_file(expected, output / f"{test.name}.out.safetensors")
        count += 1
    print(f"{count} tests")


if __name__ == "__main__":
    main()
