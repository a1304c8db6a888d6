"""Writes the ONNX project's tests of single operators as files for `cargo xtask models`.

    node_tests.py FOLDER OUTPUT

FOLDER gets NAME.onnx for each test of the installed `onnx` package whose inputs and outputs are tensors of numbers;
OUTPUT gets its inputs and expected outputs as `.in` and `.out` .safetensors files.
"""

import pathlib
import shutil
import sys

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file


def tensors(model, values, folder, kind):
    """Inputs or outputs of a test by name; `None` if one is not a tensor of numbers."""
    found = {}
    for number, value in enumerate(values):
        if not value.type.HasField("tensor_type"):
            return None
        proto = onnx.TensorProto()
        path = folder / f"{kind}_{number}.pb"
        if not path.exists():
            continue
        proto.ParseFromString(path.read_bytes())
        array = numpy_helper.to_array(proto)
        if array.dtype == bool:
            array = array.astype(np.uint8)
        if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8 or array.size == 0:
            return None
        if array.dtype in (np.uint16, np.uint32, np.uint64, np.int8, np.int16):
            array = array.astype(np.int64)
        found[value.name] = np.ascontiguousarray(array)
    return found


def main():
    folder, output = map(pathlib.Path, sys.argv[1:3])
    folder.mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    source = pathlib.Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"
    count = 0
    for test in sorted(source.iterdir()):
        model = onnx.load(test / "model.onnx")
        data = test / "test_data_set_0"
        given = tensors(model, model.graph.input, data, "input")
        expected = tensors(model, model.graph.output, data, "output")
        if not given or not expected:
            continue
        shutil.copy(test / "model.onnx", folder / f"{test.name}.onnx")
        save_file(given, output / f"{test.name}.in.safetensors")
        save_file(expected, output / f"{test.name}.out.safetensors")
        count += 1
    print(f"{count} tests")


if __name__ == "__main__":
    main()
