"""Exports architectures of torchvision, timm and transformers with both of PyTorch's exporters, for `cargo xtask models`.

    export.py FOLDER OUTPUT [NAME…]

FOLDER gets NAME.legacy.onnx (TorchScript exporter, open batch) and NAME.dynamo.onnx (the default exporter, as it is called
without options). OUTPUT gets, for each file, `.in` and `.out` .safetensors files with an input and onnxruntime's outputs, as
references.py writes them, and `.grad` with PyTorch's gradient in double precision: of the best class where the first output is
[1, C], of the mean of the first output otherwise. Where all inputs are integers, it is the gradient at the word embedding.

Weights are random, with statistics and layer scales that let every part of the network count.
"""

import logging
import os
import pathlib
import sys
import warnings

import numpy as np
import onnxruntime as ort
import timm
import torch
import torchvision
import transformers
from safetensors.numpy import save_file

TORCHVISION = """alexnet convnext_tiny densenet121 efficientnet_b0 googlenet inception_v3 maxvit_t mnasnet0_5 mobilenet_v2
mobilenet_v3_small regnet_y_400mf resnet18 resnext50_32x4d shufflenet_v2_x0_5 squeezenet1_1 swin_t swin_v2_t vgg11_bn vit_b_32
wide_resnet50_2 segmentation.lraspp_mobilenet_v3_large segmentation.deeplabv3_mobilenet_v3_large video.r3d_18""".split()
TIMM = """beit_base_patch16_224 botnet26t_256 caformer_s18 cait_xxs24_224 coat_lite_tiny coatnet_nano_rw_224 convit_tiny
convmixer_768_32 convnext_atto convnextv2_atto crossvit_tiny_240 cspresnet50 davit_tiny deit3_small_patch16_224
deit_tiny_distilled_patch16_224 dpn48b edgenext_xx_small efficientformer_l1 efficientvit_b0 eva02_tiny_patch14_224 fastvit_t8
fbnetc_100 focalnet_tiny_srf gcvit_xxtiny ghostnet_100 gmlp_ti16_224 halonet26t hardcorenas_a hgnet_tiny hiera_tiny_224 hrnet_w18_small
inception_next_atto inception_resnet_v2 lambda_resnet26t lcnet_050 levit_128s maxvit_rmlp_pico_rw_256 mixer_s32_224
mobilenetv4_conv_small mobileone_s0 mobilevit_s mobilevitv2_050 mvitv2_tiny nest_tiny nf_resnet50 pit_ti_224 poolformer_s12 pvt_v2_b0
regnetx_002 repvgg_a0 repvit_m1 res2net50_14w_8s resmlp_12_224 resnest14d rexnet_100 sequencer2d_s sknet_placeholder
swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 tf_efficientnetv2_b0 tinynet_e tiny_vit_5m_224 tnt_s_patch16_224 tresnet_m
twins_svt_small visformer_tiny vit_relpos_small_patch16_224 vit_small_patch14_reg4_dinov2 vit_tiny_patch16_224 volo_d1_224 vovnet39a
xception41 xcit_nano_12_p16_224""".replace("sknet_placeholder", "skresnet18").split()
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 500}
TRANSFORMERS = {
    "bert": ("BertForSequenceClassification", SMALL),
    "distilbert": ("DistilBertForSequenceClassification", {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 500}),
    "roberta": ("RobertaForSequenceClassification", SMALL),
    "electra": ("ElectraForSequenceClassification", SMALL | {"embedding_size": 32}),
    "albert": ("AlbertForSequenceClassification", SMALL | {"embedding_size": 32}),
    "mpnet": ("MPNetForSequenceClassification", SMALL),
    "gpt2": ("GPT2LMHeadModel", {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 500}),
    "llama": ("LlamaForCausalLM", SMALL | {"num_key_value_heads": 2}),
    "vit": ("ViTForImageClassification", SMALL | {"image_size": 64}),
    "segformer": ("SegformerForSemanticSegmentation", {"hidden_sizes": [16, 32, 40, 64], "num_labels": 5}),
    "wav2vec2": ("Wav2Vec2ForSequenceClassification", SMALL | {"conv_dim": [32] * 7, "num_conv_pos_embeddings": 16}),
}
NAMES = (
    ["torchvision." + name for name in TORCHVISION]
    + ["timm." + name for name in TIMM]
    + ["transformers." + name for name in TRANSFORMERS]
)


class First(torch.nn.Module):
    """The first output of a network that returns a dictionary."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        found = self.network(x)
        return next(iter(found.values())) if isinstance(found, dict) else found[0] if isinstance(found, tuple) else found


def build(name):
    """A network and an input of one sample."""
    library, name = name.split(".", 1)
    draw = torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    if library == "transformers":
        kind, options = TRANSFORMERS[name]
        cls = getattr(transformers, kind)
        network = First(cls(cls.config_class(**options)))
        network.network.config.use_cache = False
        shape = {"vit": (1, 3, 64, 64), "segformer": (1, 3, 64, 64), "wav2vec2": (1, 4000)}.get(name)
        x = torch.randn(shape, generator=draw) if shape else torch.randint(5, 500, (1, 12), generator=draw)
    elif library == "timm":
        options = {"img_size": 224} if "dinov2" in name else {}
        network = timm.create_model(name, pretrained=False, num_classes=100, **options)
        side = 224 if options else network.default_cfg["input_size"][-1]
        x = torch.randn((1, 3, side, side), generator=draw)
    else:
        module = torchvision.models
        for part in name.split(".")[:-1]:
            module = getattr(module, part)
        plain = {"weights": None}
        if name in ("googlenet", "inception_v3"):
            plain |= {"init_weights": True, "aux_logits": False}
        if name.startswith("segmentation"):
            plain |= {"weights_backbone": None}
        network = First(getattr(module, name.split(".")[-1])(**plain))
        shape = (1, 3, 8, 64, 64) if name.startswith("video") else (1, 3, 224, 224)
        x = torch.randn(shape, generator=draw)
    network.eval()
    with torch.no_grad():
        for key, value in network.named_parameters():
            if value.dim() > 0:
                value.add_(0.02 * torch.randn(value.shape, generator=draw))
            if key.endswith("gamma") or any(part in key for part in ("layer_scale", "ls1", "ls2")):
                value.add_(0.2)
        for key, value in network.named_buffers():
            if key.endswith("running_mean"):
                value.add_(0.1 * torch.randn(value.shape, generator=draw))
            if key.endswith("running_var"):
                value.add_(0.3 * torch.rand(value.shape, generator=draw))
    for value in network.parameters():
        value.requires_grad_(False)
    return network, x


def export(network, x, how, path):
    part = path.with_suffix(".part")
    if how == "legacy":
        axes = {"x": {0: "batch"}, "y": {0: "batch"}}
        torch.onnx.export(network, (x,), str(part), dynamo=False, opset_version=18, input_names=["x"], output_names=["y"], dynamic_axes=axes)
    else:
        torch.onnx.export(network, (x,), dynamo=True, verbose=False).save(str(part), external_data=False)
    os.replace(part, path)


def gradient(network, x):
    """The gradient in double precision, and the class (−1 for the mean); `None` if it is wrong."""
    exact = network.double()
    kept = {}
    if not x.is_floating_point():

        def keep(module, inputs, output):
            if "embedding" not in kept:
                output = output.detach().requires_grad_(True)
                kept["embedding"] = output
                return output

        words = next(m for n, m in network.named_modules() if isinstance(m, torch.nn.Embedding) and ("word" in n or "wte" in n or "embed_tokens" in n))
        words.register_forward_hook(keep)
        given = x
    else:
        given = x.double().requires_grad_(True)
        kept["x"] = given
    y = exact(given)
    best = int(y.argmax()) if y.dim() == 2 else -1
    score = y[0, best] if best >= 0 else y.mean()
    name, value = next(iter(kept.items()))
    (grad,) = torch.autograd.grad(score, value)
    if name == "x" and not agrees(exact, x.double(), grad, best):
        return None
    return {name: grad.numpy(), "target": np.array([best], np.int64)}


def agrees(network, x, grad, best):
    """Whether the gradient along its own direction is a central difference, which some networks' are not."""
    length = float(grad.norm())
    if length == 0.0:
        return True

    def at(step):
        y = network(x + step / length * grad)
        return float(y[0, best] if best >= 0 else y.mean())

    with torch.no_grad():
        return any(abs((at(step) - at(-step)) / (2 * step) / length - 1) < 1e-3 for step in (1e-3, 1e-5))


def outputs(path, x):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    found = session.run(None, {name: x})
    return name, {o.name: np.ascontiguousarray(v) for o, v in zip(session.get_outputs(), found)}


def main():
    folder, output = map(pathlib.Path, sys.argv[1:3])
    folder.mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.backends.mha.set_fastpath_enabled(False)  # It has no ONNX operators.
    for name in sys.argv[3:] or NAMES:
        done = []
        for how in ("legacy", "dynamo"):
            path = folder / f"{name}.{how}.onnx"
            if path.exists():
                continue
            try:
                network, x = build(name)
                export(network, x, how, path)
                given, found = outputs(path, x.numpy())
                base = output / f"{name}.{how}"
                save_file({given: x.numpy()}, f"{base}.in.safetensors")
                save_file(found, f"{base}.out.safetensors")
                done.append((how, base))
            except Exception as problem:  # Exporters raise anything; the list goes on.
                path.unlink(missing_ok=True)
                print(f"{name}.{how}: not exported: {str(problem).splitlines()[0][:200]}", flush=True)
        if done:
            network, x = build(name)
            grad = gradient(network, x)
            if grad is None:
                print(f"{name}: PyTorch's gradient is not a difference of its own outputs; it is left out", flush=True)
            for how, base in done:
                if grad is not None:
                    save_file(grad, f"{base}.grad.safetensors")
                print(f"{name}.{how}", flush=True)


if __name__ == "__main__":
    main()
