//! Utilities shared by the tests of several crates: golden cases ([`golden`]) and random networks ([`net`]).

pub mod golden;
pub mod net;

use std::collections::BTreeMap;

use ascribe_core::{Attribution, Cost, DType, Provenance, Result, Tensor, Values};

/// All values of a tensor.
pub fn flat(values: &Tensor) -> Result<Vec<f64>> {
    Ok(values.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// The bits of all values of an attribution, standard errors included.
pub fn bits(attribution: &Attribution) -> Result<Vec<u64>> {
    let parts = attribution.parts.iter().flat_map(|p| [Some(&p.values), p.spread.as_ref()]).flatten();
    let values: Result<Vec<Vec<f64>>> = parts.map(flat).collect();
    Ok(values?.concat().into_iter().map(f64::to_bits).collect())
}

/// ‖a − b‖ / ‖b‖; ‖a‖ if b is zero.
///
/// # Panics
/// If the lengths differ.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| a - b));
    let size = norm(&mut b.iter().copied());
    if size > 0.0 { difference / size } else { difference }
}

/// An attribution with these values and targets that was not computed by a method.
pub fn attribution(values: Tensor, targets: Vec<String>) -> Attribution {
    let provenance = Provenance {
        method: "given".into(),
        config: serde_json::Value::Null,
        relative: false,
        scores: vec![0.0; targets.len()],
        targets,
        baseline_scores: None,
        completeness_gap: None,
        cost: Cost::default(),
        seconds: 0.0,
        seed: 0,
        details: serde_json::Map::new(),
        notes: Vec::new(),
        warnings: Vec::new(),
    };
    let parts = vec![Values { name: String::new(), values, spread: None, layout: None }];
    Attribution { parts, extras: BTreeMap::new(), provenance }
}
