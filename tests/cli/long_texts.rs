//! Texts longer than the model's context, and the policies of `--long-text`.

use serde_json::Value;

use crate::room::{Ran, Room, number};

/// The built-in model reads 248 tokens: 246 words of one token each.
const ROOM: usize = 246;

/// `count` words of one token each, different from their neighbours.
fn words(count: usize) -> String {
    let some = ["cat", "dog", "car", "tree", "house", "boat", "plane"];
    let words: Vec<_> = (0..count).map(|at| some[at * at % 7]).collect();
    words.join(" ")
}

fn classify(room: &Room, label: &str, more: &[&str]) -> Ran {
    let arguments = [&["a.png", "-f", "jsonl", "-l", label, "other"], more].concat();
    room.classify(&arguments).ends_with(0)
}

fn cosine(record: &Value, label: &str) -> f64 {
    number(record, label, "cosine")
}

#[test]
fn a_text_that_fits_is_read_the_same_by_every_policy() {
    let room = Room::with(&["a.png"]);
    let label = words(ROOM);
    let plain = classify(&room, &label, &[]).out;
    for way in ["truncate", "chunk-mean", "slide", "best-chunk"] {
        let ran = classify(&room, &label, &["--long-text", way]);
        assert_eq!(ran.out, plain, "{way}");
        assert_eq!(ran.stderr(), "");
    }
}

#[test]
fn best_chunk_equals_the_best_single_chunk() {
    let room = Room::with(&["a.png"]);
    let label = words(2 * ROOM + 10);
    let parts: Vec<&str> = label.split(' ').collect();
    let alone = |chunk: &[&str]| {
        let label = chunk.join(" ");
        cosine(&classify(&room, &label, &[]).record(), &label)
    };
    let best = parts.chunks(ROOM).map(alone).fold(f64::MIN, f64::max);
    let ran = classify(&room, &label, &["--long-text", "best-chunk"]);
    assert_eq!(cosine(&ran.record(), &label), best);
    ran.says(&[
        "warning: label 1: \"cat dog",
        "longer than the model's 248 tokens; read as 3 chunks; each image uses the best one",
    ]);
}

#[test]
fn chunk_mean_reports_the_count_and_equals_no_single_chunk() {
    let room = Room::with(&["a.png"]);
    let label = words(2 * ROOM + 10);
    let of = |more: &[&str]| cosine(&classify(&room, &label, more).record(), &label);
    let mean = of(&["--long-text", "chunk-mean"]);
    assert_ne!(mean, of(&["--long-text", "best-chunk"]));
    assert_ne!(mean, of(&["--long-text", "truncate"]));
    let ran = classify(&room, &label, &["--long-text", "chunk-mean"]);
    ran.says(&["read as 3 chunks, averaged by token count"]);
}

#[test]
fn windows_slide_by_the_stride() {
    let room = Room::with(&["a.png"]);
    let label = words(2 * ROOM);
    // From 0 to 123, 246: then the end is reached.
    let slide = classify(&room, &label, &["--long-text", "slide"]);
    let half = classify(&room, &label, &["--long-text", "slide", "--stride", "123"]);
    assert_eq!(slide.out, half.out);
    slide.says(&["read as 3 overlapping windows, averaged by token count"]);
    let far = classify(&room, &label, &["--long-text", "slide", "--stride", "246"]);
    let chunks = classify(&room, &label, &["--long-text", "chunk-mean"]);
    assert_eq!(far.out, chunks.out);
    assert_ne!(far.out, half.out);
}

#[test]
fn a_stride_requires_slide_and_fits_the_context() {
    let room = Room::with(&["a.png"]);
    let label = words(ROOM + 1);
    let refused = |more: &[&str]| {
        let arguments = [&["a.png", "-l", &label, "other"], more].concat();
        room.classify(&arguments).ends_with(2)
    };
    refused(&["--stride", "10"]).says(&["--stride requires --long-text slide"]);
    refused(&["--stride", "10", "--long-text", "chunk-mean"]).says(&["--stride requires"]);
    refused(&["--stride", "247", "--long-text", "slide"]).says(&[
        "label 1",
        "a stride of 247 tokens is out of range; choose 1 to 246",
    ]);
    refused(&["--stride", "0", "--long-text", "slide"]).says(&["--stride"]);
}

#[test]
fn many_long_texts_are_counted_not_all_listed() {
    let room = Room::with(&["a.png"]);
    let labels: String = (0..13)
        .map(|at| format!("{}\n", words(ROOM + 1 + at)))
        .collect();
    room.file("labels.txt", labels);
    let arguments = ["a.png", "--labels-file", "labels.txt", "--long-text"];
    let ran = room
        .classify(&[&arguments[..], &["chunk-mean"]].concat())
        .ends_with(0);
    assert_eq!(ran.stderr().matches("read as 2 chunks").count(), 10);
    ran.says(&["warning: 3 more texts were longer than the model's 248 tokens"]);
    let ran = room
        .classify(&[&arguments[..], &["error"]].concat())
        .ends_with(2);
    ran.says(&["error: label 1: text \"cat dog", "has 249 tokens"]);
}
