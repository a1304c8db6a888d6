//! The processor's matrix unit: products of 16-bit floats in tiles of registers, summed in single precision.
//!
//! On x86-64 this is AMX, of which the instructions for `bfloat16` are used (module `amx`). [`Unit::Emulated`] does the
//! same operations one by one in software, for tests on other processors.

#[cfg(target_arch = "x86_64")]
mod amx;

use std::sync::OnceLock;

/// Rows of a tile: pixels in the left operand, pairs of channels in the right one.
pub(crate) const ROWS: usize = 16;
/// Number of 16-bit floats in a row of a tile.
pub(crate) const DEPTH: usize = 32;
/// Number of 16-bit floats in a tile.
pub(crate) const TILE: usize = ROWS * DEPTH;

/// How many `bfloat16` numbers (parts) an `f32` is split into: see [`parts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// Two parts per number, three products of parts. The relative error of a number is up to 2⁻¹⁷; errors of sums are
    /// about 2·10⁻⁶ of the standard deviation of the sums.
    Two,
    /// Three parts per number, six products of parts. As precise as single precision.
    Three,
}

impl Split {
    /// The number of parts.
    pub(crate) fn parts(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Three => 3,
        }
    }

    /// The products of parts that are summed, as (left part, right part), in passes over all steps: a pass goes through
    /// all steps before the next one begins.
    ///
    /// Each product shares a part with the one before it, so that only one operand has to be loaded. With three parts,
    /// the small products are summed first: their rounding errors are small too, and the large products are rounded
    /// once per step only.
    fn passes(self) -> &'static [&'static [(usize, usize)]] {
        match self {
            Self::Two => &[&[(0, 1), (0, 0), (1, 0)]],
            Self::Three => &[&[(0, 2), (0, 1), (1, 1), (1, 0), (2, 0)], &[(0, 0)]],
        }
    }
}

/// What executes the products of tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// AMX with `bfloat16`.
    Amx,
    /// The same operations, in software.
    #[cfg_attr(not(test), allow(dead_code))]
    Emulated,
}

impl Unit {
    /// The matrix unit of this processor, if it has one and the operating system lets this process use it.
    pub(crate) fn detect() -> Option<Self> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        FOUND.get_or_init(permitted).then_some(Self::Amx)
    }

    /// Runs `body` with the unit configured for this thread, so that `body` may call [`product`] with this unit.
    pub(crate) fn scope<R>(self, body: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        if self == Self::Amx {
            struct Release;
            impl Drop for Release {
                fn drop(&mut self) {
                    // SAFETY: only made where the unit exists.
                    unsafe { amx::release() };
                }
            }
            // SAFETY: `Amx` comes from `detect` alone.
            unsafe { amx::configure() };
            let _release = Release;
            return body();
        }
        body()
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
/// Whether the processor has AMX with `bfloat16` and Linux lets this process use it.
fn permitted() -> bool {
    use std::arch::x86_64::__cpuid_count;

    use crate::simd::Isa;

    const REQUEST_PERMISSION: libc::c_ulong = 0x1023;
    const TILE_DATA: libc::c_ulong = 18;
    const BF16_AND_TILES: u32 = 1 << 22 | 1 << 24;
    // If ASCRIBE_ISA names an instruction set, only that one is used.
    if Isa::from_environment() != Ok(None) {
        return false;
    }
    // A processor with AVX-512 has CPUID leaf 7.
    if Isa::detect() != Isa::Avx512 || __cpuid_count(7, 0).edx & BF16_AND_TILES != BF16_AND_TILES {
        return false;
    }
    // SAFETY: asks Linux for permission to use the tile registers, which it then saves with the other registers. If it
    // refuses, nothing changes.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn permitted() -> bool {
    false
}

/// `value` rounded to eight bits of significand, ties to even: a `bfloat16`, as an `f32`.
///
/// Truncating instead would give all remainders the sign of the number, so that results would be systematically too
/// small. Rounding by multiplication (Veltkamp's splitting) would overflow far below the largest number.
#[inline(always)]
fn rounded(value: f32) -> f32 {
    let bits = value.to_bits();
    let even = bits >> 16 & 1;
    // For a NaN, the addition could overflow into the sign bit.
    let up = if value.is_nan() { 0x7fc0_0000 } else { bits.wrapping_add(0x7fff + even) };
    f32::from_bits(up & 0xffff_0000)
}

/// Splits `value` into `P` `bfloat16` numbers that sum to it, returned as their bits. The sum is exact for three parts
/// (unless a part is subnormal), and has a relative error of up to 2⁻¹⁷ for two.
///
/// Infinities, NaN and magnitudes from 3.39·10³⁸ on, which round to infinity, give parts that sum to NaN.
#[inline(always)]
pub(crate) fn parts<const P: usize>(value: f32) -> [u16; P] {
    let mut rest = value;
    std::array::from_fn(|_| {
        let part = rounded(rest);
        rest -= part;
        (part.to_bits() >> 16) as u16
    })
}

/// Splits sixteen channels of two channel blocks into rows of left tiles. Each row holds pairs of values: the same
/// channel of both blocks. There is one row per part; rows are `step` elements apart.
///
/// # Safety
/// The rows are writable from `out` on.
#[inline(always)]
pub(crate) unsafe fn split_row<const P: usize>(
    low: &[f32; ROWS],
    high: &[f32; ROWS],
    out: *mut u16,
    step: usize,
) {
    let (mut low, mut high) = (*low, *high);
    for part in 0..P {
        let mut words = [0_u32; ROWS];
        for ((word, low), high) in words.iter_mut().zip(&mut low).zip(&mut high) {
            let upper = [&mut *low, high].map(|rest| {
                let part = rounded(*rest);
                *rest -= part;
                part.to_bits()
            });
            // The lower 16 bits of a part are zero.
            *word = (upper[0] >> 16 | upper[1]).to_le();
        }
        // SAFETY: the caller's contract.
        unsafe { out.add(part * step).cast::<[u32; ROWS]>().write_unaligned(words) };
    }
}

/// The left and the right operand of [`product`], and where its result goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operands<'a> {
    /// The left operand: 16 or 32 rows of 32 values per part and step. The pointer is to its first part.
    pub(crate) left: *const u16,
    /// For each step, the number of elements from `left` to its rows. A step multiplies 32 values of each row.
    pub(crate) offsets: &'a [usize],
    /// Elements from one part of the left operand to the next.
    pub(crate) part: usize,
    /// The right operand: `[step][part][column tile][16 pairs of values][16 columns][2]`.
    pub(crate) right: *const u16,
    /// How many parts both operands are split into.
    pub(crate) split: Split,
    /// The result: `[column tile][row tile][16 rows][16 columns]`, with room for two row tiles.
    pub(crate) out: *mut f32,
}

/// Multiplies one or two row tiles by one or two column tiles of numbers that are split into [`parts`].
///
/// Products of parts that are too small to matter are left out: with three parts, three of nine, which are below 2⁻²³
/// of the product of the numbers; with two parts, one of four, which is below 2⁻¹⁸. The products of a step are summed
/// before they are added to the sum of earlier steps, so that rounding errors stay small.
///
/// The method is that of Henry, Tang and Heinecke 2019, *Leveraging the bfloat16 Artificial Intelligence Datatype For
/// Higher-Precision Computations*.
///
/// After each step it calls `meanwhile`. AMX works in parallel with the rest of the core, so that other work done there
/// is free as long as the matrix unit does not have to wait for it.
///
/// # Safety
/// Only within [`Unit::scope`]. The pointers are valid for that many tiles. `meanwhile` does not write to the operands
/// and does not access the result.
pub(crate) unsafe fn product(
    unit: Unit,
    rows: usize,
    columns: usize,
    operands: &Operands<'_>,
    meanwhile: &mut impl FnMut(),
) {
    debug_assert!((1..=2).contains(&rows) && (1..=2).contains(&columns));
    // SAFETY: the caller's contract.
    unsafe {
        match (unit, operands.split) {
            #[cfg(target_arch = "x86_64")]
            (Unit::Amx, Split::Two) => amx::sized::<2>(rows, columns, operands, meanwhile),
            #[cfg(target_arch = "x86_64")]
            (Unit::Amx, Split::Three) => amx::sized::<3>(rows, columns, operands, meanwhile),
            (Unit::Emulated, _) => {
                operands.offsets.iter().for_each(|_| meanwhile());
                emulated(rows, columns, operands);
            }
        }
    }
}

/// [`product`] in software, with the additions in the order of the hardware.
///
/// # Safety
/// As [`product`], except that no unit has to be configured.
unsafe fn emulated(rows: usize, columns: usize, operands: &Operands<'_>) {
    let &Operands { left, offsets, part, right, split, out } = operands;
    let parts = split.parts();
    let value = |bits: u16| f32::from_bits(u32::from(bits) << 16);
    for row in 0..rows {
        for column in 0..columns {
            for (m, n) in (0..ROWS).flat_map(|m| (0..ROWS).map(move |n| (m, n))) {
                let mut sum = 0.0_f32;
                let order = split.passes().iter().flat_map(|pass| {
                    let steps = offsets.iter().enumerate();
                    steps.flat_map(move |step| pass.iter().map(move |&pair| (step, pair)))
                });
                for ((step, offset), (i, j)) in order {
                    // SAFETY: the caller's contract.
                    let (a, b) = unsafe {
                        let a = left.add(offset + i * part + (row * ROWS + m) * DEPTH);
                        let b = right.add(((step * parts + j) * columns + column) * TILE + 2 * n);
                        (a, b)
                    };
                    let mut pair = [0.0_f32; 2];
                    for (k, odd) in (0..DEPTH / 2).flat_map(|k| [(k, 0), (k, 1)]) {
                        // SAFETY: as above.
                        pair[odd] += unsafe { value(*a.add(2 * k + odd)) * value(*b.add(k * DEPTH + odd)) };
                    }
                    sum += pair[0] + pair[1];
                }
                // SAFETY: as above.
                unsafe { *out.add(((column * 2 + row) * ROWS + m) * ROWS + n) = sum };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DEPTH, Operands, ROWS, Split, TILE, Unit, parts, product, split_row};

    fn value(seed: usize) -> f32 {
        let bits = (seed.wrapping_mul(0x9e37_79b9) ^ seed << 7) as u32;
        let magnitude = f32::from_bits((bits & 0x03ff_ffff) + 0x3c00_0000);
        if bits >> 31 == 0 { magnitude } else { -magnitude }
    }

    fn widened(part: u16) -> f32 {
        f32::from_bits(u32::from(part) << 16)
    }

    #[test]
    fn parts_sum_to_the_number() {
        let far = [3.38e38, -3.38e38, 1e-30, 2.0_f32.powi(127), 0.0, -0.0, 1.0, f32::MIN_POSITIVE];
        for value in (0..10_000).map(value).chain(far) {
            let [a, b, c] = parts::<3>(value).map(widened);
            assert_eq!(c + b + a, value);
            let [a, b] = parts::<2>(value).map(|part| f64::from(widened(part)));
            assert!(
                (a + b - f64::from(value)).abs() <= f64::from(value.abs()) * 2.0_f64.powi(-17),
                "{value}"
            );
        }
        for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::from_bits(0x7f80_0001)]
            .into_iter()
            .chain([u32::MAX, i32::MAX as u32].map(f32::from_bits))
        {
            assert!(parts::<3>(value).into_iter().map(widened).sum::<f32>().is_nan());
            assert!(parts::<2>(value).into_iter().map(widened).sum::<f32>().is_nan());
        }
    }

    #[test]
    fn rows_hold_pairs_of_channels() {
        let [low, high] = [0, 100].map(|seed| std::array::from_fn(|at| value(seed + at)));
        let mut out = [0_u16; 3 * TILE];
        // SAFETY: there are three tiles.
        unsafe { split_row::<3>(&low, &high, out.as_mut_ptr(), TILE) };
        for (part, channel) in (0..3).flat_map(|part| (0..ROWS).map(move |channel| (part, channel))) {
            let found = [out[part * TILE + 2 * channel], out[part * TILE + 2 * channel + 1]];
            assert_eq!(found, [low[channel], high[channel]].map(|value| parts::<3>(value)[part]));
        }
    }

    fn parts_of(split: Split, value: f32) -> Vec<u16> {
        match split {
            Split::Two => parts::<2>(value).to_vec(),
            Split::Three => parts::<3>(value).to_vec(),
        }
    }

    /// Splits and packs generated matrices for `product`; returns its result and the exact one.
    fn run(unit: Unit, split: Split, rows: usize, columns: usize, steps: usize) -> (Vec<f32>, Vec<f64>) {
        let (depth, count) = (steps * DEPTH, split.parts());
        let a = |m: usize, k: usize| value(m * depth + k + 1);
        let b = |k: usize, n: usize| value(n * depth + k + 77_777);
        let mut left = vec![0_u16; rows * steps * count * TILE];
        let mut right = vec![0_u16; columns * steps * count * TILE];
        for k in 0..depth {
            let (step, place) = (k / DEPTH, k % DEPTH);
            for m in 0..rows * ROWS {
                for (i, part) in parts_of(split, a(m, k)).into_iter().enumerate() {
                    left[((step * count + i) * rows * ROWS + m) * DEPTH + place] = part;
                }
            }
            for n in 0..columns * ROWS {
                for (j, part) in parts_of(split, b(k, n)).into_iter().enumerate() {
                    let tile = ((step * count + j) * columns + n / ROWS) * TILE;
                    right[tile + place / 2 * DEPTH + n % ROWS * 2 + place % 2] = part;
                }
            }
        }
        let mut out = vec![0.0_f32; columns * 2 * ROWS * ROWS];
        let (left, right) = (left.as_ptr(), right.as_ptr());
        let part = rows * TILE;
        let offsets: Vec<_> = (0..steps).map(|step| step * count * part).collect();
        let operands = Operands { left, offsets: &offsets, part, right, split, out: out.as_mut_ptr() };
        let mut calls = 0;
        // SAFETY: lengths are as documented.
        unit.scope(|| unsafe { product(unit, rows, columns, &operands, &mut || calls += 1) });
        assert_eq!(calls, steps);
        let mut found = Vec::new();
        let mut exact = Vec::new();
        for (m, n) in (0..rows * ROWS).flat_map(|m| (0..columns * ROWS).map(move |n| (m, n))) {
            found.push(out[((n / ROWS * 2 + m / ROWS) * ROWS + m % ROWS) * ROWS + n % ROWS]);
            exact.push((0..depth).map(|k| f64::from(a(m, k)) * f64::from(b(k, n))).sum());
        }
        (found, exact)
    }

    #[test]
    fn products_are_as_precise_as_promised_and_the_same_on_every_unit() {
        for (split, most) in [(Split::Two, 3e-6), (Split::Three, 2e-7)] {
            for (rows, columns, steps) in [(1, 1, 1), (1, 2, 3), (2, 1, 2), (2, 2, 5), (2, 2, 0)] {
                let (emulated, exact) = run(Unit::Emulated, split, rows, columns, steps);
                let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
                let error = norm(&mut emulated.iter().zip(&exact).map(|(&y, e)| f64::from(y) - e));
                let size = norm(&mut exact.iter().copied());
                assert!(error <= most * size, "{split:?} {rows} {columns} {steps}: {error} of {size}");
                if let Some(unit) = Unit::detect() {
                    let found = run(unit, split, rows, columns, steps).0;
                    assert_eq!(found, emulated, "{split:?} {rows} {columns} {steps}");
                }
            }
        }
    }
}
