"""Distances of PyTorch's predictions and gradients in single precision from those in double precision.

accuracy.py NETWORK WEIGHTS INPUTS prints a row of the table of `cargo xtask accuracy`.
"""

import sys

import torch
from safetensors.torch import load_file

from networks import network

CLASS = 285


def at(model, x):
    x = x.clone().requires_grad_(True)
    logits = model(x)
    return logits.detach(), torch.autograd.grad(logits[0, CLASS], x)[0]


def main():
    name, weights, inputs = sys.argv[1:]
    torch.set_num_threads(2)
    single, double = network(name, weights), network(name, weights).double()
    distances = [[], []]
    for x in load_file(inputs)["inputs"].split(1):
        for found, a, b in zip(distances, at(single, x), at(double, x.double())):
            found.append(((a.double() - b).norm() / b.norm()).item())
    exact = sum(d < 1e-5 for d in distances[1])
    middle = len(distances[0]) // 2
    logits, gradient = (f"{sorted(d)[middle]:.1e}, {max(d):.1e}" for d in distances)
    print(f"| {name} | PyTorch | {logits} | {gradient} | {exact} of {len(distances[1])} |")


main()
