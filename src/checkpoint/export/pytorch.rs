//! The format of `torch.save` for a state dict: a zip of stored members, with a pickle that
//! describes the tensors and one member of raw numbers per tensor.

use std::io::Write;

use anyhow::{Context, Result, ensure};

use super::entry::{Entry, FloatType};

/// Alignment of members in bytes, so that `torch.load(mmap=True)` can use them in place.
const ALIGNMENT: u64 = 64;

/// The folder inside the zip.
const ROOT: &str = "archive";

/// Writes `entries` as an ordered state dict.
pub(super) fn write(sink: &mut impl Write, entries: &[Entry]) -> Result<()> {
    let total: u64 = entries.iter().map(|entry| entry.length() as u64).sum();
    ensure!(
        total < u64::from(u32::MAX) - (64 << 20),
        "the weights take {total} bytes, too many for a zip without zip64; write .safetensors \
         instead"
    );
    let mut zip = Zip {
        sink,
        at: 0,
        directory: Vec::new(),
        members: 0,
    };
    zip.member("data.pkl", &[pickle(entries)?.as_slice()])?;
    zip.member("byteorder", &[b"little".as_slice()])?;
    for (index, entry) in entries.iter().enumerate() {
        let chunks = entry.chunks().collect::<Result<Vec<_>>>()?;
        let chunks: Vec<&[u8]> = chunks.iter().map(|chunk| &**chunk).collect();
        zip.member(&format!("data/{index}"), &chunks)?;
        entry.release();
    }
    zip.member("version", &[b"3\n".as_slice()])?;
    zip.finish()
}

/// A pickle (protocol 2) of an `OrderedDict` from names to tensors.
fn pickle(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut out = vec![0x80, 2];
    out.extend(b"ccollections\nOrderedDict\n)R(");
    for (index, entry) in entries.iter().enumerate() {
        text(&mut out, &entry.name)?;
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage")?;
        let storage = match entry.dtype {
            FloatType::F32 => "FloatStorage",
            FloatType::F16 => "HalfStorage",
            FloatType::Bf16 => "BFloat16Storage",
        };
        out.extend(format!("ctorch\n{storage}\n").bytes());
        text(&mut out, &index.to_string())?;
        text(&mut out, "cpu")?;
        number(&mut out, entry.elements())?;
        // The storage as a tuple; then offset, shape, strides, requires_grad, hooks.
        out.extend(b"tQ");
        number(&mut out, 0)?;
        let mut strides = vec![1; entry.shape.len()];
        for place in (1..entry.shape.len()).rev() {
            strides[place - 1] = strides[place] * entry.shape[place];
        }
        for list in [&entry.shape, &strides] {
            out.push(b'(');
            for &value in list {
                number(&mut out, value)?;
            }
            out.push(b't');
        }
        out.push(0x89);
        out.extend(b"ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    Ok(out)
}

/// Writes a unicode string.
fn text(out: &mut Vec<u8>, text: &str) -> Result<()> {
    out.push(b'X');
    let length = u32::try_from(text.len()).context("a name is too long")?;
    out.extend(length.to_le_bytes());
    out.extend(text.bytes());
    Ok(())
}

/// Writes a signed 32-bit integer.
fn number(out: &mut Vec<u8>, value: usize) -> Result<()> {
    let value = i32::try_from(value).context("a tensor has too many elements")?;
    out.push(b'J');
    out.extend(value.to_le_bytes());
    Ok(())
}

/// A zip being written (PKWARE's APPNOTE 6.3, without zip64).
struct Zip<'a, W> {
    sink: &'a mut W,
    at: u64,
    directory: Vec<u8>,
    members: u16,
}

impl<W: Write> Zip<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.sink.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Writes one stored member with the bytes of `chunks`.
    fn member(&mut self, name: &str, chunks: &[&[u8]]) -> Result<()> {
        let name = format!("{ROOT}/{name}");
        let mut checksum = crc32fast::Hasher::new();
        chunks.iter().for_each(|chunk| checksum.update(chunk));
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        let start = self.at;
        // An extra field of this length aligns the content, as PyTorch does.
        let content = start + 30 + name.len() as u64 + 4;
        let fill = (ALIGNMENT - content % ALIGNMENT) % ALIGNMENT;
        let mut fields = Vec::new();
        fields.extend(0u16.to_le_bytes()); // version
        fields.extend(0x0800u16.to_le_bytes()); // names are UTF-8
        fields.extend(0u16.to_le_bytes()); // stored
        fields.extend([0, 0, 0x21, 0]); // 1 January 1980
        fields.extend(checksum.finalize().to_le_bytes());
        let length = u32::try_from(length).context("a tensor is too large for a zip")?;
        fields.extend(length.to_le_bytes());
        fields.extend(length.to_le_bytes());
        fields.extend(u16::try_from(name.len())?.to_le_bytes());

        self.put(b"PK\x03\x04")?;
        self.put(&fields)?;
        self.put(&u16::try_from(4 + fill)?.to_le_bytes())?;
        self.put(name.as_bytes())?;
        self.put(b"FB")?;
        self.put(&u16::try_from(fill)?.to_le_bytes())?;
        self.put(&vec![b'Z'; usize::try_from(fill)?])?;
        for chunk in chunks {
            self.put(chunk)?;
        }

        self.directory.extend(b"PK\x01\x02");
        self.directory.extend(0u16.to_le_bytes()); // made by
        self.directory.extend(fields);
        // Extra field, comment, disk, attributes.
        self.directory.extend([0; 2 + 2 + 2 + 2 + 4]);
        let start = u32::try_from(start).context("the file is too large for a zip")?;
        self.directory.extend(start.to_le_bytes());
        self.directory.extend(name.bytes());
        self.members = self.members.checked_add(1).context("too many tensors")?;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        let start = u32::try_from(self.at).context("the file is too large for a zip")?;
        let directory = std::mem::take(&mut self.directory);
        self.put(&directory)?;
        let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
        end.extend(self.members.to_le_bytes());
        end.extend(self.members.to_le_bytes());
        end.extend(u32::try_from(directory.len())?.to_le_bytes());
        end.extend(start.to_le_bytes());
        end.extend(0u16.to_le_bytes());
        self.put(&end)
    }
}
