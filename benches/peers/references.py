"""Runs ONNX files in onnxruntime on random inputs, for `cargo xtask models`.

    references.py FOLDER OUTPUT

For every .onnx file under FOLDER, OUTPUT gets two .safetensors files, NAME.in and NAME.out, with its inputs and outputs;
NAME is the relative path with `__` for the separators. Axes of the batch have length 1 where the
file leaves them open; other open axes have the first length from a list for which the model runs. Integer inputs are
small numbers, except for a sampling rate. A file that onnxruntime does not run gets an `error` in the metadata.
"""

import pathlib
import subprocess
import sys

import numpy as np
import onnxruntime as ort
from safetensors.numpy import save_file

LENGTHS = [64, 16, 128, 256, 512, 576, 1024, 8, 1, 16000]
SIDES = [224, 48, 32, 640]
BATCH = ["batch", "n", "b", "bs", "bsz", "num_samples"]


def names_batch(axis):
    return isinstance(axis, str) and ("batch" in axis.lower() or axis.lower() in BATCH)


def is_open(axis):
    return not isinstance(axis, int) or axis <= 0


def shape_of(declared, length, side):
    """The shape of an input; open axes of pictures and of sequences have different lengths."""
    shape = []
    picture = len(declared) == 4 and (declared[1] in (1, 3) or declared[3] in (1, 3) or is_open(declared[1]))
    batch = next((i for i, axis in enumerate(declared) if names_batch(axis)), 0)
    opened = [i for i, axis in enumerate(declared) if is_open(axis)]
    if len(opened) == 1 and not is_open(declared[0]) and declared[0] > 1 and len(declared) == 3:
        batch = opened[0]  # The states of recurrent layers: [layers, N, D].
    for at, axis in enumerate(declared):
        if not is_open(axis):
            shape.append(axis)
        elif at == batch:
            shape.append(1)
        elif picture:
            shape.append(3 if at == 1 and declared[3] not in (1, 3) else side)
        else:
            shape.append(length)
    return shape


def value_of(name, kind, shape, seed):
    draw = np.random.default_rng(seed)
    if "int" in kind:
        dtype = {"tensor(int32)": np.int32, "tensor(uint8)": np.uint8}.get(kind, np.int64)
        if "mask" in name.lower():
            return np.ones(shape, dtype)
        return np.full(shape, 16000, dtype) if name in ("sr", "sampling_rate") else draw.integers(0, 20, shape).astype(dtype)
    if kind == "tensor(bool)":
        return np.ones(shape, bool)
    dtype = {"tensor(double)": np.float64, "tensor(float16)": np.float16}.get(kind, np.float32)
    return draw.random(shape).astype(dtype)


def run(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    error = None
    for length, side in zip(LENGTHS, SIDES + [SIDES[0]] * len(LENGTHS)):
        inputs = {i.name: value_of(i.name, i.type, shape_of(i.shape, length, side), at) for at, i in enumerate(session.get_inputs())}
        try:
            outputs = session.run(None, inputs)
            names = [o.name for o in session.get_outputs()]
            return inputs, dict(zip(names, outputs))
        except Exception as problem:  # Every exception of onnxruntime means that the lengths do not fit.
            error = error or problem
        if not any(is_open(axis) for i in session.get_inputs() for axis in i.shape):
            break
    raise error


def reference(folder, output, path):
    name = str(path.relative_to(folder).with_suffix("")).replace("/", "__")
    found, metadata = ({}, {}), {}
    try:
        found = run(path)
    except Exception as problem:
        metadata["error"] = str(problem).split("\n")[0][:300]
    for kind, values in zip(["in", "out"], found):
        tensors = {
            key: np.ascontiguousarray(value.astype(np.uint8) if value.dtype == bool else value)
            for key, value in values.items()
            if isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
        }
        save_file(tensors or {"empty": np.zeros(1, np.float32)}, output / f"{name}.{kind}.safetensors", metadata)
        print(kind, name, {key: value.shape for key, value in tensors.items()} or metadata, flush=True)


def main():
    folder, output = map(pathlib.Path, sys.argv[1:3])
    output.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) > 3:
        reference(folder, output, pathlib.Path(sys.argv[3]))
        return
    # A process for each file, since some end the process.
    for path in sorted(folder.rglob("*.onnx")):
        subprocess.run([sys.executable, __file__, folder, output, path], check=False, timeout=600)


if __name__ == "__main__":
    main()
