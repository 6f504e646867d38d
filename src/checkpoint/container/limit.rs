//! Limits on what a weight file may claim: the memory that reading takes stays near the file's own
//! size, whatever its bytes say.

use anyhow::{Result, ensure};

/// Maximum bytes of a safetensors header; CLIP's are below 100 KB, and parsed it takes twelve
/// times its bytes.
pub(super) const HEADER_BYTES: u64 = 8 << 20;

/// Maximum bytes of a pickle; CLIP's are below 100 KB, training checkpoints' below a few MB.
pub(super) const PICKLE_BYTES: usize = 64 << 20;

/// Maximum opcodes of a pickle, and values (32 bytes each); CLIP's need ten thousand.
pub(super) const PICKLE_STEPS: usize = 1_000_000;

/// Maximum members of a zip.
pub(super) const ZIP_MEMBERS: usize = 200_000;

/// Maximum values visited when walking a checkpoint's tree; shared values count each time.
pub(super) const WALK_VISITS: usize = 300_000;

/// Maximum nesting of modules or dictionaries.
pub(super) const WALK_DEPTH: usize = 64;

const TENSORS: usize = 65_536;
const NAME_BYTES: usize = 1024;

/// Rejects more tensors than any model has.
pub(super) fn tensors(count: usize) -> Result<()> {
    ensure!(
        count <= TENSORS,
        "the file lists {count} tensors; a CLIP model has at most {TENSORS}"
    );
    Ok(())
}

/// Rejects names that are too long.
pub(super) fn name(name: &str) -> Result<()> {
    ensure!(
        name.len() <= NAME_BYTES,
        "a tensor name has {} bytes (\"{}...\"); at most {NAME_BYTES} are allowed",
        name.len(),
        name.chars().take(40).collect::<String>()
    );
    Ok(())
}
