//! How records look: jsonl, json, csv, tsv, table.

use std::path::Path;

use serde_json::Value;

use crate::room::{Room, labels, number, records};
use crate::small;

fn keys(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

fn room() -> Room {
    let room = Room::with(&["a.png", "b.png"]);
    room.broken("broken.png");
    room
}

const IMAGES: [&str; 3] = ["b.png", "broken.png", "a.png"];

fn run(room: &Room, format: &str) -> String {
    let arguments = [&IMAGES, &["-l", "cat", "dog", "-f", format][..]].concat();
    room.classify(&arguments).ends_with(1).out
}

#[test]
fn a_line_of_jsonl_is_one_record_in_input_order() {
    let records = records(&run(&room(), "jsonl"));
    assert_eq!(crate::room::images(&records), IMAGES);
    assert_eq!(keys(&records[0]), ["image", "predictions"]);
    assert_eq!(keys(&records[1]), ["image", "error", "error_kind"]);
    assert_eq!(keys(&records[2]), ["image", "predictions"]);
    let predictions = records[0]["predictions"].as_array().unwrap();
    for prediction in predictions {
        assert_eq!(
            keys(prediction),
            ["label", "probability", "logit", "cosine"]
        );
    }
    assert_ne!(predictions, records[2]["predictions"].as_array().unwrap());
    let error = records[1]["error"].as_str().unwrap();
    assert!(error.contains("ends before"), "{error}");
}

#[test]
fn without_a_terminal_the_default_is_jsonl() {
    let room = room();
    let arguments = [&IMAGES, &["-l", "cat", "dog"][..]].concat();
    assert_eq!(room.classify(&arguments).out, run(&room, "jsonl"));
}

#[test]
fn json_is_one_array_of_the_same_objects() {
    let room = room();
    let array: Vec<Value> = serde_json::from_str(&run(&room, "json")).unwrap();
    assert_eq!(array, records(&run(&room, "jsonl")));
}

#[test]
fn predictions_fall_and_their_probabilities_sum_to_one() {
    let room = Room::with(&["a.png", "b.png", "c.png"]);
    let ran = room.classify(&[".", "-l", "cat", "dog", "a red bus", "snow", "7"]);
    for record in ran.ends_with(0).records() {
        let predictions = record["predictions"].as_array().unwrap();
        assert_eq!(predictions.len(), 5);
        let numbers = |key: &str| -> Vec<f64> {
            let number = |prediction: &Value| prediction[key].as_f64().unwrap();
            predictions.iter().map(number).collect()
        };
        for key in ["probability", "logit", "cosine"] {
            assert!(numbers(key).is_sorted_by(|a, b| a >= b), "{key} {record}");
        }
        let sum: f64 = numbers("probability").iter().sum();
        assert!((sum - 1.0).abs() < 1e-5, "{record}");
        // The built-in model's scale is 100.
        for (logit, cosine) in numbers("logit").iter().zip(numbers("cosine")) {
            assert!((logit - 100.0 * cosine).abs() < 1e-3, "{record}");
            assert!(cosine.abs() <= 1.0);
        }
    }
}

#[test]
fn equal_scores_keep_the_order_of_the_labels() {
    // Texts are read in lower case, so these three are one text to the model.
    let room = Room::with(&["a.png"]);
    for order in [["CAT", "cat", "Cat"], ["Cat", "CAT", "cat"]] {
        let record = room
            .classify(&[&["a.png", "-l"], &order[..]].concat())
            .record();
        assert_eq!(labels(&record), order);
        assert_eq!(
            number(&record, "cat", "probability"),
            number(&record, "CAT", "probability")
        );
    }
}

#[test]
fn labels_appear_as_typed() {
    let room = Room::with(&["a.png"]);
    let typed = [" a  Cat ", "DOG!", "日本", "a \"b\", c"];
    let record = room
        .classify(&[&["a.png", "-l"], &typed[..]].concat())
        .record();
    let mut found = labels(&record);
    found.sort_unstable();
    let mut typed = typed.to_vec();
    typed.sort_unstable();
    assert_eq!(found, typed);
}

#[test]
fn csv_has_a_header_ranks_and_rows_for_errors() {
    let room = room();
    let expected = records(&run(&room, "jsonl"));
    for (format, delimiter) in [("csv", ','), ("tsv", '\t')] {
        let text = run(&room, format);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split(delimiter).collect())
            .collect();
        let header = [
            "image",
            "label",
            "probability",
            "logit",
            "cosine",
            "rank",
            "error",
        ];
        assert_eq!(rows[0], header);
        assert_eq!(rows.len(), 6, "{text}");
        let best = &expected[0]["predictions"][0];
        assert_eq!(rows[1][..2], ["b.png", best["label"].as_str().unwrap()]);
        for (column, key) in [(2, "probability"), (3, "logit"), (4, "cosine")] {
            let number: f32 = rows[1][column].parse().unwrap();
            let same: f32 = best[key].to_string().parse().unwrap();
            assert_eq!(number.to_bits(), same.to_bits(), "{key}");
        }
        let ranks: Vec<&str> = rows[1..].iter().map(|row| row[5]).collect();
        assert_eq!(ranks, ["1", "2", "", "1", "2"]);
        let error = expected[1]["error"].as_str().unwrap();
        assert_eq!(rows[3], ["broken.png", "", "", "", "", "", error]);
    }
}

#[test]
fn csv_quotes_what_needs_it() {
    let room = Room::with(&["a, b.png"]);
    let ran = room.classify(&["a, b.png", "-l", "say \"hi\"", "two\nlines", "-f", "csv"]);
    let csv = ran.ends_with(0).out;
    assert!(csv.contains("\"a, b.png\",\"say \"\"hi\"\"\","), "{csv}");
    assert!(csv.contains("\"a, b.png\",\"two\nlines\","), "{csv}");
    let tsv = room
        .classify(&["a, b.png", "-l", "x\ty", "z", "-f", "tsv"])
        .out;
    assert!(tsv.contains("a, b.png\t\"x\ty\"\t"), "{tsv}");
}

#[test]
fn a_table_shows_image_label_probability_and_a_bar() {
    let room = room();
    let table = run(&room, "table");
    let lines: Vec<&str> = table.lines().collect();
    let record = &records(&run(&room, "jsonl"))[0];
    assert_eq!(lines[0], "b.png");
    for (line, prediction) in lines[1..3]
        .iter()
        .zip(record["predictions"].as_array().unwrap())
    {
        let label = prediction["label"].as_str().unwrap();
        let percent = format!(
            "{:.2}%",
            prediction["probability"].as_f64().unwrap() * 100.0
        );
        assert!(line.starts_with(&format!("  {label}  ")), "{line}");
        assert!(line.contains(&percent), "{line}");
    }
    assert!(lines[1].contains('█'), "{table}");
    assert_eq!(lines[3..5], ["", "broken.png"]);
    assert!(lines[5].starts_with("  error: "), "{table}");
    assert!(!table.contains('\u{1b}'), "colours without a terminal");
}

#[test]
fn formats_are_the_same_in_a_file() {
    let room = room();
    for format in ["jsonl", "json", "csv", "tsv", "table"] {
        let arguments = [
            &IMAGES,
            &["-l", "cat", "dog", "-f", format, "-o", "out"][..],
        ]
        .concat();
        let ran = room.classify(&arguments).ends_with(1);
        assert_eq!(ran.out, "", "stdout is for results only");
        assert_eq!(room.read("out"), run(&room, format));
    }
    assert!(!Path::new(&room.path("out.partial")).exists());
}

/// `script` gives the program a terminal; without it, there is nothing to test.
#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_the_default_is_a_table() {
    let room = Room::with(&["a.png"]);
    let program = env!("CARGO_BIN_EXE_longclip");
    let on_terminal = |arguments: &str| {
        let mut script = std::process::Command::new("script");
        let model = small::model();
        let line = format!("'{program}' classify -m '{model}' a.png -l cat dog {arguments}");
        script
            .args(["-qec", &line, "/dev/null"])
            .current_dir(room.path(""))
            .env_remove("NO_COLOR");
        let output = script.env("TERM", "xterm").output().ok()?;
        Some(String::from_utf8(output.stdout).unwrap())
    };
    if let Some(shown) = on_terminal("") {
        assert!(shown.contains("\u{1b}[1ma.png"), "{shown}");
        assert!(shown.contains('%') && shown.contains('█'), "{shown}");
        let plain = on_terminal("--color never -q").unwrap();
        assert!(plain.starts_with("a.png\r\n"), "{plain:?}");
        assert!(!plain.contains('\u{1b}'), "{plain:?}");
        assert!(
            on_terminal("-q -f jsonl")
                .unwrap()
                .starts_with("{\"image\"")
        );
    }
}

#[test]
fn paths_are_those_of_images_that_a_label_fits() {
    let room = room();
    let list = |more: &[&str]| {
        let arguments = [&IMAGES, &["-l", "cat", "dog", "-f", "paths"][..], more].concat();
        room.classify(&arguments).ends_with(1).out
    };
    assert_eq!(list(&[]), "b.png\na.png\n");
    assert_eq!(list(&["--print0"]), "b.png\0a.png\0");
    assert_eq!(list(&["--threshold", "1"]), "");
    let first = &records(&run(&room, "jsonl"))[0];
    let least = number(first, labels(first)[0], "probability") - 1e-6;
    let least = least.to_string();
    assert!(list(&["--threshold", &least]).starts_with("b.png\n"));
    // An image whose best label is that of none is left out.
    let (best, other) = (labels(first)[0], labels(first)[1]);
    let none = ["b.png", "-l", other, "--none-label", best, "-f", "paths"];
    assert_eq!(room.classify(&none).ends_with(0).out, "");
    room.classify(&["a.png", "-l", "cat", "dog", "--print0"])
        .ends_with(2)
        .says(&["--print0 requires --format paths"]);
}

#[test]
fn tasks_name_files_in_the_working_folder() {
    let room = Room::with(&["x/a b.png", "b.png", "y/c.png"]);
    let whole = room.path("x").canonicalize().unwrap();
    let whole = whole.to_str().unwrap();
    let form = ["-f", "label-studio", "-l", "cat", "dog"];
    let run = |more: &[&str]| {
        let mut command = room.command();
        command.current_dir(room.path("x")).arg("classify");
        command
            .args(["--model", small::model()])
            .args(more)
            .args(form);
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        let [out, said] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), out, said)
    };
    for images in [whole, ".", "../x"] {
        let (code, out, said) = run(&[images, "-o", "tasks.json"]);
        assert_eq!((code, &*out, &*said), (Some(0), "", ""), "{images}");
        let tasks: Value = serde_json::from_str(&room.read("x/tasks.json")).unwrap();
        assert_eq!(tasks.as_array().unwrap().len(), 1);
        assert_eq!(tasks[0]["data"]["image"], "/data/local-files/?d=a%20b.png");
    }
    for (images, cause) in [
        ("../b.png", "not in the working folder"),
        ("-", "from stdin is none"),
    ] {
        let (code, out, said) = run(&[images]);
        assert_eq!((code, &*out), (Some(2), ""), "{said}");
        assert!(said.contains(cause), "{said}");
    }
    room.file("x/list", "../b.png\na b.png\n../y/c.png\n");
    let (code, out, said) = run(&["--files-from", "list"]);
    assert_eq!(code, Some(1), "{said}");
    let tasks: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(tasks.as_array().unwrap().len(), 1);
    assert_eq!(
        said.matches("not in the working folder").count(),
        2,
        "{said}"
    );
}

#[test]
fn parquet_is_written_by_flag_and_by_suffix() {
    let room = room();
    let arguments = [&IMAGES, &["-l", "cat", "dog"][..]].concat();
    for more in [&["-o", "x.parquet"][..], &["-f", "parquet", "-o", "y"]] {
        room.classify(&[&arguments[..], more].concat()).ends_with(1);
    }
    let [x, y] = ["x.parquet", "y"].map(|name| std::fs::read(room.path(name)).unwrap());
    assert!(x == y && x.starts_with(b"PAR1") && x.ends_with(b"PAR1"));
    // tests/answers/read_back.py reads such files with pyarrow, DuckDB and pandas.
}
