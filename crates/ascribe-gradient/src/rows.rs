//! Targets for batches whose rows are variations of the samples of another batch.

use ascribe_core::{Error, Outputs, Result, Target};

/// The target of a batch whose row `i` varies sample `samples[i]` of the batch that `target` was made for.
pub(crate) fn target_of(target: &Target, samples: &[usize]) -> Result<Target> {
    match target {
        Target::Classes(all) => Ok(Target::Classes(classes_of(all, samples)?)),
        Target::Probabilities(all) => Ok(Target::Probabilities(classes_of(all, samples)?)),
        Target::Custom(name, score) => {
            let (score, samples) = (score.clone(), samples.to_vec());
            Ok(Target::custom(name.clone(), move |outputs: &Outputs, rows: &[usize]| {
                let of: Option<Vec<usize>> = rows.iter().map(|&r| samples.get(r).copied()).collect();
                let of = of.ok_or_else(|| {
                    Error::invalid("row", format!("one of {rows:?}"), format!("below {}", samples.len()))
                })?;
                score(outputs, &of)
            }))
        }
        shared => Ok(shared.clone()),
    }
}

/// The class of each row's sample.
fn classes_of(all: &[usize], samples: &[usize]) -> Result<Vec<usize>> {
    let classes: Option<Vec<usize>> = samples.iter().map(|&s| all.get(s).copied()).collect();
    classes.ok_or_else(|| {
        let most = samples.iter().max().map_or(0, |s| s + 1);
        let expected = format!("{most}, one per sample");
        Error::invalid("target", format!("{} classes given", all.len()), expected)
    })
}

#[cfg(test)]
mod tests {
    use ascribe_core::{Device, Tensor};

    use super::*;

    #[test]
    fn classes_and_closures_follow_their_samples() -> Result<()> {
        let target = target_of(&Target::Classes(vec![4, 7]), &[1, 1, 0])?;
        assert_eq!(target.describe(), "[7, 7, 4]");
        assert!(target_of(&Target::Classes(vec![4]), &[1]).is_err());
        let target = target_of(&Target::Probabilities(vec![4, 7]), &[1, 1, 0])?;
        assert_eq!(target.describe(), "prob:[7, 7, 4]");

        let number = Target::custom("sample", |_, samples| {
            let numbers: Vec<f64> = samples.iter().map(|&s| s as f64).collect();
            Ok(Tensor::from_vec(numbers, samples.len(), &Device::Cpu)?)
        });
        let target = target_of(&number, &[3, 5])?;
        let outputs =
            Outputs::new(vec![("y".into(), Tensor::zeros((2, 1), ascribe_core::DType::F64, &Device::Cpu)?)])?;
        assert_eq!(target.score(&outputs, &[0, 1])?.to_vec1::<f64>()?, [3.0, 5.0]);
        Ok(())
    }
}
