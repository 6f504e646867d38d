//! Attention compared with the plain formula in f64, at every level.

use super::*;
use crate::kernel::testing::{levels, randoms, relative_error};

/// The formula, for the queries in `segment`.
fn naive(qkv: &[f32], shape: &AttentionShape, segment: &Segment, query: usize) -> Vec<f64> {
    let (d, width) = (shape.head_dim, shape.heads * shape.head_dim);
    let own = segment
        .rows
        .clone()
        .filter(|row| !shape.causal || *row <= query);
    let keys: Vec<usize> = segment
        .prefix
        .iter()
        .cloned()
        .flatten()
        .chain(own)
        .collect();
    let at = |row: usize, part: usize, column: usize| {
        f64::from(qkv[row * 3 * width + part * width + column])
    };
    let mut out = Vec::new();
    for head in 0..shape.heads {
        let columns = head * d..(head + 1) * d;
        let score = |key: &usize| -> f64 {
            let sum: f64 = columns
                .clone()
                .map(|c| at(query, 0, c) * at(*key, 1, c))
                .sum();
            (sum / (d as f64).sqrt()).exp()
        };
        let weights: Vec<f64> = keys.iter().map(score).collect();
        let total: f64 = weights.iter().sum();
        for c in columns.clone() {
            let sum: f64 = keys
                .iter()
                .zip(&weights)
                .map(|(key, w)| w * at(*key, 2, c))
                .sum();
            out.push(sum / total);
        }
    }
    out
}

fn at(
    level: Level,
    qkv: &[f32],
    shape: &AttentionShape,
    segments: &[Segment],
    queries: Option<&[usize]>,
) -> Vec<f32> {
    let width = shape.heads * shape.head_dim;
    let rows = queries.map_or(qkv.len() / 3 / width, <[usize]>::len);
    let mut out = vec![0.0; rows * width];
    attention_at(level, false, qkv, shape, segments, queries, &mut out);
    out
}

fn after(prefix: Range<usize>, rows: Range<usize>) -> Segment {
    Segment {
        rows,
        prefix: Vec::from([prefix]),
    }
}

fn alone(rows: Range<usize>) -> Segment {
    Segment {
        rows,
        prefix: vec![],
    }
}

#[test]
fn attention_agrees_with_the_formula() {
    for (heads, head_dim, lengths) in [
        (2, 64, vec![197]),
        (1, 64, vec![1, 2, 7, 16, 17, 33]),
        (3, 5, vec![9, 40]),
        (1, 72, vec![30]),
        (1, 80, vec![50]),
        (2, 88, vec![37, 5]),
        (1, 96, vec![20]),
        (2, 104, vec![257]),
        (1, 64, vec![577]),
        (2, 16, vec![320, 321, 700]),
    ] {
        let rows: usize = lengths.iter().sum();
        let qkv = randoms(1, rows * 3 * heads * head_dim);
        let mut start = 0;
        let segments: Vec<Segment> = lengths
            .iter()
            .map(|length| {
                start += length;
                alone(start - length..start)
            })
            .collect();
        for causal in [false, true] {
            let shape = AttentionShape {
                heads,
                head_dim,
                causal,
            };
            let per_row = |segment: &Segment| -> Vec<f64> {
                segment
                    .rows
                    .clone()
                    .flat_map(|q| naive(&qkv, &shape, segment, q))
                    .collect()
            };
            let expected: Vec<f64> = segments.iter().flat_map(per_row).collect();
            for level in levels() {
                let out = at(level, &qkv, &shape, &segments, None);
                let error = relative_error(&out, &expected);
                assert!(error < 2e-6, "{level:?} {shape:?} {lengths:?}: {error:e}");
            }
        }
    }
}

#[test]
fn a_tree_of_prefixes_gives_the_same_bytes_as_whole_texts() {
    // 0..5 is shared, 5..12 and 12..40 follow it, 40..43 follows 12..40.
    let shape = AttentionShape {
        heads: 2,
        head_dim: 32,
        causal: true,
    };
    let qkv = randoms(2, 43 * 3 * 64);
    let tree = [
        alone(0..5),
        after(0..5, 5..12),
        after(0..5, 12..40),
        Segment {
            rows: 40..43,
            prefix: vec![0..5, 12..40],
        },
    ];
    for level in levels() {
        let out = at(level, &qkv, &shape, &tree, None);
        for leaf in [&tree[1], &tree[2], &tree[3]] {
            let rows: Vec<usize> = leaf
                .prefix
                .iter()
                .cloned()
                .flatten()
                .chain(leaf.rows.clone())
                .collect();
            let text: Vec<f32> = rows
                .iter()
                .flat_map(|row| qkv[row * 192..][..192].to_vec())
                .collect();
            let whole = at(level, &text, &shape, &[alone(0..rows.len())], None);
            let from_tree: Vec<f32> = rows
                .iter()
                .flat_map(|row| out[row * 64..][..64].to_vec())
                .collect();
            assert!(whole == from_tree, "{level:?} {leaf:?}");
        }
    }
}

#[test]
fn selected_queries_give_the_same_bytes_as_all() {
    for causal in [false, true] {
        let shape = AttentionShape {
            heads: 2,
            head_dim: 64,
            causal,
        };
        let qkv = randoms(3, 400 * 3 * 128);
        let segments = [alone(0..30), after(0..30, 30..380), alone(380..400)];
        let queries = [0, 29, 31, 32, 200, 379, 399];
        for level in levels() {
            let all = at(level, &qkv, &shape, &segments, None);
            let some = at(level, &qkv, &shape, &segments, Some(&queries));
            let expected: Vec<f32> = queries
                .iter()
                .flat_map(|q| all[q * 128..][..128].to_vec())
                .collect();
            assert!(some == expected, "{level:?}");
        }
    }
}

#[test]
fn threads_do_not_change_the_bytes() {
    let shape = AttentionShape {
        heads: 4,
        head_dim: 64,
        causal: false,
    };
    let qkv = randoms(4, 600 * 3 * 256);
    let segments = [alone(0..200), alone(200..400), alone(400..600)];
    let one = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .expect("a thread pool");
    let three = rayon::ThreadPoolBuilder::new()
        .num_threads(3)
        .build()
        .expect("a thread pool");
    let run = || at(level(), &qkv, &shape, &segments, None);
    assert!(one.install(run) == three.install(run));
}

#[test]
fn rows_outside_segments_are_unchanged() {
    let shape = AttentionShape {
        heads: 1,
        head_dim: 8,
        causal: false,
    };
    let qkv = randoms(5, 10 * 24);
    let mut out = vec![7.0; 80];
    attention(&qkv, &shape, &[alone(2..4)], None, &mut out);
    assert!(out[..16].iter().chain(&out[32..]).all(|x| *x == 7.0));
    assert!(out[16..32].iter().all(|x| *x != 7.0));
}

#[test]
fn nan_stays_in_its_segment_and_large_scores_do_not_overflow() {
    let shape = AttentionShape {
        heads: 1,
        head_dim: 64,
        causal: false,
    };
    let mut qkv = randoms(6, 60 * 192);
    qkv[5 * 192 + 64] = f32::NAN;
    qkv[20 * 192..40 * 192].iter_mut().for_each(|x| *x *= 100.0);
    let segments = [alone(0..20), alone(20..40), alone(40..60)];
    for level in levels() {
        let out = at(level, &qkv, &shape, &segments, None);
        assert!(out[..20 * 64].iter().all(|x| x.is_nan()), "{level:?}");
        assert!(out[20 * 64..].iter().all(|x| x.is_finite()), "{level:?}");
    }
}

#[test]
fn bf16_products_are_close_to_f32() {
    for (heads, head_dim, lengths) in [
        (2, 64, [197, 3]),
        (1, 7, [33, 18]),
        (1, 72, [19, 2]),
        (1, 80, [577, 1]),
        (2, 88, [40, 5]),
        (1, 96, [17, 16]),
        (2, 104, [257, 4]),
    ] {
        let width = heads * head_dim;
        let rows: usize = lengths.iter().sum();
        let qkv = randoms(7, rows * 3 * width);
        let segments = [alone(0..lengths[0]), after(0..5, lengths[0]..rows)];
        for causal in [false, true] {
            let shape = AttentionShape {
                heads,
                head_dim,
                causal,
            };
            let (mut full, mut half) = (vec![0.0; rows * width], vec![0.0; rows * width]);
            attention(&qkv, &shape, &segments, None, &mut full);
            attention_bf16(&qkv, &shape, &segments, None, &mut half);
            let exact: Vec<f64> = full.iter().map(|x| f64::from(*x)).collect();
            let error = relative_error(&half, &exact);
            assert!(error < 1e-2, "{shape:?} {lengths:?}: {error:e}");
            assert_eq!(
                half == full,
                !crate::kernel::has_native_bf16(),
                "{shape:?} {lengths:?}"
            );
        }
    }
}

#[test]
fn trees_and_selected_queries_keep_their_bytes_in_bf16() {
    let shape = AttentionShape {
        heads: 2,
        head_dim: 32,
        causal: true,
    };
    let qkv = randoms(8, 43 * 192);
    let (mut tree, mut whole, mut last) = (vec![0.0; 43 * 64], vec![0.0; 43 * 64], vec![0.0; 64]);
    let segments = [alone(0..5), after(0..5, 5..43)];
    attention_bf16(&qkv, &shape, &segments, None, &mut tree);
    attention_bf16(&qkv, &shape, &[alone(0..43)], None, &mut whole);
    attention_bf16(&qkv, &shape, &segments, Some(&[42]), &mut last);
    assert!(tree == whole);
    assert!(last == tree[42 * 64..]);
}
