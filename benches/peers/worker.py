"""The peers' side of the measurements: answers requests, one JSON object per line (see xtask/src/bench/work.rs)."""

import json
import resource
import sys
import time

import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Occlusion, Saliency
from safetensors.torch import load_file, save_file

from networks import network

torch.set_num_threads(2)


def explain(model, x, target, workload):
    if workload == "saliency":
        return Saliency(model).attribute(x, target=target, abs=False)
    if workload == "ig-50":
        # The best of internal batch sizes 5, 10 and 25.
        return IntegratedGradients(model).attribute(
            x, target=target, n_steps=50, method="gausslegendre", internal_batch_size=10
        )
    if workload == "occlusion":
        with torch.no_grad():
            return Occlusion(model).attribute(
                x, target=target, sliding_window_shapes=(3, 16, 16), strides=(3, 8, 8), perturbations_per_eval=8
            )
    if workload == "smooth-grad-50":
        return NoiseTunnel(Saliency(model)).attribute(
            x, target=target, nt_type="smoothgrad", nt_samples=50, nt_samples_batch_size=10, stdevs=0.15, abs=False
        )
    if workload == "grad-cam":
        return grad_cam(model, x, target)
    if workload == "lrp":
        return lrp(model, x, target)
    if workload == "rise-1000":
        with torch.no_grad():
            return rise(model, x, target, 1000)
    raise ValueError(workload)


def grad_cam(model, x, target):
    """pytorch-grad-cam at the last layer with spatial positions."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    # The output of the trunk: the last value with spatial positions.
    modules = dict(model.named_children())
    layer = next(modules[name] for name in ("layer4", "features", "_bn1") if name in modules)
    x = x.clone().requires_grad_(True)
    with GradCAM(model=model, target_layers=[layer]) as cam:
        found = cam(input_tensor=x, targets=[ClassifierOutputTarget(target)])
    return torch.from_numpy(found)[:, None]


def lrp(model, x, target):
    """zennit with the composite epsilon-plus and its canonizer for networks with batch norm."""
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonPlus
    from zennit.torchvision import ResNetCanonizer, VGGCanonizer

    name = type(model).__name__
    canonizers = {"ResNet": [ResNetCanonizer()], "VGG": [VGGCanonizer()]}.get(name, [SequentialMergeBatchNorm()])
    with Gradient(model=model, composite=EpsilonPlus(canonizers=canonizers)) as attributor:
        _, relevance = attributor(x.clone().requires_grad_(True), lambda y: torch.eye(1000)[[target]] * y)
    return relevance


def rise(model, x, target, masks, cells=7, probability=0.5, batch=10):
    """RISE as its authors describe it; there is no packaged implementation to compare with."""
    generator = torch.Generator().manual_seed(0)
    height, width = x.shape[-2:]
    step = [-(-height // cells), -(-width // cells)]
    total = torch.zeros(1, 1, height, width)
    for start in range(0, masks, batch):
        count = min(batch, masks - start)
        grid = (torch.rand(count, 1, cells, cells, generator=generator) < probability).float()
        large = torch.nn.functional.interpolate(
            grid, size=((cells + 1) * step[0], (cells + 1) * step[1]), mode="bilinear", align_corners=False
        )
        shift = [torch.randint(0, s, (count,), generator=generator) for s in step]
        drawn = torch.stack([large[i, :, a : a + height, b : b + width] for i, (a, b) in enumerate(zip(*shift))])
        scores = model(x * drawn).softmax(1)[:, target]
        total += (scores[:, None, None, None] * drawn).sum(0, keepdim=True)
    return total / masks / probability


def status(key):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(key):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    loaded = None
    for line in sys.stdin:
        request = json.loads(line)
        if loaded is None or loaded[0] != request["weights"]:
            loaded = (request["weights"], network(request["architecture"], request["weights"]))
        x = load_file(request["input"])["input"]
        layout = torch.channels_last if request["channels_last"] else torch.contiguous_format
        loaded[1].to(memory_format=layout)
        x = x.contiguous(memory_format=layout)
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        except OSError:
            pass
        before = status("VmRSS:")
        start = time.perf_counter()
        found = explain(loaded[1], x, request["class"], request["workload"])
        seconds = time.perf_counter() - start
        if request.get("output"):
            save_file({"attribution": found.detach().contiguous()}, request["output"])
        print(json.dumps({"seconds": seconds, "peak_mib": status("VmHWM:"), "before_mib": before}), flush=True)


main()
