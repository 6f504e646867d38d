//! Damaged and malicious versions of the built-in model's file: each is refused.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{MODEL, architecture, checkpoint, packed::Header, read};
use crate::checkpoint::architecture::Activation;

/// A packed model, split into its parts.
#[derive(Clone)]
struct Model {
    header: Value,
    body: Vec<u8>,
}

impl Model {
    fn new() -> Self {
        let mut payload = Vec::new();
        ZlibDecoder::new(&MODEL[48..])
            .read_to_end(&mut payload)
            .unwrap();
        let size = u32::from_le_bytes(payload[..4].try_into().unwrap()) as usize;
        Self {
            header: serde_json::from_slice(&payload[4..4 + size]).unwrap(),
            body: payload.split_off(4 + size),
        }
    }

    fn payload(&self) -> Vec<u8> {
        let header = self.header.to_string();
        let mut payload = (header.len() as u32).to_le_bytes().to_vec();
        payload.extend(header.as_bytes());
        payload.extend(&self.body);
        payload
    }

    fn file(&self) -> Vec<u8> {
        let payload = self.payload();
        file(&payload, payload.len())
    }

    fn tensors(&mut self) -> &mut Vec<Value> {
        self.header["tensors"].as_array_mut().unwrap()
    }

    /// The first tensor of an encoding.
    fn first(&mut self, encoding: &str) -> &mut Value {
        let mut tensors = self.tensors().iter_mut();
        tensors.find(|one| one["encoding"] == encoding).unwrap()
    }

    /// The offset of its bytes.
    fn start(&mut self, encoding: &str) -> usize {
        self.first(encoding)["offset"].as_u64().unwrap() as usize
    }

    /// Overwrites bytes in the body, at an offset within the first tensor of an encoding.
    fn put(&mut self, encoding: &str, behind: usize, bytes: [u8; 2]) {
        let at = self.start(encoding) + behind;
        self.body[at..at + 2].copy_from_slice(&bytes);
    }
}

/// A file with a payload, a claimed length and a correct checksum.
fn file(payload: &[u8], length: usize) -> Vec<u8> {
    let mut file = b"TINYCLIP\x01\0\0\0".to_vec();
    file.extend((length as u32).to_le_bytes());
    file.extend(Sha256::digest(payload));
    let mut encoder = ZlibEncoder::new(file, Compression::none());
    encoder.write_all(payload).unwrap();
    encoder.finish().unwrap()
}

#[track_caller]
fn refused(what: &str, file: &[u8], message: &str) {
    let error = match read(file, &None.into()) {
        Ok(_) => panic!("{what}: it was read"),
        Err(error) => format!("{error:#}"),
    };
    assert!(error.contains(message), "{what}: {error}");
}

#[test]
fn the_built_in_model_is_whole_and_its_sizes_need_no_weights() {
    let found = checkpoint(&None.into()).unwrap();
    assert_eq!(found.architecture, architecture().unwrap());
    assert_eq!(found.architecture.context_length, 248);
    assert_eq!(found.activation, Activation::QuickGelu);
    for (name, tensor) in &found.tensors {
        assert_eq!(tensor.count_non_finite(), 0, "{name}");
    }
    let again = read(&Model::new().file(), &Some(Activation::Gelu).into()).unwrap();
    assert_eq!(again.activation, Activation::Gelu);
    for (name, tensor) in &found.tensors {
        let other = &again.tensors[name];
        assert!(
            tensor.contiguous_bytes() == other.contiguous_bytes(),
            "{name}"
        );
    }
}

#[test]
fn a_file_that_is_cut_short_or_changed_anywhere_is_refused() {
    for length in [0, 1, 8, 47, 48, 49, 1000, MODEL.len() / 2, MODEL.len() - 1] {
        refused(&format!("{length} bytes"), &MODEL[..length], "");
        assert!(Header::read(&MODEL[..length.min(60)]).is_err());
    }
    let steps = (48..MODEL.len()).step_by(MODEL.len() / 12);
    for at in (0..48).step_by(5).chain(steps) {
        let mut bytes = MODEL.to_vec();
        bytes[at] ^= 0x10;
        refused(&format!("byte {at} changed"), &bytes, "");
    }
    let longer = [MODEL, b"x"].concat();
    refused("a byte more", &longer, "follow the compressed stream");
}

#[test]
fn an_inconsistent_envelope_is_refused() {
    let payload = Model::new().payload();
    let length = payload.len();
    for (claimed, message) in [
        (0, "at most"),
        (3, "at most"),
        (u32::MAX as usize, "at most"),
        (length - 1, "more than"),
        (length + 1, "damaged"),
    ] {
        refused("a length", &file(&payload, claimed), message);
    }
    refused("no payload", &file(b"1234", 4), "the header");
    let mut bytes = Model::new().file();
    bytes[8] = 2;
    refused("a version", &bytes, "version 2");
    bytes[0] = b'X';
    refused("a magic number", &bytes, "not a packed model");
    bytes[..9].copy_from_slice(b"TINYCLIP\x01");
    bytes[20] ^= 1;
    refused("a checksum", &bytes, "the checksum");
    for (size, message) in [(u32::MAX, "more than the limit"), (1 << 20, "beyond")] {
        let mut payload = Model::new().payload();
        payload.truncate(100_000);
        payload[..4].copy_from_slice(&size.to_le_bytes());
        let file = file(&payload, payload.len());
        refused("a header's length", &file, message);
        assert!(Header::read(&file).is_err(), "{size}");
    }
}

/// A change of the header, and part of the expected error.
type Case = (&'static str, fn(&mut Model), &'static str);

#[test]
fn an_inconsistent_header_is_refused() {
    let cases: [Case; 19] = [
        ("no list", |m| m.header["tensors"] = 1.into(), "not valid"),
        ("nothing", |m| m.header = json!(null), "not valid"),
        (
            "an activation",
            |m| m.header["activation"] = "relu".into(),
            "\"relu\"",
        ),
        (
            "an image size",
            |m| m.header["image_size"] = 224.into(),
            "image size 224",
        ),
        (
            "a context",
            |m| m.header["context_length"] = 77.into(),
            "context length 77",
        ),
        (
            "an encoding",
            |m| m.first("i8")["encoding"] = "i4".into(),
            "unknown variant `i4`",
        ),
        (
            "an offset",
            |m| m.first("i8")["offset"] = 1.into(),
            "begins at 1",
        ),
        (
            "a length",
            |m| m.first("f16")["bytes"] = 2.into(),
            "has 2 bytes",
        ),
        (
            "a length beyond all",
            |m| m.first("f16")["bytes"] = u64::MAX.into(),
            "bytes",
        ),
        (
            "many elements",
            |m| m.first("i8")["shape"] = json!([1u64 << 40, 2]),
            "too large",
        ),
        (
            "more elements than there are numbers",
            |m| m.first("i8")["shape"] = json!([u64::MAX, u64::MAX]),
            "too large",
        ),
        (
            "no elements",
            |m| m.first("i8")["shape"] = json!([0, 128]),
            "too large",
        ),
        (
            "many rows of zeros",
            |m| m.first("i8-rows")["shape"] = json!([1 << 20, 128]),
            "too large",
        ),
        (
            "more rows than the table has",
            |m| m.first("i8-rows")["rows"] = 50_000.into(),
            "bytes",
        ),
        (
            "more rows than there are numbers",
            |m| m.first("i8-rows")["rows"] = u64::MAX.into(),
            "bytes",
        ),
        (
            "no rows",
            |m| m.first("i8-rows")["rows"] = Value::Null,
            "bytes",
        ),
        (
            "five dimensions",
            |m| m.first("f16")["shape"] = json!([1, 1, 1, 1, 128]),
            "too large",
        ),
        (
            "the order",
            |m| m.tensors().swap(3, 4),
            "they are not sorted",
        ),
        (
            "one twice",
            |m| {
                let twice = m.tensors()[3].clone();
                m.tensors().insert(3, twice);
            },
            "they are not sorted",
        ),
    ];
    let whole = Model::new();
    for (what, change, message) in cases {
        let mut model = whole.clone();
        change(&mut model);
        refused(what, &model.file(), message);
    }
}

#[test]
fn tensors_that_do_not_form_a_clip_are_refused() {
    let cases: [Case; 4] = [
        (
            "one is missing",
            |m| {
                let last = m.tensors().pop().unwrap();
                let start = last["offset"].as_u64().unwrap() as usize;
                m.body.truncate(start);
            },
            "missing",
        ),
        ("bytes of none", |m| m.body.extend([0; 4]), "are there"),
        (
            "one has another name",
            |m| m.tensors().last_mut().unwrap()["name"] = "z".into(),
            "unused: z",
        ),
        (
            "one has another shape",
            |m| m.first("f16")["shape"] = json!([2, 64]),
            "misshapen",
        ),
    ];
    let whole = Model::new();
    for (what, change, message) in cases {
        let mut model = whole.clone();
        change(&mut model);
        refused(what, &model.file(), message);
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let stored = |model: &mut Model| {
        let rows = model.first("i8-rows")["rows"].as_u64().unwrap();
        2 * rows as usize
    };
    let nan = [0, 0x7e];
    let infinite = [0, 0x7c];
    let whole = Model::new();
    let rows = stored(&mut whole.clone());
    for (what, encoding, behind, bytes, message) in [
        ("a half", "f16", 6, nan, "not finite"),
        ("a half", "f16", 0, infinite, "not finite"),
        ("a single", "f32", 2, [0x80, 0x7f], "not finite"),
        ("a scale", "i8", 2, nan, "the scale of row 1 is NaN"),
        ("a scale", "i8", 0, infinite, "the scale of row 0 is inf"),
        ("a scale", "i8", 4, [0, 0], "the scale of row 2 is 0"),
        ("a scale", "i8-rows", rows, [0, 0xbc], "is -1"),
        ("a row", "i8-rows", rows - 2, [0xff, 0xff], "ascend below"),
        ("a row", "i8-rows", 0, [0xff, 0x7f], "ascend below"),
        ("a row", "i8-rows", 2, [0, 0], "ascend below"),
    ] {
        let mut model = whole.clone();
        model.put(encoding, behind, bytes);
        refused(&format!("{what} of {encoding}"), &model.file(), message);
    }
}
