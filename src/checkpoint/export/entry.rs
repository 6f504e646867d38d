//! A tensor to be written: parts of stored tensors, and an element type; and files of them as
//! safetensors.

use std::borrow::Cow;
use std::io::Write;

use anyhow::{Result, bail, ensure};
use safetensors::Dtype as FileDtype;
use serde_json::json;

use crate::checkpoint::container::{Dtype, StoredTensor};
use crate::checkpoint::metadata::Metadata;
use crate::file::safetensors::{Planned, header_bytes};

/// Element types for writing weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatType {
    /// 32-bit float.
    F32,
    /// 16-bit float of IEEE 754.
    F16,
    /// bfloat16, the upper half of an f32.
    Bf16,
}

impl FloatType {
    /// Bytes per number.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    fn in_safetensors(self) -> FileDtype {
        match self {
            Self::F32 => FileDtype::F32,
            Self::F16 => FileDtype::F16,
            Self::Bf16 => FileDtype::BF16,
        }
    }

    fn stored(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::Bf16,
        }
    }

    /// The type that holds values of `dtype` with no more rounding than to f32.
    fn that_holds(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::Bf16,
            _ => Self::F32,
        }
    }
}

/// One output tensor.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: FloatType,
    /// Stacked along the first dimension.
    parts: Vec<StoredTensor>,
}

impl Entry {
    /// The tensor `name`, stacked from `parts` by rows. If no type is requested it keeps its own;
    /// parts of different types become f32.
    pub(super) fn new(
        name: String,
        parts: Vec<StoredTensor>,
        wanted: Option<FloatType>,
    ) -> Result<Self> {
        let Some(first) = parts.first() else {
            bail!("{name} has no parts");
        };
        let mut shape = first.shape().to_vec();
        if parts.len() > 1 {
            let rows = parts.iter().filter_map(|part| part.shape().first()).sum();
            match shape.first_mut() {
                Some(first) => *first = rows,
                None => bail!("{name}: scalars cannot be stacked"),
            }
        }
        let own = FloatType::that_holds(first.dtype());
        let same = parts
            .iter()
            .all(|part| FloatType::that_holds(part.dtype()) == own);
        let kept = if same { own } else { FloatType::F32 };
        Ok(Self {
            name,
            shape,
            dtype: wanted.unwrap_or(kept),
            parts,
        })
    }

    /// Numbers in the tensor.
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes in the tensor.
    pub(super) fn length(&self) -> usize {
        self.elements() * self.dtype.size()
    }

    /// The bytes of each part in turn, little endian.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Result<Cow<'_, [u8]>>> {
        self.parts.iter().map(|part| {
            if part.dtype() == self.dtype.stored()
                && let Some(bytes) = part.contiguous_bytes()
            {
                return Ok(Cow::Borrowed(bytes));
            }
            self.encode(&part.to_f32()?).map(Cow::Owned)
        })
    }

    /// Lets the system reclaim the memory of the parts.
    pub(super) fn release(&self) {
        self.parts.iter().for_each(StoredTensor::release);
    }

    fn encode(&self, values: &[f32]) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(values.len() * self.dtype.size());
        match self.dtype {
            FloatType::F32 => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            FloatType::Bf16 => bytes.extend(
                values
                    .iter()
                    .flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()),
            ),
            FloatType::F16 => {
                for &value in values {
                    let half = half::f16::from_f32(value);
                    ensure!(
                        half.is_finite() || !value.is_finite(),
                        "tensor {} holds {value}, which is out of range for f16; use --dtype bf16 \
                         or f32",
                        self.name
                    );
                    bytes.extend(half.to_le_bytes());
                }
            }
        }
        Ok(bytes)
    }
}

/// Writes `entries` as safetensors, with `metadata` in the header.
pub(super) fn safetensors(
    sink: &mut impl Write,
    entries: &[Entry],
    metadata: &Metadata,
) -> Result<()> {
    // Wider types first, so that all are aligned.
    let mut order: Vec<&Entry> = entries.iter().collect();
    order.sort_by_key(|entry| std::cmp::Reverse(entry.dtype.size()));
    let planned = order.iter().map(|entry| Planned {
        name: &entry.name,
        dtype: entry.dtype.in_safetensors(),
        shape: &entry.shape,
    });
    sink.write_all(&header_bytes(json!(metadata), planned, 8))?;
    for entry in order {
        for bytes in entry.chunks() {
            sink.write_all(&bytes?)?;
        }
        entry.release();
    }
    Ok(())
}
