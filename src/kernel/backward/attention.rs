//! The derivative of attention, one head of one sequence at a time; attention weights are
//! recomputed.
#![allow(
    unsafe_code,
    reason = "threads write their heads' columns of a shared output"
)]

use crate::kernel::attention::{AttentionShape, Segment};
use crate::kernel::buffer::SharedRows;
use crate::kernel::exp::exp;
use crate::kernel::level::{Job, Level, level, run};
use crate::kernel::parallel::{Counter, region, threads_for};
use crate::kernel::product::{Destination, View, multiply};
use crate::kernel::simd::{Simd, load_up_to, store_up_to};

/// Computes the gradient of the input of [`attention`](crate::kernel::attention()) from `gradient`
/// [rows, width], that of its output; `qkv` is [rows, 3 width]. With a sorted list `queries`,
/// `gradient` is [list length, width], for those rows only.
///
/// Runs on the current rayon pool; the result does not depend on the number of threads.
///
/// Panics when lengths do not match, and for segments that share rows.
#[must_use]
pub fn attention_backward(
    qkv: &[f32],
    shape: &AttentionShape,
    segments: &[Segment],
    queries: Option<&[usize]>,
    gradient: &[f32],
) -> Vec<f32> {
    let width = shape.heads * shape.head_dim;
    let rows = qkv.len() / (3 * width);
    let outputs = queries.map_or(rows, <[usize]>::len);
    assert_eq!(qkv.len(), rows * 3 * width, "not a whole number of rows");
    assert_eq!(gradient.len(), outputs * width, "not [{outputs}, {width}]");
    let mut out = vec![0.0; qkv.len()];
    let call = Call {
        qkv,
        shape: *shape,
        queries,
        gradient,
        level: level(),
        out: SharedRows::new(&mut out, 3 * width),
    };
    let counter = Counter::new(segments.len() * shape.heads);
    let cost = |segment: &Segment| segment.rows.len() * segment.rows.len() * 10 * width;
    region(threads_for(segments.iter().map(cost).sum()), &|| {
        let mut scratch = Scratch::default();
        while let Some(piece) = counter.take(1) {
            let segment = &segments[piece.start / shape.heads];
            assert!(segment.prefix.is_empty(), "segments share rows");
            assert!(
                segment.rows.end <= rows,
                "a segment reaches beyond the rows"
            );
            call.head(segment, piece.start % shape.heads, &mut scratch);
        }
    });
    out
}

struct Call<'a> {
    qkv: &'a [f32],
    shape: AttentionShape,
    queries: Option<&'a [usize]>,
    gradient: &'a [f32],
    level: Level,
    out: SharedRows<'a>,
}

/// Scratch of a head.
#[derive(Default)]
struct Scratch {
    /// [queries, keys]: scores, then weights.
    weights: Vec<f32>,
    /// [queries, keys]: their gradients.
    gradients: Vec<f32>,
    /// [queries, head_dim], of a list of queries.
    queries: Vec<f32>,
    /// Their gradient.
    gradient: Vec<f32>,
}

/// The queries of a sequence that matter, as laid out in memory.
struct Asked<'a> {
    /// Their positions in the sequence.
    places: Vec<usize>,
    /// [asked, head_dim]
    queries: View<'a>,
    /// The gradient of their results, [asked, head_dim].
    gradient: View<'a>,
}

impl Call<'_> {
    /// One head of one sequence.
    fn head(&self, segment: &Segment, head: usize, scratch: &mut Scratch) {
        let dim = self.shape.head_dim;
        let width = self.shape.heads * dim;
        let (keys, stride) = (segment.rows.len(), 3 * width);
        let part = |part: usize| {
            let start = segment.rows.start * stride + part * width + head * dim;
            View::strided(&self.qkv[start..], [keys, dim], stride)
        };
        let first = self.queries.map_or(segment.rows.start, |list| {
            list.partition_point(|row| *row < segment.rows.start)
        });
        let places: Vec<usize> = match self.queries {
            None => (0..keys).collect(),
            Some(list) => list[first..]
                .iter()
                .take_while(|row| **row < segment.rows.end)
                .map(|row| row - segment.rows.start)
                .collect(),
        };
        if places.is_empty() {
            return;
        }
        let asked = places.len();
        let from = first * width + head * dim;
        let gradient = View::strided(&self.gradient[from..], [asked, dim], width);
        let Scratch {
            weights,
            gradients,
            queries,
            gradient: query_gradient,
        } = scratch;
        let own = match self.queries {
            None => part(0),
            Some(_) => {
                queries.clear();
                for place in &places {
                    let start = (segment.rows.start + place) * stride + head * dim;
                    queries.extend_from_slice(&self.qkv[start..start + dim]);
                }
                View::new(queries, [asked, dim])
            }
        };
        for buffer in [&mut *weights, &mut *gradients] {
            buffer.resize(asked * keys, 0.0);
        }
        query_gradient.resize(asked * dim, 0.0);
        let asked = Asked {
            places,
            queries: own,
            gradient,
        };
        self.weights(&asked, part(1), weights);
        self.scores(&asked, part(2), weights, gradients);
        let at = |place: usize, part: usize| {
            self.out
                .at(segment.rows.start + place, part * width + head * dim)
        };
        let to = |part: usize| Destination {
            start: at(0, part),
            stride,
            add: false,
        };
        let scores = View::new(gradients, [asked.places.len(), keys]);
        let weights = View::new(weights, [asked.places.len(), keys]);
        // SAFETY: the head's columns of the sequence's rows are this thread's; the buffer is its
        // own.
        unsafe {
            multiply(weights.t(), asked.gradient, 1.0, to(2), 1);
            multiply(scores.t(), asked.queries, 1.0, to(1), 1);
            let own = Destination::of(query_gradient, dim);
            multiply(scores, part(1), 1.0, own, 1);
            for (place, row) in asked.places.iter().zip(query_gradient.chunks_exact(dim)) {
                std::ptr::copy_nonoverlapping(row.as_ptr(), at(*place, 0), dim);
            }
        }
    }

    /// softmax(queries keys^T / sqrt(head_dim)) into `out` [asked, keys], 0 for masked keys.
    fn weights(&self, asked: &Asked, keys: View, out: &mut [f32]) {
        let count = out.len() / asked.places.len();
        let factor = 1.0 / (self.shape.head_dim as f32).sqrt();
        // SAFETY: `out` is [asked, keys] and uniquely borrowed.
        unsafe {
            let to = Destination::of(out, count);
            multiply(asked.queries, keys.t(), factor, to, 1);
        }
        let causal = self.shape.causal;
        for (place, row) in asked.places.iter().zip(out.chunks_exact_mut(count)) {
            let seen = if causal { place + 1 } else { count };
            let (seen, rest) = row.split_at_mut(seen);
            rest.fill(0.0);
            run(self.level, Softmax(seen));
        }
    }

    /// The gradient of the scores into `out` [asked, keys]: weight (g - sum(weight g)) /
    /// sqrt(head_dim), with g that of the weights.
    fn scores(&self, asked: &Asked, values: View, weights: &[f32], out: &mut [f32]) {
        let count = out.len() / asked.places.len();
        let factor = 1.0 / (self.shape.head_dim as f32).sqrt();
        // SAFETY: `out` is [asked, keys] and uniquely borrowed.
        unsafe {
            let to = Destination::of(out, count);
            multiply(asked.gradient, values.t(), 1.0, to, 1);
        }
        for (weights, row) in weights.chunks_exact(count).zip(out.chunks_exact_mut(count)) {
            run(self.level, Scores(weights, row, factor));
        }
    }
}

/// The softmax of a row, in place.
struct Softmax<'a>(&'a mut [f32]);

impl Job for Softmax<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let row = self.0;
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut i = 0;
        // SAFETY: `part` values from `i` on lie inside the slice; the dispatcher vouches for the
        // CPU.
        let sum = unsafe {
            let mut sums = V::splat(0.0);
            while i < row.len() {
                let part = V::LANES.min(row.len() - i);
                let at = row.as_mut_ptr().add(i);
                let x = load_up_to::<V>(at, part, f32::NEG_INFINITY);
                let power = exp(x.sub(V::splat(largest)));
                store_up_to(power, at, part);
                sums = sums.add(power);
                i += part;
            }
            sums.sum_lanes()
        };
        let factor = 1.0 / sum;
        row.iter_mut().for_each(|x| *x *= factor);
    }
}

/// Weights, their gradients (overwritten by those of the scores), and the factor of the scores.
struct Scores<'a>(&'a [f32], &'a mut [f32], f32);

impl Job for Scores<'_> {
    #[inline(always)]
    unsafe fn run<V: Simd>(self) {
        let Scores(weights, gradients, factor) = self;
        let mut sums = [0.0f32; 16];
        let pairs = weights.chunks_exact(16).zip(gradients.chunks_exact(16));
        for (w, g) in pairs {
            for lane in 0..16 {
                sums[lane] += w[lane] * g[lane];
            }
        }
        let whole = weights.len() / 16 * 16;
        let rest = weights[whole..].iter().zip(&gradients[whole..]);
        let rest: f32 = rest.map(|(w, g)| w * g).sum();
        let mean = sums.iter().sum::<f32>() + rest;
        for (g, w) in gradients.iter_mut().zip(weights) {
            *g = w * (*g - mean) * factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::randoms;

    const SHAPE: AttentionShape = AttentionShape {
        heads: 2,
        head_dim: 5,
        causal: true,
    };

    /// Attention in f64, every row of it.
    fn forward(qkv: &[f64], shape: &AttentionShape, segments: &[Segment]) -> Vec<f64> {
        let dim = shape.head_dim;
        let width = shape.heads * dim;
        let mut out = vec![0.0; qkv.len() / 3];
        for (segment, head) in segments
            .iter()
            .flat_map(|s| (0..shape.heads).map(move |h| (s, h)))
        {
            let at = |row: usize, part: usize, i: usize| {
                qkv[row * 3 * width + part * width + head * dim + i]
            };
            for query in segment.rows.clone() {
                let end = if shape.causal {
                    query + 1
                } else {
                    segment.rows.end
                };
                let seen = segment.rows.start..end;
                let score = |key| {
                    (0..dim)
                        .map(|i| at(query, 0, i) * at(key, 1, i))
                        .sum::<f64>()
                };
                let powers: Vec<f64> = seen
                    .clone()
                    .map(|key| (score(key) / (dim as f64).sqrt()).exp())
                    .collect();
                let sum: f64 = powers.iter().sum();
                for i in 0..dim {
                    let values = seen.clone().zip(&powers).map(|(key, p)| p * at(key, 2, i));
                    out[query * width + head * dim + i] = values.sum::<f64>() / sum;
                }
            }
        }
        out
    }

    fn segments() -> Vec<Segment> {
        let rows = [0..3, 3..4, 4..23];
        rows.into_iter()
            .map(|rows| Segment {
                rows,
                prefix: Vec::new(),
            })
            .collect()
    }

    fn check(causal: bool, queries: Option<&[usize]>) {
        let shape = AttentionShape { causal, ..SHAPE };
        let width = shape.heads * shape.head_dim;
        let qkv = randoms(1, 23 * 3 * width);
        let outputs = queries.map_or(23, <[usize]>::len);
        let gradient = randoms(2, outputs * width);
        let found = attention_backward(&qkv, &shape, &segments(), queries, &gradient);
        let all: Vec<usize> = (0..23).collect();
        let rows = queries.unwrap_or(&all);
        let loss = |qkv: &[f64]| -> f64 {
            let out = forward(qkv, &shape, &segments());
            let asked = rows.iter().zip(gradient.chunks(width)).map(|(row, g)| {
                let out = &out[row * width..][..width];
                out.iter()
                    .zip(g)
                    .map(|(x, g)| x * f64::from(*g))
                    .sum::<f64>()
            });
            asked.sum()
        };
        let mut wide: Vec<f64> = qkv.iter().map(|x| f64::from(*x)).collect();
        for i in 0..wide.len() {
            let centre = wide[i];
            wide[i] = centre + 1e-5;
            let above = loss(&wide);
            wide[i] = centre - 1e-5;
            let exact = (above - loss(&wide)) / 2e-5;
            wide[i] = centre;
            assert!(
                (f64::from(found[i]) - exact).abs() < 1e-5,
                "{i}: {}, not {exact}",
                found[i]
            );
        }
    }

    #[test]
    fn gradients_agree_with_differences_in_f64() {
        check(true, None);
        check(false, None);
    }

    #[test]
    fn a_list_of_queries_gives_their_gradients() {
        check(true, Some(&[2, 3, 22]));
        check(false, Some(&[0, 4, 5]));
    }
}
