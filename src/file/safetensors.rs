//! The header of a safetensors file that is written tensor by tensor: the crate's writer needs all
//! bytes in memory.

use safetensors::Dtype;
use serde_json::{Map, Value, json};

/// A tensor to be written.
pub(crate) struct Planned<'a> {
    pub(crate) name: &'a str,
    /// A type of whole bytes.
    pub(crate) dtype: Dtype,
    pub(crate) shape: &'a [usize],
}

/// The key of a header's checksum, see [`sum`].
pub(crate) const CRC32: &str = "longclip.crc32";

/// The CRC-32 of a header's other pairs, in the order of their keys, and of the numbers.
pub(crate) fn sum<'a>(
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    numbers: impl IntoIterator<Item = &'a [u8]>,
) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    let pairs: std::collections::BTreeMap<_, _> = pairs.into_iter().collect();
    for text in pairs.into_iter().flat_map(|(key, value)| [key, value]) {
        sum.update(&(text.len() as u64).to_le_bytes());
        sum.update(text.as_bytes());
    }
    numbers.into_iter().for_each(|bytes| sum.update(bytes));
    sum.finalize()
}

/// What comes before the numbers of `tensors`, which follow in the same order. Padded so that they
/// begin at a multiple of `alignment`.
pub(crate) fn header_bytes<'a>(
    metadata: Value,
    tensors: impl IntoIterator<Item = Planned<'a>>,
    alignment: usize,
) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), metadata);
    let mut at = 0;
    for Planned { name, dtype, shape } in tensors {
        let end = at + shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]});
        header.insert(name.to_owned(), entry);
        at = end;
    }
    let header = Value::Object(header).to_string();
    let length = (8 + header.len()).next_multiple_of(alignment) - 8;
    let mut bytes = (length as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.resize(8 + length, b' ');
    bytes
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn the_crate_reads_what_was_announced() {
        let planned = |name, dtype, shape| Planned { name, dtype, shape };
        for alignment in [8, 64] {
            let tensors = [
                planned("a", Dtype::F32, &[2, 3][..]),
                planned("b", Dtype::F16, &[4]),
                planned("c", Dtype::U8, &[0]),
                planned("d", Dtype::I32, &[]),
            ];
            let mut file = header_bytes(json!({"key": "value"}), tensors, alignment);
            assert_eq!(file.len() % alignment, 0);
            let start = file.len();
            file.extend((0..36).collect::<Vec<u8>>());
            let (length, directory) = SafeTensors::read_metadata(&file).unwrap();
            assert_eq!(length + 8, start);
            let metadata = directory.metadata().as_ref().unwrap();
            assert_eq!(metadata["key"], "value");
            let read = SafeTensors::deserialize(&file).unwrap();
            assert_eq!(read.tensor("a").unwrap().shape(), [2, 3]);
            assert_eq!(
                read.tensor("b").unwrap().data(),
                (24..32).collect::<Vec<u8>>()
            );
            assert!(read.tensor("c").unwrap().data().is_empty());
            assert_eq!(read.tensor("d").unwrap().data(), [32, 33, 34, 35]);
        }
    }
}
