//! Contents of the files.

use std::fs;

use serde_json::Value;

use super::{OUTPUTS, embed, small};
use crate::room::{Room, records};

fn numbers(record: &Value) -> Vec<f32> {
    let values = record["embedding"].as_array().unwrap();
    values
        .iter()
        .map(|value| value.as_f64().unwrap() as f32)
        .collect()
}

#[test]
fn stdout_gets_one_row_per_image() {
    let room = Room::with(&["a.png", "b.png"]);
    room.broken("c.png");
    let ran = embed(&room, &["a.png", "c.png", "b.png"]).ends_with(1);
    let records = ran.records();
    assert_eq!(ran.images(), ["a.png", "c.png", "b.png"]);
    let first = &records[0];
    let length: f32 = numbers(first).iter().map(|v| v * v).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    assert_eq!(
        (&first["width"], &first["height"]),
        (&24.into(), &16.into())
    );
    let metadata = fs::metadata(room.path("a.png")).unwrap();
    assert_eq!(first["bytes"], metadata.len());
    let model = first["model"].as_str().unwrap();
    let name = format!("{}@", small::model());
    assert!(
        model.starts_with(&name) && model.len() == name.len() + 64,
        "{model}"
    );
    assert!(first["precision"].is_string() && first["version"].is_string());
    assert!(
        records[1]["error"].as_str().unwrap().contains("PNG"),
        "{}",
        records[1]
    );
    assert!(records[1].get("embedding").is_none());
    assert_eq!(room.names(), ["a.png", "b.png", "c.png"]);
}

#[test]
fn every_format_has_the_same_rows() {
    let room = Room::with(&["p/a.png", "p/b.jpg", "p/c.webp"]);
    room.broken("p/bad.png");
    for output in OUTPUTS {
        embed(&room, &["p", "-o", output]).ends_with(1);
    }
    let jsonl = records(&room.read("o.jsonl"));
    let rows: Vec<&Value> = jsonl
        .iter()
        .filter(|row| row.get("error").is_none())
        .collect();
    let expected: Vec<u8> = rows
        .iter()
        .flat_map(|row| numbers(row))
        .flat_map(f32::to_le_bytes)
        .collect();
    let npy = fs::read(room.path("o.npy")).unwrap();
    assert_eq!(npy[npy.len() - expected.len()..], expected);
    assert_eq!(npy.len() - expected.len(), 128);
    let paths = records(&room.read("o.paths.jsonl"));
    assert_eq!(paths.len(), 3);
    for (path, row) in paths.iter().zip(&rows) {
        for key in [
            "image",
            "width",
            "height",
            "bytes",
            "mtime_ns",
            "model",
            "precision",
            "version",
        ] {
            assert_eq!(path[key], row[key], "{key}");
        }
    }
    for output in ["o.safetensors", "o.parquet"] {
        let bytes = fs::read(room.path(output)).unwrap();
        let whole = bytes.windows(256).any(|window| *window == expected[..256]);
        assert!(whole, "{output}");
    }
    for output in &OUTPUTS[..3] {
        let errors = records(&room.read(&format!("{output}.errors.jsonl")));
        assert_eq!(errors[0]["image"], "p/bad.png", "{output}");
    }
    assert!(!room.path("o.jsonl.errors.jsonl").exists());
}

#[test]
fn sixteen_bits_take_half_the_space() {
    let room = Room::with(&["a.png", "b.png"]);
    embed(&room, &["a.png", "b.png", "-o", "o.npy", "--dtype", "f16"]).ends_with(0);
    let npy = fs::read(room.path("o.npy")).unwrap();
    assert_eq!(npy.len(), 128 + 2 * 64 * 2);
    assert!(npy.windows(5).any(|window| window == b"'<f2'"));
    for output in ["o.parquet", "o.jsonl"] {
        embed(&room, &["a.png", "-o", output, "--dtype", "f16"])
            .ends_with(2)
            .says(&["no 16-bit numbers"]);
    }
    embed(&room, &["a.png", "--dtype", "f16"]).ends_with(2);
}

#[test]
fn texts_have_one_row_per_line() {
    let room = Room::new();
    let long = "word ".repeat(400);
    room.file("t.txt", format!("a cat\n\n{long}\na dog"));
    for output in OUTPUTS {
        embed(&room, &["--texts", "t.txt", "-o", output])
            .ends_with(1)
            .says(&["line 3", "402 tokens", "--long-text truncate"]);
    }
    let rows = records(&room.read("o.jsonl"));
    let texts: Vec<&str> = rows
        .iter()
        .map(|row| row["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["a cat", "", &long, "a dog"]);
    assert!(rows[2]["error"].is_string());
    let ran = embed(&room, &["--text", "a dog", "a cat"]).ends_with(0);
    assert_eq!(numbers(&ran.records()[0]), numbers(&rows[3]));
    assert_eq!(numbers(&ran.records()[1]), numbers(&rows[0]));
    let ran = room.longclip_with_stdin(
        &[
            "embed",
            "-m",
            small::model(),
            "--texts",
            "-",
            "--long-text",
            "truncate",
        ],
        long.as_bytes(),
    );
    let record = ran.ends_with(0).record();
    assert!(
        record["warnings"][0]
            .as_str()
            .unwrap()
            .contains("154 tokens"),
        "{record}"
    );
}

#[test]
fn long_texts_are_read_in_chunks_if_that_gives_one_row() {
    let room = Room::new();
    let text = format!("a cat {}", "word ".repeat(300));
    let mut rows = Vec::new();
    for policy in [
        &["truncate"][..],
        &["chunk-mean"],
        &["slide"],
        &["slide", "--stride", "40"],
    ] {
        let ran = embed(&room, &[&["--text", &text, "--long-text"], policy].concat()).ends_with(0);
        let record = ran.record();
        let length: f32 = numbers(&record).iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
        assert_eq!(record["warnings"].as_array().unwrap().len(), 1);
        assert!(!rows.contains(&numbers(&record)), "{policy:?}");
        rows.push(numbers(&record));
    }
    embed(&room, &["--text", &text, "--long-text", "best-chunk"])
        .ends_with(2)
        .says(&["one embedding per text", "chunk-mean"]);
}

#[test]
fn lists_and_stdin_are_read() {
    let room = Room::with(&["a.png", "b.png"]);
    let ran = room.longclip_with_stdin(
        &["embed", "-m", small::model(), "--files-from", "-", "-0"],
        b"b.png\0a.png\0",
    );
    assert_eq!(ran.ends_with(0).images(), ["b.png", "a.png"]);
    let bytes = fs::read(room.path("a.png")).unwrap();
    let record = room
        .longclip_with_stdin(&["embed", "-m", small::model(), "-"], &bytes)
        .record();
    assert_eq!(record["image"], "-");
    assert!(record.get("mtime_ns").is_none());
}

#[cfg(unix)]
#[test]
fn a_name_that_is_not_utf8_is_kept_in_every_format() {
    use std::os::unix::ffi::OsStrExt;
    let room = Room::new();
    room.image(std::path::Path::new("p").join(std::ffi::OsStr::from_bytes(b"\xff\n.png")));
    for output in OUTPUTS {
        embed(&room, &["p", "-o", output]).ends_with(0);
        let ran = super::search(&room, &[output, "x"]).ends_with(0);
        assert_eq!(
            ran.record()["hits"][0]["image_bytes"],
            "cC//Ci5wbmc=",
            "{output}"
        );
        // The row is found again by its exact bytes.
        embed(&room, &["p", "-o", output, "--resume", "-v"])
            .ends_with(0)
            .says(&["1 rows of earlier runs"]);
    }
}

#[test]
fn wrong_uses_are_refused_before_a_model_is_fetched() {
    let room = Room::with(&["a.png"]);
    room.file("t.txt", "x");
    let missing = &["embed", "-m", "no-such-model"];
    for (arguments, message) in [
        (
            &["a.png", "-o", "o.csv"][..],
            "must end in .npy, .safetensors, .parquet or .jsonl",
        ),
        (&["a.png", "-o", "none/o.npy"], "does not exist"),
        (&["a.png", "--text", "x"], "cannot share a file"),
        (&[], "nothing to embed"),
        (&["--texts", "none.txt"], "cannot read none.txt"),
        (
            &["--texts", "t.txt", "-o", "t.npy", "--text", "x"],
            "cannot be used with",
        ),
        (&["a.png", "--resume"], "--output"),
    ] {
        room.longclip(&[missing, arguments].concat(), &[])
            .ends_with(2)
            .says(&[message]);
    }
    room.file("o.paths.jsonl", "a text\n");
    room.longclip(
        &[
            "embed",
            "-m",
            "x",
            "--texts",
            "o.paths.jsonl",
            "-o",
            "o.npy",
        ],
        &[],
    )
    .ends_with(2)
    .says(&["is also an input"]);
}

#[test]
fn a_run_without_results_keeps_the_old_file() {
    let room = Room::with(&["a.png"]);
    room.broken("bad.png");
    embed(&room, &["a.png", "-o", "o.npy"]).ends_with(0);
    let before = super::contents(&room, "o.");
    embed(&room, &["bad.png", "-o", "o.npy"])
        .ends_with(2)
        .says(&["o.npy was not written"]);
    assert_eq!(super::contents(&room, "o."), before);
    std::fs::create_dir(room.path("empty")).unwrap();
    for more in [&[][..], &["--resume"]] {
        embed(&room, &[&["empty", "-o", "o.npy"], more].concat())
            .ends_with(0)
            .says(&["nothing to embed", "o.npy was not written"]);
        assert_eq!(super::contents(&room, "o."), before);
    }
}
