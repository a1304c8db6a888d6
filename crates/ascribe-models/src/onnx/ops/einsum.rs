//! Einstein sums (`Einsum`) of one or two operands, as transpositions, reductions and a matrix product.

use ascribe_core::ops::{MatMul, Reduce, ReduceFn, Structure};

use super::Call;
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Res, Value};

/// Parses an equation: the indices of each operand, and those of the result.
fn parse(equation: &str, operands: usize) -> Res<(Vec<Vec<char>>, Vec<char>)> {
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let wrong = || -> crate::onnx::value::Fault { format!("equation '{equation}' is not supported").into() };
    let (left, right) = match text.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (text.as_str(), None),
    };
    let terms: Vec<Vec<char>> = left.split(',').map(|t| t.chars().collect()).collect();
    let result: Vec<char> = if let Some(right) = right {
        right.chars().collect()
    } else {
        // Without `->`, the result has the indices that occur exactly once, in alphabetical order.
        let mut all: Vec<char> = terms.concat();
        all.sort_unstable();
        all.iter().copied().filter(|c| all.iter().filter(|d| *d == c).count() == 1).collect()
    };
    let letters = terms
        .iter()
        .chain([&result])
        .all(|t| t.iter().enumerate().all(|(i, c)| c.is_ascii_alphabetic() && !t[..i].contains(c)));
    let known = result.iter().all(|c| terms.iter().any(|t| t.contains(c)));
    if terms.len() != operands || !(1..=2).contains(&operands) || !letters || !known {
        return Err(wrong());
    }
    Ok((terms, result))
}

/// Sums an operand over its indices that are not in `keep`, and removes them from `term`.
fn sum_out(cx: &mut Context, call: &Call<'_>, x: &Value, term: &mut Vec<char>, keep: &[char]) -> Res<Value> {
    let axes: Vec<usize> = (0..term.len()).filter(|&i| !keep.contains(&term[i])).collect();
    if axes.is_empty() {
        return Ok(x.clone());
    }
    for &axis in &axes {
        call.not_batch(x, axis, "sums over")?;
    }
    term.retain(|c| keep.contains(c));
    cx.apply(&call.sub("sum"), Reduce { function: ReduceFn::Sum, axes, keep: false }, &[x], Elem::Float)
}

/// Transposes a value with the indices `from` to the order `to`.
fn permute(cx: &mut Context, name: &str, x: &Value, from: &[char], to: &[char]) -> Res<Value> {
    let order: Option<Vec<usize>> = to.iter().map(|c| from.iter().position(|d| d == c)).collect();
    let order = order.ok_or("an index is missing")?;
    if order.iter().copied().eq(0..order.len()) {
        return Ok(x.clone());
    }
    cx.apply(name, Structure::Transpose { order }, &[x], Elem::Float)
}

pub(super) fn einsum(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let operands = call.all()?;
    let equation = call.attributes.string("equation")?.ok_or("has no equation")?;
    let (mut terms, result) = parse(equation, operands.len())?;
    for (x, term) in operands.iter().zip(&terms) {
        if x.rank()? != term.len() {
            return Err(
                format!("equation '{equation}' does not fit an operand with {} axes", x.rank()?).into()
            );
        }
    }
    if operands.len() == 1 {
        let x = sum_out(cx, call, operands[0], &mut terms[0], &result)?;
        return permute(cx, call.name, &x, &terms[0], &result);
    }
    let needed = |own: usize| [result.as_slice(), terms[1 - own].as_slice()].concat();
    let keeps = [needed(0), needed(1)];
    let a = sum_out(cx, call, operands[0], &mut terms[0], &keeps[0])?;
    let b = sum_out(cx, call, operands[1], &mut terms[1], &keeps[1])?;
    let (left, right) = (&terms[0], &terms[1]);
    let pick =
        |f: &dyn Fn(&char) -> bool, of: &[char]| of.iter().copied().filter(|c| f(c)).collect::<Vec<char>>();
    let shared = pick(&|c| right.contains(c) && result.contains(c), left);
    let inner = pick(&|c| right.contains(c) && !result.contains(c), left);
    let rows = pick(&|c| !right.contains(c), left);
    let cols = pick(&|c| !left.contains(c), right);
    for (i, c) in left.iter().enumerate().filter(|(_, c)| inner.contains(c)) {
        call.not_batch(&a, i, &format!("sums index {c} over"))?;
    }
    let a = permute(cx, &call.sub("left"), &a, left, &[&shared[..], &rows, &inner].concat())?;
    let b = permute(cx, &call.sub("right"), &b, right, &[&shared[..], &inner, &cols].concat())?;
    let (s, r, k) = (shared.len(), rows.len(), inner.len());
    let matrix = |shape: &[usize], middle: usize| {
        let mut m = shape[..s].to_vec();
        m.push(shape[s..s + middle].iter().product());
        m.push(shape[s + middle..].iter().product());
        Ok(m)
    };
    let wide = |x: &Value| x.shapes();
    let (a_shapes, b_shapes) = (wide(&a)?, wide(&b)?);
    let a = cx.reshape_by(&call.sub("left/matrix"), &a, |shape| matrix(shape, r))?;
    let b = cx.reshape_by(&call.sub("right/matrix"), &b, |shape| matrix(shape, k))?;
    let y = cx.apply(&call.sub("product"), MatMul, &[&a, &b], Elem::Float)?;
    let full = [0, 1].map(|w| [&a_shapes[w][..s + r], &b_shapes[w][s + k..]].concat());
    let y = cx.reshape(&call.sub("result"), &y, &full, 1)?;
    permute(cx, call.name, &y, &[&shared[..], &rows, &cols].concat(), &result)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn equations() {
        let (terms, result) = parse("bij, bjk -> bik", 2).unwrap();
        assert_eq!(terms, [vec!['b', 'i', 'j'], vec!['b', 'j', 'k']]);
        assert_eq!(result, ['b', 'i', 'k']);
        assert_eq!(parse("ij,jk", 2).unwrap().1, ['i', 'k']);
        for bad in ["ii->i", "ij,jk->il", "...i->i", "ij", "i,j,k->ijk"] {
            assert!(parse(bad, 2).is_err(), "{bad}");
        }
    }
}
