//! Inconsistent safetensors headers, and files of other formats.

use std::fs;

use longclip::checkpoint::container::{self, Container, Dtype};

use super::build::{refusal, safetensors};
use super::fixtures;

/// A header with one f32 tensor.
fn header(shape: &str, start: u64, end: u64) -> String {
    format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}}}"#)
}

#[test]
fn inconsistent_headers_are_refused() {
    let two = |second: &str| {
        format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{second}}}}}"#
        )
    };
    let twice = r#"{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"w":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#;
    let deep = format!("{{\"w\":{}", "[".repeat(200_000));
    let name = "n".repeat(2000);
    let long = header("[2,2]", 0, 16).replace("\"w\"", &format!("\"{name}\""));
    let cases = [
        (
            safetensors(&header("[2,2]", 0, 16), 12),
            "total size is not the file's",
        ),
        (
            safetensors(&header("[2,2]", 0, 16), 20),
            "total size is not the file's",
        ),
        (
            safetensors(&header("[2,2]", 4, 20), 20),
            "does not start where",
        ),
        (
            safetensors(&header("[2,2]", 16, 0), 16),
            "ends before it starts",
        ),
        (
            safetensors(&header("[2,3]", 0, 16), 16),
            "does not fit its shape",
        ),
        (
            safetensors(&header("[8589934592,8589934592]", 0, 16), 16),
            "verflow",
        ),
        (safetensors(&header("[-2,2]", 0, 16), 16), "not valid"),
        (
            safetensors(&header("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,4]", 0, 16), 16),
            "17 dimensions",
        ),
        (
            safetensors(&header("[2,2]", 0, 16).replace("F32", "F99"), 16),
            "not valid",
        ),
        (
            safetensors(&header("[0,9007199254740992,9007199254740992]", 0, 0), 0),
            "more elements than memory",
        ),
        (safetensors(&two("[2,6]"), 6), "does not start where"),
        (safetensors(&two("[6,10]"), 10), "does not start where"),
        (
            safetensors(&two("[18446744073709551615,3]"), 8),
            "does not start where",
        ),
        (safetensors(twice, 8), "w"),
        (safetensors(&deep, 0), "not valid"),
        (safetensors(&long, 16), "a tensor name has 2000 bytes"),
        (safetensors("{}", 0), "holds no tensors"),
        (safetensors("{\"w\":1}", 0), "not valid"),
        (safetensors("{", 0), "not valid"),
        (
            [&u64::from(u32::MAX).to_le_bytes()[..], b"{}"].concat(),
            "the header claims 4294967295 bytes",
        ),
        (
            [&100u64.to_le_bytes()[..], b"{}"].concat(),
            "claims 100 bytes but only 2 follow",
        ),
    ];
    for (file, expected) in cases {
        let error = refusal(file);
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(error.starts_with("not a valid safetensors file") || error.contains("no tensors"));
    }
}

#[test]
fn unaligned_data_is_read_and_unsupported_types_are_listed() {
    let header = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"f8":{"dtype":"F8_E4M3","shape":[2,1],"data_offsets":[1,3]},"h":{"dtype":"F16","shape":[2],"data_offsets":[3,7]},"w":{"dtype":"F32","shape":[],"data_offsets":[7,11]}} "#;
    let mut file = safetensors(header, 11);
    let data = file.len() - 11;
    file[data + 3..].copy_from_slice(&[0x00, 0x3c, 0x00, 0xc0, 0, 0, 0x20, 0x41]);
    let archive = container::open_bytes(file).unwrap();
    assert_eq!(archive.tensors["h"].to_f32().unwrap(), [1.0, -2.0]);
    assert_eq!(archive.tensors["w"].to_f32().unwrap(), [10.0]);
    assert_eq!(
        archive.tensors["f8"].dtype(),
        Dtype::Unsupported("float8_e4m3fn")
    );
    assert_eq!(archive.tensors["f8"].shape(), [2, 1]);
    assert!(archive.tensors["f8"].to_f32().is_err());
    assert_eq!(archive.notes.len(), 1);
}

#[test]
fn the_file_name_does_not_decide_the_format() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to, container) in [
        ("dtypes.safetensors", "dtypes.pt", Container::Safetensors),
        ("dtypes.pt", "dtypes.safetensors", Container::TorchZip),
        ("scripted.pt", "model.bin", Container::TorchScript),
        ("legacy2.pt", "model", Container::TorchLegacy),
    ] {
        let path = folder.path().join(to);
        fs::copy(fixtures::folder().join(from), &path).unwrap();
        assert_eq!(container::open(&path).unwrap().container, container);
    }
}

#[test]
fn files_that_are_not_weights_are_identified() {
    let folder = tempfile::tempdir().unwrap();
    let cases: &[(&[u8], &str)] = &[
        (b"", "empty"),
        (b"<!doctype html><html>", "an HTML page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "git lfs pull",
        ),
        (b"GGUF\x03\0\0\0aaaaaaaaaaaa", "a GGUF file"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"{\"a\": 1}", "JSON text"),
    ];
    let path = folder.path().join("model.safetensors");
    for (bytes, expected) in cases {
        fs::write(&path, bytes).unwrap();
        let error = format!("{:#}", container::open(&path).unwrap_err());
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let error = format!("{:#}", container::open(folder.path()).unwrap_err());
    assert!(error.contains("this is a folder"), "{error}");
    let error = format!(
        "{:#}",
        container::open(&folder.path().join("none")).unwrap_err()
    );
    assert!(error.contains("cannot open the file"), "{error}");
}

#[test]
fn a_file_changed_while_open_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    fs::copy(fixtures::folder().join("protocol2.pt"), &path).unwrap();
    let archive = container::open(&path).unwrap();
    archive.unchanged().unwrap();
    let mut longer = fs::read(&path).unwrap();
    longer.push(0);
    fs::write(&path, longer).unwrap();
    let error = archive.unchanged().unwrap_err().to_string();
    assert!(error.contains("changed while"), "{error}");
}
