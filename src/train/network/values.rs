//! Access to a candle CPU tensor as a slice.

use std::ops::{Deref, Range};

use anyhow::{Context, Result, bail};
use candle_core::{CpuStorage, Storage, Tensor};

/// The values of a contiguous f32 tensor on the CPU, borrowed: the lock guard of its storage and
/// the tensor's part of it.
struct Values<G> {
    guard: G,
    range: Range<usize>,
}

/// Borrows the values of a contiguous f32 tensor on the CPU.
///
/// # Errors
/// When the tensor is not on the CPU, not f32 or not contiguous.
pub(super) fn values(tensor: &Tensor) -> Result<impl Deref<Target = [f32]> + '_> {
    let (guard, layout) = tensor.storage_and_layout();
    let (start, end) = layout
        .contiguous_offsets()
        .with_context(|| format!("a tensor {:?} is not contiguous", tensor.dims()))?;
    let Storage::Cpu(CpuStorage::F32(_)) = &*guard else {
        bail!("a tensor {:?} is not f32 on the CPU", tensor.dims())
    };
    Ok(Values {
        guard,
        range: start..end,
    })
}

impl<G: Deref<Target = Storage>> Deref for Values<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.guard {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            // `values` rejects all others.
            _ => &[],
        }
    }
}
