//! Inconsistent zip archives and legacy files.

use longclip::checkpoint::container;

use super::build::{Member, Pickle, checkpoint, good, members, refusal, zip};
use super::fixtures;

fn pickle() -> Vec<u8> {
    Pickle::default().dict(&[("w", good())]).stop()
}

/// A checkpoint with one changed member.
fn changed(index: usize, change: impl FnOnce(&mut Member)) -> Vec<u8> {
    let mut members = members(&pickle());
    change(&mut members[index]);
    zip(&members)
}

#[test]
fn inconsistent_members_are_refused() {
    let cases = [
        (
            changed(0, |m| m.checksum = Some(1)),
            "\"m/data.pkl\" is damaged (its checksum",
        ),
        (
            changed(0, |m| m.method = 8),
            "\"m/data.pkl\": it is compressed",
        ),
        (
            changed(2, |m| m.method = 8),
            "\"m/data/0\": it is compressed",
        ),
        (changed(2, |m| m.flags = 1), "\"m/data/0\": it is encrypted"),
        (
            changed(2, |m| m.local_name = Some("m/data/9".into())),
            "carries another name",
        ),
        (
            changed(2, |m| m.stated_length = Some(4000)),
            "content lies outside the file",
        ),
        (
            changed(2, |m| m.stated_length = Some(u32::MAX)),
            "entry 2 of 3 is damaged",
        ),
        (
            changed(2, |m| m.header = Some(1_000_000)),
            "lies outside the file or is damaged",
        ),
        (changed(2, |m| m.header = Some(400)), "is damaged"),
        (changed(2, |m| m.header = Some(0)), "overlap"),
        (
            changed(2, |m| m.name = "m/data.pkl".into()),
            "lists \"m/data.pkl\" twice",
        ),
        (changed(1, |m| m.content = b"big".to_vec()), "big-endian"),
        (
            changed(0, |m| m.name = "m/model.pkl".into()),
            "zip without data.pkl",
        ),
        (
            changed(0, |m| m.name = "m/model.json".into()),
            "PyTorch 1.0",
        ),
        (
            changed(0, |m| m.name = "m/n/data.pkl".into()),
            "zip without data.pkl",
        ),
        (
            changed(2, |m| m.name = "n/data.pkl".into()),
            "holds 2 files data.pkl",
        ),
        (
            changed(2, |m| m.name = "m/data/1".into()),
            "no member \"m/data/0\"",
        ),
        (
            changed(2, |m| m.content.truncate(15)),
            "should hold 16 bytes but holds 15",
        ),
        (zip(&[]), "it holds 0 files"),
        (
            zip(&[Member::new("word/document.xml", b"<x/>")]),
            "word/document.xml",
        ),
    ];
    for (file, expected) in cases {
        let error = refusal(file);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_checksum_that_was_not_computed_is_accepted() {
    container::open_bytes(changed(0, |m| m.checksum = Some(0))).unwrap();
}

#[test]
fn inconsistent_end_records_are_refused() {
    let good = checkpoint(&pickle());
    let end = good.len() - 22;
    let patched = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[end + at..][..bytes.len()].copy_from_slice(bytes);
        file
    };
    let cases = [
        (patched(0, b"PK\0\0"), "no end record"),
        (patched(20, &[1, 0]), "no end record"),
        (patched(4, &[1, 0]), "one part of a multi-part archive"),
        (patched(8, &[0xff, 0, 0xff, 0]), "entry 3 of 255 is damaged"),
        (patched(12, &[0xff; 4]), "directory lies outside"),
        (patched(16, &[0xff; 4]), "directory lies outside"),
        (patched(16, &[0; 4]), "entry 0 of 3 is damaged"),
        (good[..good.len() - 1].to_vec(), "no end record"),
        (b"PK\x03\x04".to_vec(), "too short"),
    ];
    for (file, expected) in cases {
        let error = refusal(file);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// `file` with the zip64 records that a file beyond 4 GiB has.
fn with_zip64(file: &[u8], members: u64, directory: u64) -> Vec<u8> {
    let end = file.len() - 22;
    let number = |at: usize| {
        u64::from(u32::from_le_bytes(
            file[end + at..][..4].try_into().unwrap(),
        ))
    };
    let mut long = file[..end].to_vec();
    long.extend(b"PK\x06\x06");
    long.extend(44u64.to_le_bytes());
    long.extend([0; 12]);
    long.extend(members.to_le_bytes());
    long.extend(members.to_le_bytes());
    long.extend(number(12).to_le_bytes());
    long.extend((number(16) + directory).to_le_bytes());
    long.extend(b"PK\x06\x07\0\0\0\0");
    long.extend((end as u64).to_le_bytes());
    long.extend([1, 0, 0, 0]);
    long.extend(b"PK\x05\x06\0\0\0\0");
    long.extend([0xff; 12]);
    long.extend([0; 2]);
    long
}

#[test]
fn zip64_records_are_read_and_checked() {
    let mut files = members(&pickle());
    let start = zip(&files[..2]).len() as u64 - 22 - 2 * 46 - 10 - 11;
    files[2].stated_length = Some(u32::MAX);
    files[2].header = Some(u32::MAX);
    files[2].extra = [
        &[7, 0, 1, 0, 9, 1, 0, 24, 0][..],
        &16u64.to_le_bytes(),
        &16u64.to_le_bytes(),
        &start.to_le_bytes(),
    ]
    .concat();
    let file = zip(&files);
    for file in [file.clone(), with_zip64(&file, 3, 0)] {
        let archive = container::open_bytes(file).unwrap();
        assert_eq!(archive.tensors["w"].to_f32().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    }
    let cases = [
        (
            with_zip64(&file, u64::MAX, 0),
            "lists 18446744073709551615 members",
        ),
        (with_zip64(&file, 3, u64::MAX / 2), "directory lies outside"),
        (with_zip64(&file, 4, 0), "entry 3 of 4 is damaged"),
    ];
    for (file, expected) in cases {
        let error = refusal(file);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// A legacy file with one tensor "w" in storage "0".
fn legacy(version: u8, keys: &[&str], count: u64) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let version = [b"\x80\x02M", [version, 3].as_slice(), b"."].concat();
    let keys = keys
        .iter()
        .fold(Pickle::default().raw(b"]("), |p, key| p.text(key));
    let object = pickle();
    let data: Vec<u8> = [1f32, 2.0, 3.0, 4.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    [
        magic.as_slice(),
        &version,
        b"\x80\x02}.",
        &object,
        &keys.raw(b"e").stop(),
        &count.to_le_bytes(),
        &data,
    ]
    .concat()
}

#[test]
fn inconsistent_legacy_files_are_refused() {
    let archive = container::open_bytes(legacy(0xe9, &["0"], 4)).unwrap();
    assert_eq!(archive.tensors["w"].to_f32().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    let cases = [
        (legacy(0xe8, &["0"], 4), "not 1001"),
        (legacy(0xe9, &["0"], 5), "reaches beyond the file"),
        (legacy(0xe9, &["0"], u64::MAX), "reaches beyond the file"),
        (legacy(0xe9, &["0"], 1 << 62), "reaches beyond the file"),
        (legacy(0xe9, &["0"], 3), "should hold 16 bytes but holds 12"),
        (legacy(0xe9, &["1"], 4), "no tensor uses storage"),
        (legacy(0xe9, &[], 4), "it is not in the file"),
        (legacy(0xe9, &["0", "0"], 0), "listed twice"),
    ];
    for (file, expected) in cases {
        let error = refusal(file);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn a_legacy_file_from_a_big_endian_machine_is_refused() {
    let mut bytes = std::fs::read(fixtures::folder().join("legacy2.pt")).unwrap();
    let key = b"little_endian";
    let at = bytes.windows(key.len()).position(|w| w == key).unwrap() + key.len();
    let yes = at + bytes[at..].iter().position(|&byte| byte == 0x88).unwrap();
    bytes[yes] = 0x89;
    let error = refusal(bytes);
    assert!(error.contains("big-endian"), "{error}");
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    for (name, bytes) in fixtures::all() {
        let step = 1 + bytes.len() / 500;
        for end in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            let result = container::open_bytes(bytes[..end].to_vec());
            assert!(result.is_err(), "{name} cut to {end} of {}", bytes.len());
        }
    }
}
