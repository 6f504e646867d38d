//! Files on disk, whatever is in them: written whole or not at all, locked, mapped, hashed and
//! recognised again; the header of safetensors; and a guard against readers that panic.

pub mod atomic;
pub mod digest;
pub mod guard;
pub mod lock;
pub mod mapped;
pub(crate) mod safetensors;
pub mod stamp;
