"""Writes networks and an input for the measurements side by side: networks.py FOLDER NETWORK..."""

import pathlib
import sys

import torch
import torchvision
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "fixtures/scripts"))


def network(architecture, weights):
    state = {k: v.float() for k, v in load_file(weights).items()}
    if architecture == "efficientnet-lite0":
        import efficientnet_lite

        model = efficientnet_lite.EfficientNetLite(0)
    else:
        model = getattr(torchvision.models, architecture.replace("-", "_"))(weights=None)
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    assert not missing and not unexpected, (missing, unexpected)
    # Frozen parameters: captum would otherwise compute gradients for them.
    return model.eval().requires_grad_(False)


def parameters(name):
    if name == "efficientnet-lite0":
        return load_file(ROOT / "fixtures/models/efficientnet-lite0.safetensors")
    # Random parameters: times do not depend on them.
    torch.manual_seed(0)
    state = getattr(torchvision.models, name.replace("-", "_"))(weights=None).state_dict()
    if name == "vit-b-16":
        # Zeros, as torchvision leaves it, would make every gradient vanish.
        state["heads.head.weight"] = 0.02 * torch.randn(1000, 768)
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def export(name, state, file):
    """The ONNX file that Ascribe reads: transformers are not among its architectures."""
    model = torchvision.models.vit_b_16(weights=None).eval()
    model.load_state_dict(state)
    names = {"input_names": ["input"], "output_names": ["logits"]}
    axes = {"input": {0: "n"}, "logits": {0: "n"}}
    torch.onnx.export(model, (torch.zeros(2, 3, 224, 224),), file, dynamic_axes=axes, dynamo=False, **names)


def main():
    folder = pathlib.Path(sys.argv[1])
    for name in sys.argv[2:]:
        state = parameters(name)
        save_file({k: v.contiguous() for k, v in state.items()}, folder / f"{name}.safetensors")
        if name == "vit-b-16":
            export(name, state, folder / f"{name}.onnx")
    reference = load_file(ROOT / "fixtures/models/efficientnet-lite0.reference.safetensors")
    save_file({"input": reference["input"].float().contiguous()}, folder / "input.safetensors")


if __name__ == "__main__":
    main()
