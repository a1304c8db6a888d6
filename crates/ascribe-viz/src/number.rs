//! Numbers for readers: round tick values and short labels.

/// About `wanted` round values within `low..=high`: multiples of 1, 2, 2.5 or 5 times a power of ten. Zero is one of
/// them if it is in the range.
pub(crate) fn ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let span = high - low;
    if !span.is_finite() || span <= 0.0 || wanted == 0 {
        return if low.is_finite() { vec![low] } else { Vec::new() };
    }
    let rough = span / wanted as f64;
    let power = 10f64.powf(rough.log10().floor());
    if power == 0.0 || !power.is_finite() {
        return vec![low, high];
    }
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .map(|m| m * power)
        .into_iter()
        .find(|s| *s >= rough * 0.999)
        .unwrap_or(rough);
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Labels for numbers that are shown together, with the same number of decimals. If plain decimals would be long, the
/// labels are in units of a power of ten, whose exponent is returned (0 if there is none).
pub(crate) fn labels(values: &[f64]) -> (Vec<String>, i32) {
    let exponent = exponent(values.iter().fold(0.0f64, |m, v| m.max(v.abs())));
    (labels_at(values, exponent), exponent)
}

/// [`labels`] in units of a given power of ten.
pub(crate) fn labels_at(values: &[f64], exponent: i32) -> Vec<String> {
    let unit = 10f64.powi(exponent);
    let scaled: Vec<f64> = values.iter().map(|v| if unit == 0.0 { *v } else { v / unit }).collect();
    let top = scaled.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let exact = |d: usize| {
        scaled.iter().all(|v| {
            let factor = 10f64.powi(d as i32);
            ((v * factor).round() / factor - v).abs() <= 1e-6 * top
        })
    };
    // At most three significant digits of the largest number.
    let most = if top >= 100.0 {
        0
    } else if top >= 10.0 {
        1
    } else {
        2 + usize::from(top < 1.0) + usize::from(top < 0.1)
    };
    let decimals = (0..most).find(|&d| exact(d)).unwrap_or(most);
    // Zero is exact, so it needs no decimals.
    scaled.iter().map(|v| fixed(*v, if *v == 0.0 { 0 } else { decimals })).collect()
}

/// The exponent of the common power of ten: 0 unless the largest number is below 0.01 or at least 100 000.
pub(crate) fn exponent(largest: f64) -> i32 {
    if largest == 0.0 || !largest.is_finite() || (0.01..1e5).contains(&largest) {
        0
    } else {
        largest.log10().floor() as i32
    }
}

/// A number with a typographic minus sign, without negative zero.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN".into()
        } else if value > 0.0 {
            "∞".into()
        } else {
            "−∞".into()
        };
    }
    let digits = format!("{:.decimals$}", value.abs());
    let zero = digits.bytes().all(|b| b == b'0' || b == b'.');
    if value < 0.0 && !zero { format!("−{digits}") } else { digits }
}

/// A single number with three significant digits, for example "0.0312" or "−4.2×10⁻⁷".
pub(crate) fn short(value: f64) -> String {
    let (labels, exponent) = labels(&[value]);
    let number = labels.into_iter().next().unwrap_or_default();
    if exponent == 0 { number } else { format!("{number}{}", power(exponent)) }
}

/// A power of ten as a suffix, for example "×10⁻⁷".
pub(crate) fn power(exponent: i32) -> String {
    let digits: String = exponent
        .to_string()
        .chars()
        .map(|c| match c {
            '-' => '⁻',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            '4' => '⁴',
            '5' => '⁵',
            '6' => '⁶',
            '7' => '⁷',
            '8' => '⁸',
            '9' => '⁹',
            _ => '⁰',
        })
        .collect();
    format!("×10{digits}")
}

/// A probability in percent: "62.1 %", "< 0.1 %", "> 99.9 %".
pub(crate) fn percent(probability: f64) -> String {
    if !probability.is_finite() {
        return fixed(probability, 1);
    }
    match probability * 100.0 {
        p if p > 0.0 && p < 0.1 => "< 0.1 %".into(),
        p if p > 99.9 && p < 100.0 => "> 99.9 %".into(),
        p => format!("{} %", fixed(p, 1)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ticks_are_round_and_include_zero() {
        assert_eq!(ticks(-1.0, 1.0, 4), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(ticks(0.0, 9.3, 5), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(ticks(0.0, 0.0, 5), [0.0]);
        assert!(ticks(-3e-5, 3e-5, 5).contains(&0.0));
        assert_eq!(ticks(f64::NAN, 1.0, 5), [] as [f64; 0]);
    }

    #[test]
    fn labels_share_decimals_and_a_power_of_ten() {
        assert_eq!(labels(&[-0.5, 0.0, 0.5]), (vec!["−0.5".into(), "0".into(), "0.5".into()], 0));
        assert_eq!(labels(&[0.0, 2e-5, 4e-5]), (vec!["0".into(), "2".into(), "4".into()], -5));
        assert_eq!(labels(&[-0.031_234, 0.031_234]).0, ["−0.0312", "0.0312"]);
        assert_eq!(labels(&[2.5e7]), (vec!["2.5".into()], 7));
        assert_eq!(short(-4.2e-7), "−4.2×10⁻⁷");
        assert_eq!(short(0.0), "0");
        assert_eq!(fixed(-0.0001, 2), "0.00");
        assert_eq!(
            (percent(0.6214), percent(1e-5), percent(0.99999)),
            ("62.1 %".into(), "< 0.1 %".into(), "> 99.9 %".into())
        );
    }

    proptest! {
        #![proptest_config(ascribe_proptest::config(256))]

        #[test]
        fn any_range_has_few_ticks_inside_it(low in -1e300..1e300f64, span in 1e-300..1e300f64) {
            let high = low + span;
            let found = ticks(low, high, 5);
            prop_assert!(found.len() <= 7, "{found:?}");
            let slack = (high - low).abs() * 1e-6;
            prop_assert!(found.iter().all(|t| *t >= low - slack && *t <= high + slack), "{found:?}");
            let _ = labels(&found);
        }
    }
}
