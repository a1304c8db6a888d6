//! The processor's matrix unit: products of 16-bit floats in tiles of registers, summed in single precision.
//!
//! Of x86-64's AMX this uses what multiplies `bfloat16`. Stable Rust has no intrinsics for it, so that its instructions are
//! written as assembly here, and nowhere else. [`Unit::Emulated`] does the same operations one by one, for tests on
//! other processors.

use std::sync::OnceLock;

/// Rows of a tile: pixels of the left operand, pairs of channels of the right one.
pub(crate) const ROWS: usize = 16;
/// 16-bit floats of a row of a tile.
pub(crate) const DEPTH: usize = 32;
/// 16-bit floats of a tile.
pub(crate) const TILE: usize = ROWS * DEPTH;
/// Parts into which a number is split, see [`parts`].
pub(crate) const PARTS: usize = 3;

/// What multiplies tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// AMX with `bfloat16`.
    Amx,
    /// The same, one operation after the other.
    #[cfg_attr(not(test), allow(dead_code))]
    Emulated,
}

impl Unit {
    /// The unit of this processor, if it has one that the operating system lets this process use.
    pub(crate) fn detect() -> Option<Self> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        FOUND.get_or_init(permitted).then_some(Self::Amx)
    }

    /// Runs `body`, in which this thread may call [`product`] with this unit.
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
fn permitted() -> bool {
    use std::arch::x86_64::__cpuid_count;

    use crate::simd::Isa;

    const REQUEST_PERMISSION: libc::c_ulong = 0x1023;
    const TILE_DATA: libc::c_ulong = 18;
    const BF16_AND_TILES: u32 = 1 << 22 | 1 << 24;
    // The number 7 exists where AVX-512 does.
    if Isa::detect() != Isa::Avx512 || __cpuid_count(7, 0).edx & BF16_AND_TILES != BF16_AND_TILES {
        return false;
    }
    // SAFETY: asks for the state of tiles to be saved with the others; has no effect where that is refused.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn permitted() -> bool {
    false
}

/// The upper halves of three numbers whose sum is `value` exactly (unless parts are too small to be normal): a
/// `bfloat16` each, the first eight bits of the significand, the next and the last.
///
/// Infinities and NaN give parts that sum to NaN.
#[inline(always)]
pub(crate) fn parts(value: f32) -> [u16; PARTS] {
    let mut rest = value;
    std::array::from_fn(|_| {
        let part = rest.to_bits() & 0xffff_0000;
        rest -= f32::from_bits(part);
        (part >> 16) as u16
    })
}

/// Splits sixteen channels of two blocks into the rows of three left tiles that follow each other: pairs of the same channel.
///
/// # Safety
/// `out` is the row in the first tile.
#[inline(always)]
pub(crate) unsafe fn split_row(low: &[f32; ROWS], high: &[f32; ROWS], out: *mut u16) {
    let (mut low, mut high) = (*low, *high);
    for part in 0..PARTS {
        let mut words = [0_u32; ROWS];
        for ((word, low), high) in words.iter_mut().zip(&mut low).zip(&mut high) {
            let upper = [&mut *low, high].map(|rest| {
                let part = rest.to_bits() & 0xffff_0000;
                *rest -= f32::from_bits(part);
                part
            });
            *word = (upper[0] >> 16 | upper[1]).to_le();
        }
        // SAFETY: the caller's contract.
        unsafe { out.add(part * TILE).cast::<[u32; ROWS]>().write_unaligned(words) };
    }
}

/// The left and the right operand of [`product`], and the place of its result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operands {
    /// `[row tile][step][part][16 rows][32 values]`
    pub(crate) left: *const u16,
    /// `[step][part][column tile][16 pairs of values][16 columns][2]`
    pub(crate) right: *const u16,
    /// Number of steps, 32 values each.
    pub(crate) steps: usize,
    /// `[column tile][row tile][16 rows][16 columns]`, with room for two row tiles.
    pub(crate) out: *mut f32,
}

/// Multiplies one or two row tiles by one or two column tiles of numbers that are split into [`parts`].
///
/// Of the nine products of parts it takes the six that matter: those left out are below 2⁻²⁴ of the product. Each
/// step's products are summed apart from the sums of earlier steps, so that rounding errors stay small.
///
/// The method is that of Henry, Tang and Heinecke 2019, *Leveraging the bfloat16 Artificial Intelligence Datatype For
/// Higher-Precision Computations*.
///
/// # Safety
/// Within [`Unit::scope`]; the pointers are valid for so many tiles.
pub(crate) unsafe fn product(unit: Unit, rows: usize, columns: usize, operands: &Operands) {
    debug_assert!((1..=2).contains(&rows) && (1..=2).contains(&columns));
    // SAFETY: the caller's contract.
    unsafe {
        match (unit, rows, columns) {
            #[cfg(target_arch = "x86_64")]
            (Unit::Amx, 1, 1) => amx::product::<1, 1>(operands),
            #[cfg(target_arch = "x86_64")]
            (Unit::Amx, 1, _) => amx::product::<1, 2>(operands),
            #[cfg(target_arch = "x86_64")]
            (Unit::Amx, _, 1) => amx::product::<2, 1>(operands),
            #[cfg(target_arch = "x86_64")]
            (Unit::Amx, _, _) => amx::product::<2, 2>(operands),
            _ => emulated(rows, columns, operands),
        }
    }
}

/// The products of parts (left, right), each of which shares a part with the one before it.
const ORDER: [(usize, usize); 6] = [(0, 2), (0, 1), (1, 1), (1, 0), (0, 0), (2, 0)];

unsafe fn emulated(rows: usize, columns: usize, operands: &Operands) {
    let &Operands { left, right, steps, out } = operands;
    let value = |bits: u16| f32::from_bits(u32::from(bits) << 16);
    for row in 0..rows {
        for column in 0..columns {
            for (m, n) in (0..ROWS).flat_map(|m| (0..ROWS).map(move |n| (m, n))) {
                let mut sum = 0.0_f32;
                for (step, (i, j)) in (0..steps).flat_map(|step| ORDER.map(|parts| (step, parts))) {
                    // SAFETY: the caller's contract.
                    let (a, b) = unsafe {
                        let a = left.add(((row * steps + step) * PARTS + i) * TILE + m * DEPTH);
                        let b = right.add(((step * PARTS + j) * columns + column) * TILE + 2 * n);
                        (a, b)
                    };
                    let mut pair = [0.0_f32; 2];
                    for (k, odd) in (0..DEPTH / 2).flat_map(|k| [(k, 0), (k, 1)]) {
                        // SAFETY: as above.
                        pair[odd] +=
                            unsafe { value(*a.add(2 * k + odd)) * value(*b.add(k * DEPTH + odd)) };
                    }
                    sum += pair[0] + pair[1];
                }
                // SAFETY: as above.
                unsafe { *out.add(((column * 2 + row) * ROWS + m) * ROWS + n) = sum };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod amx {
    use std::arch::asm;

    use super::{Operands, PARTS, ROWS, TILE};

    /// Palette 1, and eight tiles of 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Config([u8; 64]);

    static CONFIG: Config = {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            bytes[16 + 2 * tile] = 64;
            bytes[48 + tile] = 16;
            tile += 1;
        }
        Config(bytes)
    };

    /// # Safety
    /// The processor has AMX and the process may use it.
    pub(super) unsafe fn configure() {
        // SAFETY: the caller's contract; nothing else in this crate uses tiles.
        unsafe { asm!("ldtilecfg [{0}]", in(reg) CONFIG.0.as_ptr(), options(nostack, preserves_flags, readonly)) };
    }

    /// # Safety
    /// As [`configure`].
    pub(super) unsafe fn release() {
        // SAFETY: as above.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) };
    }

    /// Bytes of a tile, and of its rows.
    const BYTES: usize = TILE * size_of::<u16>();
    const PITCH: usize = BYTES / ROWS;

    /// Tiles 0 to 3 hold the sums (row tile, column tile), 4 and 5 a part of the left operand, 6 and 7 one of the right.
    ///
    /// # Safety
    /// As [`super::product`].
    pub(super) unsafe fn product<const R: usize, const C: usize>(operands: &Operands) {
        let &Operands { left, right, steps, out } = operands;
        macro_rules! load {
            ($tile:literal, $at:expr) => {
                asm!(concat!("tileloadd ", $tile, ", [{0} + {1}]"), in(reg) $at, in(reg) PITCH,
                    options(nostack, preserves_flags, readonly))
            };
        }
        macro_rules! multiply {
            ($sum:literal, $left:literal, $right:literal) => {
                asm!(concat!("tdpbf16ps ", $sum, ", ", $left, ", ", $right),
                    options(nostack, preserves_flags, nomem))
            };
        }
        macro_rules! store {
            ($tile:literal, $index:literal) => {
                asm!(concat!("tilestored [{0} + {1}], ", $tile), in(reg) out.add($index * ROWS * ROWS),
                    in(reg) ROWS * size_of::<f32>(), options(nostack, preserves_flags))
            };
        }
        // SAFETY: the caller's contract: tiles are configured, and the pointers valid. The order is that of `ORDER`; the
        // compiler keeps the blocks in order, since none is `pure`.
        unsafe {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                options(nostack, preserves_flags, nomem));
            let mut first = left.cast::<u8>();
            let second = steps * PARTS * BYTES;
            let mut right = right.cast::<u8>();
            for _ in 0..steps {
                let part = |at: usize| right.wrapping_add(at * C * BYTES);
                macro_rules! new_left {
                    ($part:literal) => {
                        load!("tmm4", first.wrapping_add($part * BYTES));
                        multiply!("tmm0", "tmm4", "tmm6");
                        if C == 2 {
                            multiply!("tmm1", "tmm4", "tmm7");
                        }
                        if R == 2 {
                            load!("tmm5", first.wrapping_add(second + $part * BYTES));
                            multiply!("tmm2", "tmm5", "tmm6");
                            if C == 2 {
                                multiply!("tmm3", "tmm5", "tmm7");
                            }
                        }
                    };
                }
                macro_rules! new_right {
                    ($part:literal) => {
                        load!("tmm6", part($part));
                        multiply!("tmm0", "tmm4", "tmm6");
                        if R == 2 {
                            multiply!("tmm2", "tmm5", "tmm6");
                        }
                        if C == 2 {
                            load!("tmm7", part($part).wrapping_add(BYTES));
                            multiply!("tmm1", "tmm4", "tmm7");
                            if R == 2 {
                                multiply!("tmm3", "tmm5", "tmm7");
                            }
                        }
                    };
                }
                load!("tmm6", part(2));
                if C == 2 {
                    load!("tmm7", part(2).wrapping_add(BYTES));
                }
                new_left!(0);
                new_right!(1);
                new_left!(1);
                new_right!(0);
                new_left!(0);
                new_left!(2);
                first = first.wrapping_add(PARTS * BYTES);
                right = right.wrapping_add(PARTS * C * BYTES);
            }
            store!("tmm0", 0);
            if R == 2 {
                store!("tmm2", 1);
            }
            if C == 2 {
                store!("tmm1", 2);
                if R == 2 {
                    store!("tmm3", 3);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DEPTH, Operands, PARTS, ROWS, TILE, Unit, parts, product};

    fn value(seed: usize) -> f32 {
        let bits = (seed.wrapping_mul(0x9e37_79b9) ^ seed << 7) as u32;
        let magnitude = f32::from_bits((bits & 0x03ff_ffff) + 0x3c00_0000);
        if bits >> 31 == 0 { magnitude } else { -magnitude }
    }

    #[test]
    fn parts_sum_to_the_number() {
        for value in (0..10_000).map(value).chain([0.0, -0.0, 1.0, f32::MAX, f32::MIN_POSITIVE]) {
            let [a, b, c] = parts(value).map(|part| f32::from_bits(u32::from(part) << 16));
            assert_eq!(c + b + a, value);
        }
        for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::from_bits(0x7f80_0001)] {
            let sum: f32 = parts(value).iter().map(|&part| f32::from_bits(u32::from(part) << 16)).sum();
            assert!(sum.is_nan());
        }
    }

    /// Tiles as `product` wants them, from plain matrices.
    fn run(unit: Unit, rows: usize, columns: usize, steps: usize) -> (Vec<f32>, Vec<f64>) {
        let depth = steps * DEPTH;
        let a = |m: usize, k: usize| value(m * depth + k + 1);
        let b = |k: usize, n: usize| value(n * depth + k + 77_777);
        let mut left = vec![0_u16; rows * steps * PARTS * TILE];
        let mut right = vec![0_u16; columns * steps * PARTS * TILE];
        for k in 0..depth {
            let (step, place) = (k / DEPTH, k % DEPTH);
            for m in 0..rows * ROWS {
                for (i, part) in parts(a(m, k)).into_iter().enumerate() {
                    left[((m / ROWS * steps + step) * PARTS + i) * TILE + m % ROWS * DEPTH + place] = part;
                }
            }
            for n in 0..columns * ROWS {
                for (j, part) in parts(b(k, n)).into_iter().enumerate() {
                    let tile = ((step * PARTS + j) * columns + n / ROWS) * TILE;
                    right[tile + place / 2 * DEPTH + n % ROWS * 2 + place % 2] = part;
                }
            }
        }
        let mut out = vec![0.0_f32; columns * 2 * ROWS * ROWS];
        let operands =
            Operands { left: left.as_ptr(), right: right.as_ptr(), steps, out: out.as_mut_ptr() };
        // SAFETY: lengths are as documented.
        unit.scope(|| unsafe { product(unit, rows, columns, &operands) });
        let mut found = Vec::new();
        let mut exact = Vec::new();
        for (m, n) in (0..rows * ROWS).flat_map(|m| (0..columns * ROWS).map(move |n| (m, n))) {
            found.push(out[((n / ROWS * 2 + m / ROWS) * ROWS + m % ROWS) * ROWS + n % ROWS]);
            exact.push((0..depth).map(|k| f64::from(a(m, k)) * f64::from(b(k, n))).sum());
        }
        (found, exact)
    }

    #[test]
    fn products_are_those_of_single_precision_on_every_unit() {
        for (rows, columns, steps) in [(1, 1, 1), (1, 2, 3), (2, 1, 2), (2, 2, 5), (2, 2, 0)] {
            let (emulated, exact) = run(Unit::Emulated, rows, columns, steps);
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
            let error = norm(&mut emulated.iter().zip(&exact).map(|(&y, e)| f64::from(y) - e));
            assert!(error <= 2e-7 * norm(&mut exact.iter().copied()), "{rows} {columns} {steps}: {error}");
            if let Some(unit) = Unit::detect() {
                assert_eq!(run(unit, rows, columns, steps).0, emulated, "{rows} {columns} {steps}");
            }
        }
    }
}
