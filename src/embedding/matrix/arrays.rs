//! Files with several named arrays (NumPy's .npz, safetensors): selects the matrix.

use std::path::Path;
use std::sync::Arc;

use ::safetensors::Dtype as FileDtype;
use anyhow::{Context as _, Result, bail, ensure};

use super::npy::{HEAD_BYTES, Header};
use super::numbers::{Element, Layout, Numbers, rows_and_columns};
use crate::checkpoint::container::{Bytes, MemberContent, Zip};
use crate::embedding::check_dim;
use crate::embedding::read::{header, map};

/// Files with more arrays are not files of embeddings.
const MAX_ARRAYS: usize = 4096;

/// Arrays that a message lists at most.
const LISTED: usize = 8;

/// Longer safetensors headers are not those of a file of embeddings.
const LONGEST_HEADER: u64 = 8 << 20;

/// One array of a file: its name, and its layout or why it is not a matrix.
struct Array {
    name: String,
    layout: Result<Layout>,
    /// Whether it has rows and columns, not a single dimension.
    is_matrix: bool,
}

impl Array {
    fn shown(&self) -> String {
        match &self.layout {
            Ok(layout) => format!("{} ({} x {})", self.name, layout.rows, layout.dim),
            Err(error) => format!("{} ({error:#})", self.name),
        }
    }
}

/// Opens the array `wanted` of the .npz file at `path`, or its only matrix.
pub(super) fn npz(path: &Path, wanted: Option<&str>) -> Result<Numbers> {
    let bytes = map(path)?;
    let zip = Zip::open(&bytes)?;
    let mut names: Vec<&str> = zip.names().collect();
    names.sort_unstable();
    ensure!(
        names.len() <= MAX_ARRAYS,
        "it lists {} members; a file of embeddings has a few",
        names.len()
    );
    let arrays = names.iter().filter_map(|member| {
        let name = member.strip_suffix(".npy")?.to_owned();
        let head = zip.head(member, HEAD_BYTES);
        let layout = head
            .and_then(|head| Header::read(&head))
            .map(|header| header.layout);
        Some(Array {
            name,
            is_matrix: layout.as_ref().is_ok_and(|layout| layout.rows != 1),
            layout,
        })
    });
    let (name, _) = choose(path, arrays.collect(), wanted)?;
    let content = match zip.content(&format!("{name}.npy"))? {
        MemberContent::Stored(range) => (Arc::clone(&bytes), range),
        MemberContent::Inflated(content) => {
            let range = 0..content.len();
            (Arc::new(Bytes::Owned(content)), range)
        }
    };
    let (bytes, range) = content;
    let found = Header::read(&bytes[range.clone()])?;
    let start = range.start + found.length;
    Numbers::new(bytes, start..range.end, found.layout)
}

/// Opens the tensor `wanted` of the safetensors file at `path`, or its only matrix.
pub(super) fn safetensors(path: &Path, wanted: Option<&str>) -> Result<Numbers> {
    let bytes = map(path)?;
    let (length, directory) = header(&bytes, LONGEST_HEADER)?;
    let mut tensors: Vec<_> = directory.tensors().into_iter().collect();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    let arrays = tensors.iter().map(|(name, info)| Array {
        name: name.clone(),
        layout: layout(info.dtype, &info.shape),
        is_matrix: info.shape.len() == 2,
    });
    let (name, layout) = choose(path, arrays.collect(), wanted)?;
    let info = tensors.iter().find(|(known, _)| *known == name);
    let (_, info) = info.context("the tensor is not there")?;
    let place = |at: usize| (length + 8).checked_add(at).context("a tensor has no end");
    let (start, end) = info.data_offsets;
    Numbers::new(bytes, place(start)?..place(end)?, layout)
}

fn layout(dtype: FileDtype, shape: &[usize]) -> Result<Layout> {
    let element = match dtype {
        FileDtype::F16 => Element::F16,
        FileDtype::BF16 => Element::Bf16,
        FileDtype::F32 => Element::F32,
        FileDtype::F64 => Element::F64,
        other => bail!("of type {other:?}; embeddings are F16, BF16, F32 or F64"),
    };
    let shape = rows_and_columns(shape)
        .with_context(|| format!("of shape {shape:?}; embeddings have rows and columns"))?;
    check_dim(shape[1])?;
    Ok(Layout::plain(element, shape))
}

/// The array `wanted`, else the only one that is a matrix, else the only one of a single dimension.
fn choose(path: &Path, arrays: Vec<Array>, wanted: Option<&str>) -> Result<(String, Layout)> {
    let path = path.display();
    let listed = |arrays: &[&Array]| {
        let shown: Vec<String> = arrays.iter().take(LISTED).map(|one| one.shown()).collect();
        let more = if arrays.len() > LISTED { ", …" } else { "" };
        shown.join(", ") + more
    };
    if let Some(wanted) = wanted {
        let Some(array) = arrays.iter().position(|array| array.name == wanted) else {
            let all: Vec<&Array> = arrays.iter().collect();
            bail!("it has no array {wanted:?}, but has {}", listed(&all));
        };
        let array = arrays.into_iter().nth(array).context("no such array")?;
        let layout = array
            .layout
            .with_context(|| format!("the array {wanted:?}"))?;
        return Ok((array.name, layout));
    }
    let readable = |array: &&Array| array.layout.is_ok();
    let mut found: Vec<&Array> = arrays.iter().filter(readable).collect();
    if found.iter().any(|array| array.is_matrix) {
        found.retain(|array| array.is_matrix);
    }
    match found[..] {
        [array] => {
            let layout = array
                .layout
                .as_ref()
                .map_err(|error| anyhow::anyhow!("{error:#}"))?;
            Ok((array.name.clone(), *layout))
        }
        [] => {
            let all: Vec<&Array> = arrays.iter().collect();
            ensure!(!all.is_empty(), "it holds no arrays");
            bail!("it has no matrix of embeddings, but has {}", listed(&all))
        }
        [first, ..] => bail!(
            "it holds several matrices, {}; name one of them, such as {path}:{}",
            listed(&found),
            first.name
        ),
    }
}
