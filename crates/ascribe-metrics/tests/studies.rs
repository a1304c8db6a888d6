//! Tests of data randomisation on a task that is learned quickly.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ascribe_core::dataset::{Dataset, InMemory, Subset};
use ascribe_core::ops::{Linear, Pointwise, Structure};
use ascribe_core::{
    Boxed, Card, Configured, DType, Device, Error, Explainer, Family, Found, Graph, GraphBuilder, Predictor,
    Result, Run, Task, Tensor, random,
};
use ascribe_gradient::Saliency;
use ascribe_metrics::training::Training;
use ascribe_metrics::{DataRandomisation, Measure, Overall, Row, Study, StudyCase};
use serde::{Deserialize, Serialize};

const SIDE: usize = 6;

/// A method that depends only on the image: the absolute value of its horizontal differences.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Edges {}

impl Configured for Edges {
    const CARD: Card = Card { id: "edges", ..Card::gradient(Family::Vanilla) };
}

impl<M: Predictor + ?Sized> Explainer<M> for Edges {
    fn find(&self, task: &Task<'_, M>) -> Result<Found> {
        let x = &task.x.explained().next().ok_or_else(|| Error::invalid("input", "none", "one"))?.value;
        let shifted = Tensor::cat(&[x.narrow(3, 1, SIDE - 1)?, x.narrow(3, 0, 1)?], 3)?;
        Ok(Found { values: vec![(x - shifted)?.abs()?], ..Found::default() })
    }
}

fn normal(draw: u64, shape: &[usize], std: f64) -> Result<Tensor> {
    let mut rng = random::stream(5, random::Domain::DATA, draw);
    Ok((random::normal(&mut rng, shape, DType::F64, &Device::Cpu)? * std)?)
}

/// Noise with a bright spot in the left half (class 0) or in the right half (class 1).
fn pictures(count: usize) -> Result<InMemory> {
    let noise = normal(0, &[count, 1, SIDE, SIDE], 0.3)?.flatten_all()?.to_vec1::<f64>()?;
    let labels: Vec<usize> = (0..count).map(|n| n * 7 % 5 % 2).collect();
    let bright = |place: usize| {
        let (n, row, column) = (place / (SIDE * SIDE), place / SIDE % SIDE, place % SIDE);
        row == n % SIDE && column == n / SIDE % 3 + 3 * labels[n]
    };
    let values = noise.iter().enumerate().map(|(place, v)| v + if bright(place) { 2.0 } else { 0.0 });
    let values = Tensor::from_vec(values.collect(), (count, 1, SIDE, SIDE), &Device::Cpu)?;
    InMemory::labelled(&values, &labels)
}

/// Two linear layers with a ReLU between them and random weights.
fn network() -> Result<Graph> {
    let mut b = GraphBuilder::new();
    let x = b.input("x", &[Some(1), Some(SIDE), Some(SIDE)]);
    let flat = b.op("flat", Structure::Flatten { axis: 1 }, &[x])?;
    let w = b.constant("w1", normal(1, &[16, SIDE * SIDE], 0.2)?);
    let hidden = b.op("fc1", Linear, &[flat, w])?;
    let hidden = b.op("relu", Pointwise::Relu, &[hidden])?;
    let w = b.constant("w2", normal(2, &[2, 16], 0.3)?);
    let y = b.op("fc2", Linear, &[hidden, w])?;
    b.finish(&[y])
}

fn methods() -> [Boxed<Graph>; 2] {
    [Boxed::new(Edges::default()), Boxed::new(Saliency::default())]
}

fn conduct(training: &dyn Dataset, steps: usize, run: &Run) -> Result<Vec<Row>> {
    let train = Training::new(network()?).steps(steps).batch(10).rate(0.02);
    let explained = pictures(30)?;
    let data = Subset::new(&explained, vec![3, 1, 28, 17, 9])?;
    let methods = methods();
    let case = StudyCase { methods: &methods, train: &train, training, data: &data, run };
    DataRandomisation::default().conduct(&case)
}

#[test]
fn what_looks_at_the_picture_alone_stays_the_same_and_the_gradient_does_not() -> Result<()> {
    let rows = conduct(&pictures(30)?, 150, &Run::new().seed(1))?;
    let found: Vec<_> = rows.iter().map(|row| (row.method.as_str(), row.sample.as_str())).collect();
    let samples = ["3", "1", "28", "17", "9"];
    let expected = ["edges", "saliency"].iter().flat_map(|method| samples.map(|sample| (*method, sample)));
    assert_eq!(found, expected.collect::<Vec<_>>());
    for row in &rows {
        // Both networks have memorised their samples.
        assert_eq!(row.detail["accuracy"], serde_json::json!([1.0, 1.0]));
        assert!(row.notes.is_empty(), "{:?}", row.notes);
    }
    let study = DataRandomisation::default();
    let of = |method: &str| Overall::of(method, &study, &rows, 0);
    let (edges, gradient) = (of("edges"), of("saliency"));
    assert_eq!((edges.metric.as_str(), edges.summary.count), (Measure::id(&study), 5));
    assert!(edges.summary.mean.is_some_and(|mean| (mean - 1.0).abs() < 1e-12), "{edges:?}");
    assert!(gradient.summary.mean.is_some_and(|mean| mean < 0.5), "{gradient:?}");
    assert!(gradient.summary.interval.is_some_and(|interval| interval.high < 0.7), "{gradient:?}");
    Ok(())
}

#[test]
fn labels_that_a_permutation_does_not_change_change_nothing() -> Result<()> {
    let all = pictures(30)?;
    let right = (0..30).filter(|&n| all.label(n).is_ok_and(|label| label == Some(1))).collect();
    for row in conduct(&Subset::new(&all, right)?, 20, &Run::new())? {
        assert!(row.value.is_some_and(|value| (value - 1.0).abs() < 1e-12), "{row:?}");
    }
    Ok(())
}

#[test]
fn rows_do_not_depend_on_the_batch_and_say_what_was_not_learned() -> Result<()> {
    let data = pictures(30)?;
    let one = conduct(&data, 1, &Run::new().batch(1))?;
    assert_eq!(one, conduct(&data, 1, &Run::new().batch(3).threads(2))?);
    assert!(one[0].notes.iter().any(|note| note.contains("permuted labels") && note.contains("95.0 %")));
    let cancelled = Run::new().cancel_with(Arc::new(AtomicBool::new(true)));
    assert!(matches!(conduct(&data, 1, &cancelled), Err(Error::Cancelled { .. })));
    Ok(())
}
