//! Benchmarks of Ascribe; see `benches/`.
