//! Reference results of other libraries: numpy 2.4.6, scikit-learn 1.9.1 and statsmodels 0.15.0, for these
//! observations:
//!
//! ```python
//! X = np.array([[1, 0, 2.5], [0, 1, -1], [2, 1, 0.5], [-1, 3, 1], [0.5, -2, 3], [1.5, 2, -2], [-2, 0.5, 0], [3, -1, 1]])
//! y = np.array([2, -1.5, 3.25, -4, 7.5, -3, -1, 5.5]); w = np.array([1, 0.5, 2, 0.25, 1.5, 3, 0.75, 1.25])
//! xm, ym = (w @ X) / w.sum(), (w @ y) / w.sum()
//! Z, t = np.sqrt(w)[:, None] * (X - xm), np.sqrt(w) * (y - ym)
//! ```

use super::{assert_close, assert_within};
use crate::surrogate::{
    Equality, ForwardSelection, Lasso, Linear, Note, Observations, Ridge, Surrogate, lasso_path,
};

#[rustfmt::skip]
const ROWS: [f64; 24] = [
    1.0, 0.0, 2.5,  0.0, 1.0, -1.0,  2.0, 1.0, 0.5,  -1.0, 3.0, 1.0,
    0.5, -2.0, 3.0,  1.5, 2.0, -2.0,  -2.0, 0.5, 0.0,  3.0, -1.0, 1.0,
];
const TARGETS: [f64; 8] = [2.0, -1.5, 3.25, -4.0, 7.5, -3.0, -1.0, 5.5];
const WEIGHTS: [f64; 8] = [1.0, 0.5, 2.0, 0.25, 1.5, 3.0, 0.75, 1.25];

fn data() -> Observations<'static> {
    Observations::new(&ROWS, 3, &TARGETS, &WEIGHTS).unwrap()
}

/// `LinearRegression(fit_intercept=…).fit(X, y, w)`, its `score(X, y, w)`, and
/// `statsmodels.WLS(y, add_constant(X) or X, weights=w).fit(cov_type="HC1").bse`.
#[test]
fn linear() {
    let fit = Linear::default().fit(&data()).unwrap();
    assert_close(&[fit.intercept, fit.r2], &[0.970_568_282_924_947, 0.931_079_560_131_529_6]);
    assert_close(
        &fit.coefficients,
        &[0.875_141_267_536_606, -1.528_704_961_519_988, 0.890_994_580_288_601_5],
    );
    let errors = [0.339_886_951_989_311_35, 0.748_974_824_335_838_4, 0.689_078_402_151_109];
    assert_close(&fit.standard_errors.unwrap(), &errors);
    assert_eq!((fit.rank, fit.notes), (3, vec![]));

    let fit = Linear { intercept: false, equality: None }.fit(&data()).unwrap();
    assert_close(&[fit.intercept, fit.r2], &[0.0, 0.912_310_251_894_454_7]);
    assert_close(
        &fit.coefficients,
        &[1.158_812_476_873_765, -1.085_643_714_229_421_3, 1.237_312_887_739_853],
    );
    let errors = [0.234_873_406_589_701_85, 0.542_978_026_780_751_7, 0.541_598_279_073_528_9];
    assert_close(&fit.standard_errors.unwrap(), &errors);
}

/// `Ridge(alpha=0.7, fit_intercept=…, solver="svd").fit(X, y, w)`, and errors by the formula:
/// `A = inv(Z.T @ Z + 0.7 * eye(3))`, `e = t - Z @ c`, `p = trace(Z @ A @ Z.T) + 1`,
/// `sqrt(diag(8 / (8 - p) * A @ Z.T @ diag(e**2) @ Z @ A))`.
#[test]
fn ridge() {
    let fit = Ridge { alpha: 0.7, ..Ridge::default() }.fit(&data()).unwrap();
    assert_close(&[fit.intercept, fit.r2], &[0.952_404_441_482_390_2, 0.930_567_959_528_327_8]);
    assert_close(
        &fit.coefficients,
        &[0.844_322_858_818_279_3, -1.443_821_564_656_844_9, 0.926_813_454_770_707_1],
    );
    let errors = [0.292_693_762_237_841_7, 0.613_410_037_807_685_4, 0.585_221_053_613_206];
    assert_close(&fit.standard_errors.unwrap(), &errors);

    let fit = Ridge { alpha: 0.7, intercept: false, equality: None }.fit(&data()).unwrap();
    assert_close(&[fit.intercept, fit.r2], &[0.0, 0.911_961_156_551_185_1]);
    assert_close(
        &fit.coefficients,
        &[1.125_209_439_327_742_5, -1.046_946_615_620_565_8, 1.236_984_528_549_598],
    );
}

/// With `a = [1, 2, -1]`: `solve(block([[Z.T @ Z + alpha * eye(3), a[:, None]], [a[None], 0]]), r_[Z.T @ t, 3])[:3]`;
/// errors as for ridge with `A - outer(A @ a, A @ a) / (a @ A @ a)` for `A`.
#[test]
fn equality() {
    let equality = Some(Equality { factors: vec![1.0, 2.0, -1.0], total: 3.0 });
    let fit = Linear { intercept: true, equality: equality.clone() }.fit(&data()).unwrap();
    assert_close(&[fit.intercept, fit.r2], &[-2.845_555_548_279_678_6, 0.386_807_415_855_888_74]);
    assert_close(
        &fit.coefficients,
        &[2.085_565_208_429_185, 1.888_973_621_215_089_2, 2.863_512_450_859_363_2],
    );
    let errors = [0.897_334_852_481_227_7, 0.811_139_601_685_746_1, 1.195_186_873_877_387_4];
    assert_close(&fit.standard_errors.unwrap(), &errors);
    assert_eq!(fit.rank, 2);

    let fit = Ridge { alpha: 0.7, intercept: true, equality }.fit(&data()).unwrap();
    assert_close(&[fit.intercept, fit.r2], &[-2.748_223_160_210_115_7, 0.384_268_689_176_666_7]);
    assert_close(&fit.coefficients, &[2.072_929_114_490_908, 1.818_208_210_652_073, 2.709_345_535_795_055_3]);
    let errors = [0.832_434_824_571_244_1, 0.747_026_116_397_834_9, 1.146_367_344_157_864_6];
    assert_close(&fit.standard_errors.unwrap(), &errors);
}

/// Columns `X0 + X1` and `0.1` appended: `lstsq(Z, t)` with the last column of `Z` set to zero.
#[test]
fn dependent_features() {
    let rows: Vec<f64> = ROWS.chunks(3).flat_map(|x| [x[0], x[1], x[2], x[0] + x[1], 0.1]).collect();
    let fit = Linear::default().fit(&Observations::new(&rows, 5, &TARGETS, &WEIGHTS).unwrap()).unwrap();
    let coefficients = [
        1.092_995_832_197_730_4,
        -1.310_850_396_858_859,
        0.890_994_580_288_600_5,
        -0.217_854_564_661_128_82,
        0.0,
    ];
    assert_close(&fit.coefficients, &coefficients);
    assert_close(&[fit.intercept], &[0.970_568_282_924_952_5]);
    assert_eq!((fit.rank, fit.notes), (3, vec![Note::Dependent { rank: 3, unknowns: 5 }]));
}

/// `Lasso(alpha=…, fit_intercept=…, tol=1e-15, max_iter=1000000).fit(X, y, w)`.
#[test]
fn lasso() {
    let cases = [
        (
            true,
            0.1,
            1.033_327_871_762_628_4,
            0.930_351_211_173_618_6,
            [0.809_764_863_721_970_5, -1.493_124_846_464_938_7, 0.879_771_927_862_655_1],
        ),
        (
            true,
            1.0,
            1.598_164_171_301_746,
            0.858_244_664_340_424_5,
            [0.221_377_229_390_247_87, -1.172_903_810_969_463_8, 0.778_768_056_029_144_8],
        ),
        (
            false,
            0.1,
            0.0,
            0.911_660_382_441_702_3,
            [1.111_779_026_127_239_1, -1.021_414_052_100_704, 1.248_484_120_386_165_6],
        ),
        (
            false,
            1.0,
            0.0,
            0.847_323_306_619_224_8,
            [0.688_477_969_408_497_4, -0.443_347_092_942_235_5, 1.349_025_214_202_990_8],
        ),
    ];
    for (intercept, lambda, b, r2, coefficients) in cases {
        let fit = Lasso { lambda, intercept }.fit(&data()).unwrap();
        assert_within(&[fit.intercept, fit.r2], &[b, r2], 1e-8);
        assert_within(&fit.coefficients, &coefficients, 1e-8);
    }
}

/// `lars_path(Z, t, method="lasso")`; `alphas * m / w.sum()`.
#[test]
fn path() {
    let path = lasso_path(&data(), true).unwrap();
    let lambdas: Vec<f64> = path.knots().iter().map(|knot| knot.lambda).collect();
    assert_close(&lambdas, &[6.068_114_217_727_542, 3.274_211_207_668_26, 1.338_619_465_851_817_1, 0.0]);
    let coefficients = [
        [0.0, 0.0, 0.0],
        [0.0, 0.0, 0.858_130_999_435_346_5],
        [0.0, -1.052_422_615_420_581_1, 0.740_765_970_330_002_2],
        [0.875_141_267_536_606_9, -1.528_704_961_519_988_4, 0.890_994_580_288_602_5],
    ];
    for (knot, expected) in path.knots().iter().zip(coefficients) {
        assert_close(&knot.coefficients, &expected);
    }
    assert!(path.at_most(2).active().eq([1, 2]));
    assert!(path.at_most(1).active().eq([2]));
}

/// A path on which features leave and come back, found by trying, `lars_path` as above.
#[test]
fn path_with_features_that_leave() {
    #[rustfmt::skip]
    let rows = [
        -3.0, 2.0, -3.0, 3.0, -2.0,  -1.0, -1.0, 0.0, -1.0, 1.0,  -1.0, 2.0, 3.0, -2.0, -3.0,  -2.0, -2.0, 2.0, 2.0, 0.0,
        3.0, 3.0, 3.0, 0.0, 0.0,  -1.0, -2.0, -1.0, 2.0, -2.0,  -2.0, 1.0, 0.0, -2.0, -1.0,
    ];
    let (targets, weights) = ([7.0, -9.0, -4.0, 1.0, 3.0, 1.0, 1.0], [4.0, 3.0, 3.0, 4.0, 4.0, 1.0, 4.0]);
    let path = lasso_path(&Observations::new(&rows, 5, &targets, &weights).unwrap(), true).unwrap();
    #[rustfmt::skip]
    let expected = [
        (5.862_003_780_718_336, [0.0; 5]),
        (3.924_686_809_137_803_8, [0.0, 0.0, 0.0, 0.518_644_067_796_610_1, 0.0]),
        (0.979_206_049_149_340_2, [0.0, 1.076_086_956_521_738_4, 0.0, 1.516_304_347_826_086, 0.0]),
        (0.786_524_901_553_341_1, [0.0, 1.145_180_842_937_327_8, -0.022_850_310_538_377_5, 1.569_750_738_981_699_6, 0.0]),
        (0.710_915_818_686_400_3, [-0.049_012_158_054_711_84, 1.194_528_875_379_94, 0.0, 1.597_454_407_294_833, 0.0]),
        (0.485_639_282_154_117_6,
            [-0.141_528_272_708_937_67, 1.315_386_942_782_225_3, 0.0, 1.655_405_768_842_870_5, 0.0]),
        (0.138_670_362_591_420_57,
            [-0.261_210_545_412_788_43, 1.476_146_761_727_367_8, 0.0, 1.745_695_357_921_294_6, -0.053_432_424_807_305_506]),
        (0.084_319_481_581_794_84,
            [-0.379_844_488_898_282_15, 1.566_639_901_049_829_8, 0.093_510_966_626_146_7, 1.792_419_800_101_548_3, 0.0]),
        (0.019_643_795_617_430_296,
            [-0.479_562_709_574_746_34, 1.637_118_403_662_613_9, 0.186_582_172_327_454_1, 1.842_674_825_793_024_6, 0.0]),
        (0.0, [-0.563_892_151_546_642_5, 1.707_030_166_168_582, 0.238_583_062_637_484_77, 1.864_907_691_165_168_7,
            0.082_894_596_660_030_55]),
    ];
    assert_eq!(path.knots().len(), expected.len());
    for (knot, (lambda, coefficients)) in path.knots().iter().zip(&expected) {
        assert_close(&[knot.lambda], &[*lambda]);
        assert_close(&knot.coefficients, coefficients);
        let active = coefficients.iter().enumerate().filter(|(_, c)| **c != 0.0).map(|(feature, _)| feature);
        assert!(knot.active().eq(active), "{knot:?}");
    }
    // The last knot with at most this number of features, although an earlier knot has fewer than the one before it.
    assert_close(&[path.at_most(4).lambda, path.at_most(3).lambda], &[expected[8].0, expected[5].0]);
}

/// LIME's loop with `LinearRegression().fit(X[:, used + [f]], y, w)` and its weighted `score`.
#[test]
fn forward_selection() {
    let chosen = ForwardSelection { count: 3, intercept: true }.select(&data());
    assert_eq!(chosen.features, [1, 0, 2]);
    assert_close(&chosen.r2, &[0.830_515_985_498_801_2, 0.885_169_446_107_952_1, 0.931_079_560_131_529_6]);
}
