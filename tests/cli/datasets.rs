//! Common dataset layouts: those that are read, those that are refused, and the messages.

use crate::room::{Ran, Room};
use crate::small;

/// Four classes of two images each in `data`.
fn dataset() -> Room {
    let room = Room::new();
    for class in CLASSES {
        for number in 0..2 {
            room.image(format!("data/{class}/{number}.png"));
        }
    }
    room
}

const CLASSES: [&str; 4] = ["penguin", "heart", "sun", "star"];

fn evaluate(room: &Room, arguments: &[&str]) -> Ran {
    let fixed = ["evaluate", "--model", small::model(), "--format", "json"];
    room.longclip(&[&fixed, arguments].concat(), &[])
}

/// How many images were evaluated.
fn count(ran: &Ran) -> u64 {
    let found: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    found["n"].as_u64().unwrap()
}

/// A table of the images of `data`, with a text for each class.
fn table(header: &str, separator: &str, label: impl Fn(usize) -> String) -> String {
    let mut rows = format!("{header}\n");
    for (place, class) in CLASSES.iter().enumerate() {
        for number in 0..2 {
            rows += &format!("data/{class}/{number}.png{separator}{}\n", label(place));
        }
    }
    rows
}

#[test]
fn folders_that_are_splits_are_refused_in_every_command() {
    let room = Room::new();
    for split in ["Training", "Testing"] {
        for class in ["penguin", "heart"] {
            room.image(format!("data/{split}/{class}/0.png"));
        }
    }
    let advice = "pass one of them, such as data/Testing";
    let model = small::model();
    let commands: [&[&str]; 3] = [
        &["evaluate", "data", "--model", model],
        &["calibrate", "data", "--model", model, "-o", "c.json"],
        &["probe", "data", "--model", model, "--out", "p.safetensors"],
    ];
    for command in commands {
        room.longclip(command, &[]).ends_with(2).says(&[advice]);
    }
}

#[test]
fn system_folders_are_skipped_in_every_walk() {
    let room = dataset();
    room.image("data/sun/@eaDir/0.png/thumb.png");
    room.image("data/$RECYCLE.BIN/x.png");
    let ran = evaluate(&room, &["data", "-v"]).ends_with(0);
    assert_eq!(count(&ran), 8);
    let said = "skipped 2 system folders ($RECYCLE.BIN, @eaDir)";
    ran.says(&[said]);
    let model = small::model();
    let arguments = [
        "classify", "data", "--labels", "a", "b", "--model", model, "-v",
    ];
    let ran = room.longclip(&arguments, &[]).ends_with(0);
    assert_eq!(ran.records().len(), 8);
    ran.says(&[said]);
    let named = [
        "classify",
        "data/sun/@eaDir",
        "--labels",
        "a",
        "b",
        "--model",
        model,
    ];
    assert_eq!(room.longclip(&named, &[]).ends_with(0).records().len(), 1);
}

#[test]
fn class_numbers_stand_for_labels_in_their_order() {
    let room = dataset();
    room.file("labels.txt", CLASSES.join("\n"));
    room.file(
        "int.csv",
        table("path,label", ",", |class| class.to_string()),
    );
    room.file(
        "float.csv",
        table("path,label", ",", |class| format!("{class}.0")),
    );
    let json = table("", "\t", |class| class.to_string());
    let lines: String = json
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once('\t'))
        .map(|(path, label)| format!("{{\"path\": \"{path}\", \"label\": {label}}}\n"))
        .collect();
    room.file("int.jsonl", lines);
    for file in ["int.csv", "float.csv", "int.jsonl"] {
        let ran = evaluate(&room, &[file, "--labels-file", "labels.txt"]).ends_with(0);
        assert_eq!(count(&ran), 8);
        ran.says(&[
            "matched to the labels in order, from 0",
            "\"0\" is \"penguin\"",
        ]);
    }
    room.file(
        "one.csv",
        table("path,label", ",", |class| (class + 1).to_string()),
    );
    evaluate(&room, &["one.csv", "--labels-file", "labels.txt"])
        .ends_with(2)
        .says(&["numbers from 1 to 4, but the 4 labels are numbered from 0 to 3"]);
    evaluate(&room, &["int.csv", "--labels-file", "eurosat"])
        .ends_with(2)
        .says(&["eurosat may not be in the order"]);
    evaluate(&room, &["int.csv"])
        .ends_with(0)
        .says(&["the classes are numbers"]);
}

#[test]
fn tables_of_spreadsheets_are_read() {
    let room = dataset();
    let utf16 = |text: &str| -> Vec<u8> {
        let units = format!("\u{feff}{text}");
        units.encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    let comma = table("path,label", ",", |class| CLASSES[class].to_owned());
    let backslashes = comma.replace('/', "\\");
    let files: [(&str, Vec<u8>); 5] = [
        ("semicolon.csv", comma.replace(',', ";").into()),
        ("tab.csv", comma.replace(',', "\t").into()),
        ("utf16.csv", utf16(&comma)),
        (
            "empty.csv",
            format!("{},,\n,,,\n", comma.replace('\n', ",,\n")).into(),
        ),
        ("backslashes.csv", backslashes.into()),
    ];
    for (name, content) in files {
        room.file(name, content);
        let ran = evaluate(&room, &[name]).ends_with(0);
        assert_eq!(count(&ran), 8, "{name}");
    }
    let multi = comma.replace(",heart", ",heart;sun");
    room.file("multi.csv", &multi);
    evaluate(&room, &["multi.csv"])
        .ends_with(2)
        .says(&["\"heart;sun\" holds several labels (heart, sun)"]);
}

#[test]
fn built_in_sets_know_the_folders_of_their_data_sets() {
    let sets: [(&str, &[&str]); 9] = [
        (
            "eurosat",
            &["AnnualCrop", "SeaLake", "HerbaceousVegetation"],
        ),
        ("ucf101", &["ApplyEyeMakeup", "HandstandPushups", "YoYo"]),
        ("gtsrb", &["00000", "00014", "00042"]),
        ("flowers102", &["1", "21", "102"]),
        ("fer2013", &["disgust", "fear", "surprise"]),
        ("country211", &["AD", "XK", "ZW"]),
        ("caltech101", &["Faces", "Faces_easy", "yin_yang"]),
        ("pcam", &["0", "1"]),
        ("sun397", &["abbey", "apse_indoor"]),
    ];
    for (set, folders) in sets {
        let room = Room::new();
        for folder in folders {
            room.image(format!("data/{folder}/0.png"));
        }
        let ran = evaluate(&room, &["data", "--labels-file", set]).ends_with(0);
        assert_eq!(count(&ran), folders.len() as u64, "{set}");
    }
}

#[test]
fn folder_names_become_words_and_compare_in_one_normal_form() {
    let room = Room::new();
    for folder in ["001.Black_footed_Owl", "002.McLaren", "003.AnnualCrop"] {
        room.image(format!("data/{folder}/0.png"));
    }
    let ran = evaluate(&room, &["data", "--out", "out"]).ends_with(0);
    ran.says(&["folder names are read as words"]);
    let confusion = room.read("out/confusion.csv");
    assert!(
        confusion.starts_with(",Black footed Owl,McLaren,Annual Crop\n"),
        "{confusion}"
    );

    let room = Room::new();
    room.image("data/corazo\u{301}n/0.png");
    room.image("data/pingu\u{308}ino/0.png");
    room.file("labels.txt", "pingüino\ncoraz\u{f3}n\n");
    let ran = evaluate(&room, &["data", "--labels-file", "labels.txt"]).ends_with(0);
    assert_eq!(count(&ran), 2);
}

#[test]
fn the_hubs_folders_and_coops_splits_are_read() {
    let room = dataset();
    room.file(
        "hub/metadata.jsonl",
        "{\"file_name\": \"../data/sun/0.png\", \"label\": \"sun\"}\n\
         {\"file_name\": \"../data/star/0.png\", \"label\": \"star\"}\n",
    );
    let ran = evaluate(&room, &["hub"]).ends_with(0);
    assert_eq!(count(&ran), 2);
    ran.says(&["labels are read from hub/metadata.jsonl"]);

    room.file(
        "split_zhou_X.json",
        r#"{"train": [["sun/0.png", 0, "sun"]], "test": [["sun/1.png", 0, "sun"], ["star/1.png", 1, "star"]]}"#,
    );
    let ran = evaluate(&room, &["split_zhou_X.json", "--images", "data"]).ends_with(0);
    assert_eq!(count(&ran), 2);
    ran.says(&["using the split test (available: train, test)"]);
    evaluate(
        &room,
        &["split_zhou_X.json", "--images", "data", "--split", "dev"],
    )
    .ends_with(2)
    .says(&["no split \"dev\"; it has train, test"]);
    evaluate(&room, &["data", "--images", "data"])
        .ends_with(2)
        .says(&["apply to files that list images"]);
}

#[test]
fn lists_of_captions_are_read_as_they_are_published() {
    let room = dataset();
    let caption = |class: usize| format!("a drawing of a {}", CLASSES[class]);
    let lines = |text: String, of: fn(&str, &str) -> String| -> String {
        let rows = text
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once('\t'));
        rows.map(|(path, text)| of(path, text)).collect()
    };
    let rows = || table("", "\t", caption);
    let token = lines(rows(), |path, text| format!("{path}#0\t{text}\n"));
    let bars = lines(rows(), |path, text| format!("{path}| 0| {text}\n"));
    let json = lines(rows(), |path, text| {
        format!("{{\"image\": \"{path}\", \"caption\": [\"{text}\", \"more\"]}}\n")
    });
    let by_path = lines(rows(), |path, text| format!(",\"{path}\": [\"{text}\"]"));
    let files = [
        ("captions.txt", table("image,caption", ",", caption), 8),
        ("Flickr8k.token.txt", token, 8),
        (
            "results.csv",
            format!("image_name| comment_number| comment\n{bars}"),
            8,
        ),
        ("captions.jsonl", json, 16),
        ("paths.json", format!("{{{}}}", &by_path[1..]), 8),
    ];
    for (name, content, texts) in files {
        room.file(name, content);
        let ran = evaluate(&room, &[name, "--task", "retrieval"]).ends_with(0);
        let found: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(found["texts"], texts, "{name}");
    }
}

#[test]
fn archives_without_images_are_refused() {
    let room = Room::new();
    room.file("shard.tar", [0; 1024]);
    room.file("set.zip", "PK");
    for (name, way) in [
        ("shard.tar", "has no images"),
        ("set.zip", "not a zip archive"),
    ] {
        evaluate(&room, &[name]).ends_with(2).says(&[name, way]);
    }
    // Archives next to class folders do no harm.
    for class in ["sun", "star"] {
        room.image(format!("data/{class}/0.png"));
    }
    room.file("data/original.tar", [0; 1024]);
    assert_eq!(count(&evaluate(&room, &["data"]).ends_with(0)), 2);
    evaluate(&room, &["shard.tar", "--task", "retrieval"])
        .ends_with(2)
        .says(&["which only finetune reads"]);
}
