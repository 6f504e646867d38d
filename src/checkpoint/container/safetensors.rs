//! safetensors files: the crate checks the header, the data stay memory-mapped.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype as FileDtype, SafeTensorError, SafeTensors};

use super::tensor::{Dtype, Storage, StoredTensor};
use super::{Archive, Container, limit};
use crate::file::mapped::Bytes;

/// Reads the directory of a safetensors file.
pub(super) fn open(bytes: &Arc<Bytes>) -> Result<Archive> {
    check_header(bytes)?;
    let (length, directory) = SafeTensors::read_metadata(bytes).map_err(explain)?;
    let infos = directory.tensors();
    limit::tensors(infos.len())?;
    let data = length + 8;
    let mut archive = Archive::empty(Container::Safetensors);
    for (name, info) in infos {
        limit::name(&name)?;
        let tensor = tensor(bytes, data, info).with_context(|| format!("tensor \"{name}\""))?;
        if let Dtype::Unsupported(kind) = tensor.dtype() {
            archive.note(format!(
                "tensor \"{name}\" has unsupported elements ({kind})"
            ));
        }
        archive.tensors.insert(name, tensor);
    }
    if let Some(metadata) = directory.metadata() {
        archive.metadata = metadata.clone().into_iter().collect::<BTreeMap<_, _>>();
    }
    Ok(archive)
}

/// Checks that the header lies in the file and is small enough to parse.
fn check_header(bytes: &[u8]) -> Result<()> {
    let stated = bytes
        .first_chunk()
        .map(|b| u64::from_le_bytes(*b))
        .context("the file ends within the length of its header; download it again")?;
    let after = bytes.len() as u64 - 8;
    ensure!(
        stated <= limit::HEADER_BYTES,
        "the header claims {stated} bytes; a weight file has at most {}",
        limit::HEADER_BYTES
    );
    ensure!(
        stated <= after,
        "the header claims {stated} bytes but only {after} follow; the file is cut short, download it again"
    );
    Ok(())
}

fn explain(error: SafeTensorError) -> anyhow::Error {
    match error {
        SafeTensorError::MetadataIncompleteBuffer => anyhow!(
            "the tensors' total size is not the file's; the file is cut short or has extra bytes, \
             download it again"
        ),
        SafeTensorError::InvalidOffset(name) => anyhow!(
            "tensor \"{name}\" does not start where the one before it ends, or ends before it starts"
        ),
        SafeTensorError::TensorInvalidInfo => {
            anyhow!("a tensor's byte range does not fit its shape and type")
        }
        other => anyhow!("the header is not valid: {other}"),
    }
}

fn tensor(bytes: &Arc<Bytes>, data: usize, info: &TensorInfo) -> Result<StoredTensor> {
    let (start, end) = info.data_offsets;
    let dtype = dtype(info.dtype);
    if let Dtype::Unsupported(kind) = dtype {
        return StoredTensor::unsupported(kind, info.shape.clone());
    }
    let storage = data
        .checked_add(start)
        .zip(data.checked_add(end))
        .and_then(|(start, end)| Storage::new(bytes, start..end))
        .context("its bytes lie outside the file")?;
    StoredTensor::contiguous(dtype, storage, info.shape.clone())
}

fn dtype(dtype: FileDtype) -> Dtype {
    match dtype {
        FileDtype::F64 => Dtype::F64,
        FileDtype::F32 => Dtype::F32,
        FileDtype::F16 => Dtype::F16,
        FileDtype::BF16 => Dtype::Bf16,
        FileDtype::I64 => Dtype::I64,
        FileDtype::I32 => Dtype::I32,
        FileDtype::I16 => Dtype::I16,
        FileDtype::I8 => Dtype::I8,
        FileDtype::U8 => Dtype::U8,
        FileDtype::BOOL => Dtype::Bool,
        FileDtype::U16 => Dtype::Unsupported("u16"),
        FileDtype::U32 => Dtype::Unsupported("u32"),
        FileDtype::U64 => Dtype::Unsupported("u64"),
        FileDtype::C64 => Dtype::Unsupported("complex64"),
        FileDtype::F8_E4M3 => Dtype::Unsupported("float8_e4m3fn"),
        FileDtype::F8_E5M2 => Dtype::Unsupported("float8_e5m2"),
        FileDtype::F8_E8M0 => Dtype::Unsupported("float8_e8m0fnu"),
        FileDtype::F4 => Dtype::Unsupported("float4"),
        FileDtype::F6_E2M3 | FileDtype::F6_E3M2 => Dtype::Unsupported("float6"),
        _ => Dtype::Unsupported("unknown"),
    }
}
