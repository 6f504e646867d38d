//! `search` and `probe` with matrices that other programs wrote.

use std::io::Write as _;

use serde_json::{Value, json};

use super::{embed, search, small};
use crate::room::{Ran, Room};

/// The embeddings of some images, as embed prints them.
fn rows(room: &Room, images: &[&str]) -> Vec<Value> {
    embed(room, images).ends_with(0).records()
}

fn numbers(rows: &[Value]) -> Vec<Vec<f32>> {
    let numbers = |row: &Value| -> Vec<f32> {
        let values = row["embedding"].as_array().unwrap().iter();
        values.map(|value| value.as_f64().unwrap() as f32).collect()
    };
    rows.iter().map(numbers).collect()
}

/// A NumPy file with this header and these bytes.
fn npy(descr: &str, fortran_order: bool, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let order = if fortran_order { "True" } else { "False" };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    text.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((text.len() as u16).to_le_bytes());
    file.extend(text.bytes());
    file.extend(bytes);
    file
}

/// A zip of members, stored or deflated.
fn zip(members: &[(&str, &[u8])], is_deflated: bool) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let stored = match is_deflated {
            true => {
                let level = flate2::Compression::default();
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            false => content.to_vec(),
        };
        let mut common = vec![20, 0, 0, 0, if is_deflated { 8 } else { 0 }, 0, 0, 0, 0, 0];
        common.extend(crc32fast::hash(content).to_le_bytes());
        common.extend((stored.len() as u32).to_le_bytes());
        common.extend((content.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend((file.len() as u32).to_le_bytes());
        directory.extend(name.bytes());
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(name.bytes());
        file.extend(stored);
    }
    let start = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([(members.len() as u16).to_le_bytes(); 2].concat());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

/// A Parquet file with a name and two lists of doubles in each row, the second one negative.
fn parquet(names: &[&str], rows: &[Vec<f32>]) -> Vec<u8> {
    use parquet::data_type::{ByteArrayType, DoubleType};
    let list = |name: &str| {
        format!(
            "OPTIONAL GROUP {name} (LIST) {{ REPEATED GROUP list {{ OPTIONAL DOUBLE element; }} }}"
        )
    };
    let message = format!(
        "message m {{ OPTIONAL BYTE_ARRAY file_name (UTF8); {} {} }}",
        list("vector"),
        list("other")
    );
    let schema = parquet::schema::parser::parse_message_type(&message).unwrap();
    let mut file = Vec::new();
    let mut writer =
        parquet::file::writer::SerializedFileWriter::new(&mut file, schema.into(), <_>::default())
            .unwrap();
    let mut group = writer.next_row_group().unwrap();
    let names: Vec<_> = names.iter().map(|name| (*name).into()).collect();
    let mut column = group.next_column().unwrap().unwrap();
    let levels = vec![1; names.len()];
    let typed = column.typed::<ByteArrayType>();
    typed.write_batch(&names, Some(&levels), None).unwrap();
    column.close().unwrap();
    for sign in [1.0, -1.0] {
        let values: Vec<f64> = rows.concat().iter().map(|v| sign * f64::from(*v)).collect();
        let starts = rows
            .iter()
            .flat_map(|row| (0..row.len()).map(|at| i16::from(at > 0)));
        let starts: Vec<i16> = starts.collect();
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<DoubleType>();
        let levels = vec![3; values.len()];
        typed
            .write_batch(&values, Some(&levels), Some(&starts))
            .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    file
}

/// Numbers column by column.
fn by_columns(rows: &[Vec<f32>]) -> Vec<f32> {
    let columns = 0..rows[0].len();
    let column = |at: usize| rows.iter().map(move |row| row[at]);
    columns.flat_map(column).collect()
}

fn bytes<const N: usize>(values: &[f32], store: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| store(*value)).collect()
}

/// The rows that a search found, with their cosines.
fn found(ran: &Ran) -> Vec<(u64, f64)> {
    let record = ran.record();
    let hits = record["hits"].as_array().unwrap().iter();
    hits.map(|hit| {
        (
            hit["row"].as_u64().unwrap(),
            hit["cosine"].as_f64().unwrap(),
        )
    })
    .collect()
}

const IMAGES: [&str; 4] = ["a.png", "b.png", "c.png", "d.png"];

#[test]
fn a_matrix_of_any_type_and_order_finds_the_same() {
    let room = Room::with(&IMAGES);
    let rows = rows(&room, &IMAGES);
    embed(&room, &[&IMAGES[..], &["-o", "own.npy"]].concat()).ends_with(0);
    let own = search(&room, &["own.npy", "a cat"]).ends_with(0).record();
    let names: Vec<&str> = rows
        .iter()
        .map(|row| row["image"].as_str().unwrap())
        .collect();
    let expected: Vec<(u64, f64)> = (own["hits"].as_array().unwrap().iter())
        .map(|hit| {
            let row = names
                .iter()
                .position(|name| hit["image"] == **name)
                .unwrap();
            (row as u64, hit["cosine"].as_f64().unwrap())
        })
        .collect();
    let numbers = numbers(&rows);
    let (plain, turned) = (numbers.concat(), by_columns(&numbers));
    let tripled: Vec<f32> = plain.iter().map(|value| value * 3.0).collect();
    let half = |value: f32| half::f16::from_f32(value).to_le_bytes();
    let double = |value: f32| f64::from(value).to_be_bytes();
    let cases = [
        ("<f4", false, bytes(&plain, f32::to_le_bytes)),
        ("<f4", true, bytes(&turned, f32::to_le_bytes)),
        (">f4", false, bytes(&tripled, f32::to_be_bytes)),
        (">f8", true, bytes(&turned, double)),
        ("<f2", false, bytes(&tripled, half)),
    ];
    for (descr, fortran_order, bytes) in cases {
        let array = npy(descr, fortran_order, "(4, 64)", &bytes);
        let other = npy("<i8", false, "(3,)", &[0; 24]);
        room.file("x.npy", &array);
        room.file(
            "x.npz",
            zip(&[("ids.npy", &other), ("x.npy", &array)], false),
        );
        room.file("y.npz", zip(&[("x.npy", &array)], true));
        for file in ["x.npy", "x.npz", "y.npz", "x.npz:x"] {
            let ran = search(&room, &[file, "a cat"]).ends_with(0);
            let found = found(&ran);
            let mut said = vec!["does not say which model made it", "numbered from 0"];
            if bytes.len() != plain.len() * 4 || descr == ">f4" {
                said.extend((descr != ">f8").then_some("normalised (lengths: 3.00"));
            }
            ran.says(&said);
            assert_eq!(found.len(), 4);
            for ((row, cosine), (expected_row, expected)) in found.iter().zip(&expected) {
                assert_eq!(row, expected_row, "{file} {descr}");
                let least = if descr == "<f2" { 1e-3 } else { 1e-6 };
                assert!((cosine - expected).abs() < least, "{file} {descr}");
            }
        }
    }
    // A single one of its rows.
    room.file(
        "one.npy",
        npy("<f4", false, "(64,)", &bytes(&numbers[2], f32::to_le_bytes)),
    );
    let ran = search(&room, &["one.npy", "./c.png"]).ends_with(0);
    assert!(found(&ran)[0].1 > 0.9999);
}

#[test]
fn rows_go_by_number_in_every_format() {
    let room = Room::with(&IMAGES);
    let plain = numbers(&rows(&room, &IMAGES)).concat();
    room.file(
        "x.npy",
        npy("<f4", false, "(4, 64)", &bytes(&plain, f32::to_le_bytes)),
    );
    let run = |format: &str| {
        let arguments = ["x.npy", "./b.png", "-k", "1", "-f", format];
        search(&room, &arguments).ends_with(0).out
    };
    assert_eq!(run("paths"), "1\n");
    assert!(run("table").ends_with("  row 1\n"), "{}", run("table"));
    let csv = run("csv");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "query,image,text,cosine,rank,error,row");
    assert!(
        lines[1].starts_with("./b.png,,,") && lines[1].ends_with(",1,,1"),
        "{csv}"
    );
    search(&room, &["x.npy", "./b.png", "--exclude-query"])
        .ends_with(2)
        .says(&["the rows of x.npy have no names"]);
}

#[test]
fn names_next_to_a_matrix_are_used() {
    let room = Room::with(&IMAGES);
    let rows = rows(&room, &IMAGES);
    let plain = numbers(&rows).concat();
    let array = npy(
        "<f8",
        false,
        "(4, 64)",
        &bytes(&plain, |v| f64::from(v).to_le_bytes()),
    );
    room.file("x.npy", &array);
    for key in ["image", "path"] {
        let lines = IMAGES.map(|name| json!({ key: name }).to_string() + "\n");
        room.file("x.paths.jsonl", lines.concat());
        let ran = search(&room, &["x.npy", "./b.png", "-k", "1"]).ends_with(0);
        assert_eq!(ran.record()["hits"][0]["image"], "b.png");
        let ran = search(&room, &["x.npy", "./b.png", "--exclude-query"]).ends_with(0);
        let record = ran.record();
        let hits = record["hits"].as_array().unwrap();
        assert!(hits.len() == 3 && hits.iter().all(|hit| hit["image"] != "b.png"));
    }
    room.file("x.paths.jsonl", "{\"image\":\"a.png\"}\n");
    search(&room, &["x.npy", "x"])
        .ends_with(2)
        .says(&["x.paths.jsonl", "1 lines, but there are 4 rows"]);
    // JSON lines hold both.
    let line = |row: &Value| json!({"path": row["path"], "embedding": row["embedding"]});
    let lines = rows.iter().map(|row| line(row).to_string() + "\n");
    room.file("y.jsonl", lines.collect::<String>());
    let ran = search(&room, &["y.jsonl", "./c.png", "-k", "1"]).ends_with(0);
    assert_eq!(ran.record()["hits"][0]["image"], "c.png");
}

#[test]
fn tables_of_other_programs_are_read() {
    let room = Room::with(&IMAGES);
    let mut values = numbers(&rows(&room, &IMAGES));
    room.file("x.parquet", parquet(&IMAGES, &values));
    search(&room, &["x.parquet", "x"])
        .ends_with(2)
        .says(&["\"vector\", \"other\"", "such as x.parquet:vector"]);
    for (column, sign) in [("vector", 1.0), ("other", -1.0)] {
        let index = format!("x.parquet:{column}");
        let record = search(&room, &[&index, "./c.png", "-k", "4"])
            .ends_with(0)
            .record();
        let hits = record["hits"].as_array().unwrap();
        let hit = hits.iter().find(|hit| hit["image"] == "c.png").unwrap();
        assert!(
            (hit["cosine"].as_f64().unwrap() - sign).abs() < 1e-5,
            "{record}"
        );
    }
    search(&room, &["x.parquet:file_name", "x"])
        .ends_with(2)
        .says(&["no column \"file_name\" has lists of numbers"]);
    values[2].pop();
    room.file("x.parquet", parquet(&IMAGES, &values));
    search(&room, &["x.parquet:vector", "x"])
        .ends_with(2)
        .says(&["rows of different lengths"]);
}

#[test]
fn a_matrix_needs_a_model_and_its_width() {
    let room = Room::with(&["a.png"]);
    room.file("x.npy", npy("<f4", false, "(2, 8)", &[0x3f; 64]));
    room.longclip(&["search", "x.npy", "x"], &[])
        .ends_with(2)
        .says(&[
            "x.npy does not say which model made it; name that model with --model",
            "x.paths.jsonl",
        ]);
    search(&room, &["x.npy", "x"])
        .ends_with(2)
        .says(&["2 rows of 8 numbers", "makes 64"]);
    let turned: Vec<u8> = bytes(&vec![0.5; 64 * 3], f32::to_le_bytes);
    room.file("t.npy", npy("<f4", false, "(64, 3)", &turned));
    search(&room, &["t.npy", "x"])
        .ends_with(2)
        .says(&["transpose it"]);
}

#[test]
fn files_without_a_matrix_say_why() {
    let room = Room::new();
    let values = vec![0.5; 2 * 64];
    let floats = npy("<f4", false, "(2, 64)", &bytes(&values, f32::to_le_bytes));
    let whole = npy("|i1", false, "(2, 64)", &[1; 128]);
    let words = npy("<U1", false, "(2,)", &[0; 8]);
    room.file("int.npy", &whole);
    room.file("cube.npy", npy("<f4", false, "(2, 8, 8)", &[0; 512]));
    room.file("short.npy", &floats[..floats.len() - 1]);
    let mut odd = floats.clone();
    let end = odd.len();
    odd[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    room.file("nan.npy", &odd);
    room.file(
        "two.npz",
        zip(&[("b.npy", &floats), ("a.npy", &floats)], false),
    );
    room.file("words.npz", zip(&[("labels.npy", &words)], true));
    let mut damaged = zip(&[("a.npy", &floats)], false);
    damaged[200] ^= 1;
    room.file("damaged.npz", damaged);
    let cases = [
        (
            "int.npy",
            "of type \"|i1\"; embeddings are float16 (<f2), float32",
        ),
        (
            "cube.npy",
            "the shape (2, 8, 8); embeddings have rows and columns",
        ),
        ("short.npy", "states 2 rows of 64 numbers"),
        ("nan.npy", "row 1 holds NaN"),
        (
            "two.npz",
            "several matrices, a (2 x 64), b (2 x 64); name one of them, such as two.npz:a",
        ),
        (
            "two.npz:c",
            "no array \"c\", but has a (2 x 64), b (2 x 64)",
        ),
        ("words.npz", "no matrix of embeddings, but has labels"),
        ("damaged.npz", "is damaged"),
        ("int.npy:x", "drop the name after the colon"),
        ("none.npz", "none.npz"),
        ("x.csv", "must end in .npy, .npz, .safetensors"),
    ];
    for (file, message) in cases {
        search(&room, &[file, "x"]).ends_with(2).says(&[message]);
    }
}

#[test]
fn a_zip_that_claims_too_much_is_refused() {
    let room = Room::new();
    let claims = |rows: u64, zeros: usize| {
        let shape = format!("({rows}, 64)");
        let array = npy("<f4", false, &shape, &vec![0; zeros]);
        let mut file = zip(&[("a.npy", &array)], true);
        let central = file.len() - 22 - 46 - 5;
        // The length in the zip directory.
        file[central + 24..central + 28].copy_from_slice(&u32::MAX.wrapping_sub(1).to_le_bytes());
        file
    };
    room.file("bomb.npz", claims(1 << 24, 1 << 20));
    search(&room, &["bomb.npz", "x"])
        .ends_with(2)
        .says(&["claims to hold 4294967294"]);
}

#[test]
fn rows_of_zeros_are_never_found() {
    let room = Room::with(&IMAGES);
    let mut values = numbers(&rows(&room, &IMAGES));
    values[1].fill(0.0);
    let bytes = bytes(&values.concat(), f32::to_le_bytes);
    room.file("x.npy", npy("<f4", false, "(4, 64)", &bytes));
    let ran = search(&room, &["x.npy", "x"]).ends_with(0);
    let found = found(&ran);
    ran.says(&["skipped 1 row of zeros (first: row 1)"]);
    assert!(
        found.len() == 3 && found.iter().all(|(row, _)| *row != 1),
        "{found:?}"
    );
}

#[test]
fn a_probe_learns_from_a_matrix_whose_rows_have_names() {
    let room = Room::new();
    let images: Vec<String> = (0..12)
        .map(|at| format!("p/{}/{at}.png", ["cat", "dog"][at % 2]))
        .collect();
    images.iter().for_each(|name| room.image(name));
    let mut rows = rows(&room, &["p"]);
    rows.sort_by_key(|row| row["image"].to_string());
    let plain = numbers(&rows).concat();
    let doubled: Vec<f32> = plain.iter().map(|value| value * 2.0).collect();
    room.file(
        "x.npy",
        npy("<f4", false, "(12, 64)", &bytes(&doubled, f32::to_le_bytes)),
    );
    let probe = |more: &[&str]| {
        let arguments = [
            &["probe", "x.npy", "--l2", "0.1", "-o", "x.safetensors"],
            more,
        ]
        .concat();
        room.longclip(&arguments, &[])
    };
    let model = ["--model", small::model()];
    probe(&model)
        .ends_with(2)
        .says(&["the rows of x.npy have no names", "x.paths.jsonl"]);
    let lines = rows
        .iter()
        .map(|row| json!({"path": row["path"]}).to_string() + "\n");
    room.file("x.paths.jsonl", lines.collect::<String>());
    probe(&[])
        .ends_with(2)
        .says(&["name that model with --model"]);
    probe(&model)
        .ends_with(0)
        .says(&["normalised (lengths: 2.0000)"]);
    let image = rows[0]["image"].as_str().unwrap();
    let ran = room.longclip(
        &[
            "classify",
            "-m",
            small::model(),
            image,
            "--probe",
            "x.safetensors",
        ],
        &[],
    );
    assert_eq!(
        ran.ends_with(0).record()["predictions"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

/// Reads all that a file offers, as far as it is readable.
fn exercise(path: &std::path::Path) -> anyhow::Result<()> {
    let file = longclip::embedding::open_any(path)?;
    let mut values = Vec::new();
    for start in (0..file.rows()).step_by(file.block_rows()) {
        let end = file.rows().min(start + file.block_rows());
        file.vectors(start..end, &mut values)?;
    }
    (0..file.rows().min(100)).try_for_each(|row| file.name(row).map(drop))
}

#[test]
fn damaged_matrices_do_no_harm() {
    let room = Room::new();
    let values: Vec<f32> = (0..7 * 8).map(|at| (at as f32 * 0.7).sin()).collect();
    let array = npy("<f4", false, "(7, 8)", &bytes(&values, f32::to_le_bytes));
    let header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[7,8],\"data_offsets\":[0,224]}}";
    let mut tensors = (header.len() as u64).to_le_bytes().to_vec();
    tensors.extend(header.bytes());
    tensors.extend(bytes(&values, f32::to_le_bytes));
    let line = |row: &[f32]| json!({"path": "x", "embedding": row}).to_string() + "\n";
    let lines: String = values.chunks(8).map(line).collect();
    let files = [
        ("a.npy", array.clone()),
        ("a.npz", zip(&[("x.npy", &array)], false)),
        (
            "b.npz",
            zip(&[("x.npy", &array), ("y.npy", &array[..40])], true),
        ),
        ("a.safetensors", tensors),
        ("a.jsonl", lines.into_bytes()),
        ("a.parquet", {
            let rows: Vec<Vec<f32>> = values.chunks(8).map(<[f32]>::to_vec).collect();
            parquet(&["a"; 7], &rows)
        }),
    ];
    let mut random = 1u64;
    let mut next = |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695);
        (random >> 33) as usize % below
    };
    for (name, whole) in files {
        let path = room.path(name);
        std::fs::write(&path, &whole).unwrap();
        // Two columns of the table are candidates.
        let path = match name {
            "a.parquet" => room.path("a.parquet:vector"),
            _ => path,
        };
        exercise(&path).unwrap();
        let mut refused = 0;
        for round in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..1 + next(3) {
                // Headers are at the start, the directory of a zip also at the end.
                let at = match next(3) {
                    0 => next(whole.len().min(120)),
                    1 => whole.len() - 1 - next(whole.len().min(150)),
                    _ => next(whole.len()),
                };
                bytes[at] = [0, 0xff, 0x7f, 0x80, b'9', bytes[at] ^ (1 << next(8))][next(6)];
            }
            if round % 4 == 0 {
                bytes.truncate(next(whole.len()));
            }
            std::fs::write(room.path(name), &bytes).unwrap();
            refused += usize::from(exercise(&path).is_err());
        }
        assert!(refused > 100, "{name}: {refused}");
    }
}
