//! Attention over segments of rows, one head at a time, with fused softmax: the full score matrix
//! is never stored.
#![allow(
    unsafe_code,
    reason = "threads write their heads' columns of a shared output"
)]

mod head;
mod pack;
#[cfg(test)]
mod tests;

pub(crate) use head::MOST_HEAD_COLUMNS;

use std::ops::Range;

use super::buffer::SharedRows;
use super::encode::Precision;
use super::level::{self, Level, level, native};
use super::parallel::{Counter, region, threads_for};
use head::Head;

/// Rows that attend to each other and to the rows of their ancestors before them: a text's own
/// part of a tree of texts, or one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its own rows.
    pub(crate) rows: Range<usize>,
    /// Its ancestors' rows, first to last; all of them precede its own in the sequence.
    pub(crate) prefix: Vec<Range<usize>>,
}

/// Parameters of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttentionShape {
    /// Heads; the width is `heads * head_dim`.
    pub(crate) heads: usize,
    /// Columns per head, at most 320.
    pub(crate) head_dim: usize,
    /// Causal mask: apart from the whole prefix, a row sees only itself and the rows before it.
    pub(crate) causal: bool,
}

/// One attention's data and how its work is shared.
struct Call<'a> {
    qkv: &'a [f32],
    shape: AttentionShape,
    segments: &'a [Segment],
    queries: Option<&'a [usize]>,
    out: SharedRows<'a>,
    level: Level,
    /// Whether products use bf16.
    half: bool,
}

impl Call<'_> {
    /// heads * head_dim.
    fn width(&self) -> usize {
        self.shape.heads * self.shape.head_dim
    }

    /// The row that output row `index` belongs to.
    fn query(&self, index: usize) -> usize {
        self.queries.map_or(index, |queries| queries[index])
    }
}

/// Output rows of one segment.
struct Unit {
    segment: usize,
    outputs: Range<usize>,
}

/// softmax(q k^T / sqrt(head_dim)) v for every head of every segment.
///
/// `qkv` is [rows, 3 * width]: queries, keys, values side by side, width = heads * head_dim. With
/// `queries` None, `out` is [rows, width] and each row of each segment gets its result at its own
/// index; rows in no segment are left unchanged. With a sorted list of row numbers, `out` is [list
/// length, width] and only those rows are computed.
///
/// Runs on the current rayon pool. A row's result depends, to the bit, only on the rows it sees,
/// not on how they are divided into segments, on other segments or on the number of threads.
///
/// Panics when lengths do not match or a range lies outside `qkv`.
pub(crate) fn attention(
    qkv: &[f32],
    shape: &AttentionShape,
    segments: &[Segment],
    queries: Option<&[usize]>,
    out: &mut [f32],
) {
    attention_at(level(), false, qkv, shape, segments, queries, out);
}

/// [`attention`] with queries, keys, weights and values rounded to bf16, softmax and sums in f32,
/// if the CPU multiplies bf16 (otherwise the same as [`attention`]): a third faster, for towers
/// whose linear layers use bf16 or bytes.
pub(crate) fn attention_bf16(
    qkv: &[f32],
    shape: &AttentionShape,
    segments: &[Segment],
    queries: Option<&[usize]>,
    out: &mut [f32],
) {
    let level = level();
    let half = native(level, Precision::Bf16);
    attention_at(level, half, qkv, shape, segments, queries, out);
}

/// [`attention`] at a given instruction level, with or without bf16 products.
fn attention_at(
    level: Level,
    half: bool,
    qkv: &[f32],
    shape: &AttentionShape,
    segments: &[Segment],
    queries: Option<&[usize]>,
    out: &mut [f32],
) {
    let width = shape.heads * shape.head_dim;
    if width == 0 {
        return;
    }
    let rows = qkv.len() / (3 * width);
    let outputs = queries.map_or(rows, <[usize]>::len);
    assert_eq!(
        qkv.len(),
        rows * 3 * width,
        "attention's input is not a whole number of rows"
    );
    assert_eq!(
        out.len(),
        outputs * width,
        "attention's output is not [{outputs}, {width}]"
    );
    assert!(
        shape.head_dim <= MOST_HEAD_COLUMNS,
        "heads of {} columns are too wide",
        shape.head_dim
    );
    let ranges = segments
        .iter()
        .flat_map(|segment| segment.prefix.iter().chain([&segment.rows]));
    for range in ranges {
        assert!(
            range.end <= rows,
            "a segment has rows {range:?} of only {rows}"
        );
    }
    let call = Call {
        qkv,
        shape: *shape,
        segments,
        queries,
        out: SharedRows::new(out, width),
        level,
        half,
    };
    run(&call);
}

/// Distributes the heads of all segments to the threads.
fn run(call: &Call) {
    let units = units(call.segments, call.queries);
    let flops: usize = units.iter().map(|unit| cost(call, unit)).sum();
    let threads = threads_for(flops);
    let pieces = units.len() * call.shape.heads;
    let counter = Counter::new(pieces);
    // Small pieces are taken several at a time: contention on the shared counter costs more than
    // they do.
    let handful = (pieces / (16 * threads)).clamp(1, 64);
    region(threads, &|| {
        while let Some(range) = counter.take(handful) {
            for piece in range {
                let unit = &units[piece / call.shape.heads];
                let head = piece % call.shape.heads;
                level::run(call.level, Head { call, unit, head });
            }
        }
    });
}

/// The output rows of each segment; segments without any are skipped.
fn units(segments: &[Segment], queries: Option<&[usize]>) -> Vec<Unit> {
    let outputs = |rows: &Range<usize>| match queries {
        None => rows.clone(),
        Some(list) => {
            list.partition_point(|q| *q < rows.start)..list.partition_point(|q| *q < rows.end)
        }
    };
    let all = segments.iter().enumerate();
    let units = all.map(|(segment, Segment { rows, .. })| Unit {
        segment,
        outputs: outputs(rows),
    });
    units.filter(|unit| !unit.outputs.is_empty()).collect()
}

/// Floating-point operations of a unit, over all heads.
fn cost(call: &Call, unit: &Unit) -> usize {
    let segment = &call.segments[unit.segment];
    let keys = segment.rows.len() + segment.prefix.iter().map(Range::len).sum::<usize>();
    4 * call.width() * keys * (unit.outputs.len() + 1)
}
