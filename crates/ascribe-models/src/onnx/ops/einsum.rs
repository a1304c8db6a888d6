//! Einstein sums (`Einsum`), as diagonals, transpositions, sums and matrix products of two operands at a time.

use ascribe_core::ops::{MatMul, Reduce, ReduceFn, Structure};

use super::Call;
use crate::onnx::context::Context;
use crate::onnx::value::{Elem, Fault, Res, Value};

/// The index of an axis of the ellipsis, counted from its last axis. Equations cannot contain these characters.
fn ellipsis_index(from_end: usize) -> char {
    u32::try_from(from_end).ok().and_then(|i| char::from_u32(0xE000 + i)).unwrap_or('\u{E0FF}')
}

/// Replaces an ellipsis by the indices of `count` axes.
fn expand(term: &str, count: usize) -> Option<Vec<char>> {
    let ellipsis = (0..count).rev().map(ellipsis_index);
    let letters = |text: &str| text.chars().all(|c| c.is_ascii_alphabetic());
    match term.split_once("...") {
        Some((before, after)) if letters(before) && letters(after) => {
            Some(before.chars().chain(ellipsis).chain(after.chars()).collect())
        }
        None if letters(term) => Some(term.chars().collect()),
        _ => None,
    }
}

/// Parses an equation for operands with these numbers of axes: the indices of each operand, and those of the result.
fn parse(equation: &str, ranks: &[usize]) -> Res<(Vec<Vec<char>>, Vec<char>)> {
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let wrong =
        || -> Fault { format!("equation '{equation}' does not fit operands with {ranks:?} axes").into() };
    let (left, right) = match text.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (text.as_str(), None),
    };
    let parts: Vec<&str> = left.split(',').collect();
    if parts.len() != ranks.len() {
        return Err(wrong());
    }
    let mut widest = 0;
    let mut terms = Vec::with_capacity(parts.len());
    for (part, &rank) in parts.iter().zip(ranks) {
        let named = part.chars().filter(|&c| c != '.').count();
        let hidden = rank.checked_sub(named).filter(|&h| part.contains("...") || h == 0).ok_or_else(wrong)?;
        if part.contains("...") {
            widest = widest.max(hidden);
        }
        terms.push(expand(part, hidden).ok_or_else(wrong)?);
    }
    let result: Vec<char> = if let Some(right) = right {
        expand(right, widest).ok_or_else(wrong)?
    } else {
        // Without `->`, the result has the axes of the ellipsis, then the indices that occur exactly once, in
        // alphabetical order.
        let mut all: Vec<char> = terms.concat();
        all.sort_unstable();
        let once =
            all.iter().copied().filter(|c| c.is_ascii() && all.iter().filter(|d| *d == c).count() == 1);
        (0..widest).rev().map(ellipsis_index).chain(once).collect()
    };
    let known = result.iter().all(|c| terms.iter().any(|t| t.contains(c)));
    let single = result.iter().enumerate().all(|(i, c)| !result[..i].contains(c));
    if known && single { Ok((terms, result)) } else { Err(wrong()) }
}

/// A value and the indices of its axes.
#[derive(Clone)]
struct Operand {
    value: Value,
    term: Vec<char>,
}

impl Operand {
    /// Takes the diagonal of axes that have the same index.
    fn diagonals(mut self, cx: &mut Context, call: &Call<'_>, name: &str) -> Res<Self> {
        while let Some((i, j)) = repeated(&self.term) {
            for axis in [i, j] {
                call.not_batch(&self.value, axis, "takes the diagonal over")?;
            }
            let mut order: Vec<usize> = (0..self.term.len()).filter(|&a| a != i && a != j).collect();
            let mut term: Vec<char> = order.iter().map(|&a| self.term[a]).collect();
            term.push(self.term[i]);
            order.extend([i, j]);
            let op = Structure::Transpose { order };
            let moved = cx.apply(&format!("{name}/transpose"), op, &[&self.value], Elem::Float)?;
            let [shape, _] = moved.shapes()?;
            let last = shape.len() - 1;
            let side = shape[last];
            if shape[last - 1] != side {
                return Err(
                    format!("takes the diagonal of axes of sizes {} and {side}", shape[last - 1]).into()
                );
            }
            let flat = cx.reshape_by(&format!("{name}/flat"), &moved, |s| {
                Ok([&s[..last - 1], &[side * side]].concat())
            })?;
            let op = Structure::Slice { axis: last - 1, start: 0, len: side, step: side as isize + 1 };
            let value = cx.apply(&format!("{name}/diagonal"), op, &[&flat], Elem::Float)?;
            self = Self { value, term };
        }
        Ok(self)
    }

    /// Removes axes of length 1 that are longer in another operand.
    fn narrowed(self, cx: &mut Context, name: &str, longer: &[char]) -> Res<Self> {
        let [shape, _] = self.value.shapes()?;
        let kept: Vec<usize> =
            (0..shape.len()).filter(|&a| shape[a] != 1 || !longer.contains(&self.term[a])).collect();
        if kept.len() == shape.len() {
            return Ok(self);
        }
        let value = cx.reshape_by(name, &self.value, |s| Ok(kept.iter().map(|&a| s[a]).collect()))?;
        Ok(Self { value, term: kept.iter().map(|&a| self.term[a]).collect() })
    }

    /// Sums over the indices that are not in `keep`.
    fn summed(self, cx: &mut Context, call: &Call<'_>, name: &str, keep: &[char]) -> Res<Self> {
        let axes: Vec<usize> = (0..self.term.len()).filter(|&i| !keep.contains(&self.term[i])).collect();
        if axes.is_empty() {
            return Ok(self);
        }
        for &axis in &axes {
            call.not_batch(&self.value, axis, "sums over")?;
        }
        let op = Reduce { function: ReduceFn::Sum, axes, keep: false };
        let value = cx.apply(name, op, &[&self.value], Elem::Float)?;
        Ok(Self { value, term: self.term.into_iter().filter(|c| keep.contains(c)).collect() })
    }

    /// The value with its axes in the order of `to`.
    fn permuted(&self, cx: &mut Context, name: &str, to: &[char]) -> Res<Value> {
        let order: Option<Vec<usize>> = to.iter().map(|c| self.term.iter().position(|d| d == c)).collect();
        let order = order.ok_or("an index is missing")?;
        if order.iter().copied().eq(0..order.len()) {
            return Ok(self.value.clone());
        }
        cx.apply(name, Structure::Transpose { order }, &[&self.value], Elem::Float)
    }
}

/// The first two axes with the same index.
fn repeated(term: &[char]) -> Option<(usize, usize)> {
    (0..term.len()).find_map(|j| Some((term[..j].iter().position(|c| *c == term[j])?, j)))
}

/// The product of two operands, summed over the indices that are not in `keep`.
fn contract(
    cx: &mut Context,
    call: &Call<'_>,
    name: &str,
    a: Operand,
    b: Operand,
    keep: &[char],
) -> Res<Operand> {
    let sides = [[keep, &b.term].concat(), [keep, &a.term].concat()];
    let a = a.summed(cx, call, &format!("{name}/left/sum"), &sides[0])?;
    let b = b.summed(cx, call, &format!("{name}/right/sum"), &sides[1])?;
    let pick =
        |of: &[char], f: &dyn Fn(&char) -> bool| of.iter().copied().filter(|c| f(c)).collect::<Vec<char>>();
    let shared = pick(&a.term, &|c| b.term.contains(c) && keep.contains(c));
    let inner = pick(&a.term, &|c| b.term.contains(c) && !keep.contains(c));
    let rows = pick(&a.term, &|c| !b.term.contains(c));
    let cols = pick(&b.term, &|c| !a.term.contains(c));
    for (axis, c) in a.term.iter().enumerate().filter(|(_, c)| inner.contains(c)) {
        call.not_batch(&a.value, axis, &format!("sums index {c} over"))?;
    }
    let left = a.permuted(cx, &format!("{name}/left"), &[&shared[..], &rows, &inner].concat())?;
    let right = b.permuted(cx, &format!("{name}/right"), &[&shared[..], &inner, &cols].concat())?;
    let (s, r, k) = (shared.len(), rows.len(), inner.len());
    let matrix = |shape: &[usize], middle: usize| {
        let mut m = shape[..s].to_vec();
        m.push(shape[s..s + middle].iter().product());
        m.push(shape[s + middle..].iter().product());
        Ok(m)
    };
    let (left_shapes, right_shapes) = (left.shapes()?, right.shapes()?);
    let left = cx.reshape_by(&format!("{name}/left/matrix"), &left, |shape| matrix(shape, r))?;
    let right = cx.reshape_by(&format!("{name}/right/matrix"), &right, |shape| matrix(shape, k))?;
    let product = cx.apply(&format!("{name}/product"), MatMul, &[&left, &right], Elem::Float)?;
    let full = [0, 1].map(|w| [&left_shapes[w][..s + r], &right_shapes[w][s + k..]].concat());
    let value = cx.reshape(&format!("{name}/result"), &product, &full, 1)?;
    Ok(Operand { value, term: [&shared[..], &rows, &cols].concat() })
}

pub(super) fn einsum(cx: &mut Context, call: &Call<'_>) -> Res<Value> {
    let values = call.all()?;
    let equation = call.attributes.string("equation")?.ok_or("has no equation")?;
    let ranks = values.iter().map(|v| v.rank()).collect::<Res<Vec<usize>>>()?;
    let (terms, result) = parse(equation, &ranks)?;
    let mut operands = Vec::with_capacity(values.len());
    for (i, (value, term)) in values.into_iter().zip(terms).enumerate() {
        let operand = Operand { value: value.clone(), term };
        operands.push(operand.diagonals(cx, call, &call.sub(&i.to_string()))?);
    }
    let mut longer = Vec::new();
    for operand in &operands {
        let [shape, _] = operand.value.shapes()?;
        longer.extend(operand.term.iter().zip(shape).filter(|(_, side)| *side != 1).map(|(&c, _)| c));
    }
    let mut rest = Vec::with_capacity(operands.len());
    for (i, operand) in operands.into_iter().enumerate() {
        rest.push(operand.narrowed(cx, &call.sub(&format!("{i}/narrow")), &longer)?);
    }
    let mut rest = rest.into_iter();
    let mut product = rest.next().ok_or("has no operands")?;
    let mut step = 0;
    while let Some(next) = rest.next() {
        let later = rest.as_slice().iter().flat_map(|o| o.term.iter().copied());
        let keep: Vec<char> = result.iter().copied().chain(later).collect();
        let name = if step == 0 { call.name.to_string() } else { call.sub(&step.to_string()) };
        product = contract(cx, call, &name, product, next, &keep)?;
        step += 1;
    }
    let product = product.summed(cx, call, &call.sub("sum"), &result)?;
    product.permuted(cx, call.name, &result)
}

#[cfg(test)]
mod tests {
    use super::{ellipsis_index, parse, repeated};

    #[test]
    fn equations() {
        let (terms, result) = parse("bij, bjk -> bik", &[3, 3]).unwrap();
        assert_eq!(terms, [vec!['b', 'i', 'j'], vec!['b', 'j', 'k']]);
        assert_eq!(result, ['b', 'i', 'k']);
        assert_eq!(parse("ij,jk", &[2, 2]).unwrap().1, ['i', 'k']);
        assert_eq!(parse("ii->i", &[2]).unwrap().1, ['i']);
        assert_eq!(parse("i,j,k->ijk", &[1, 1, 1]).unwrap().0.len(), 3);
        for bad in ["ij,jk->il", "ij", "ij,jk->ii", "i.j,jk->ik", "ij,jk,kl->il", "ijk,jk->i"] {
            assert!(parse(bad, &[2, 2]).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_ellipsis_is_aligned_at_its_end() {
        let [last, first] = [ellipsis_index(0), ellipsis_index(1)];
        let (terms, result) = parse("...ij,...jk->...ik", &[4, 3]).unwrap();
        assert_eq!(terms, [vec![first, last, 'i', 'j'], vec![last, 'j', 'k']]);
        assert_eq!(result, [first, last, 'i', 'k']);
        assert_eq!(parse("...b,a", &[2, 1]).unwrap().1, [last, 'a', 'b']);
    }

    #[test]
    fn repeated_indices() {
        assert_eq!(repeated(&['a', 'b', 'a']), Some((0, 2)));
        assert_eq!(repeated(&['a', 'b']), None);
    }
}
