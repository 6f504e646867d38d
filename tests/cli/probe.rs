//! `longclip probe`, and its file in `classify` and `evaluate`. Tests write embeddings of their own
//! where those of a model do not matter.

use serde_json::{Value, json};

use crate::room::{Ran, Room};
use crate::small;

/// Arguments, and parts of the error.
type Refusal<'a> = (&'a [&'a str], &'a [&'a str]);

/// Paths with embeddings.
pub(crate) type Rows = Vec<(String, Vec<f32>)>;

const COLOURS: [(&str, [u8; 3]); 3] = [
    ("dark_red", [120, 10, 20]),
    ("green", [20, 200, 40]),
    ("pale-blue", [170, 190, 250]),
];

/// Class folders of plain images, each of a slightly different shade.
pub(crate) fn dataset(room: &Room, folder: &str, count: u8) {
    for (class, colour) in COLOURS {
        for number in 0..count {
            let shade = colour.map(|part| image::Rgb([part; 3]).0[0].saturating_add(number * 3));
            let image = image::RgbImage::from_fn(32, 32, |x, y| {
                image::Rgb(shade.map(|part| part.saturating_add((x * y % 7) as u8)))
            });
            let mut bytes = std::io::Cursor::new(Vec::new());
            image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
            room.file(format!("{folder}/{class}/{number}.png"), bytes.into_inner());
        }
    }
}

pub(crate) fn longclip(room: &Room, command: &str, arguments: &[&str]) -> Ran {
    room.longclip(
        &[&[command, "--model", small::model()], arguments].concat(),
        &[],
    )
}

pub(crate) fn probe(room: &Room, arguments: &[&str]) -> Ran {
    longclip(room, "probe", &[&["--format", "json"], arguments].concat())
}

pub(crate) fn results(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap()
}

/// A file as embed writes it: paths with unit vectors.
pub(crate) fn embedded(rows: &[(String, Vec<f32>)], model: &str) -> String {
    let mut lines = String::new();
    for (path, embedding) in rows {
        let line = json!({
            "image": path, "width": 1, "height": 1, "embedding": embedding,
            "model": format!("{model}@{}", "ab".repeat(32)), "precision": "f32",
            "settings": "device=cpu activation=gelu", "version": "1",
        });
        lines += &format!("{line}\n");
    }
    lines
}

/// `count` vectors of each class around an axis of its own, in `root`.
pub(crate) fn clusters(root: &str, classes: usize, count: usize, seed: u64) -> Rows {
    let mut random = seed;
    let mut next = || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695);
        (random >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut rows = Vec::new();
    for at in 0..classes * count {
        let class = at % classes;
        let mut row: Vec<f32> = (0..8).map(|_| 0.9 * next()).collect();
        row[class] += 1.0;
        let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        row.iter_mut().for_each(|v| *v /= length);
        rows.push((format!("{root}/class{class}/{at}.png"), row));
    }
    rows
}

#[test]
fn a_probe_of_images_classifies_images() {
    let room = Room::new();
    dataset(&room, "train", 8);
    dataset(&room, "test", 3);
    let ran = probe(
        &room,
        &["train", "--test", "test", "--out", "p.safetensors"],
    )
    .ends_with(0);
    let found = results(&ran);
    assert_eq!(found["acc1"], 1.0, "{found}");
    assert_eq!(
        (&found["scored_on"], &found["n"]),
        (&json!("test"), &json!(9))
    );
    assert_eq!(found["pictures"]["fitted"], 24);
    assert_eq!(found["pictures"]["validation"], 6);
    // The model is opened, so zero-shot accuracy is measured.
    assert_eq!(found["zero_shot"]["n"], 9);

    let ran = longclip(
        &room,
        "classify",
        &["test", "--probe", "p.safetensors", "-f", "jsonl"],
    );
    let lines: Vec<Value> = (ran.ends_with(0).out.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 9);
    for line in &lines {
        let folder = line["image"].as_str().unwrap().split('/').nth(1).unwrap();
        let predictions = line["predictions"].as_array().unwrap();
        // Names of folders become words.
        assert_eq!(predictions[0]["label"], folder.replace(['_', '-'], " "));
        let sum: f64 = predictions
            .iter()
            .map(|one| one["probability"].as_f64().unwrap())
            .sum();
        assert!((sum - 1.0).abs() < 1e-5);
        assert!(predictions.iter().all(|one| one.get("cosine").is_none()));
        assert!(predictions[0]["logit"].as_f64() > predictions[1]["logit"].as_f64());
    }
    let ran = longclip(
        &room,
        "evaluate",
        &["test", "--probe", "p.safetensors", "-f", "json"],
    );
    let figures = results(&ran.ends_with(0));
    assert_eq!(
        (&figures["acc1"], &figures["ece"]),
        (&found["acc1"], &found["ece"])
    );
    assert_eq!(figures["labels"]["source"], "p.safetensors");

    let ran = longclip(
        &room,
        "classify",
        &[
            "test/green",
            "--probe",
            "p.safetensors",
            "-f",
            "csv",
            "-k",
            "1",
        ],
    );
    let row = ran.ends_with(0).out.lines().nth(1).unwrap().to_owned();
    assert!(
        row.starts_with("test/green/0.png,green,0.") && row.ends_with(",,1,"),
        "{row}"
    );
}

#[test]
fn embedded_images_give_the_same_probe_as_the_images_whatever_the_threads() {
    let room = Room::new();
    dataset(&room, "train", 6);
    longclip(&room, "embed", &["train", "-o", "train.npy"]).ends_with(0);
    let fixed = ["--l2", "0.5", "--labels", "green", "dark red", "pale blue"];
    for (data, out, threads) in [
        ("train", "a.safetensors", "1"),
        ("train", "b.safetensors", "3"),
        ("train.npy", "c.safetensors", "2"),
    ] {
        let rest = [data, "--out", out, "--threads", threads];
        probe(&room, &[&rest[..], &fixed].concat()).ends_with(0);
    }
    let bytes = |name| std::fs::read(room.path(name)).unwrap();
    assert!(bytes("a.safetensors") == bytes("b.safetensors"));
    let numbers = |name| {
        let bytes = bytes(name);
        let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert!(numbers("a.safetensors") == numbers("c.safetensors"));
}

#[test]
fn shots_are_drawn_and_reported_with_their_deviation() {
    let room = Room::new();
    room.file("train.jsonl", embedded(&clusters("a/train", 5, 20, 1), "m"));
    room.file("test.jsonl", embedded(&clusters("b/test", 5, 40, 2), "m"));
    let shots = ["--shots", "4,1,2,40", "--seeds", "3"];
    let arguments = [&["train.jsonl", "--test", "test.jsonl"][..], &shots].concat();
    let ran = probe(&room, &arguments).ends_with(0);
    let ran = ran.says(&[
        "--shots 40: 5 of 5 classes have fewer training images",
        "the probe was not saved",
    ]);
    let found = results(&ran);
    let rows = found["shots"].as_array().unwrap();
    let of = |key: &str| -> Vec<Value> { rows.iter().map(|row| row[key].clone()).collect() };
    assert_eq!(of("shots"), [1, 2, 4, 40]);
    assert_eq!(of("smaller_classes"), [0, 0, 0, 5]);
    let sizes = rows
        .iter()
        .map(|row| row["draws"][0]["train"].as_u64().unwrap());
    assert_eq!(sizes.collect::<Vec<_>>(), [5, 10, 20, 80]);
    for row in rows {
        let draws = row["draws"].as_array().unwrap();
        let sum: f64 = draws
            .iter()
            .map(|draw| draw["acc1"].as_f64().unwrap())
            .sum();
        assert!((sum / 3.0 - row["mean"].as_f64().unwrap()).abs() < 1e-12);
        assert!(row["deviation"].as_f64().unwrap() >= 0.0);
    }
    assert!(rows[3]["mean"].as_f64() > rows[0]["mean"].as_f64());
    assert!(found["acc1"].as_f64().unwrap() > 0.9 && found.get("zero_shot").is_none());
    assert_eq!(
        probe(&room, &arguments).out,
        ran.out,
        "the same draws again"
    );
    // The same as rows.
    let ran = longclip(
        &room,
        "probe",
        &[&arguments[..], &["--format", "csv"]].concat(),
    );
    let table = ran.ends_with(0).out;
    assert_eq!(table.lines().count(), 1 + 12 + 1);
    assert!(table.starts_with("classifier,shots,seed,train,acc1,l2,blend,alpha,beta\n"));
    let ran = longclip(
        &room,
        "probe",
        &[&arguments[..], &["--format", "table"]].concat(),
    );
    for part in [
        "4 images per class",
        "±",
        "over 3 draws",
        "(±: standard deviation)",
        "lowest recall",
    ] {
        assert!(ran.out.contains(part), "{}", ran.out);
    }
}

#[test]
fn a_probe_starts_from_texts_and_blends_with_them() {
    let room = Room::new();
    dataset(&room, "train", 6);
    dataset(&room, "test", 2);
    let fixed = ["train", "--test", "test", "--template", "a plain {} square"];
    let run = |more: &[&str]| results(&probe(&room, &[&fixed, more].concat()).ends_with(0));
    let zero_shot = run(&[])["zero_shot"]["acc1"].clone();
    // With an extreme penalty, or blended fully, it is the zero-shot classifier.
    assert_eq!(
        run(&["--init", "zero-shot", "--l2", "1e12"])["acc1"],
        zero_shot
    );
    assert_eq!(run(&["--blend", "0"])["acc1"], zero_shot);
    let auto = run(&["--init", "zero-shot", "--blend", "auto"]);
    assert_eq!(auto["shares"].as_array().unwrap().len(), 21);
    assert_eq!(auto["labels"]["templates"], "a plain {} square");
    let tip = [
        "--method",
        "tip-adapter",
        "--out",
        "t.safetensors",
        "--shots",
        "1,2",
    ];
    let tip = run(&tip);
    assert!(tip["alpha"].is_number() && tip["beta"].is_number() && tip.get("l2").is_none());
    let ran = longclip(
        &room,
        "evaluate",
        &["test", "--probe", "t.safetensors", "-f", "json"],
    );
    assert_eq!(results(&ran.ends_with(0))["acc1"], tip["acc1"]);
}

#[test]
fn a_list_gives_the_classes_of_embedded_images() {
    let room = Room::new();
    let mut rows = clusters("x", 2, 10, 3);
    let mut list = "path,label\n".to_owned();
    for (at, (path, _)) in rows.iter_mut().enumerate() {
        *path = format!("loose/{at}.png");
        if at != 7 {
            list += &format!("{path},{}\n", ["ox", "emu"][at % 2]);
        }
    }
    room.file("all.jsonl", embedded(&rows, "m"));
    room.file("list.csv", list);
    let ran = probe(&room, &["all.jsonl"]).ends_with(2);
    ran.says(&[
        "cannot derive classes",
        "loose/0.png is not in a class folder",
        "--labels-from",
    ]);
    let ran = probe(&room, &["all.jsonl", "--labels-from", "list.csv"]).ends_with(0);
    let ran = ran.says(&["1 of 20 images in all.jsonl have no label in list.csv"]);
    let found = results(&ran);
    assert_eq!(
        (&found["classes"], &found["pictures"]["fitted"]),
        (&json!(2), &json!(19))
    );
    assert_eq!(found["scored_on"], "validation");
    // The scored probe was trained only on the other images.
    let csv = ["all.jsonl", "--labels-from", "list.csv", "--format", "csv"];
    let table = longclip(&room, "probe", &csv).ends_with(0).out;
    let train = &found["pictures"]["train"];
    let row = format!("probe,,,{train},");
    assert!(
        *train == json!(15) && table.lines().any(|line| line.starts_with(&row)),
        "{table}"
    );
    room.file("other.csv", "path,label\nelse.png,ox\n");
    let ran = probe(&room, &["all.jsonl", "--labels-from", "other.csv"]).ends_with(2);
    ran.says(&["other.csv lists none of the images of all.jsonl"]);
}

#[test]
fn unusable_training_data_is_refused_with_the_reason() {
    let room = Room::new();
    let good = clusters("a", 3, 6, 4);
    let changed = |change: &dyn Fn(&mut Rows)| {
        let mut rows = good.clone();
        change(&mut rows);
        embedded(&rows, "m")
    };
    room.file("good.jsonl", embedded(&good, "m"));
    room.file("long.jsonl", changed(&|rows| rows[4].1[0] = 3.0));
    dataset(&room, "images", 2);
    longclip(&room, "embed", &["images", "-o", "nan.safetensors"]).ends_with(0);
    let mut numbers = std::fs::read(room.path("nan.safetensors")).unwrap();
    let header = u64::from_le_bytes(*numbers.first_chunk().unwrap()) as usize;
    numbers[8 + header..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let numbers = without_checksum(numbers);
    room.file("nan.safetensors", numbers);
    room.file("one.jsonl", changed(&|rows| rows.truncate(1)));
    room.file("singles.jsonl", changed(&|rows| rows.truncate(3)));
    room.file("other.jsonl", embedded(&clusters("b", 4, 6, 5), "m"));
    let wide: Vec<_> = good
        .iter()
        .map(|(path, row)| (path.clone(), [&row[..], &[0.0]].concat()))
        .collect();
    room.file("wide.jsonl", embedded(&wide, "m"));
    longclip(
        &room,
        "embed",
        &["--text", "a cat", "a dog", "-o", "texts.npy"],
    )
    .ends_with(0);
    room.file("empty/cat/notes.txt", "x");
    room.file("single/cat/a.png", crate::room::png("a"));
    let cases: [Refusal<'_>; 15] = [
        (
            &["long.jsonl"],
            &["cannot use row 4 of long.jsonl", "has norm"],
        ),
        (
            &["nan.safetensors"],
            &["cannot use row 0 of nan.safetensors (images/", "is NaN"],
        ),
        (&["one.jsonl"], &["cannot derive classes"]),
        (
            &["singles.jsonl"],
            &["no class of singles.jsonl has two images", "--val DATA"],
        ),
        (
            &["good.jsonl", "--test", "other.jsonl"],
            &["class3", "omit it"],
        ),
        (
            &["good.jsonl", "--test", "wide.jsonl"],
            &["8 features", "9 features", "same model"],
        ),
        (&["texts.npy"], &["holds embeddings of texts"]),
        (&["empty"], &["no images in the folders of empty"]),
        (&["single"], &["images of only one class (\"cat\")"]),
        (&["nowhere.npy"], &["nowhere.npy does not exist"]),
        (&["nowhere"], &["nowhere does not exist"]),
        (
            &["good.jsonl", "--test", "./good.jsonl"],
            &["is the training data"],
        ),
        (
            &["good.jsonl", "--val-split", "1"],
            &["--val-split 1 is out of range"],
        ),
        (
            &["good.jsonl", "--method", "tip-adapter", "--l2", "1"],
            &["do not apply to --method tip-adapter"],
        ),
        (
            &["good.jsonl", "--init", "zero-shot"],
            &["good.jsonl was made with model m"],
        ),
    ];
    for (arguments, parts) in cases {
        let all = [arguments, &["--out", "p.safetensors"]].concat();
        let ran = probe(&room, &all).ends_with(2).says(parts);
        assert!(
            !room.path("p.safetensors").exists() && ran.out.is_empty(),
            "{arguments:?}"
        );
    }
    probe(&room, &["good.jsonl", "--out", "good.jsonl"]).ends_with(2);
    for odd in ["0", "-1", "inf", "strong"] {
        probe(&room, &["good.jsonl", "--l2", odd]).ends_with(2);
    }
    // A class with one image is still trained on.
    room.file(
        "few.jsonl",
        changed(&|rows| {
            rows.retain(|(path, _)| !path.contains("class2/") || path.ends_with("/2.png"));
        }),
    );
    let ran = probe(&room, &["few.jsonl"]).ends_with(0);
    ran.says(&["1 of 3 classes have only one image, such as \"class2\""]);
}

#[test]
fn failed_images_are_reported_and_the_rest_is_used() {
    let room = Room::new();
    dataset(&room, "train", 4);
    room.broken("train/green/9.png");
    let ran = probe(&room, &["train", "--out", "p.safetensors"]).ends_with(1);
    let ran = ran.says(&["train/green/9.png"]);
    assert_eq!(results(&ran)["pictures"]["failed"], 1);
    assert!(room.path("p.safetensors").exists());
    room.broken("other/cat/a.png");
    room.image("other/dog/b.png");
    let ran = probe(&room, &["other"]).ends_with(2);
    ran.says(&["none of the images of the class \"cat\" in other could be read"]);
}

/// A file with another key for its checksum, as of a program that writes none.
fn without_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let key = b"crc32\"";
    let at = bytes.windows(key.len()).position(|window| window == key);
    bytes[at.unwrap()] = b'x';
    bytes
}

#[test]
fn a_probe_that_does_not_fit_is_refused() {
    let room = Room::with(&["c.png"]);
    room.file(
        "train.jsonl",
        embedded(&clusters("a", 3, 6, 4), "some-model"),
    );
    probe(&room, &["train.jsonl", "--out", "p.safetensors"]).ends_with(0);
    let classify = |more: &[&str]| longclip(&room, "classify", &[&["c.png"], more].concat());
    let asked = ["--probe", "p.safetensors"];
    classify(&asked)
        .ends_with(2)
        .says(&["p.safetensors was made with model some-model"]);
    classify(&[&asked[..], &["--labels", "a", "b"]].concat())
        .ends_with(2)
        .says(&["--probe", "cannot be used with"]);
    classify(&[&asked[..], &["--score", "cosine"]].concat())
        .ends_with(2)
        .says(&["a probe has none"]);
    let whole = std::fs::read(room.path("p.safetensors")).unwrap();
    for length in [0, 5, 100, whole.len() - 1] {
        room.file("cut.safetensors", &whole[..length]);
        classify(&["--probe", "cut.safetensors"])
            .ends_with(2)
            .says(&["cannot use the probe cut.safetensors"]);
    }
    let mut nan = whole.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    room.file("changed.safetensors", &nan);
    classify(&["--probe", "changed.safetensors"])
        .ends_with(2)
        .says(&["changed or damaged"]);
    room.file("nan.safetensors", without_checksum(nan));
    classify(&["--probe", "nan.safetensors"])
        .ends_with(2)
        .says(&["holds NaN"]);
    classify(&["--probe", "nowhere.safetensors"]).ends_with(2);
    longclip(
        &room,
        "evaluate",
        &["c.png", "--probe", "p.safetensors", "--compare", "photo"],
    )
    .ends_with(2);
}

#[test]
fn the_page_shows_accuracy_by_shots_with_the_zero_shot_line() {
    let room = Room::new();
    dataset(&room, "train", 6);
    let arguments = [
        "train", "--shots", "1,2,4", "--seeds", "2", "--report", "p.html",
    ];
    let ran = probe(&room, &arguments).ends_with(0);
    ran.says(&["note: wrote p.html"]);
    let page = room.read("p.html");
    for part in [
        "Accuracy by images per class",
        "<title>Probe: ",
        "<title>All images: ",
        "Choice of the L2 penalty",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains("figures are slightly optimistic"));
    let given = ["train", "--l2", "1", "--report", "given.html"];
    probe(&room, &given).ends_with(0);
    let given = room.read("given.html");
    assert!(given.contains("held-out images.") && !given.contains("slightly optimistic"));
    // It shows the images that it scored: one held out per class.
    assert!(page.contains("Few-shot probe"));
    assert_eq!(
        page.matches("<script type=\"text/plain\" id=\"t").count(),
        3
    );
    // One zero-shot point per number of images.
    assert_eq!(page.matches("<title>Zero-shot: ").count(), 3);
}
