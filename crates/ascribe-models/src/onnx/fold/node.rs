//! Which nodes are computed when a file is loaded.

use super::{Fold, LIMIT};
use crate::onnx::array::{Array, count};
use crate::onnx::context::{Context, both};
use crate::onnx::ops::Call;
use crate::onnx::value::{Elem, Res, Value};

/// Computes a node now if it is shape arithmetic, or an operator on small constants.
pub(in crate::onnx) fn fold(cx: &mut Context, call: &Call<'_>) -> Res<Option<Vec<Value>>> {
    let dtype = cx.dtype;
    let value = |arrays: [Array; 2]| Value::from_arrays(arrays, dtype, call.name);
    if let ("Shape" | "Size", Some(Some(x))) = (call.op, call.inputs.first()) {
        let shapes = x.shapes()?;
        let fold =
            Fold { op: call.op, opset: call.opset, attributes: call.attributes, inputs: &[], outputs: 1 };
        let arrays = both(|w| match call.op {
            "Shape" => fold.shape(&shapes[w]),
            _ => Ok(Array::int(count(&shapes[w])? as i64)),
        })?;
        return Ok(Some(vec![value(arrays)?]));
    }
    let text = |value: &Value| value.elem().is_ok_and(|elem| elem == Elem::Text);
    if call.microsoft || call.ml || call.inputs.iter().flatten().any(|v| v.is_node() || text(v)) {
        return Ok(None);
    }
    // These are left to `translate`, which passes constants on without a copy, so that a weight keeps its name.
    if matches!(call.op, "Identity" | "Dropout" | "Constant" | "ConstantOfShape") {
        return Ok(None);
    }
    let mut inputs = [Vec::new(), Vec::new()];
    let mut varies = false;
    for input in call.inputs {
        let arrays = match input {
            None => [None, None],
            Some(value) => {
                varies |= matches!(value, Value::Varying(_));
                match value.arrays(LIMIT)? {
                    Some([a, b]) => [Some(a), Some(b)],
                    None => return Ok(None),
                }
            }
        };
        let [a, b] = arrays;
        inputs[0].push(a);
        inputs[1].push(b);
    }
    let weights = matches!(
        call.op,
        "Transpose" | "Reshape" | "Unsqueeze" | "Squeeze" | "Flatten" | "Cast" | "CastLike"
    );
    if weights
        && !varies
        && call
            .inputs
            .first()
            .is_some_and(|x| x.as_ref().is_some_and(|x| x.elem().is_ok_and(|e| e == Elem::Float)))
    {
        return Ok(None);
    }
    let run = |w: usize| {
        let fold = Fold {
            op: call.op,
            opset: call.opset,
            attributes: call.attributes,
            inputs: &inputs[w],
            outputs: call.outputs,
        };
        fold.run()
    };
    let Some(first) = run(0) else { return Ok(None) };
    let first = first?;
    let second = if varies {
        match run(1) {
            Some(second) => second?,
            None => return Ok(None),
        }
    } else {
        first.clone()
    };
    for array in &first {
        cx.spend(&array.shape)?;
    }
    let values = first.into_iter().zip(second).map(|(a, b)| value([a, b])).collect::<Res<Vec<Value>>>()?;
    Ok(Some(values))
}
