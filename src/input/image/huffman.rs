//! The Huffman tables of the JPEG standard, for files that omit them.

use super::markers::HUFFMAN_TABLES;

/// `bytes` with the standard's Huffman tables (ITU-T T.81, annex K.3) inserted: cameras and capture
/// cards omit them from the frames of a Motion JPEG. Tables that the file defines replace them.
pub(super) fn with_standard_tables(bytes: &[u8]) -> Vec<u8> {
    let (start, rest) = bytes.split_at(bytes.len().min(2));
    let length = STANDARD_TABLES
        .iter()
        .map(|t| 17 + t.values.len())
        .sum::<usize>()
        + 2;
    let mut whole = Vec::with_capacity(bytes.len() + length + 2);
    whole.extend_from_slice(start);
    whole.extend_from_slice(&[0xFF, HUFFMAN_TABLES]);
    whole.extend_from_slice(&(length as u16).to_be_bytes());
    for table in STANDARD_TABLES {
        whole.push(table.kind);
        whole.extend_from_slice(table.counts);
        whole.extend_from_slice(table.values);
    }
    whole.extend_from_slice(rest);
    whole
}

/// A Huffman table: class (high half) and number, number of codes per length, their values.
struct HuffmanTable {
    kind: u8,
    counts: &'static [u8; 16],
    values: &'static [u8],
}

const STANDARD_TABLES: &[HuffmanTable] = &[
    HuffmanTable {
        kind: 0x00,
        counts: &[0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        values: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    },
    HuffmanTable {
        kind: 0x01,
        counts: &[0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
        values: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    },
    HuffmanTable {
        kind: 0x10,
        counts: &[0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125],
        values: b"\
            \x01\x02\x03\x00\x04\x11\x05\x12\x21\x31\x41\x06\x13\x51\x61\x07\x22\x71\
            \x14\x32\x81\x91\xA1\x08\x23\x42\xB1\xC1\x15\x52\xD1\xF0\x24\x33\x62\x72\
            \x82\x09\x0A\x16\x17\x18\x19\x1A\x25\x26\x27\x28\x29\x2A\x34\x35\x36\x37\
            \x38\x39\x3A\x43\x44\x45\x46\x47\x48\x49\x4A\x53\x54\x55\x56\x57\x58\x59\
            \x5A\x63\x64\x65\x66\x67\x68\x69\x6A\x73\x74\x75\x76\x77\x78\x79\x7A\x83\
            \x84\x85\x86\x87\x88\x89\x8A\x92\x93\x94\x95\x96\x97\x98\x99\x9A\xA2\xA3\
            \xA4\xA5\xA6\xA7\xA8\xA9\xAA\xB2\xB3\xB4\xB5\xB6\xB7\xB8\xB9\xBA\xC2\xC3\
            \xC4\xC5\xC6\xC7\xC8\xC9\xCA\xD2\xD3\xD4\xD5\xD6\xD7\xD8\xD9\xDA\xE1\xE2\
            \xE3\xE4\xE5\xE6\xE7\xE8\xE9\xEA\xF1\xF2\xF3\xF4\xF5\xF6\xF7\xF8\xF9\xFA\
            ",
    },
    HuffmanTable {
        kind: 0x11,
        counts: &[0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119],
        values: b"\
            \x00\x01\x02\x03\x11\x04\x05\x21\x31\x06\x12\x41\x51\x07\x61\x71\x13\x22\
            \x32\x81\x08\x14\x42\x91\xA1\xB1\xC1\x09\x23\x33\x52\xF0\x15\x62\x72\xD1\
            \x0A\x16\x24\x34\xE1\x25\xF1\x17\x18\x19\x1A\x26\x27\x28\x29\x2A\x35\x36\
            \x37\x38\x39\x3A\x43\x44\x45\x46\x47\x48\x49\x4A\x53\x54\x55\x56\x57\x58\
            \x59\x5A\x63\x64\x65\x66\x67\x68\x69\x6A\x73\x74\x75\x76\x77\x78\x79\x7A\
            \x82\x83\x84\x85\x86\x87\x88\x89\x8A\x92\x93\x94\x95\x96\x97\x98\x99\x9A\
            \xA2\xA3\xA4\xA5\xA6\xA7\xA8\xA9\xAA\xB2\xB3\xB4\xB5\xB6\xB7\xB8\xB9\xBA\
            \xC2\xC3\xC4\xC5\xC6\xC7\xC8\xC9\xCA\xD2\xD3\xD4\xD5\xD6\xD7\xD8\xD9\xDA\
            \xE2\xE3\xE4\xE5\xE6\xE7\xE8\xE9\xEA\xF2\xF3\xF4\xF5\xF6\xF7\xF8\xF9\xFA\
            ",
    },
];
