//! Which nodes are rectifiers, whatever operator they are written with.

use ascribe_core::Site;
use ascribe_core::ops::{Binary, Op, Pointwise};

/// Whether a node is `max(x, 0)`, possibly cut off above: ReLU, `Clip(0, ·)`, `Max(x, 0)`.
pub(crate) fn is_relu(site: &Site<'_>) -> bool {
    match site.op() {
        Op::Pointwise(Pointwise::Relu) => true,
        Op::Pointwise(f @ Pointwise::Clip { .. }) => f.is_rectifier(),
        Op::Binary(Binary::Max) => is_maximum_with_zero(site),
        _ => false,
    }
}

/// Whether a node passes positive values (nearly) unchanged and damps negative ones: those of [`is_relu`], the
/// leaky and the smooth ones ([`Pointwise::is_rectifier`]), and `PRelu`.
pub(crate) fn is_rectifier(site: &Site<'_>) -> bool {
    match site.op() {
        Op::Pointwise(f) => f.is_rectifier(),
        Op::PRelu(_) => true,
        _ => is_relu(site),
    }
}

fn is_maximum_with_zero(site: &Site<'_>) -> bool {
    let mut constants = site.inputs().iter().enumerate().filter(|(slot, _)| !site.is_dynamic(*slot));
    match (constants.next(), constants.next()) {
        (Some((_, value)), None) => {
            let most = value.abs().and_then(|v| v.flatten_all()).and_then(|v| v.max(0));
            most.and_then(|m| m.to_dtype(ascribe_core::DType::F64))
                .and_then(|m| m.to_scalar::<f64>())
                .is_ok_and(|m| m == 0.0)
        }
        _ => false,
    }
}
