//! Clusters of samples.

use nalgebra::DMatrix;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::run::Run;

/// The largest number of iterations.
const ITERATIONS: usize = 300;

/// k-means (Lloyd 1982, "Least squares quantization in PCM") from the starting points of k-means++ (Arthur & Vassilvitskii 2007):
/// the centres, one per column, and for each sample (a column, too) the number of its cluster. No cluster is empty: one that
/// would be gets the sample that is farthest from its centre.
///
/// # Errors
/// If there are fewer different samples than clusters; if the run is cancelled.
pub(super) fn k_means(
    samples: &DMatrix<f64>,
    clusters: usize,
    rng: &mut ChaCha8Rng,
    run: &Run,
) -> Result<(DMatrix<f64>, Vec<usize>)> {
    let mut centres = starts(samples, clusters, rng)?;
    let mut assigned: Vec<usize> = Vec::new();
    for iteration in 0..ITERATIONS {
        run.step(iteration, ITERATIONS)?;
        let found = assign(samples, &centres);
        if found == assigned {
            break;
        }
        assigned = found;
        centres = means(samples, &assigned, clusters);
    }
    run.step(ITERATIONS, ITERATIONS)?;
    Ok((centres, assigned))
}

fn squared(samples: &DMatrix<f64>, sample: usize, centres: &DMatrix<f64>, centre: usize) -> f64 {
    (samples.column(sample) - centres.column(centre)).norm_squared()
}

/// A sample at random, and then each time one in proportion to its squared distance from the closest of those before.
fn starts(samples: &DMatrix<f64>, clusters: usize, rng: &mut ChaCha8Rng) -> Result<DMatrix<f64>> {
    let count = samples.ncols();
    let mut chosen = vec![rng.random_range(0..count)];
    let mut closest = vec![f64::INFINITY; count];
    while chosen.len() < clusters {
        let last = chosen[chosen.len() - 1];
        closest
            .iter_mut()
            .enumerate()
            .for_each(|(at, least)| *least = least.min(squared(samples, at, samples, last)));
        let total: f64 = closest.iter().sum();
        let target = rng.random::<f64>() * total;
        let mut sum = 0.0;
        let next = closest.iter().position(|&distance| {
            sum += distance;
            distance > 0.0 && sum >= target
        });
        let Some(next) = next else {
            let problem = format!("has {} different samples", chosen.len());
            return Err(Error::invalid(
                "dataset",
                problem,
                format!("at least {clusters}, the number of clusters"),
            ));
        };
        chosen.push(next);
    }
    Ok(samples.select_columns(&chosen))
}

/// The closest centre of each sample, the first one of several.
fn assign(samples: &DMatrix<f64>, centres: &DMatrix<f64>) -> Vec<usize> {
    let distances =
        |sample: usize| (0..centres.ncols()).map(move |centre| squared(samples, sample, centres, centre));
    let closest = |sample: usize| {
        let by_distance = |a: &(usize, f64), b: &(usize, f64)| a.1.total_cmp(&b.1);
        distances(sample).enumerate().min_by(by_distance).unwrap_or_default()
    };
    let (mut assigned, mut off): (Vec<usize>, Vec<f64>) = (0..samples.ncols()).map(closest).unzip();
    let mut sizes = vec![0; centres.ncols()];
    for &cluster in &assigned {
        sizes[cluster] += 1;
    }
    for empty in 0..sizes.len() {
        if sizes[empty] > 0 {
            continue;
        }
        let others = (0..assigned.len()).filter(|&sample| sizes[assigned[sample]] > 1);
        if let Some(farthest) = others.max_by(|&a, &b| off[a].total_cmp(&off[b])) {
            sizes[assigned[farthest]] -= 1;
            sizes[empty] = 1;
            (assigned[farthest], off[farthest]) = (empty, 0.0);
        }
    }
    assigned
}

fn means(samples: &DMatrix<f64>, assigned: &[usize], clusters: usize) -> DMatrix<f64> {
    let mut sums = DMatrix::zeros(samples.nrows(), clusters);
    let mut sizes = vec![0; clusters];
    for (sample, &cluster) in samples.column_iter().zip(assigned) {
        let mut sum = sums.column_mut(cluster);
        sum += sample;
        sizes[cluster] += 1;
    }
    for (mut sum, size) in sums.column_iter_mut().zip(sizes) {
        sum /= f64::from(size.max(1));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    fn clusters(values: &[f64], count: usize, seed: u64) -> Result<(DMatrix<f64>, Vec<usize>)> {
        let mut rng = random::stream(seed, random::Domain::DATA, 0);
        k_means(&DMatrix::from_row_slice(1, values.len(), values), count, &mut rng, &Run::new())
    }

    #[test]
    fn separate_groups_are_clusters() -> Result<()> {
        let values = [0.0, 100.0, 1.0, 50.0, 101.0, 2.0, 51.0];
        for seed in 0..20 {
            let (centres, found) = clusters(&values, 3, seed)?;
            assert!(found[0] == found[2] && found[0] == found[5], "{found:?}");
            assert!(
                found[1] == found[4] && found[3] == found[6] && found[1] != found[3] && found[0] != found[1]
            );
            assert_eq!([centres[found[0]], centres[found[1]], centres[found[3]]], [1.0, 100.5, 50.5]);
        }
        Ok(())
    }

    #[test]
    fn no_cluster_is_empty() -> Result<()> {
        let (_, mut found) = clusters(&[3.0, 1.0, 4.0, 1.5], 4, 0)?;
        found.sort_unstable();
        assert_eq!(found, [0, 1, 2, 3]);
        // The second centre is closest to no sample.
        let samples = DMatrix::from_row_slice(1, 4, &[0.0, 1.0, 2.0, 9.0]);
        assert_eq!(assign(&samples, &DMatrix::from_row_slice(1, 2, &[1.0, 99.0])), [0, 0, 0, 1]);
        let error = clusters(&[1.0, 2.0, 1.0, 2.0], 3, 0).unwrap_err().to_string();
        assert!(error.contains("has 2 different samples; expected at least 3"), "{error}");
        Ok(())
    }
}
