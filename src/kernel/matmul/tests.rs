//! Linear layers compared with sums in f64, at every level and precision.

use super::*;
use crate::kernel::encode::{Code, PairedWeight, Precision, Quantised, QuantisedWeight, bf16_bits};
use crate::kernel::level::{Level, pairs_bytes};
use crate::kernel::norm::layer_norm_at;
use crate::kernel::testing::{levels, quantise, quantise_weights, randoms, relative_error};

const PRECISIONS: [Precision; 4] = [
    Precision::F32,
    Precision::Bf16,
    Precision::Int16,
    Precision::Int8,
];

fn packed(
    level: Level,
    n: usize,
    k: usize,
    precision: Precision,
    weights: &[f32],
    s: Option<&[f32]>,
) -> PackedMatrix {
    let fill = |j: usize, row: &mut [f32]| row.copy_from_slice(&weights[j * k..][..k]);
    PackedMatrix::pack_at(level, n, k, precision, &fill, s)
}

/// A row's numbers after rounding to the precision, in f64.
fn rounded(level: Level, precision: Precision, row: &[f32], weights: bool) -> Vec<f64> {
    let k = row.len();
    match precision {
        Precision::F32 => row.iter().map(|x| f64::from(*x)).collect(),
        Precision::Bf16 => row
            .iter()
            .map(|x| f64::from(half::bf16::from_bits(bf16_bits(*x)).to_f32()))
            .collect(),
        Precision::Int16 if weights => integer_weights(row, vec![0i16; k]),
        Precision::Int16 => integers(row, vec![0i16; k]),
        Precision::Int8 if weights && pairs_bytes(level) => {
            let zero = PairedWeight::from_bits(0);
            integer_weights(row, vec![zero; k])
        }
        Precision::Int8 if weights => integer_weights(row, vec![0i8; k]),
        Precision::Int8 => integers(row, vec![0u8; k]),
    }
}

fn integers<Q: Quantised + Into<f64>>(row: &[f32], mut codes: Vec<Q>) -> Vec<f64> {
    let scale = quantise(row, &mut codes);
    let (step, zero) = (f64::from(scale.step), f64::from(scale.zero));
    codes.into_iter().map(|q| q.into() * step + zero).collect()
}

fn integer_weights<Q: QuantisedWeight>(row: &[f32], mut codes: Vec<Q>) -> Vec<f64> {
    let (factor, _) = quantise_weights(row, &mut codes);
    let values = codes.into_iter().map(Into::<i32>::into);
    values.map(|q| f64::from(q) * f64::from(factor)).collect()
}

/// rows x weights^T + bias of the rounded numbers, in f64.
fn exact(
    level: Level,
    precision: Precision,
    rows: &[f32],
    weights: &[f32],
    k: usize,
    bias: &[f32],
) -> Vec<f64> {
    let weights: Vec<Vec<f64>> = weights
        .chunks(k)
        .map(|row| rounded(level, precision, row, true))
        .collect();
    let mut out = Vec::new();
    for row in rows.chunks(k) {
        let row = rounded(level, precision, row, false);
        for (column, bias) in weights.iter().zip(bias) {
            let sum: f64 = row.iter().zip(column).map(|(x, w)| x * w).sum();
            out.push(sum + f64::from(*bias));
        }
    }
    out
}

#[test]
fn products_agree_with_f64_at_every_level_and_shape() {
    let shapes = [
        (1, 1, 1),
        (1, 33, 7),
        (2, 64, 64),
        (3, 130, 65),
        (5, 16, 588),
        (13, 47, 31),
        (14, 32, 128),
        (15, 65, 3),
        (29, 100, 257),
        (197, 40, 96),
        (2, 88, 1408),
        (3, 104, 1664),
        (2, 36, 6144),
        (2, 20, 8192),
    ];
    for (m, n, k) in shapes {
        let (x, w, bias) = (randoms(1, m * k), randoms(2, n * k), randoms(3, n));
        for precision in PRECISIONS {
            for level in levels() {
                let expected = exact(level, precision, &x, &w, k, &bias);
                let matrix = packed(level, n, k, precision, &w, None);
                let mut out = vec![f32::NAN; m * n];
                let input = Input {
                    rows: &x,
                    m,
                    norm: None,
                };
                linear(input, &matrix, Some(&bias), Epilogue::Store, &mut out);
                let error = relative_error(&out, &expected);
                assert!(
                    error < 2e-6,
                    "{level:?} {precision:?} {m}x{n}x{k}: {error:e}"
                );
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bytes_whatever_the_other_rows_and_threads() {
    let (m, n, k) = (61, 75, 130);
    let (x, w) = (randoms(1, m * k), randoms(2, n * k));
    let (gain, shift) = (randoms(5, k), randoms(6, k));
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(3)
        .build()
        .expect("a thread pool");
    for precision in PRECISIONS {
        for level in levels() {
            let matrix = packed(level, n, k, precision, &w, None);
            let norm = Norm {
                gain: &gain,
                bias: &shift,
                epsilon: 1e-5,
            };
            let of = |rows: &[f32]| {
                let m = rows.len() / k;
                let mut out = vec![0.0; m * n];
                let input = Input {
                    rows,
                    m,
                    norm: Some(norm),
                };
                linear(
                    input,
                    &matrix,
                    None,
                    Epilogue::Activate(Activation::QuickGelu),
                    &mut out,
                );
                out
            };
            let singles: Vec<f32> = x.chunks(k).flat_map(of).collect();
            for together in [2, 4, 9, 15, 61] {
                let batches: Vec<f32> = x.chunks(k * together).flat_map(of).collect();
                assert!(
                    batches == singles,
                    "{level:?} {precision:?}: {together} rows at once differ"
                );
            }
            let tall: Vec<f32> = (0..20).flat_map(|_| x.clone()).collect();
            let threaded = pool.install(|| of(&tall));
            let repeated: Vec<f32> = (0..20).flat_map(|_| singles.clone()).collect();
            assert!(
                threaded == repeated,
                "{level:?} {precision:?}: threads change the result"
            );
        }
    }
}

#[test]
fn a_new_vector_is_written_completely() {
    for level in levels() {
        for precision in PRECISIONS {
            for (m, n, k) in [(1, 1, 1), (3, 70, 33), (29, 100, 17), (197, 40, 8)] {
                let (x, w) = (randoms(1, m * k), randoms(2, n * k));
                let weights = packed(level, n, k, precision, &w, None);
                let input = Input {
                    rows: &x,
                    m,
                    norm: None,
                };
                for activation in [None, Some(Activation::QuickGelu), Some(Activation::Gelu)] {
                    let epilogue = activation.map_or(Epilogue::Store, Epilogue::Activate);
                    let mut expected = vec![0.0; m * n];
                    linear(input, &weights, None, epilogue, &mut expected);
                    let found = linear_to_vec(input, &weights, None, activation);
                    assert_eq!(found, expected, "{level:?} {precision:?} {m} {n} {k}");
                }
            }
        }
    }
}

#[test]
fn a_fused_norm_equals_the_separate_norm() {
    let (m, n, k) = (5, 20, 96);
    let (x, w) = (randoms(1, m * k), randoms(2, n * k));
    let (gain, shift) = (randoms(5, k), randoms(6, k));
    let norm = Norm {
        gain: &gain,
        bias: &shift,
        epsilon: 1e-5,
    };
    for precision in PRECISIONS {
        for level in levels() {
            let mut normed = vec![0.0; m * k];
            layer_norm_at(level, &x, &norm, &mut normed);
            let matrix = packed(level, n, k, precision, &w, None);
            let (mut fused, mut apart) = (vec![0.0; m * n], vec![0.0; m * n]);
            linear(
                Input {
                    rows: &x,
                    m,
                    norm: Some(norm),
                },
                &matrix,
                None,
                Epilogue::Store,
                &mut fused,
            );
            linear(
                Input {
                    rows: &normed,
                    m,
                    norm: None,
                },
                &matrix,
                None,
                Epilogue::Store,
                &mut apart,
            );
            assert_eq!(fused, apart, "{level:?} {precision:?}");
        }
    }
}

#[test]
fn epilogues_match_their_definitions() {
    let (m, n, k) = (4, 21, 40);
    let (x, w, start) = (randoms(1, m * k), randoms(2, n * k), randoms(3, m * n));
    for precision in PRECISIONS {
        for level in levels() {
            let matrix = packed(level, n, k, precision, &w, None);
            let input = Input {
                rows: &x,
                m,
                norm: None,
            };
            let mut plain = vec![0.0; m * n];
            linear(input, &matrix, None, Epilogue::Store, &mut plain);
            let mut added = start.clone();
            linear(input, &matrix, None, Epilogue::AddTo, &mut added);
            let sums: Vec<f32> = plain.iter().zip(&start).map(|(a, b)| a + b).collect();
            assert_eq!(added, sums, "{level:?} {precision:?}");
            let mut quick = start.clone();
            linear(
                input,
                &matrix,
                None,
                Epilogue::Activate(Activation::QuickGelu),
                &mut quick,
            );
            for (y, x) in quick.iter().zip(&plain) {
                let exact = x / (1.0 + (-1.702 * x).exp());
                assert!(
                    (y - exact).abs() <= 1e-6 * (1.0 + x.abs()),
                    "{level:?}: {y}, not {exact}"
                );
            }
        }
    }
}

#[test]
fn products_of_integers_are_exact_at_every_level() {
    // Steps that are 1: the only rounding left is the one that all levels share.
    let (m, n, k) = (17, 50, 301);
    let whole = |seed, count: usize, size: f32| -> Vec<f32> {
        randoms(seed, count)
            .iter()
            .map(|x| (x * 40.0).round().clamp(-size, size))
            .collect()
    };
    let mut x = whole(1, m * k, 127.0);
    x.chunks_mut(k)
        .for_each(|row| (row[0], row[1]) = (-127.0, 128.0));
    for level in levels() {
        // Pairs of bytes have room for sums of four weights up to 126.
        let (largest, most) = match pairs_bytes(level) {
            true => (126.0, 31.0),
            false => (127.0, 127.0),
        };
        let mut w = whole(2, n * k, most);
        for row in w.chunks_mut(k) {
            (row[0], row[1], row[4], row[5]) = (largest, 0.0, 0.0, 0.0);
        }
        let matrix = packed(level, n, k, Precision::Int8, &w, None);
        assert!(matrix.factors[..n].iter().all(|f| *f == 1.0), "{level:?}");
        compare(&x, &matrix, &w, 1.0);
    }
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    // The greatest activations with the greatest weights that a sum may have.
    let (m, n, k) = (5, 33, 6000);
    let x: Vec<f32> = (0..m * k).map(|i| f32::from(u8::from(i % k > 0))).collect();
    for sign in [1.0, -1.0] {
        let w = vec![sign; n * k];
        for precision in [Precision::Int16, Precision::Int8] {
            for level in levels() {
                let matrix = packed(level, n, k, precision, &w, None);
                // Rounding of a weight, by less than 2%.
                compare(&x, &matrix, &w, 0.02 * k as f64);
            }
        }
    }
}

/// Checks `x` times `matrix`, which holds `w`, against sums in f64, within `rounding`.
fn compare(x: &[f32], matrix: &PackedMatrix, w: &[f32], rounding: f64) {
    let (n, k) = (matrix.n, matrix.k);
    let m = x.len() / k;
    let expected = exact(Level::Scalar, Precision::F32, x, w, k, &vec![0.0; n]);
    let mut out = vec![0.0; m * n];
    let input = Input {
        rows: x,
        m,
        norm: None,
    };
    linear(input, matrix, None, Epilogue::Store, &mut out);
    for (y, exact) in out.iter().zip(&expected) {
        assert!(
            (f64::from(*y) - exact).abs() <= rounding + exact.abs() * 1e-6,
            "{:?} {:?}: {y}, not {exact}",
            matrix.level,
            matrix.precision
        );
    }
}

#[test]
fn smoothing_repairs_outliers() {
    let (m, n, k) = (8, 32, 64);
    let (mut x, mut w) = (randoms(1, m * k), randoms(2, n * k));
    x.chunks_mut(k).for_each(|row| row[7] *= 100.0);
    w.chunks_mut(k).for_each(|row| row[7] *= 0.01);
    let expected = exact(Level::Scalar, Precision::F32, &x, &w, k, &vec![0.0; n]);
    let mut factors = vec![1.0; k];
    factors[7] = 0.01;
    for level in levels() {
        let error = |smoothing| {
            let matrix = packed(level, n, k, Precision::Int8, &w, smoothing);
            let mut out = vec![0.0; m * n];
            linear(
                Input {
                    rows: &x,
                    m,
                    norm: None,
                },
                &matrix,
                None,
                Epilogue::Store,
                &mut out,
            );
            relative_error(&out, &expected)
        };
        let (plain, smooth) = (error(None), error(Some(&factors)));
        assert!(
            smooth < 0.02 && plain > 5.0 * smooth,
            "{level:?}: {plain} and {smooth}"
        );
    }
}

#[test]
fn nan_and_infinity_stay_in_their_row() {
    let (m, n, k) = (16, 40, 70);
    let w = randoms(2, n * k);
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = randoms(1, m * k);
        x[3 * k + 69] = broken;
        for precision in PRECISIONS {
            for level in levels() {
                let matrix = packed(level, n, k, precision, &w, None);
                let mut out = vec![0.0; m * n];
                linear(
                    Input {
                        rows: &x,
                        m,
                        norm: None,
                    },
                    &matrix,
                    None,
                    Epilogue::Store,
                    &mut out,
                );
                for (i, row) in out.chunks(n).enumerate() {
                    let finite = row.iter().filter(|y| y.is_finite()).count();
                    assert_eq!(
                        finite,
                        if i == 3 { 0 } else { n },
                        "{level:?} {precision:?} row {i}"
                    );
                }
            }
        }
    }
}

#[test]
fn denormals_do_no_harm() {
    let (m, n, k) = (3, 18, 50);
    let (x, w) = (vec![1e-41; m * k], randoms(2, n * k));
    for precision in PRECISIONS {
        for level in levels() {
            let matrix = packed(level, n, k, precision, &w, None);
            let mut out = vec![1.0; m * n];
            linear(
                Input {
                    rows: &x,
                    m,
                    norm: None,
                },
                &matrix,
                None,
                Epilogue::Store,
                &mut out,
            );
            assert!(
                out.iter().all(|y| y.abs() < 1e-38),
                "{level:?} {precision:?}"
            );
        }
    }
}

#[test]
fn weights_kept_as_halves_give_the_same_bytes() {
    let (n, k) = (45, 131);
    for round in [
        |x: f32| half::f16::from_f32(x).to_f32(),
        |x: f32| half::bf16::from_f32(x * 1e20).to_f32(),
    ] {
        let halves: Vec<f32> = randoms(2, n * k).into_iter().map(round).collect();
        // One more feature, which is in no half, keeps all in f32.
        let odd = [&halves[..], &vec![1.000_001; k]].concat();
        for (level, m) in levels().into_iter().flat_map(|l| [(l, 1), (l, 3), (l, 40)]) {
            let x = randoms(1, m * k);
            let of = |n: usize, weights: &[f32]| {
                let input = Input {
                    rows: &x,
                    m,
                    norm: None,
                };
                linear_to_vec(
                    input,
                    &packed(level, n, k, Precision::F32, weights, None),
                    None,
                    None,
                )
            };
            let (kept, plain) = (of(n, &halves), of(n + 1, &odd));
            for (kept, plain) in kept.chunks(n).zip(plain.chunks(n + 1)) {
                assert_eq!(kept, &plain[..n], "{level:?} {m}");
            }
        }
    }
}
