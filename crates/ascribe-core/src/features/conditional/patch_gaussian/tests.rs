use super::*;
use crate::dataset::InMemory;
use crate::features::Features;
use crate::features::conditional::testing::*;
use crate::sweep::{self, Point};
use crate::{BlackBox, Inputs, Target, Task};

const NOISE: f64 = 0.01;

/// Images of planes at random angles, whose second channel is three times the first one, plus noise.
fn planes(count: u64, [height, width]: [usize; 2]) -> Tensor {
    let image = |number: u64| {
        let plane = numbers(number, 3);
        let area = height * width;
        let noise = numbers(1000 + number, 2 * area);
        let pixel = |at: usize| {
            let (y, x) = ((at % area / width) as f64, (at % width) as f64);
            (plane[0] + plane[1] * y + plane[2] * x) * if at < area { 1.0 } else { 3.0 } + NOISE * noise[at]
        };
        (0..2 * area).map(pixel).collect::<Vec<f64>>()
    };
    let all: Vec<f64> = (0..count).flat_map(image).collect();
    Tensor::from_vec(all, (count as usize, 2, height, width), &Device::Cpu).unwrap()
}

fn data(images: &Tensor) -> InMemory {
    InMemory::labelled(images, &vec![0; images.dims()[0]]).unwrap()
}

fn fit(draws: usize) -> FittedPatchGaussian {
    let settings = PatchGaussian { patch: 5, patches: 2000, draws };
    settings.fit(&data(&planes(60, [9, 8])), &Run::new().seed(3)).unwrap()
}

fn drawn(fill: &FittedPatchGaussian, x: &Tensor, features: &Features, mask: &Mask) -> Result<Vec<Vec<f64>>> {
    let of_draw = |draw| {
        let hidden = Hidden { sample: 0, number: 0, draw, x: std::slice::from_ref(x), mask, features };
        Ok(fill.fill(&hidden)?[0].flatten_all()?.to_vec1::<f64>()?)
    };
    (0..fill.draws()).map(of_draw).collect()
}

#[test]
fn what_follows_from_its_surroundings_comes_back() -> Result<()> {
    let (fill, x) = (fit(20), planes(100, [9, 8]).narrow(0, 99, 1)?);
    assert_eq!(fill.shrinkage(), 0.0);
    let (pixels, features) =
        (values::numbers(&x)?, Features::windows(&Inputs::single(x.clone())?, &[2], &[2])?);
    for window in 0..features.count(0) {
        let all = drawn(&fill, &x, &features, &Mask::Without(vec![window]))?;
        let runs = features.runs(0, window);
        let inside = |at: usize| runs.iter().any(|run| (run.start..run.start + run.len).contains(&at));
        let mut squares = Vec::new();
        for draw in &all {
            for at in 0..pixels.len() {
                if inside(at) {
                    // The errors of the true pixel, of the draw and of the estimate.
                    assert!((draw[at] - pixels[at]).abs() < 0.1, "{} instead of {}", draw[at], pixels[at]);
                    squares.push((draw[at] - all[0][at]).powi(2));
                } else {
                    assert_eq!(draw[at], pixels[at]);
                }
            }
        }
        let spread = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
        assert!(spread > 0.5 * NOISE, "window {window}: draws differ by {spread}");
    }
    Ok(())
}

#[test]
fn the_patch_lies_around_the_window_and_inside_the_image() {
    let fill = fit(1);
    let start = |from: usize, size: usize| fill.start(Rectangle { start: [from, 0], size: [size, 1] }, 0, 9);
    assert_eq!([0, 1, 2, 4, 6, 7].map(|from| start(from, 2)), [0, 0, 1, 3, 4, 4]);
    assert_eq!([0, 4, 8].map(|from| start(from, 1)), [0, 2, 4]);
}

#[test]
fn superpixels_and_several_windows_are_served() -> Result<()> {
    let (fill, x) = (fit(3), planes(1, [5, 6]));
    let labels: Vec<u32> = (0..30)
        .map(|at| match at {
            7 | 8 | 13 => 1,
            14 | 20 => 2,
            29 => 3,
            _ => 0,
        })
        .collect();
    let labels = Tensor::from_vec(labels, (5, 6), &Device::Cpu)?;
    let features = Features::labels(&Inputs::single(x.clone())?, &[labels])?;
    let pixels = values::numbers(&x)?;
    for draw in drawn(&fill, &x, &features, &Mask::Without(vec![1, 2]))? {
        let changed: Vec<usize> = (0..60).filter(|&at| draw[at] != pixels[at]).collect();
        assert_eq!(changed, [7, 8, 13, 14, 20, 37, 38, 43, 44, 50]);
        assert!(changed.iter().all(|&at| (draw[at] - pixels[at]).abs() < 0.1));
    }
    assert_eq!(drawn(&fill, &x, &features, &Mask::Without(vec![]))?[0], pixels);
    let error = drawn(&fill, &x, &features, &Mask::Without(vec![1, 3])).unwrap_err().to_string();
    assert!(error.contains("hides 4 × 5 pixels") && error.contains("at most 4 × 4"), "{error}");
    Ok(())
}

#[test]
fn draws_do_not_depend_on_the_batch() -> Result<()> {
    let (fill, images) = (fit(4), planes(2, [9, 8]));
    let model = BlackBox::new(|x: &Tensor| x.sqr()?.sum(3)?.sum(2)?.sum_keepdim(1));
    let scores = |x: &Tensor, batch: usize, threads: usize| -> Result<Vec<f64>> {
        let (x, run) = (Inputs::single(x.clone())?, Run::new().batch(batch).threads(threads));
        let task = Task::new(&model, &x, Target::Class(0), &run);
        let features = Features::windows(&x, &[3], &[3])?;
        let mut found = Vec::new();
        let mask = |point: Point| Ok(Mask::Without(vec![point.index]));
        run.install(|| {
            task.masked(&features, &fill, &sweep::every(&task.samples()?, 9), mask, |_, _, scores| {
                found.extend_from_slice(scores);
                Ok(())
            })
        })?;
        Ok(found)
    };
    let expected = scores(&images, 1, 1)?;
    assert_eq!(expected.len(), 2 * 9 * 4);
    assert_ne!(expected[0], expected[1]);
    for batch in [3, 64] {
        assert_eq!(scores(&images, batch, 2)?, expected);
    }
    assert_eq!(scores(&images.narrow(0, 1, 1)?, 5, 2)?, expected[36..]);
    Ok(())
}

#[test]
fn what_does_not_fit_is_an_error() -> Result<()> {
    let images = planes(6, [9, 8]);
    let fail = |patch, patches, draws, data: &dyn Dataset| {
        PatchGaussian { patch, patches, draws }.fit(data, &Run::new()).unwrap_err().to_string()
    };
    assert!(fail(5, 2000, 0, &data(&images)).contains("draws"));
    assert!(fail(1, 2000, 1, &data(&images)).contains("at least 2, more than the side of a window"));
    assert!(fail(5, 50, 1, &data(&images)).contains("patches: are 50 for 50 values of a patch"));
    assert!(fail(9, 2000, 1, &data(&images)).contains("sides of at least 9"));
    assert!(fail(40, 2000, 1, &data(&planes(1, [40, 40]))).contains("a patch has 3200 values"));
    assert!(fail(2, 99, 1, &rows(&[&[1.0], &[2.0]])).contains("[[1, 1]]; expected one image [1, C, H, W]"));
    assert!(fail(5, 2000, 1, &InMemory::new(Vec::new())?).contains("has no samples"));
    let sample = |x: Tensor| -> Result<_> {
        Ok(crate::dataset::Sample { inputs: Inputs::single(x)?, label: None, truth: None })
    };
    let one = images.narrow(0, 0, 1)?;
    let mixed = InMemory::new(vec![sample(one.clone())?, sample(one.narrow(1, 0, 1)?)?])?;
    assert!(fail(5, 2000, 1, &mixed).contains("sample 1 of the dataset: has 1 channels; expected 2"));
    let broken = data(&Tensor::full(f64::NAN, (1, 2, 5, 5), &Device::Cpu)?);
    assert!(fail(5, 2000, 1, &broken).contains("is NaN"));

    let fill = fit(1);
    let of = |x: &Tensor, mask: &Mask| {
        let features = Features::windows(&Inputs::single(x.clone())?, &[5], &[5])?;
        drawn(&fill, x, &features, mask)
    };
    let error = |x: &Tensor, mask: &Mask| of(x, mask).unwrap_err().to_string();
    assert!(error(&one, &Mask::Without(vec![0])).contains("hides 5 × 5 pixels"));
    assert!(error(&one, &Mask::With(vec![0])).contains("hides all but some features"));
    assert!(error(&one, &Mask::Soft(vec![Tensor::new(0.5, &Device::Cpu)?])).contains("hides values in part"));
    assert!(error(&one.narrow(1, 0, 1)?, &Mask::Without(vec![0])).contains("has 1 channels"));
    assert!(error(&one.narrow(2, 0, 4)?, &Mask::Without(vec![0])).contains("sides of at least 5"));
    let missing = Tensor::full(f64::NAN, (1, 2, 9, 8), &Device::Cpu)?;
    assert!(error(&missing, &Mask::Without(vec![3])).contains("is NaN and kept"));
    assert_eq!(of(&one, &Mask::Without(vec![3]))?.len(), 1);
    Ok(())
}
