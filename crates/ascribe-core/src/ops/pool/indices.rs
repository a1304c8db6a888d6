//! Where a maximum pooling takes its values from.

use candle_core::{DType, Device, Tensor};

use super::{Geometry, MaxPool};
use crate::error::Result;
use crate::ops::operator::{Backend, Grads, Kind, Operator, Vjp, input};
use crate::ops::window::Window;

/// For each window of [`MaxPool`], where in the whole input its maximum is, as `i64`: the number of values before it in
/// row-major order, or with `column_major` with the two last axes exchanged. Integers have no gradient.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MaxPoolIndices {
    /// The windows, as for [`MaxPool`].
    pub window: Window,
    /// Whether rows are counted faster than columns.
    pub column_major: bool,
}

impl Operator for MaxPoolIndices {
    fn name(&self) -> &'static str {
        "MaxPoolIndices"
    }

    fn kind(&self, _: &[bool]) -> Kind {
        Kind::Blocking
    }

    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        MaxPool { window: self.window }.output_shape(inputs)
    }

    fn forward(&self, inputs: &[&Tensor], _: Backend) -> Result<Tensor> {
        let x = input(inputs, 0)?;
        let geometry = Geometry::new(&self.window, x.dims())?;
        let [.., height, width] = geometry.input;
        let [.., rows, columns] = geometry.output;
        let taps = MaxPool::maxima(&geometry, &x.reshape(&geometry.input)?.contiguous()?)?.tap;
        let taps = taps.to_device(&Device::Cpu)?.to_dtype(DType::I64)?.flatten_all()?.to_vec1::<i64>()?;
        let place = |axis: usize, at: usize, tap: usize| {
            at * self.window.stride[axis] + tap * self.window.dilation[axis] - self.window.pad(axis).0
        };
        let positions: Vec<i64> = taps
            .into_iter()
            .enumerate()
            .map(|(i, tap)| {
                let (tap, kernel) = (tap as usize, self.window.kernel[1]);
                let (plane, at) = (i / (rows * columns), i % (rows * columns));
                let row = place(0, at / columns, tap / kernel);
                let column = place(1, at % columns, tap % kernel);
                let within = if self.column_major { column * height + row } else { row * width + column };
                (plane * height * width + within) as i64
            })
            .collect();
        let shape = geometry.output_shape(x.rank());
        Ok(Tensor::from_vec(positions, shape, &Device::Cpu)?.to_device(x.device())?)
    }

    fn vjp(&self, _: &Vjp<'_>) -> Result<Grads> {
        Ok(vec![None])
    }
}

/// [`MaxPool`]'s derivative and these indices agree on which value is the maximum.
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ops::testing::random;

    proptest! {
        #![proptest_config(ascribe_proptest::config(32))]

        #[test]
        fn indices_are_where_the_maxima_are(
            sides in (4_usize..8, 4_usize..8), kernel in (1_usize..4, 1_usize..4), stride in (1_usize..3, 1_usize..3),
            dilation in 1_usize..3, pad: bool, seed: u64,
        ) {
            let mut window = Window::new([kernel.0, kernel.1]);
            window.stride = [stride.0, stride.1];
            window.dilation = [dilation, dilation];
            let extent = |k: usize| dilation * (k - 1) + 1;
            prop_assume!(extent(kernel.0) <= sides.0 && extent(kernel.1) <= sides.1);
            if pad {
                window.padding = [(kernel.0 - 1) / 2, (kernel.1 - 1) / 2, 0, 0];
            }
            let x = random(&[2, 3, sides.0, sides.1], -1.0, 1.0, seed);
            let y = MaxPool { window }.forward(&[&x], Backend::Auto).unwrap();
            let flat = |t: &Tensor| t.flatten_all().unwrap();
            for column_major in [false, true] {
                let op = MaxPoolIndices { window, column_major };
                let at = op.forward(&[&x], Backend::Auto).unwrap();
                prop_assert_eq!(at.dims(), op.output_shape(&[x.dims()]).unwrap());
                let all = if column_major { x.transpose(2, 3).unwrap().contiguous().unwrap() } else { x.clone() };
                let found = flat(&all).index_select(&flat(&at), 0).unwrap();
                prop_assert_eq!(found.to_vec1::<f64>().unwrap(), flat(&y).to_vec1::<f64>().unwrap());
            }
        }
    }
}
