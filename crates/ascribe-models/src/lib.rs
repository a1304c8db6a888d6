//! Model loading for Ascribe: ONNX, safetensors, PyTorch checkpoints, architectures, weights and preprocessing.
