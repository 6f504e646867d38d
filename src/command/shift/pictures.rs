//! Plain statistics of the files of both sets.

use std::path::Path;

use rayon::prelude::*;

use super::gather::Read;
use super::record::{Pictures, Statistic};
use crate::input::image::{self, DecodeOptions, quality::jpeg_quality};
use crate::task::shift::drawn;
use crate::task::shift::pictures::{STATISTICS, compare, measured};

/// Files of each set that are decoded again, at most.
const MOST: usize = 300;

const PICTURES: &str = "The images are independent draws. Medians of up to 300 files of each set; \
    Wilcoxon's rank-sum test by the normal approximation, Holm's correction for all statistics.";

/// Measures files of both sets; `None` if a set has none.
pub(super) fn find(
    sets: &[Read; 2],
    decode: &DecodeOptions,
    seed: u64,
    is_stopped: &(dyn Fn() -> bool + Sync),
) -> Option<Pictures> {
    let found = sets.each_ref().map(|set| {
        let places = drawn(set.files.len(), MOST, seed);
        let files = places.par_iter().map(|&at| &set.files[at]);
        let found = files.filter_map(|file| values(file, decode, is_stopped));
        found.collect::<Vec<_>>()
    });
    if found.iter().any(Vec::is_empty) {
        return None;
    }
    let columns: Vec<[Vec<f64>; 2]> = (0..STATISTICS.len())
        .map(|at| {
            let of = |set: &Vec<[Option<f64>; 6]>| set.iter().filter_map(|one| one[at]).collect();
            found.each_ref().map(of)
        })
        .collect();
    let rows = STATISTICS.iter().zip(compare(&columns));
    let rows = rows.filter_map(|(&(name, what), moved)| {
        let moved = moved?;
        Some(Statistic {
            name,
            what,
            medians: moved.medians,
            p: moved.p,
            p_holm: moved.p_holm,
        })
    });
    Some(Pictures {
        images: found.each_ref().map(Vec::len),
        per_statistic: rows.collect(),
        assumes: PICTURES,
    })
}

/// The statistics of a file; `None` if it changed since it was embedded and cannot be read.
fn values(
    file: &Path,
    decode: &DecodeOptions,
    is_stopped: &(dyn Fn() -> bool + Sync),
) -> Option<[Option<f64>; 6]> {
    if is_stopped() {
        return None;
    }
    let bytes = image::read_bytes(file, decode).ok()?;
    let decoded = image::decode(&bytes, decode).ok()?.image;
    let [width, height, brightness, contrast, sharpness] =
        measured(&decoded.pixels, [decoded.width, decoded.height]).map(Some);
    let quality = jpeg_quality(&bytes).map(f64::from);
    Some([width, height, brightness, contrast, sharpness, quality])
}
