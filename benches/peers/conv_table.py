"""The peer of `crates/ascribe-kernels/examples/conv_table.rs`: the same layers in PyTorch.

    python benches/peers/conv_table.py [batch] [threads] [filter]

Reads the list of layers from the Rust example, so that the two cannot drift apart.
"""

import pathlib
import re
import sys
import time

import torch
import torch.nn.functional as F

SOURCE = pathlib.Path(__file__).parents[2] / "crates/ascribe-kernels/examples/conv_table.rs"
LAYER = re.compile(r'\("(\w+)", (\d+), (\d+), (\d+), (\d+), (\d+), (\d+), (\d+)\)')


def best(call):
    call()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < 0.2:
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
    return min(times)


def main():
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 2)
    wanted = sys.argv[3] if len(sys.argv) > 3 else ""
    print("layer\tcount\tfwd ms\tfwd GFLOP/s\tgrad ms\tgrad GFLOP/s")
    totals = {}
    for network, *numbers in LAYER.findall(SOURCE.read_text()):
        count, ic, oc, groups, size, kernel, stride = map(int, numbers)
        name = f"{network} {ic}-{oc} g{groups} {size} k{kernel} s{stride}"
        if wanted not in name:
            continue
        x = torch.rand(batch, ic, size, size)
        w = torch.rand(oc, ic // groups, kernel, kernel)
        b = torch.rand(oc)
        options = {"stride": stride, "padding": kernel // 2, "groups": groups}
        with torch.no_grad():
            y = F.conv2d(x, w, b, **options)
            forward = best(lambda: F.conv2d(x, w, b, **options))
            gradient = best(lambda: torch.nn.grad.conv2d_input(x.shape, w, y, **options))
        flops = 2 * y.numel() * ic // groups * kernel * kernel
        print(
            f"{name}\t{count}\t{forward * 1e3:.3f}\t{flops / forward * 1e-9:.0f}"
            f"\t{gradient * 1e3:.3f}\t{flops / gradient * 1e-9:.0f}",
            flush=True,
        )
        total = totals.setdefault(network, [0, 0, 0])
        for at, value in enumerate((flops, forward, gradient)):
            total[at] += count * value
    for network, (flops, forward, gradient) in totals.items():
        print(
            f"{network} total\t\t{forward * 1e3:.3f}\t{flops / forward * 1e-9:.0f}"
            f"\t{gradient * 1e3:.3f}\t{flops / gradient * 1e-9:.0f}"
        )


if __name__ == "__main__":
    main()
