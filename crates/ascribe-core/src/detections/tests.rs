use super::*;
use crate::{OutputKind, Target};

/// Rows of centre, size, and scores of two classes: two boxes of class 0 that overlap, one of class 1, and a weak one.
const ROWS: [[f64; 6]; 9] = [
    [10.0, 10.0, 4.0, 4.0, 0.9, 0.1],
    [10.5, 10.0, 4.0, 4.0, 0.8, 0.2],
    [30.0, 10.0, 8.0, 2.0, 0.1, 0.7],
    [50.0, 50.0, 2.0, 2.0, 0.3, 0.0],
    [60.0, 50.0, 2.0, 2.0, 0.0, 0.0],
    [70.0, 50.0, 2.0, 2.0, 0.0, 0.0],
    [80.0, 50.0, 2.0, 2.0, 0.0, 0.0],
    [90.0, 50.0, 2.0, 2.0, 0.0, 0.0],
    [99.0, 50.0, 2.0, 2.0, 0.0, 0.0],
];

fn tensor(rows: &[Vec<f64>]) -> Result<Tensor> {
    let columns = rows[0].len();
    Ok(Tensor::from_vec(rows.concat(), (1, rows.len(), columns), &Device::Cpu)?)
}

fn output(value: Tensor) -> Result<Outputs> {
    Ok(Outputs::new(vec![("y".into(), value)])?.with_kind(Some(OutputKind::Boxes)))
}

fn rows() -> Vec<Vec<f64>> {
    ROWS.iter().map(|row| row.to_vec()).collect()
}

/// The same boxes as the detections `(candidate, class, score)`.
fn listed(outputs: &Outputs) -> Result<Vec<(usize, usize, f64)>> {
    let found = Detections::of(outputs)?.list(0, 3)?;
    assert_eq!(found[0].corners, [8.0, 8.0, 12.0, 12.0]);
    Ok(found.iter().map(|d| (d.candidate, d.class, (d.score * 1e6).round() / 1e6)).collect())
}

#[test]
fn the_same_boxes_in_every_form() -> Result<()> {
    // IoU of the first two is 14 / 18, so the second one is dropped.
    let expected = [(0, 0, 0.9), (2, 1, 0.7), (3, 0, 0.3)];
    // [N, 4 + C, A]
    assert_eq!(listed(&output(tensor(&rows())?.transpose(1, 2)?.contiguous()?)?)?, expected);
    // [N, A, 5 + C]: scores twice as high, and 0.5 for an object.
    let five = rows().iter().map(|r| [&r[..4], &[0.5, 2.0 * r[4], 2.0 * r[5]]].concat()).collect::<Vec<_>>();
    assert_eq!(listed(&output(tensor(&five)?)?)?, expected);
    // Boxes and scores in two outputs, by corners; the kind is evident.
    let corners =
        |r: &[f64]| vec![r[0] - r[2] / 2.0, r[1] - r[3] / 2.0, r[0] + r[2] / 2.0, r[1] + r[3] / 2.0];
    let boxes = tensor(&rows().iter().map(|r| corners(r)).collect::<Vec<_>>())?;
    let scores = tensor(&rows().iter().map(|r| r[4..].to_vec()).collect::<Vec<_>>())?;
    let pair = Outputs::new(vec![("scores".into(), scores), ("boxes".into(), boxes.clone())])?;
    assert_eq!(pair.kind(), OutputKind::Boxes);
    assert_eq!(listed(&pair)?, expected);
    // Lists of corners, score and class; nothing is suppressed.
    let of_list =
        |r: &Vec<f64>| [corners(r), vec![r[4].max(r[5]), f64::from(u8::from(r[5] > r[4]))]].concat();
    let list = rows().iter().map(of_list).collect::<Vec<_>>();
    let expected = [(0, 0, 0.9), (1, 0, 0.8), (2, 1, 0.7)];
    assert_eq!(listed(&output(tensor(&list)?)?)?, expected);
    // The same in three outputs.
    let column =
        |at: usize| Tensor::from_vec(list.iter().map(|r| r[at]).collect(), (1, list.len()), &Device::Cpu);
    let three = Outputs::new(vec![
        ("labels".into(), column(5)?),
        ("boxes".into(), boxes),
        ("scores".into(), column(4)?),
    ])?;
    assert_eq!(three.kind(), OutputKind::Boxes);
    assert_eq!(listed(&three)?, expected);
    Ok(())
}

#[test]
fn the_background_is_no_detection() -> Result<()> {
    // Logits with "nothing" as the last class, as DETR has it.
    let boxes = tensor(&rows().iter().map(|r| r[..4].to_vec()).collect::<Vec<_>>())?;
    let logits = |i: usize| if i == 2 { vec![-1.0, 4.0, 0.0] } else { vec![-3.0, -2.0, 5.0] };
    let scores = tensor(&(0..9).map(logits).collect::<Vec<_>>())?;
    let outputs = Outputs::new(vec![("logits".into(), scores), ("boxes".into(), boxes)])?;
    let found = Detections::of(&outputs)?;
    assert_eq!(found.background(), Some(2));
    let best = &found.list(0, 1)?[0];
    assert_eq!((best.candidate, best.class, best.score), (2, 1, 4.0));
    // A detector of one class whose candidates are mostly good has none.
    let one = rows().iter().map(|r| [&r[..4], &[0.9]].concat()).collect::<Vec<_>>();
    let outputs = output(tensor(&one)?.transpose(1, 2)?.contiguous()?)?;
    assert_eq!(Detections::of(&outputs)?.background(), None);
    Ok(())
}

#[test]
fn a_detection_is_looked_for_again() -> Result<()> {
    let outputs = output(tensor(&rows())?.transpose(1, 2)?.contiguous()?)?;
    let target = Target::Box(0).resolve(&outputs)?;
    assert_eq!((target.describe_sample(0), target.class(0)), ("box:0 (class 0)".into(), Some(0)));
    let score = |target: &Target, outputs: &Outputs| -> Result<f64> {
        Ok(target.score(outputs, &[0])?.to_vec1::<f64>()?[0])
    };
    assert!((score(&target, &outputs)? - 0.9).abs() < 1e-12);
    // The first candidate moves away; the second one meets the box: IoU 14 / 18.
    let mut moved = rows();
    moved[0][0] = 40.0;
    let varied = output(tensor(&moved)?.transpose(1, 2)?.contiguous()?)?;
    assert!((score(&target, &varied)? - 0.8).abs() < 1e-12);
    // A weak candidate at exactly the place of the detection is not what a strong one becomes.
    let mut weak = rows();
    weak[0] = vec![10.0, 10.0, 4.0, 4.2, 0.9, 0.1];
    weak[4] = vec![10.0, 10.0, 4.0, 4.0, 0.09, 0.01];
    let both = output(tensor(&weak)?.transpose(1, 2)?.contiguous()?)?;
    assert!((score(&target, &both)? - 0.9).abs() < 1e-12);
    // For gradients the candidate stays, and the gradient is that of its class score.
    let anchored = target.clone().anchored();
    assert!((score(&anchored, &varied)? - 0.9).abs() < 1e-12);
    let (_, seeds) = anchored.seed(&varied, &[0])?;
    let seed = seeds[0].flatten_all()?.to_vec1::<f64>()?;
    assert_eq!(seed.iter().position(|&v| v == 1.0), Some(4 * 9));
    assert_eq!(seed.iter().filter(|&&v| v != 0.0).count(), 1);
    // Nothing meets the box: the lowest score of the class.
    for row in &mut moved {
        row[0] += 500.0;
    }
    let away = output(tensor(&moved)?.transpose(1, 2)?.contiguous()?)?;
    assert!(score(&target, &away)?.abs() < 1e-12);
    // The strongest detection is what `top1` stands for.
    assert_eq!(Target::Top1.resolve(&outputs)?.describe(), "box:0");
    assert_eq!(Target::Box(1).resolve(&outputs)?.class(0), Some(1));
    Ok(())
}

#[test]
fn rows_of_a_list_are_found_by_class_and_overlap() -> Result<()> {
    let list = vec![vec![8.0, 8.0, 12.0, 12.0, 0.9, 3.0], vec![8.0, 8.0, 12.0, 12.0, 0.6, 1.0]];
    let pad = |list: &[Vec<f64>]| {
        let mut all = list.to_vec();
        all.resize(8, vec![0.0; 6]);
        tensor(&all)
    };
    let outputs = output(pad(&list)?)?;
    let target = Target::Box(1).resolve(&outputs)?.anchored();
    assert_eq!(target.class(0), Some(1));
    let swapped = vec![list[1].clone(), list[0].clone()];
    let found = target.score(&output(pad(&swapped)?)?, &[0])?.to_vec1::<f64>()?;
    assert_eq!(found, [0.6]);
    // It is not in the list any more.
    let found = target.score(&output(pad(&list[..1])?)?, &[0])?.to_vec1::<f64>()?;
    assert_eq!(found, [0.0]);
    Ok(())
}

#[test]
fn what_is_no_box_is_said() -> Result<()> {
    let flat = output(Tensor::zeros((2, 10), DType::F64, &Device::Cpu)?)?;
    let error = Target::Box(0).resolve(&flat).unwrap_err().to_string();
    assert!(error.contains("[2, 10]") && error.contains("4 + classes"), "{error}");
    let mut offsets = rows();
    offsets[1][2] = -3.0;
    let error = Detections::of(&output(tensor(&offsets)?.transpose(1, 2)?.contiguous()?)?).unwrap_err();
    assert!(error.to_string().contains("negative"), "{error}");
    let outputs = output(tensor(&rows())?.transpose(1, 2)?.contiguous()?)?;
    let error = Target::Box(20).resolve(&outputs).unwrap_err().to_string();
    assert!(error.contains("box 20") && error.contains("8 boxes"), "{error}");
    Ok(())
}

#[test]
fn overlaps() {
    let a = [0.0, 0.0, 2.0, 2.0];
    for (b, expected) in [
        (a, 1.0),
        ([1.0, 0.0, 3.0, 2.0], 1.0 / 3.0),
        ([2.0, 0.0, 3.0, 2.0], 0.0),
        ([5.0, 5.0, 5.0, 5.0], 0.0),
    ] {
        assert!((overlap(&a, &b) - expected).abs() < 1e-15, "{b:?}");
    }
    assert_eq!(overlap(&[1.0; 4], &[1.0; 4]), 0.0, "empty boxes do not meet");
}
