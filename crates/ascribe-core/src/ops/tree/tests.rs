use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;

use super::*;

fn split(feature: usize, branch: Branch, threshold: f64, yes: Child, no: Child) -> Split {
    Split { feature, branch, threshold, members: vec![], missing: false, yes, no, hits: None }
}

fn leaf(value: f64) -> Leaf {
    Leaf { values: vec![(0, value)], hits: None }
}

/// A tree with one question about the first of one feature: 1 for yes, 0 for no.
fn stump(branch: Branch, threshold: f64) -> Tree {
    let question = split(0, branch, threshold, Child::Leaf(0), Child::Leaf(1));
    Tree { root: Child::Split(0), splits: vec![question], leaves: vec![leaf(1.0), leaf(0.0)] }
}

fn outputs(ensemble: &TreeEnsemble, rows: &[Vec<f64>], dtype: DType) -> Vec<f64> {
    let flat: Vec<f64> = rows.concat();
    let x = Tensor::from_vec(flat, (rows.len(), rows[0].len()), &Device::Cpu).unwrap();
    let y = ensemble.forward(&[&x.to_dtype(dtype).unwrap()], Backend::Auto).unwrap();
    assert_eq!(y.dims(), ensemble.output_shape(&[x.dims()]).unwrap());
    y.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn column(ensemble: &TreeEnsemble, values: &[f64]) -> Vec<f64> {
    outputs(ensemble, &values.iter().map(|&v| vec![v]).collect::<Vec<_>>(), DType::F32)
}

fn one(tree: Tree) -> TreeEnsemble {
    TreeEnsemble::new(vec![tree], 1, Aggregate::Sum, vec![]).unwrap()
}

#[test]
fn questions() {
    let nan = f64::NAN;
    for (branch, expected) in [
        (Branch::LessOrEqual, [1.0, 1.0, 0.0, 0.0]),
        (Branch::Less, [1.0, 0.0, 0.0, 0.0]),
        (Branch::GreaterOrEqual, [0.0, 1.0, 1.0, 0.0]),
        (Branch::Greater, [0.0, 0.0, 1.0, 0.0]),
        (Branch::Equal, [0.0, 1.0, 0.0, 0.0]),
        // NaN is not equal to anything.
        (Branch::NotEqual, [1.0, 0.0, 1.0, 1.0]),
    ] {
        let values = [1.0, 2.0, 3.0, nan];
        assert_eq!(column(&one(stump(branch, 2.0)), &values), expected, "{branch:?}");
        let mut tracks = stump(branch, 2.0);
        tracks.splits[0].missing = true;
        let expected = [expected[0], expected[1], expected[2], 1.0];
        assert_eq!(column(&one(tracks), &values), expected, "{branch:?} with missing values");
    }
    let mut member = stump(Branch::Member, f64::NAN);
    member.splits[0].members = vec![1.0, 4.0];
    assert_eq!(column(&one(member.clone()), &[1.0, 2.0, 4.0, nan]), [1.0, 0.0, 1.0, 0.0]);
    member.splits[0].missing = true;
    assert_eq!(column(&one(member), &[1.0, 2.0, 4.0, nan]), [1.0, 0.0, 1.0, 1.0]);
}

#[test]
fn aggregates() {
    // For 1: yes, yes, no: 10, 2, 30. For 5: no, no, no: 0, 0, 30. The last tree has values for the second output, too.
    let with = |limit, yes, no: f64, second: Option<f64>| {
        let mut tree = stump(Branch::LessOrEqual, limit);
        tree.leaves = vec![leaf(yes), leaf(no)];
        tree.leaves[1].values.extend(second.map(|value| (1, value)));
        tree
    };
    let trees = vec![with(3.0, 10.0, 0.0, None), with(2.0, 2.0, 0.0, None), with(0.0, 9.0, 30.0, Some(-6.0))];
    for (aggregate, expected) in [
        (Aggregate::Sum, [43.0, -4.0, 31.0, -4.0]),
        (Aggregate::Average, [15.0, 0.0, 11.0, 0.0]),
        (Aggregate::Min, [3.0, -4.0, 1.0, -4.0]),
        (Aggregate::Max, [31.0, -4.0, 31.0, -4.0]),
    ] {
        let ensemble = TreeEnsemble::new(trees.clone(), 2, aggregate, vec![1.0, 2.0]).unwrap();
        assert_eq!(column(&ensemble, &[1.0, 5.0]), expected, "{aggregate:?}");
    }
}

#[test]
fn a_root_may_be_a_leaf() {
    let tree = Tree { root: Child::Leaf(0), splits: vec![], leaves: vec![leaf(2.5)] };
    assert_eq!(column(&one(tree), &[0.0, f64::NAN]), [2.5, 2.5]);
}

#[test]
fn thresholds_are_rounded_to_the_type_of_the_input() {
    let tenth = one(stump(Branch::LessOrEqual, 0.1));
    let above = f64::from(0.1_f32);
    assert_eq!(outputs(&tenth, &[vec![0.1]], DType::F32), [1.0]);
    assert_eq!(outputs(&tenth, &[vec![above]], DType::F32), [1.0]);
    assert_eq!(outputs(&tenth, &[vec![above]], DType::F64), [0.0]);
}

#[test]
fn sums_follow_the_order_of_the_trees() {
    let tree = |value| Tree { root: Child::Leaf(0), splits: vec![], leaves: vec![leaf(value)] };
    let of = |values: [f64; 3]| {
        let trees = values.into_iter().map(tree).collect();
        column(&TreeEnsemble::new(trees, 1, Aggregate::Sum, vec![]).unwrap(), &[0.0])
    };
    // In f32, 10⁸ + 1 = 10⁸.
    assert_eq!((of([1e8, 1.0, -1e8]), of([1e8, -1e8, 1.0])), (vec![0.0], vec![1.0]));
}

#[test]
fn what_is_wrong_is_said() {
    let message = |change: &dyn Fn(&mut Tree)| {
        let mut tree = stump(Branch::Less, 0.0);
        change(&mut tree);
        TreeEnsemble::new(vec![tree], 1, Aggregate::Sum, vec![]).unwrap_err().to_string()
    };
    let cycle = message(&|tree| tree.splits[0].no = Child::Split(0));
    assert!(cycle.contains("tree 0, node 0") && cycle.contains("cycle"), "{cycle}");
    let twice = message(&|tree| {
        let below = tree.splits[0].clone();
        tree.splits.push(below);
        tree.splits[0] = split(0, Branch::Less, 0.0, Child::Split(1), Child::Split(1));
    });
    assert!(twice.contains("node 1") && twice.contains("two ways"), "{twice}");
    for (found, part) in [
        (message(&|tree| tree.splits[0].yes = Child::Leaf(7)), "leads to leaf 7; expected one of 2"),
        (message(&|tree| tree.splits[0].yes = Child::Split(3)), "leads to node 3; expected one of 1"),
        (message(&|tree| tree.splits[0].threshold = f64::NAN), "compares with NaN"),
        (message(&|tree| tree.leaves[1].values[0].0 = 4), "leaf 1: has a value for output 4"),
        (message(&|tree| tree.leaves[1].values[0].1 = f64::NAN), "the value NaN"),
        (message(&|tree| tree.root = Child::Leaf(2)), "root"),
        (message(&|tree| tree.splits[0].feature = usize::MAX), "feature"),
    ] {
        assert!(found.contains(part), "{found}");
    }
    let none = TreeEnsemble::new(vec![], 1, Aggregate::Sum, vec![]).unwrap_err().to_string();
    let base = TreeEnsemble::new(vec![stump(Branch::Less, 0.0)], 1, Aggregate::Sum, vec![0.0; 2]);
    assert!(none.contains("none") && base.unwrap_err().to_string().contains("base values: are 2"));
    let narrow = one(Tree {
        splits: vec![split(3, Branch::Less, 0.0, Child::Leaf(0), Child::Leaf(1))],
        ..stump(Branch::Less, 0.0)
    });
    let shape = narrow.output_shape(&[&[2, 3]]).unwrap_err().to_string();
    assert!(shape.contains("[2, 3]") && shape.contains("at least the 4 features"), "{shape}");
}

/// The value of one sample, by recursion.
fn naive(tree: &Tree, child: Child, x: &[f64]) -> Vec<(usize, f64)> {
    let split = match child {
        Child::Leaf(at) => return tree.leaves[at].values.clone(),
        Child::Split(at) => &tree.splits[at],
    };
    let v = x[split.feature];
    let yes = match split.branch {
        Branch::LessOrEqual => v <= split.threshold,
        Branch::Less => v < split.threshold,
        Branch::GreaterOrEqual => v >= split.threshold,
        Branch::Greater => v > split.threshold,
        Branch::Equal => v == split.threshold,
        Branch::NotEqual => v != split.threshold,
        Branch::Member => split.members.contains(&v),
    };
    naive(tree, if yes || (v.is_nan() && split.missing) { split.yes } else { split.no }, x)
}

/// The numbers of a test are small integers, so that ties are frequent and sums exact.
fn number(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

const BRANCHES: [Branch; 7] = [
    Branch::LessOrEqual,
    Branch::Less,
    Branch::GreaterOrEqual,
    Branch::Greater,
    Branch::Equal,
    Branch::NotEqual,
    Branch::Member,
];

/// A random tree of this depth at most.
fn grow(tree: &mut Tree, depth: usize, seed: &mut u64, outputs: usize, features: usize) -> Child {
    if depth == 0 || number(seed, 5) == 0 {
        let value = |seed: &mut u64| number(seed, 9) as f64 - 4.0;
        let values = (0..outputs).filter(|_| number(seed, 4) > 0).collect::<Vec<_>>();
        let values = values.into_iter().map(|output| (output, value(seed))).collect();
        tree.leaves.push(Leaf { values, hits: None });
        return Child::Leaf(tree.leaves.len() - 1);
    }
    let at = tree.splits.len();
    tree.splits.push(split(
        number(seed, features as u64) as usize,
        BRANCHES[number(seed, 7) as usize],
        number(seed, 5) as f64,
        Child::Leaf(0),
        Child::Leaf(0),
    ));
    tree.splits[at].members = (0..number(seed, 3)).map(|_| number(seed, 5) as f64).collect();
    tree.splits[at].missing = number(seed, 2) == 0;
    let (yes, no) =
        (grow(tree, depth - 1, seed, outputs, features), grow(tree, depth - 1, seed, outputs, features));
    (tree.splits[at].yes, tree.splits[at].no) = (yes, no);
    Child::Split(at)
}

proptest! {
    #![proptest_config(ascribe_proptest::config(64))]
    #[test]
    fn flat_arrays_agree_with_recursion(
        seed in any::<u64>(),
        count in 1_usize..40,
        outputs in 1_usize..4,
        features in 1_usize..5,
        rows in 1_usize..100,
        average in any::<bool>(),
    ) {
        let mut seed = seed;
        let trees: Vec<Tree> = (0..count)
            .map(|_| {
                let mut tree = Tree { root: Child::Leaf(0), splits: vec![], leaves: vec![] };
                tree.root = grow(&mut tree, 6, &mut seed, outputs, features);
                tree
            })
            .collect();
        let x: Vec<Vec<f64>> = (0..rows)
            .map(|_| {
                let value = |seed: &mut u64| if number(seed, 6) == 0 { f64::NAN } else { number(seed, 5) as f64 };
                (0..features).map(|_| value(&mut seed)).collect()
            })
            .collect();
        let aggregate = if average { Aggregate::Average } else { Aggregate::Sum };
        let expected: Vec<f64> = x
            .iter()
            .flat_map(|x| {
                let mut y = vec![0.0; outputs];
                for tree in &trees {
                    for (output, value) in naive(tree, tree.root, x) {
                        y[output] += value;
                    }
                }
                y
            })
            .map(|sum| if average { sum / count as f64 } else { sum })
            .collect();
        let ensemble = TreeEnsemble::new(trees, outputs, aggregate, vec![]).unwrap();
        prop_assert_eq!(outputs_of(&ensemble, &x, 1), expected.clone());
        prop_assert_eq!(outputs_of(&ensemble, &x, 3), expected);
    }
}

fn outputs_of(ensemble: &TreeEnsemble, x: &[Vec<f64>], threads: usize) -> Vec<f64> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| outputs(ensemble, x, DType::F64))
}
