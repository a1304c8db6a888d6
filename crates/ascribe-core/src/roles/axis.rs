//! The algebra of axes: an axis is a product of parts, so that a reshape is a regrouping of parts.

use super::AxisRole;

/// A coordinate, or a digit of one: the coordinate of a whole axis is the sum of index · step over its parts, as the
/// digits of a number are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub role: AxisRole,
    pub len: usize,
    /// What an index counts in the whole coordinate.
    pub step: usize,
    /// Length of the whole coordinate.
    pub of: usize,
    /// How far the whole coordinate was rolled: index 0 is the position `shift`.
    pub shift: usize,
}

impl Part {
    /// A whole coordinate.
    pub fn whole(role: AxisRole, len: usize) -> Self {
        Self { role, len, step: 1, of: len, shift: 0 }
    }

    /// Whether this is all of its coordinate.
    pub fn is_whole(self) -> bool {
        self.step == 1 && self.len == self.of
    }

    /// Two parts, of which the second has this length; it must divide the part's.
    fn split(self, inner: usize) -> (Self, Self) {
        (Self { len: self.len / inner, step: self.step * inner, ..self }, Self { len: inner, ..self })
    }

    /// The part that this one and a faster one behind it are together.
    fn merged(self, inner: Self) -> Option<Self> {
        let fits = (self.role, self.of, self.shift) == (inner.role, inner.of, inner.shift);
        (fits && self.step == inner.len * inner.step).then_some(Self { len: self.len * inner.len, ..inner })
    }
}

/// One factor of an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Atom {
    Part(Part),
    /// Positions with further tokens before and behind them.
    Sequence {
        before: usize,
        grid: Vec<Part>,
        after: usize,
    },
}

impl Atom {
    pub fn len(&self) -> usize {
        match self {
            Self::Part(part) => part.len,
            Self::Sequence { before, grid, after } => before + length(grid) + after,
        }
    }

    pub fn parts(&self) -> &[Part] {
        match self {
            Self::Part(part) => std::slice::from_ref(part),
            Self::Sequence { grid, .. } => grid,
        }
    }

    fn parts_mut(&mut self) -> &mut [Part] {
        match self {
            Self::Part(part) => std::slice::from_mut(part),
            Self::Sequence { grid, .. } => grid,
        }
    }
}

/// Number of values that parts distinguish.
pub(super) fn length(parts: &[Part]) -> usize {
    parts.iter().map(|part| part.len).product()
}

/// One axis of a value: its atoms, the slowest first. An axis of length 1 may have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Axis(pub Vec<Atom>);

impl Axis {
    pub fn whole(role: AxisRole, len: usize) -> Self {
        Self(vec![Atom::Part(Part::whole(role, len))])
    }

    pub fn unknown(len: usize) -> Self {
        Self::whole(AxisRole::Unknown, len)
    }

    /// Positions between further tokens; without any, the positions alone.
    pub fn sequence(before: usize, grid: Vec<Part>, after: usize) -> Self {
        if before + after == 0 {
            return Self(grid.into_iter().map(Atom::Part).collect());
        }
        Self(vec![Atom::Sequence { before, grid, after }])
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(Atom::len).product()
    }

    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        self.0.iter().flat_map(Atom::parts).copied()
    }

    /// The parts that count: those longer than 1, or all if there is none.
    fn telling(&self) -> impl Iterator<Item = AxisRole> + '_ {
        let long = self.parts().any(|p| p.len > 1);
        self.parts().filter(move |p| p.len > 1 || !long).map(|p| p.role)
    }

    /// Whether it has parts, and all that count are such.
    pub fn all(&self, test: impl Fn(AxisRole) -> bool) -> bool {
        self.telling().next().is_some() && self.telling().all(test)
    }

    pub fn any(&self, test: impl Fn(AxisRole) -> bool) -> bool {
        self.telling().any(test)
    }

    /// Whether it counts positions, among other things.
    pub fn has_positions(&self) -> bool {
        self.parts().any(|p| p.len > 1 && p.role.is_spatial())
    }

    /// The axis's only atom, not counting others of length 1.
    pub fn sole(&self) -> Option<&Atom> {
        let mut long = self.long();
        match (long.next(), long.next(), self.0.as_slice()) {
            (Some(atom), None, _) | (None, _, [atom]) => Some(atom),
            _ => None,
        }
    }

    /// The axis's only part, if it is one.
    pub fn single(&self) -> Option<Part> {
        match self.sole() {
            Some(Atom::Part(part)) => Some(*part),
            _ => None,
        }
    }

    /// Its positions with the number of further tokens before and behind them, if it holds nothing else.
    pub fn positions(&self) -> Option<(usize, Vec<Part>, usize)> {
        if let Some(Atom::Sequence { before, grid, after }) = self.sole() {
            return Some((*before, grid.clone(), *after));
        }
        let plain = self.0.iter().all(|atom| matches!(atom, Atom::Part(_)));
        let grid = || self.parts().filter(|part| part.role.is_spatial()).collect();
        (plain && self.all(AxisRole::is_spatial)).then(|| (0, grid(), 0))
    }

    /// What the axis is, in one word.
    pub fn role(&self) -> AxisRole {
        let mut roles = self.telling();
        let Some(first) = roles.next() else { return AxisRole::Unknown };
        let extended = self.0.iter().any(|atom| matches!(atom, Atom::Sequence { .. }));
        if roles.all(|role| role == first) && !extended {
            return first;
        }
        if self.any(|role| role == AxisRole::Unknown) {
            AxisRole::Unknown
        } else if self.any(|role| role == AxisRole::Batch) {
            AxisRole::Batch
        } else if self.any(AxisRole::is_channel) {
            AxisRole::Feature
        } else {
            AxisRole::Token
        }
    }

    /// The atoms longer than 1.
    pub fn long(&self) -> impl Iterator<Item = &Atom> {
        self.0.iter().filter(|atom| atom.len() > 1)
    }

    /// What an axis of this length is that two values meet at, element by element.
    pub fn join(&self, other: &Self) -> Self {
        let unknown = |axis: &Self| axis.all(|role| role == AxisRole::Unknown) || axis.0.is_empty();
        let plain = |axis: &Self| axis.single().is_some_and(|p| p.role == AxisRole::Token);
        let positions = |axis: &Self| axis.positions().is_some();
        if self.0.is_empty() {
            return other.clone();
        }
        if self.long().eq(other.long()) || unknown(other) || (plain(other) && positions(self)) {
            return self.clone();
        }
        if unknown(self) || (plain(self) && positions(other)) {
            return other.clone();
        }
        if let Some(scaled) = self.scaled(other) {
            return scaled;
        }
        if self.all(AxisRole::is_channel) && other.all(AxisRole::is_channel) {
            return Self::whole(AxisRole::Channel, self.len());
        }
        Self::unknown(self.len())
    }

    /// The coarser of two axes that count the same parts of a side at different resolutions: windows of 4 of 28 rows, and
    /// of 8 of 56.
    fn scaled(&self, other: &Self) -> Option<Self> {
        let same = |a: Part, b: Part| {
            (a.role, a.len, a.shift, b.shift) == (b.role, b.len, 0, 0) && a.step * b.of == b.step * a.of
        };
        let alike = self.0.iter().chain(&other.0).all(|atom| matches!(atom, Atom::Part(_)))
            && self.0.len() == other.0.len()
            && self.parts().zip(other.parts()).all(|(a, b)| same(a, b));
        alike.then(|| {
            let finer = self.parts().zip(other.parts()).any(|(a, b)| a.of > b.of);
            if finer { other.clone() } else { self.clone() }
        })
    }

    /// What remains of an axis that is reduced to length 1.
    pub fn reduced(&self) -> Self {
        match self.role() {
            AxisRole::Unknown => Self::default(),
            role => Self::whole(role, 1),
        }
    }
}

/// An axis of a reshaped value, with the axis of the input that it is all of, if it is one.
pub(super) type Regrouped = (Axis, Option<usize>);

/// The axes of a value that is given another shape in row-major order. Axes whose border cuts through a part are
/// unknown, up to the next border that both shapes have.
pub(super) fn regroup(axes: &[Axis], shape: &[usize]) -> Vec<Regrouped> {
    let tagged =
        axes.iter().enumerate().flat_map(|(i, axis)| axis.0.iter().map(move |atom| (atom.clone(), Some(i))));
    let mut rest: Vec<(Atom, Option<usize>)> = tagged.collect();
    rest.reverse();
    let mut found: Vec<Regrouped> = Vec::with_capacity(shape.len());
    while found.len() < shape.len() {
        let side = shape[found.len()];
        let start = rest.clone();
        if let Some(taken) = take(&mut rest, side) {
            let source = taken.first().and_then(|(_, source)| *source);
            let mut axis = Axis(Vec::new());
            for (atom, _) in &taken {
                push(&mut axis, atom.clone());
            }
            let same = source.filter(|&i| taken.iter().all(|(_, s)| *s == source) && axes[i] == axis);
            found.push((axis, same));
            continue;
        }
        // Both products grow until they meet again.
        rest = start;
        let (mut wanted, mut consumed) = (1, 1);
        loop {
            if wanted <= consumed && found.len() < shape.len() {
                wanted *= shape[found.len()];
                found.push((Axis::unknown(shape[found.len()]), None));
            } else if let Some((atom, _)) = rest.pop() {
                consumed *= atom.len();
            } else {
                break;
            }
            if wanted == consumed {
                break;
            }
        }
    }
    // Axes of length 1 that no axis of the new shape stands for.
    if let Some((last, _)) = found.last_mut() {
        rest.into_iter().rev().filter(|(atom, _)| atom.len() == 1).for_each(|(atom, _)| last.0.push(atom));
    }
    found
}

/// Takes atoms with a product of `side` from the end of `rest`, which is in reverse order.
fn take(rest: &mut Vec<(Atom, Option<usize>)>, side: usize) -> Option<Vec<(Atom, Option<usize>)>> {
    let mut taken = Vec::new();
    if side == 1 {
        if rest.last().is_some_and(|(atom, _)| atom.len() == 1) {
            taken.extend(rest.pop());
        }
        return Some(taken);
    }
    let mut missing = side;
    while missing > 1 {
        let (atom, source) = rest.pop()?;
        if missing.is_multiple_of(atom.len()) {
            missing /= atom.len();
            taken.push((atom, source));
            continue;
        }
        let Atom::Part(part) = atom else { return None };
        if part.len % missing != 0 {
            return None;
        }
        let (outer, inner) = part.split(part.len / missing);
        rest.push((Atom::Part(inner), None));
        taken.push((Atom::Part(outer), None));
        missing = 1;
    }
    Some(taken)
}

/// Appends an atom, as one with the last where both are digits of the same coordinate.
fn push(axis: &mut Axis, atom: Atom) {
    if let (Some(Atom::Part(last)), Atom::Part(next)) = (axis.0.last_mut(), &atom)
        && let Some(merged) = last.merged(*next)
    {
        *last = merged;
        return;
    }
    axis.0.push(atom);
}

/// Renumbers coordinates that have lost their fastest digits (every second row is a row of a coarser grid), and channels
/// that have lost any.
pub(super) fn renumber(axes: &mut [Axis]) {
    let channels = [AxisRole::Channel, AxisRole::Feature];
    for role in AxisRole::SPATIAL.into_iter().chain(channels) {
        let mut digits: Vec<&mut Part> = axes
            .iter_mut()
            .flat_map(|axis| axis.0.iter_mut().flat_map(Atom::parts_mut))
            .filter(|part| part.role == role && part.len > 1)
            .collect();
        digits.sort_by_key(|part| part.step);
        let distinct = digits.windows(2).all(|pair| pair[0].of == pair[1].of && pair[0].step < pair[1].step);
        let (Some(first), true) = (digits.first(), distinct) else { continue };
        let scale = first.step;
        let known = role.is_channel()
            || (digits.windows(2).all(|pair| pair[0].len * pair[0].step == pair[1].step)
                && digits.last().is_some_and(|top| top.len * top.step == top.of && top.shift % scale == 0));
        if !known {
            continue;
        }
        let mut step = 1;
        for digit in &mut digits {
            (digit.step, digit.shift) = (step, digit.shift / scale);
            step *= digit.len;
        }
        for digit in digits {
            digit.of = step;
        }
    }
}
