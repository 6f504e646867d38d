//! `longclip evaluate --corrupt`, and probes in `--compare`.

use image::{ImageReader, RgbImage};
use serde_json::Value;

use crate::room::Room;
use crate::small;

const CLASSES: [&str; 3] = ["red_fox", "grey-wolf", "cat"];

/// Three classes of four images as large as the model reads, so that nothing is resized.
fn dataset() -> Room {
    let room = Room::new();
    for (class, name) in (0u32..).zip(CLASSES) {
        for number in 0..4 {
            let side = small::SIDE;
            let image = RgbImage::from_fn(side, side, |x, y| {
                let wave = |step: u32| (x * step + y * (class + 2) * 3 + number * 40) as u8;
                image::Rgb([wave(5), wave(3) / 2, 60 * class as u8 + wave(1) / 4])
            });
            let path = room.path(format!("data/{name}/{number}.png"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            image.save(path).unwrap();
        }
    }
    room
}

fn evaluate(room: &Room, arguments: &[&str]) -> Value {
    let fixed = ["evaluate", "--model", small::model(), "--format", "json"];
    let ran = room.longclip(&[&fixed, arguments].concat(), &[]);
    serde_json::from_str(&ran.ends_with(0).out).unwrap()
}

/// A copy of the images with each sample from 0 to 255 changed.
fn changed(room: &Room, folder: &str, change: impl Fn(f64) -> f64) {
    for class in CLASSES {
        std::fs::create_dir_all(room.path(format!("{folder}/{class}"))).unwrap();
        for number in 0..4 {
            let file = |root: &str| room.path(format!("{root}/{class}/{number}.png"));
            let image = ImageReader::open(file("data")).unwrap().decode().unwrap();
            let mut image = image.to_rgb8();
            for sample in image.iter_mut() {
                *sample = (change(f64::from(*sample)).clamp(0.0, 255.0) + 0.5) as u8;
            }
            image.save(file(folder)).unwrap();
        }
    }
}

#[test]
fn corrupted_images_are_counted_as_if_they_were_files() {
    let room = dataset();
    let labels = ["--labels", "red fox", "grey wolf", "cat"];
    let found = evaluate(&room, &[&["data", "--corrupt"], &labels[..]].concat());
    let rows = found["corruptions"].as_array().unwrap();
    assert_eq!(rows.len(), 25);
    let row = |kind: &str, strength: u64| {
        let is = |row: &&Value| row["corruption"] == kind && row["strength"] == strength;
        rows.iter().find(is).unwrap()
    };
    for (strength, plus) in [(1, 25.5), (5, 127.5)] {
        let folder = format!("light{strength}");
        changed(&room, &folder, |sample| sample + plus);
        let files = evaluate(&room, &[&[&folder[..]], &labels[..]].concat());
        for key in ["acc1", "nll", "ece", "n"] {
            let row = &row("brightness", strength)[key];
            assert_eq!(row, &files[key], "{key} at {strength}");
        }
    }
    // The images as they are give the main figures, with the same numbers as without corruptions.
    let plain = evaluate(&room, &[&["data"], &labels[..]].concat());
    for key in ["acc1", "nll", "per_class"] {
        assert_eq!(found[key], plain[key], "{key}");
    }
    assert!(plain.get("corruptions").is_none());
    let cached = [
        "evaluate",
        "--model",
        small::model(),
        "data",
        "--corrupt",
        "--cache",
        "c",
    ];
    room.longclip(&[&cached[..], &labels].concat(), &[])
        .ends_with(0)
        .says(&["the cache is not used"]);
    // Noise depends on the seed alone.
    let again = |more: &[&str]| {
        let fixed = ["data", "--corrupt", "--batch-size", "1", "--threads", "1"];
        evaluate(&room, &[&fixed, more, &labels[..]].concat())
    };
    assert_eq!(again(&[])["corruptions"], found["corruptions"]);
    let other = again(&["--seed", "9"]);
    let noise = |found: &Value| found["corruptions"][2]["nll"].clone();
    assert_ne!(noise(&other), noise(&found));
}

#[test]
fn labels_and_a_probe_are_compared_on_the_same_images() {
    let room = dataset();
    let model = ["--model", small::model()];
    let train = ["probe", "data", "-o", "p.safetensors", "-q"];
    room.longclip(&[&train, &model[..]].concat(), &[])
        .ends_with(0);
    room.file("labels.txt", "red fox\ngrey wolf\ncat\n");
    let compare = ["data", "--compare", "labels.txt", "p.safetensors"];
    let found = evaluate(
        &room,
        &[&compare[..], &["--corrupt", "--report", "page.html"]].concat(),
    );
    let names: Vec<_> = found["compare"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&names[0]["name"], &names[1]["name"]),
        (&"labels.txt".into(), &"p.safetensors".into())
    );
    // Each as on its own.
    let text = evaluate(&room, &["data", "--labels-file", "labels.txt"]);
    let probe = evaluate(&room, &["data", "--probe", "p.safetensors", "--corrupt"]);
    assert_eq!(names[0]["nll"], text["nll"]);
    assert_eq!(names[1]["nll"], probe["nll"]);
    assert_eq!(found["pairs"].as_array().unwrap().len(), 1);
    let rows = found["corruptions"].as_array().unwrap();
    assert_eq!(rows.len(), 50);
    let own: Vec<_> = rows
        .iter()
        .filter(|r| r["run"] == "p.safetensors")
        .collect();
    let alone: Vec<_> = probe["corruptions"].as_array().unwrap().iter().collect();
    assert_eq!(own, alone);
    let page = room.read("page.html");
    assert!(page.contains("Accuracy by corruption strength"));

    let probe_first = [
        "data",
        "--compare",
        "p.safetensors",
        "labels.txt",
        "--summary",
        "s.json",
    ];
    evaluate(&room, &probe_first);
    let summary: Value = serde_json::from_str(&room.read("s.json")).unwrap();
    assert!(summary["probe_sha256"].is_string() && summary.get("labels_sha256").is_none());

    let cut = ["--truncate-sweep", "5"];
    let fixed = ["evaluate", "data", "--compare", "p.safetensors"];
    room.longclip(&[&fixed[..], &cut, &model].concat(), &[])
        .ends_with(2)
        .says(&["p.safetensors", "no texts"]);
    room.longclip(
        &["evaluate", "data", "--task", "retrieval", "--corrupt"],
        &[],
    )
    .ends_with(2)
    .says(&["drop labels"]);
}
