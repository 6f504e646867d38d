//! The format of `torch.save` before PyTorch 1.6: five pickles, then the storages.
//!
//! Magic number, protocol version, system information, the object, and the keys
//! of the storages; then for each key its element count as eight bytes and its data.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

use super::super::pickle::{self, Pickle, Value};
use super::super::tensor::Storage;
use super::super::{Archive, Container, limit};
use super::collect;
use super::rebuild::{StorageName, storage_name};
use crate::file::mapped::Bytes;

/// The protocol version that every writer of this format states.
const PROTOCOL: i64 = 1001;

/// Reads a legacy checkpoint whose magic number was already seen.
pub(in super::super) fn open(bytes: &Arc<Bytes>) -> Result<Archive> {
    let mut rest: &[u8] = bytes;
    next(&mut rest).context("the magic number")?;
    let version = next(&mut rest).context("the version")?;
    match version.get(version.root) {
        Value::Int(PROTOCOL) => {}
        _ => bail!(
            "its version is {}, not {PROTOCOL}",
            version.describe(version.root)
        ),
    }
    let machine = next(&mut rest).context("the system information")?;
    let little = machine.entry(machine.root, "little_endian");
    ensure!(
        !little.is_some_and(|id| matches!(machine.get(id), Value::Bool(false))),
        "it was written on a big-endian machine; save it again on a little-endian one"
    );
    let object = next(&mut rest).context("the object")?;
    let keys = next(&mut rest).context("the storages' keys")?;
    let storages = locate(&object, &keys, bytes.len() - rest.len(), bytes)?;
    let find = |name: &StorageName<'_>| {
        let range = storages.get(name.key).context("it is not in the file")?;
        Storage::new(bytes, range.clone()).context("its bytes lie outside the file")
    };
    collect(Container::TorchLegacy, &object, &find)
}

/// Reads one pickle and advances past it.
fn next<'a>(rest: &mut &'a [u8]) -> Result<Pickle<'a>> {
    let pickle = pickle::read(rest)?;
    *rest = rest.get(pickle.length..).unwrap_or_default();
    Ok(pickle)
}

/// The location of each storage: consecutive from `start` on, in the keys' order.
fn locate<'a>(
    object: &Pickle<'a>,
    keys: &Pickle<'a>,
    start: usize,
    bytes: &[u8],
) -> Result<HashMap<&'a str, Range<usize>>> {
    let sizes = element_sizes(object)?;
    let keys_listed = keys
        .sequence(keys.root)
        .context("the storages' keys are not a list")?;
    ensure!(
        keys_listed.len() <= limit::ZIP_MEMBERS,
        "it lists {} storages",
        keys_listed.len()
    );
    let mut storages = HashMap::new();
    let mut position = start;
    for &id in keys_listed {
        let key = keys.text(id).context("a storage's key is not a string")?;
        ensure!(
            !storages.contains_key(key),
            "storage \"{key}\" is listed twice"
        );
        let size = *sizes
            .get(key)
            .with_context(|| format!("no tensor uses storage \"{key}\""))?;
        let size = size.with_context(|| {
            format!(
                "storage \"{key}\" has elements of unknown size; save it with PyTorch 1.6 or newer"
            )
        })?;
        let cut_short = || {
            format!("storage \"{key}\" reaches beyond the file; it is cut short, download it again")
        };
        let count = bytes
            .get(position..)
            .and_then(|b| b.first_chunk())
            .with_context(cut_short)?;
        let length = usize::try_from(u64::from_le_bytes(*count))
            .ok()
            .and_then(|count| count.checked_mul(size));
        let data = position + 8;
        let end = length
            .and_then(|length| data.checked_add(length))
            .filter(|&end| end <= bytes.len())
            .with_context(cut_short)?;
        storages.insert(key, data..end);
        position = end;
    }
    Ok(storages)
}

/// Bytes per element of each storage that the object refers to; `None` when unknown.
fn element_sizes<'a>(object: &Pickle<'a>) -> Result<HashMap<&'a str, Option<usize>>> {
    let mut sizes = HashMap::new();
    for value in object.values() {
        if let Value::Persistent(id) = value
            && let Some(name) = storage_name(object, *id)?
        {
            sizes.insert(name.key, name.unit);
        }
    }
    Ok(sizes)
}
