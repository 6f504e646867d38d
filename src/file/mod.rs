//! Files on disk, whatever is in them: written whole or not at all, locked, mapped, hashed and
//! recognised again; opened without waiting for ever; the header of safetensors; Parquet
//! files that are checked first; signals, which must
//! leave no unfinished file; failures of a disk; a guard against readers that panic; how much memory
//! there is, and what happens when it runs out.

#![deny(clippy::indexing_slicing)]

pub(crate) mod atomic;
pub(crate) mod digest;
pub(crate) mod exhaustion;
pub(crate) mod failure;
pub(crate) mod fault;
pub(crate) mod guard;
pub(crate) mod lock;
pub(crate) mod mapped;
pub(crate) mod memory;
pub(crate) mod open;
pub(crate) mod parquet;
pub(crate) mod safetensors;
pub(crate) mod signal;
pub(crate) mod stamp;
pub(crate) mod temporary;
