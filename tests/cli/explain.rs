//! `longclip explain`: contributions that sum to the score, maps, pages, and what odd input means.

use serde_json::{Value, json};

use crate::room::{Ran, Room, number, records};
use crate::schema::assert_fits;
use crate::small;
use crate::unpack;

fn run(room: &Room, arguments: &[&str]) -> Ran {
    let all = [&["explain", "--model", small::model()], arguments].concat();
    room.longclip(&all, &[])
}

/// The record of a run that succeeds, which fits the schema and sums to its score.
#[track_caller]
fn record(room: &Room, arguments: &[&str]) -> Value {
    let mut found = records(&run(room, arguments).ends_with(0).out);
    assert_eq!(found.len(), 1);
    assert_fits(&found, "explanation");
    let found = found.remove(0);
    let parts = [&found["words"], &found["against_words"]];
    let parts = parts.iter().filter_map(|words| words.as_array()).flatten();
    let sum: f64 = parts.map(|word| word["value"].as_f64().unwrap()).sum();
    let at = |key: &str| found[key].as_f64().unwrap();
    assert!((at("sum") - sum).abs() < 1e-6, "{found}");
    assert!(
        (at("score") - at("empty") - at("sum") - at("rest")).abs() < 1e-6,
        "{found}"
    );
    found
}

fn values(words: &Value, key: &str) -> Vec<f64> {
    let words = words.as_array().unwrap().iter();
    words.map(|word| word[key].as_f64().unwrap()).collect()
}

fn texts(words: &Value) -> Vec<&str> {
    let words = words.as_array().unwrap().iter();
    words.map(|word| word["word"].as_str().unwrap()).collect()
}

/// The cosines of an image and some texts by `classify`.
fn cosines(room: &Room, image: &str, texts: &[&str]) -> Vec<f64> {
    let arguments = [&[image, "--score", "cosine", "-l"], texts].concat();
    let record = room.classify(&arguments).ends_with(0).record();
    texts
        .iter()
        .map(|text| number(&record, text, "cosine"))
        .collect()
}

#[test]
fn words_have_the_shapley_values_of_the_cosines_of_classify() {
    let room = Room::with(&["a.png"]);
    let found = record(&room, &["a.png", "--label", "A red  café"]);
    assert_eq!(texts(&found["words"]), ["A", "red", "café"]);
    let spans: Vec<&Value> = found["words"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| &word["span"])
        .collect();
    assert_eq!(spans, [&json!([0, 1]), &json!([2, 5]), &json!([7, 11])]);
    let [a, b, c, ab, ac, bc, abc] = cosines(
        &room,
        "a.png",
        &[
            "a",
            "red",
            "café",
            "a red",
            "a café",
            "red café",
            "a red café",
        ],
    )[..] else {
        panic!("seven texts")
    };
    assert_eq!(found["cosine"].as_f64(), Some(abc));
    assert_eq!(found["score"], found["cosine"]);
    let none = found["empty_cosine"].as_f64().unwrap();
    let value = |alone: f64, pairs: [(f64, f64); 2], rest: f64| {
        let [first, second] = pairs.map(|(with, without)| with - without);
        (alone - none) / 3.0 + (first + second) / 6.0 + (abc - rest) / 3.0
    };
    let expected = [
        value(a, [(ab, b), (ac, c)], bc),
        value(b, [(ab, a), (bc, c)], ac),
        value(c, [(ac, a), (bc, b)], ab),
    ];
    let found_values = values(&found["words"], "value");
    for (value, expected) in found_values.iter().zip(expected) {
        assert!(
            (value - expected).abs() < 1e-6,
            "{found_values:?} {expected:?}"
        );
    }
    let losses = values(&found["words"], "loss");
    for (loss, without) in losses.iter().zip([bc, ac, ab]) {
        assert!((loss - (abc - without)).abs() < 1e-6, "{losses:?}");
    }
    assert!(found["rest"].as_f64().unwrap().abs() < 1e-5, "{found}");
    assert!(losses != found_values);
    let scale = found["logit"].as_f64().unwrap() / abc;
    assert!((scale - 100.0).abs() < 1e-3, "{scale}");

    let alone = record(
        &room,
        &["a.png", "--label", "A red café", "--words", "leave-one-out"],
    );
    assert_eq!(values(&alone["words"], "value"), losses);
    assert!(alone["rest"].as_f64().unwrap().abs() > 1e-4, "{alone}");
    let none = record(
        &room,
        &["a.png", "--label", "A red café", "--words", "none"],
    );
    assert_eq!(none["words"], json!([]));
    assert_eq!(none["score"], found["score"]);
}

#[test]
fn another_label_takes_from_the_difference() {
    let room = Room::with(&["a.png"]);
    let alone = |label| record(&room, &["a.png", "--label", label]);
    let (cat, dog) = (alone("a cat here"), alone("two dogs"));
    let both = record(
        &room,
        &["a.png", "--label", "a cat here", "--against", "two dogs"],
    );
    assert_eq!(both["quantity"], "cosine difference");
    let at = |found: &Value, key: &str| found[key].as_f64().unwrap();
    let difference = at(&cat, "cosine") - at(&dog, "cosine");
    assert!((at(&both, "score") - difference).abs() < 1e-6, "{both}");
    assert!(
        (at(&both, "logit") - 100.0 * difference).abs() < 1e-3,
        "{both}"
    );
    assert_eq!(at(&both, "empty"), 0.0);
    assert!(at(&both, "rest").abs() < 1e-5);
    assert_eq!(both["words"], cat["words"]);
    let turned: Vec<f64> = values(&dog["words"], "value")
        .iter()
        .map(|value| -value)
        .collect();
    assert_eq!(values(&both["against_words"], "value"), turned);
    let other = record(
        &room,
        &["a.png", "--label", "two dogs", "--against", "a cat here"],
    );
    assert_eq!(at(&other, "score"), -at(&both, "score"));
    let behind = if at(&both, "score") < 0.0 {
        &both
    } else {
        &other
    };
    let notes = behind["notes"].to_string();
    assert!(
        notes.contains("fits --against better than --label"),
        "{notes}"
    );
}

#[test]
fn long_labels_are_split_into_sentences_with_their_words() {
    let room = Room::with(&["a.png"]);
    let label = "A small red cat sits on a mat. Behind it there is a dog, asleep!";
    let found = record(&room, &["a.png", "--label", label]);
    assert_eq!(
        found["method"],
        json!({"name": "shapley", "parts": "sentences"})
    );
    let sentences = [
        "A small red cat sits on a mat.",
        "Behind it there is a dog, asleep!",
    ];
    assert_eq!(texts(&found["words"]), sentences);
    let none = found["empty"].as_f64().unwrap();
    let [first, second, both] = cosines(&room, "a.png", &[sentences[0], sentences[1], label])[..]
    else {
        panic!("three texts")
    };
    let expected = ((first - none) + (both - second)) / 2.0;
    assert!((values(&found["words"], "value")[0] - expected).abs() < 1e-6);
    let inner = &found["words"][1]["words"];
    assert_eq!(
        texts(inner),
        ["Behind", "it", "there", "is", "a", "dog,", "asleep!"]
    );
    assert_eq!(inner[5]["span"], json!([52, 56]));
    let without = label.replace("dog, ", "");
    let [without] = cosines(&room, "a.png", &[&without])[..] else {
        panic!("one text")
    };
    let loss = inner[5]["loss"].as_f64().unwrap();
    assert!((loss - (both - without)).abs() < 1e-6, "{loss}");
    assert!(
        found["notes"].to_string().contains("of 15 words"),
        "{found}"
    );

    // One sentence with commas.
    let label = label.replace(". Behind", ", behind");
    let found = record(&room, &["a.png", "--label", &label]);
    assert_eq!(found["method"]["parts"], "clauses");
    assert_eq!(found["words"].as_array().unwrap().len(), 3);
    let words = record(
        &room,
        &[
            "a.png",
            "--label",
            &label,
            "--parts",
            "words",
            "--samples",
            "3",
        ],
    );
    assert_eq!(words["words"].as_array().unwrap().len(), 15);
}

#[test]
fn samples_have_errors_and_depend_on_the_seed_only() {
    let room = Room::with(&["a.png"]);
    let label = "one two three four five six seven eight nine ten eleven twelve thirteen";
    let found = record(&room, &["a.png", "--label", label, "--samples", "8"]);
    let method = json!({"name": "shapley-sampled", "parts": "words", "samples": 8, "seed": 0});
    assert_eq!(found["method"], method);
    assert!(
        values(&found["words"], "error")
            .iter()
            .all(|error| *error > 0.0)
    );
    assert!(found["rest"].as_f64().unwrap().abs() < 1e-5);
    assert!(
        found["notes"].to_string().contains("8 random orders"),
        "{found}"
    );
    let again = |seed| {
        record(
            &room,
            &["a.png", "--label", label, "--samples", "8", "--seed", seed],
        )
    };
    assert_eq!(again("0"), found);
    assert_ne!(again("1")["words"], found["words"]);
    // Thirteen words that cannot be split otherwise are sampled without being told to.
    let usual = record(&room, &["a.png", "--label", label]);
    assert_eq!(usual["method"]["samples"], 200);
    // Few words are sampled if asked for.
    let exact = record(&room, &["a.png", "--label", "a red cat"]);
    let sampled = record(
        &room,
        &["a.png", "--label", "a red cat", "--samples", "300"],
    );
    let pairs = exact["words"]
        .as_array()
        .unwrap()
        .iter()
        .zip(sampled["words"].as_array().unwrap());
    for (exact, sampled) in pairs {
        let apart = exact["value"].as_f64().unwrap() - sampled["value"].as_f64().unwrap();
        assert!(
            apart.abs() < 5.0 * sampled["error"].as_f64().unwrap(),
            "{exact} {sampled}"
        );
        assert_eq!(exact["loss"], sampled["loss"]);
    }
}

#[test]
fn occlusion_is_what_classify_loses_on_covered_images() {
    let room = Room::new();
    // As large as the model's input, so that nothing is resized.
    let image = image::RgbImage::from_fn(64, 64, |x, y| {
        image::Rgb([x * 4, y * 4, (x * y) % 256].map(|sample| sample as u8))
    });
    image.save(room.path("a.png")).unwrap();
    let found = record(
        &room,
        &[
            "a.png",
            "--label",
            "a red cat",
            "--regions",
            "occlusion",
            "--grid",
            "3",
        ],
    );
    let map = &found["regions"]["map"];
    assert_eq!(found["regions"]["area"], json!([0.0, 0.0, 64.0, 64.0]));
    let whole = found["score"].as_f64().unwrap();
    let edges = [0, 21, 42, 64];
    let mut most = 0f64;
    for row in 0..3 {
        for column in 0..3 {
            let mut covered = image.clone();
            for y in edges[row]..edges[row + 1] {
                for x in edges[column]..edges[column + 1] {
                    // The mean colour of CLIP's preprocessing, rounded.
                    covered.put_pixel(x, y, image::Rgb([123, 117, 104]));
                }
            }
            covered.save(room.path("b.png")).unwrap();
            let [cosine] = cosines(&room, "b.png", &["a red cat"])[..] else {
                panic!("one text")
            };
            let value = map[row][column].as_f64().unwrap();
            assert!(
                (value - (whole - cosine)).abs() < 2e-3,
                "{row} {column}: {value} {}",
                whole - cosine
            );
            most = most.max(value.abs());
        }
    }
    assert!(most > 0.01, "{map}");

    // What the model does not see is outside of the map.
    let wide = image::RgbImage::from_fn(128, 64, |x, y| {
        image::Rgb([x, y * 4, (x * y) % 256].map(|sample| sample as u8))
    });
    wide.save(room.path("wide.png")).unwrap();
    let found = record(
        &room,
        &[
            "wide.png",
            "--label",
            "cat",
            "--regions",
            "occlusion",
            "--grid",
            "1",
        ],
    );
    assert_eq!(found["regions"]["area"], json!([32.0, 0.0, 64.0, 64.0]));
    run(
        &room,
        &[
            "a.png",
            "--label",
            "cat",
            "--regions",
            "occlusion",
            "--grid",
            "65",
        ],
    )
    .ends_with(2);
}

#[test]
fn odd_input_comes_with_what_it_means() {
    let room = Room::with(&["a.png", "d/b.png"]);
    let one = record(&room, &["a.png", "--label", "cat"]);
    let notes = one["notes"].to_string();
    assert!(
        notes.contains("one word, so its value is the whole difference"),
        "{notes}"
    );
    assert!((values(&one["words"], "value")[0] - one["sum"].as_f64().unwrap()).abs() < 1e-7);
    let refused = |arguments: &[&str], parts: &[&str]| {
        let ran = run(&room, arguments).ends_with(2).says(parts);
        assert_eq!(ran.out, "");
    };
    refused(&["a.png", "--label", " "], &["--label has no words"]);
    refused(
        &["a.png", "--label", "cat", "--against", ""],
        &["--against has no words"],
    );
    refused(
        &["a.png", "--label", "A cat", "--against", "a  cat"],
        &["the same text for the model", "0 for every image"],
    );
    refused(
        &["none.png", "--label", "cat"],
        &["cannot read the image none.png"],
    );
    refused(
        &["d", "--label", "cat"],
        &["cannot read the image d", "folder"],
    );
    refused(
        &[
            "a.png",
            "--label",
            "cat",
            "--words",
            "none",
            "--samples",
            "9",
        ],
        &["--samples is for --words shapley"],
    );
    refused(
        &["a.png", "--label", "cat", "--heatmap", "a.png"],
        &["is also an input"],
    );
    refused(
        &["a.png", "--label", "cat", "--heatmap", "m.csv"],
        &["a PNG picture", ".png"],
    );
    refused(
        &["a.png", "--label", "cat", "--report", "p.csv"],
        &["an HTML page"],
    );
    let long = "word ".repeat(300);
    refused(
        &["a.png", "--label", &long],
        &["--label", "302 tokens", "--long-text"],
    );
    let cut = [
        "a.png",
        "--label",
        &long,
        "--long-text",
        "truncate",
        "--samples",
        "2",
    ];
    let cut = record(&room, &cut);
    assert!(
        cut["notes"].to_string().contains("longer than the context"),
        "{}",
        cut["notes"]
    );
    assert_eq!(cut["words"].as_array().unwrap().len(), 300);
}

#[test]
fn a_label_that_is_not_there_is_doubted() {
    let room = Room::new();
    let drawn =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/drawn-penguin.png");
    room.file("p.png", std::fs::read(drawn).unwrap());
    let notes = |label: &str| {
        let arguments = [
            "explain", "p.png", "--model", "tiny", "--label", label, "-f", "json",
        ];
        let printed = room.longclip(&arguments, &[]).ends_with(0).out;
        let found: Value = serde_json::from_str(&printed).unwrap();
        found[0]["notes"].to_string()
    };
    assert!(notes("a volcano").contains("no better than the empty text"));
    assert_eq!(notes("a penguin"), "[]");
    // The penguin's word carries the score.
    let arguments = [
        "explain",
        "p.png",
        "--model",
        "tiny",
        "--label",
        "a nice penguin",
        "-f",
        "table",
    ];
    let table = room.longclip(&arguments, &[]).ends_with(0).out;
    assert!(
        table.contains("words: Shapley values") && table.contains("penguin  +0."),
        "{table}"
    );
}

#[test]
fn the_page_and_the_picture_show_the_map() {
    let room = Room::with(&["a.png"]);
    let label = "a <b>cat</b>";
    let arguments = [
        "a.png",
        "--label",
        label,
        "--report",
        "p.html",
        "--heatmap",
        "m.png",
        "--grid",
        "2",
    ];
    let found = record(&room, &arguments);
    assert_eq!(found["regions"]["map"].as_array().unwrap().len(), 2);
    let map = image::open(room.path("m.png")).unwrap();
    assert!(map.width() >= 448 && map.height() > map.width(), "{map:?}");
    let page = room.read("p.html");
    for part in [
        "Explanation",
        "data:image/jpeg;base64,",
        "row 2, column 2",
        "&lt;b&gt;cat",
        "Lost without it",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<b>cat"));
    assert_eq!(room.names(), ["a.png", "m.png", "p.html"]);
    // From stdin, without a name.
    let stdin = std::fs::read(room.path("a.png")).unwrap();
    let arguments = [
        "explain",
        "--model",
        small::model(),
        "-",
        "--label",
        label,
        "--grid",
        "2",
        "--regions",
        "occlusion",
    ];
    let same = records(
        &room
            .longclip_with_stdin(&arguments, &stdin)
            .ends_with(0)
            .out,
    );
    assert_eq!(same[0]["image"], "-");
    assert_eq!(same[0]["regions"], found["regions"]);
}

#[test]
fn pairs_and_their_remainder_sum_to_the_cosine() {
    let room = Room::with(&["a.png"]);
    let label = "a small tricycle, parked";
    let arguments = ["a.png", "--label", label, "--pairs", "--precision", "f32"];
    let found = record(&room, &arguments);
    let pairs = &found["pairs"];
    assert_eq!(
        texts(&pairs["words"]),
        ["a", "small", "tricycle,", "parked"]
    );
    let at = |value: &Value| value.as_f64().unwrap();
    let mut sum = 0.0;
    for word in pairs["words"].as_array().unwrap() {
        let rows = word["map"].as_array().unwrap();
        let cells = rows.iter().flat_map(|row| row.as_array().unwrap());
        let cells: Vec<f64> = cells.map(at).collect();
        assert_eq!((rows.len(), cells.len()), (4, 16));
        let of_word: f64 = cells.iter().sum();
        assert!((of_word - at(&word["value"])).abs() < 1e-6, "{word}");
        sum += of_word;
    }
    assert!((sum - at(&pairs["sum"])).abs() < 1e-6, "{pairs}");
    let rest = &pairs["remainder"];
    let rest = ["words", "patches", "neither"].map(|name| at(&rest[name]));
    let cosine = at(&found["cosine"]);
    assert!(
        (sum + rest.iter().sum::<f64>() - cosine).abs() < 1e-5,
        "{pairs} {cosine}"
    );
    let rest: f64 = rest.iter().map(|value| value.abs()).sum();
    assert!((at(&pairs["share"]) - rest / (rest + sum.abs())).abs() < 1e-5);
    let long = "word ".repeat(300);
    let cut = [
        "a.png",
        "--label",
        &long,
        "--words",
        "none",
        "--long-text",
        "truncate",
        "--pairs",
    ];
    run(&room, &cut)
        .ends_with(2)
        .says(&["--pairs looks at one pass of the text tower"]);
    let special = ["a.png", "--label", "a cat <|endoftext|> b", "--pairs"];
    run(&room, &special)
        .ends_with(2)
        .says(&["the words of the label have other tokens"]);
    let page = [
        "a.png", "--label", label, "--pairs", "--report", "p.html", "--grid", "1",
    ];
    record(&room, &page);
    let page = room.read("p.html");
    assert!(page.contains("data-pair=\"3\"") && page.contains("(patches alone)"));
}

#[test]
fn gradients_give_a_number_per_patch() {
    let room = Room::with(&["a.png"]);
    let map = |more: &[&str]| -> Vec<f64> {
        let found = record(&room, &[&["a.png", "--label", "a red cat"], more].concat());
        assert_eq!(found["regions"]["method"], more[1]);
        let rows = found["regions"]["map"].as_array().unwrap();
        assert_eq!(rows.len(), 4);
        rows.iter()
            .flat_map(|row| row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()))
            .collect()
    };
    let mut maps = Vec::new();
    for method in ["legrad", "grad-eclip"] {
        let label = map(&["--regions", method]);
        assert_eq!(label.len(), 16);
        assert!(label.iter().all(|value| *value >= 0.0), "{label:?}");
        assert_eq!(label, map(&["--regions", method, "--threads", "1"]));
        let against = map(&["--regions", method, "--against", "a dog"]);
        assert_ne!(label, against, "{method}");
        maps.push(label);
    }
    assert_ne!(maps[0], maps[1]);
}

#[test]
fn what_has_no_attention_or_no_grid_is_refused_by_name() {
    let room = Room::with(&["a.png"]);
    let fixed = ["a.png", "--label", "a cat", "--regions", "legrad"];
    run(&room, &[&fixed[..], &["--grid", "3"]].concat())
        .ends_with(2)
        .says(&["--grid is for --regions occlusion"]);
    unpack::unpack_from("resnet", "resnet.pt", &room.path(""));
    let resnet = ["explain", "--model", "resnet.pt"];
    for method in ["legrad", "grad-eclip"] {
        let asked = ["a.png", "--label", "a cat", "--regions", method];
        room.longclip(&[&resnet[..], &asked].concat(), &[])
            .ends_with(2)
            .says(&["ResNet", "use --regions occlusion"]);
    }
    let asked = [
        "a.png",
        "--label",
        "a cat",
        "--words",
        "none",
        "--grid",
        "2",
        "--regions",
        "occlusion",
    ];
    room.longclip(&[&resnet[..], &asked].concat(), &[])
        .ends_with(0);
}
