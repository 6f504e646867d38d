//! What a weight file may claim before it is no weight file: the memory that
//! reading takes stays near the file's own size whatever its bytes say.

use anyhow::{Result, ensure};

/// Bytes of a safetensors header; CLIP's are below 100 KB, and parsed it takes twelve
/// times its bytes.
pub(super) const HEADER_BYTES: u64 = 8 << 20;

/// Bytes of a pickle; CLIP's are below 100 KB, training checkpoints' below a few MB.
pub(super) const PICKLE_BYTES: usize = 64 << 20;

/// Opcodes of a pickle and values it makes, of 32 bytes each; CLIP's take ten thousand.
pub(super) const PICKLE_STEPS: usize = 1_000_000;

/// Members of a zip.
pub(super) const ZIP_MEMBERS: usize = 200_000;

/// Values looked at when a checkpoint's tree is walked: shared values count each time.
pub(super) const WALK_VISITS: usize = 300_000;

/// Modules or dictionaries within each other.
pub(super) const WALK_DEPTH: usize = 64;

const TENSORS: usize = 65_536;
const NAME_BYTES: usize = 1024;

/// Refuse more tensors than any model has.
pub(super) fn tensors(count: usize) -> Result<()> {
    ensure!(
        count <= TENSORS,
        "the file lists {count} tensors; more than {TENSORS} is no CLIP model"
    );
    Ok(())
}

/// Refuse names that are no names.
pub(super) fn name(name: &str) -> Result<()> {
    ensure!(
        name.len() <= NAME_BYTES,
        "a tensor name has {} bytes (\"{}...\"); names end at {NAME_BYTES}",
        name.len(),
        name.chars().take(40).collect::<String>()
    );
    Ok(())
}
