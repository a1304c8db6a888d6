"""Compares the speed of two builds of Ascribe, asked in turn.

    builds.py BEFORE AFTER TARGET_DIR [PAIRS]

BEFORE and AFTER are release builds of the program `xtask`, TARGET_DIR is a folder with the networks that
`networks.py` has written to its subfolder `peers`. For each network and workload it prints the medians in seconds, and
the median, lowest and highest ratio (after to before) of the pairs of runs.
"""

import json
import os
import statistics
import subprocess
import sys

NETWORKS = ["efficientnet-lite0", "resnet50"]
WORKLOADS = ["saliency", "ig-50", "lrp", "occlusion"]


class Build:
    """One process of a build, which keeps its networks loaded."""

    def __init__(self, program, folder):
        self.folder = folder
        self.process = subprocess.Popen(
            [program, "bench-worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ, CARGO_TARGET_DIR=folder),
        )

    def seconds(self, network, workload):
        request = {
            "weights": f"{self.folder}/peers/{network}.safetensors",
            "architecture": network,
            "input": f"{self.folder}/peers/input.safetensors",
            "class": 285,
            "workload": workload,
            "channels_last": False,
            "output": None,
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["seconds"]


def main():
    before, after, folder = sys.argv[1:4]
    pairs = int(sys.argv[4]) if len(sys.argv) > 4 else 7
    before, after = Build(before, folder), Build(after, folder)
    print("| network | workload | before, s | after, s | ratio (lowest to highest) |")
    print("| --- | --- | --- | --- | --- |")
    for network in NETWORKS:
        for workload in WORKLOADS:
            before.seconds(network, workload), after.seconds(network, workload)
            times = [(before.seconds(network, workload), after.seconds(network, workload)) for _ in range(pairs)]
            ratios = [b / a for a, b in times]
            medians = [statistics.median(side) for side in zip(*times)]
            print(
                f"| {network} | {workload} | {medians[0]:.4f} | {medians[1]:.4f} "
                f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
