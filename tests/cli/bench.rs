//! `longclip bench` with a small model: what it prints, not how fast it is.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

use crate::small;

/// A run of one repeat a figure on a small model.
fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("longclip").expect("cargo built it");
    command.args([
        "bench",
        "--model",
        small::model(),
        "--threads",
        "2",
        "--repeats",
        "1",
    ]);
    command.args(arguments).env_remove("LONGCLIP_MODEL");
    command
}

fn json(arguments: &[&str]) -> Value {
    let output = bench(arguments)
        .args(["--format", "json"])
        .assert()
        .success();
    serde_json::from_slice(&output.get_output().stdout).expect("one JSON object on stdout")
}

#[test]
fn every_figure_is_there_and_positive() {
    let report = json(&["--precision", "f32"]);
    let figures = [
        "load_ms",
        "image_b1_ms",
        "image_b16_ms",
        "labels2_ms",
        "labels10_ms",
        "labels100_ms",
        "labels1000_ms",
        "labels10_full_context_ms",
        "folder_images_per_s",
    ];
    for key in figures {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
    crate::schema::assert_fits(std::slice::from_ref(&report), "bench");
    assert_eq!(report["model"], small::model());
    assert_eq!(report["precision"], "f32");
    assert_eq!(report["threads"], 2);
    assert_eq!(report["folder_images"], 32);
    assert!(report["cpu_features"][0].is_string(), "{report}");
    assert_eq!(
        report["image_cosine_to_f32"],
        Value::Null,
        "f32 is not compared with itself"
    );
    for key in ["peak_rss_mib", "peak_anonymous_mib"] {
        if cfg!(target_os = "linux") {
            assert!(report[key].as_f64().unwrap() > 1.0, "{key}: {report}");
        } else {
            assert!(report.get(key).is_some(), "{key}: {report}");
        }
    }
}

#[test]
fn a_lower_precision_is_compared_with_f32() {
    let report = json(&["--precision", "int8-fast"]);
    assert_eq!(report["precision"], "int8-fast");
    for key in ["image_cosine_to_f32", "text_cosine_to_f32"] {
        let cosine = report[key].as_f64().unwrap();
        assert!((0.9..1.0).contains(&cosine), "{key}: {cosine}");
    }
}

#[test]
fn a_users_labels_and_images_replace_the_made_ones() {
    let folder = tempfile::tempdir().unwrap();
    let labels = folder.path().join("labels.txt");
    fs::write(&labels, "a cat\na dog\na bear\n").unwrap();
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image/base.jpg");
    fs::copy(image, folder.path().join("a.jpg")).unwrap();
    fs::write(folder.path().join("b.jpg"), "no image").unwrap();
    let (folder, labels) = (folder.path().to_str().unwrap(), labels.to_str().unwrap());
    let report = json(&["--labels-file", labels, "--images", folder]);
    assert!(report["labels2_ms"].is_number(), "{report}");
    assert!(report["labels10_ms"].is_null(), "{report}");
    assert_eq!(report["folder_images"], 1);
    assert_eq!(report["folder"], folder);
}

#[test]
fn parts_can_be_left_out() {
    let report = json(&["--only", "texts,loss", "--precision", "bf16"]);
    for key in ["load_ms", "labels10_ms", "text_cosine_to_f32"] {
        assert!(report[key].is_number(), "{key}: {report}");
    }
    for key in [
        "image_b1_ms",
        "image_b16_ms",
        "folder",
        "folder_images_per_s",
    ] {
        assert_eq!(report.get(key), Some(&Value::Null), "{key}: {report}");
    }
}

#[test]
fn the_table_is_for_people() {
    let output = bench(&["--format", "table", "--quiet"]).assert().success();
    let output = output.get_output();
    let table = String::from_utf8(output.stdout.clone()).unwrap();
    for part in [
        small::model(),
        "image tower, 16 images together",
        " ms ",
        " images/s",
        "2 threads",
    ] {
        assert!(table.contains(part), "{part}\n{table}");
    }
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn what_cannot_be_measured_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    let cases = [
        (["--images", empty], "no image in"),
        (["--labels-file", "no such file"], "no such file"),
        (["--precision", "f16"], "f16"),
    ];
    for (arguments, part) in cases {
        let output = bench(&arguments).assert().code(2);
        let output = output.get_output();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains(part), "{message}");
        assert!(output.stdout.is_empty());
    }
}
