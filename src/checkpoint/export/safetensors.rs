//! The safetensors format, written tensor by tensor, because the crate's writer needs all bytes in
//! memory.

use std::io::Write;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::entry::{Entry, FloatType};
use crate::checkpoint::metadata::Metadata;

/// Writes `entries` with `metadata` in the header.
pub(super) fn write(sink: &mut impl Write, entries: &[Entry], metadata: &Metadata) -> Result<()> {
    // Wider types first, so that all are aligned.
    let mut order: Vec<&Entry> = entries.iter().collect();
    order.sort_by_key(|entry| std::cmp::Reverse(entry.dtype.size()));
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!(metadata));
    let mut at = 0;
    for entry in &order {
        let end = at + entry.length();
        header.insert(
            entry.name.clone(),
            json!({"dtype": name(entry.dtype), "shape": entry.shape, "data_offsets": [at, end]}),
        );
        at = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    sink.write_all(&(header.len() as u64).to_le_bytes())?;
    sink.write_all(&header)?;
    for entry in order {
        for bytes in entry.chunks() {
            sink.write_all(&bytes?)?;
        }
        entry.release();
    }
    Ok(())
}

fn name(dtype: FloatType) -> &'static str {
    match dtype {
        FloatType::F32 => "F32",
        FloatType::F16 => "F16",
        FloatType::Bf16 => "BF16",
    }
}
