"""captum's side of the measurements: answers requests, one JSON object per line (see xtask/src/bench/work.rs)."""

import json
import pathlib
import resource
import sys
import time

import torch
import torchvision
from captum.attr import IntegratedGradients, Occlusion, Saliency
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "fixtures/scripts"))
torch.set_num_threads(2)


def network(architecture, weights):
    state = {k: v.float() for k, v in load_file(weights).items()}
    if architecture == "efficientnet-lite0":
        import efficientnet_lite

        model = efficientnet_lite.EfficientNetLite(0)
    else:
        model = getattr(torchvision.models, architecture)(weights=None)
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    assert not missing and not unexpected, (missing, unexpected)
    # Frozen parameters: captum would otherwise compute gradients for them.
    return model.eval().requires_grad_(False)


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
    raise ValueError(workload)


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
