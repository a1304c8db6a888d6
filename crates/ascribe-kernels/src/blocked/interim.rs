//! interim
use super::epilogue::BlockedEpilogue;
use super::layout::*;
use crate::epilogue::Activation;
use crate::error::Result;
/// interim
pub fn combine(
    s: &BlockedShape,
    src: &[f32],
    e: BlockedEpilogue<'_>,
    d: &BlockedShape,
    dst: &mut [f32],
) -> Result<()> {
    d.clear_border(dst);
    let BlockedEpilogue { residual, activation, mut record, mask, .. } = e;
    let at = |s: &BlockedShape, p: usize, y: usize, x: usize| {
        ((p * (s.size[0] + 2 * s.pad[0]) + y + s.pad[0]) * (s.size[1] + 2 * s.pad[1]) + x + s.pad[1]) * 16
    };
    let mut bit = 0;
    for p in 0..s.batch * s.blocks() {
        for y in 0..s.size[0] {
            for x in 0..s.size[1] {
                let mut rec = 0u16;
                for c in 0..16 {
                    let mut v = src[at(s, p, y, x) + c];
                    if let Some((rs, r)) = residual {
                        v += r[at(rs, p, y, x) + c];
                    }
                    let (pass, out) = match activation {
                        Activation::None => (true, v),
                        Activation::Relu => (v > 0.0, if v < 0.0 { 0.0 } else { v }),
                        Activation::Clip { min, max } => (
                            v > min && v < max,
                            if v < min {
                                min
                            } else if v > max {
                                max
                            } else {
                                v
                            },
                        ),
                    };
                    rec |= u16::from(pass) << c;
                    v = out;
                    if mask.is_some_and(|m| m[bit] >> c & 1 == 0) || (p % s.blocks()) * 16 + c >= s.channels {
                        v = 0.0;
                    }
                    dst[at(d, p, y, x) + c] = v;
                }
                if let Some(r) = record.as_mut() {
                    r[bit] = rec;
                }
                bit += 1;
            }
        }
    }
    Ok(())
}
/// interim
pub fn copy_blocks(
    (s, src, sb): (&BlockedShape, &[f32], usize),
    (d, dst, db): (&BlockedShape, &mut [f32], usize),
    blocks: usize,
) -> Result<()> {
    let plane = |s: &BlockedShape| (s.size[0] + 2 * s.pad[0]) * (s.size[1] + 2 * s.pad[1]) * 16;
    for n in 0..s.batch {
        for b in 0..blocks {
            let from = (n * s.blocks() + sb + b) * plane(s);
            let to = (n * d.blocks() + db + b) * plane(d);
            dst[to..to + plane(d)].fill(0.0);
            for y in 0..s.size[0] {
                let f = from + ((y + s.pad[0]) * (s.size[1] + 2 * s.pad[1]) + s.pad[1]) * 16;
                let t = to + ((y + d.pad[0]) * (d.size[1] + 2 * d.pad[1]) + d.pad[1]) * 16;
                dst[t..t + s.size[1] * 16].copy_from_slice(&src[f..f + s.size[1] * 16]);
            }
        }
    }
    Ok(())
}
use super::BlockedConv;
use crate::shape::ConvShape;
impl BlockedConv {
    /// interim
    pub fn forward_planar(_: &ConvShape, _: &[f32]) -> Result<Option<Self>> {
        Ok(None)
    }
    /// interim
    pub fn run_planar(
        &self,
        _: usize,
        _: &[f32],
        _: BlockedEpilogue<'_>,
        _: &BlockedShape,
        _: &mut [f32],
    ) -> Result<()> {
        unreachable!()
    }
}
