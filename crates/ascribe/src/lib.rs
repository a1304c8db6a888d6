//! Explain the decisions of trained neural networks, in Rust, from the model file alone.
