//! `--hidden`: the rows of a layer.

use std::collections::HashMap;

use safetensors::SafeTensors;

use super::{embed, small};
use crate::room::{Ran, Room};
use crate::unpack;

/// Shapes and numbers of the file's tensors, and its pairs.
struct Read {
    tensors: HashMap<String, (Vec<usize>, Vec<f32>)>,
    rows: String,
    pairs: HashMap<String, String>,
}

fn read(room: &Room, name: &str) -> Read {
    let bytes = std::fs::read(room.path(name)).unwrap();
    let (_, directory) = SafeTensors::read_metadata(&bytes).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    let tensors = file
        .tensors()
        .into_iter()
        .filter(|(name, _)| name != "rows");
    Read {
        tensors: tensors
            .map(|(name, tensor)| {
                let numbers = tensor.data().chunks_exact(4).map(number).collect();
                (name, (tensor.shape().to_vec(), numbers))
            })
            .collect(),
        rows: String::from_utf8(file.tensor("rows").unwrap().data().to_vec()).unwrap(),
        pairs: directory.metadata().clone().unwrap(),
    }
}

fn hidden(room: &Room, states: &str, more: &[&str]) -> Ran {
    let texts = ["--text", "a cat", "two dogs on a beach"];
    let all = [
        "--precision",
        "f32",
        "--hidden",
        states,
        "-o",
        "o.safetensors",
    ];
    embed(room, &[&texts, &all[..], more].concat())
}

#[test]
fn a_generator_gets_its_rows_and_what_is_pooled() {
    let room = Room::new();
    let second = ["--second-model", small::model()];
    // The states, more flags, and the features of the rows and of what is pooled.
    type Case<'a> = (&'a str, &'a [&'a str], Option<usize>, Option<usize>);
    let cases: [Case; 6] = [
        ("sd1", &[], Some(64), None),
        ("sdxl", &second, Some(128), Some(64)),
        ("sd3", &second, Some(128), Some(128)),
        ("flux", &[], None, Some(64)),
        ("longclip-sdxl", &second, Some(128), Some(64)),
        ("-1", &[], Some(64), Some(64)),
    ];
    for (states, more, rows, pooled) in cases {
        hidden(&room, states, &[more, &["--with-empty"]].concat()).ends_with(0);
        let file = read(&room, "o.safetensors");
        let shape = |name: &str| file.tensors.get(name).map(|(shape, _)| shape.clone());
        for (texts, sign) in [(2, ""), (1, "negative_")] {
            let name = format!("{sign}prompt_embeds");
            assert_eq!(
                shape(&name),
                rows.map(|width| vec![texts, 248, width]),
                "{states}"
            );
            let name = format!("{sign}pooled_prompt_embeds");
            assert_eq!(
                shape(&name),
                pooled.map(|width| vec![texts, width]),
                "{states}"
            );
        }
        assert_eq!(
            file.rows,
            "{\"text\":\"a cat\"}\n{\"text\":\"two dogs on a beach\"}\n"
        );
        assert_eq!(file.pairs["hidden"], states);
        assert_eq!(file.pairs.contains_key("model_2"), !more.is_empty());
    }
}

#[test]
fn rows_after_the_end_depend_on_the_padding_and_others_do_not() {
    let room = Room::new();
    let rows = |more: &[&str]| {
        hidden(&room, "sd1", more).ends_with(0);
        read(&room, "o.safetensors").tensors["prompt_embeds"]
            .1
            .clone()
    };
    let (usual, end, zero) = (rows(&[]), rows(&["--pad", "end"]), rows(&["--pad", "zero"]));
    assert_eq!(usual, end);
    // Start, "a", "cat", end.
    let up_to_end = 4 * 64;
    assert_eq!(end[..up_to_end], zero[..up_to_end]);
    let is_other = |row: usize| end[row * 64..][..64] != zero[row * 64..][..64];
    assert!((4..248).all(is_other));
}

#[test]
fn layers_count_from_either_end_and_the_last_one_gives_the_embedding() {
    let room = Room::new();
    let rows = |states: &str, more: &[&str]| {
        hidden(&room, states, more).ends_with(0);
        read(&room, "o.safetensors").tensors["prompt_embeds"]
            .1
            .clone()
    };
    // The small model has two layers.
    for (start, end) in [("0", "-3"), ("1", "-2"), ("2", "-1")] {
        assert_eq!(rows(start, &[]), rows(end, &[]));
    }
    assert!(rows("1", &[]) != rows("2", &[]) && rows("2", &[]) != rows("sd1", &[]));
    let skipped = rows("sd1", &["--clip-skip", "1"]);
    assert!(skipped != rows("sd1", &[]) && skipped != rows("1", &[]));
    // Nothing is skipped for the empty text.
    let empty = |more: &[&str]| {
        hidden(&room, "sd1", &[&["--with-empty"], more].concat()).ends_with(0);
        let file = read(&room, "o.safetensors");
        file.tensors["negative_prompt_embeds"].1.clone()
    };
    assert_eq!(empty(&["--clip-skip", "1"]), empty(&[]));
    for beyond in ["3", "-4"] {
        hidden(&room, beyond, &[]).ends_with(2).says(&["2 layers"]);
    }
    hidden(&room, "2", &[]).ends_with(0);
    let pooled = read(&room, "o.safetensors").tensors["pooled_prompt_embeds"]
        .1
        .clone();
    embed(
        &room,
        &[
            "--text",
            "a cat",
            "--precision",
            "f32",
            "-o",
            "e.safetensors",
        ],
    )
    .ends_with(0);
    let embedding = read(&room, "e.safetensors").tensors["embeddings"].1.clone();
    let length = pooled[..64].iter().map(|v| v * v).sum::<f32>().sqrt();
    for (found, expected) in pooled.iter().zip(&embedding) {
        assert!(
            (found / length - expected).abs() < 1e-6,
            "{found} {expected}"
        );
    }
}

#[test]
fn patches_of_images_are_a_grid_and_failures_are_listed() {
    let room = Room::with(&["d/a.png", "d/b.png"]);
    room.broken("d/x.png");
    let to = ["--hidden", "patches", "-o", "o.safetensors"];
    embed(&room, &[&["d"], &to[..]].concat())
        .ends_with(1)
        .says(&["d/x.png"]);
    let allowed = [&["d", "--max-errors", "1", "--summary", "s.json"], &to[..]].concat();
    embed(&room, &allowed).ends_with(0);
    let summary: serde_json::Value = serde_json::from_str(&room.read("s.json")).unwrap();
    assert_eq!(
        (&summary["answered"], &summary["failed"]),
        (&2.into(), &1.into())
    );
    let file = read(&room, "o.safetensors");
    let (shape, both) = &file.tensors["last_hidden_state"];
    assert_eq!(shape, &[2, 17, 64]);
    assert_eq!(file.pairs["grid"], "4x4 after the class token");
    assert!(file.rows.contains("d/a.png") && file.rows.contains("d/b.png"));
    assert!(room.read("o.safetensors.errors.jsonl").contains("d/x.png"));
    // One image alone, which all threads work on, has the same numbers.
    embed(&room, &[&["d/b.png"], &to[..]].concat()).ends_with(0);
    let alone = &read(&room, "o.safetensors").tensors["last_hidden_state"].1;
    assert_eq!(alone[..], both[17 * 64..]);
    assert!(
        !room
            .names()
            .contains(&"o.safetensors.errors.jsonl".to_owned())
    );
    // An input without images replaces nothing.
    let before = std::fs::read(room.path("o.safetensors")).unwrap();
    embed(&room, &[&["d/x.png"], &to[..]].concat()).ends_with(2);
    assert_eq!(std::fs::read(room.path("o.safetensors")).unwrap(), before);
}

#[test]
fn what_would_be_wrong_is_refused() {
    let room = Room::with(&["a.png"]);
    unpack::unpack("hf-patch16/", &room.path(""));
    room.file("texts.txt", format!("a cat\n{}\n", "dog ".repeat(300)));
    let to = |states| ["--hidden", states, "-o", "o.safetensors"];
    let text = ["--text", "a cat"];
    let second = ["--second-model", small::model()];
    let chunks = ["--long-text", "chunk-mean"];
    // Inputs, states, more flags, and a part of the message.
    type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], &'a str);
    let cases: [Case; 12] = [
        (&text, &to("sd9"), &[], "sd3"),
        (&text, &to("sdxl"), &[], "--second-model"),
        (
            &text,
            &to("sdxl"),
            &["--second-model", "hf-patch16"],
            "cannot be joined",
        ),
        (&text, &to("sd1"), &second, "one text tower"),
        (&text, &to("flux"), &["--clip-skip", "1"], "--clip-skip"),
        (&text, &to("sd1"), &["--clip-skip", "3"], "2 layers"),
        (&text, &to("sd1"), &chunks, "truncate"),
        (&text, &to("sd1"), &["--resume"], "--resume"),
        (&text, &to("patches"), &[], "of images"),
        (&["a.png"], &to("sd1"), &[], "patches"),
        (&["a.png"], &to("patches"), &["--pad", "end"], "--pad"),
        (&["--texts", "texts.txt"], &to("sd1"), &[], "line 2"),
    ];
    for (inputs, to, more, says) in cases {
        embed(&room, &[inputs, to, more].concat())
            .ends_with(2)
            .says(&[says]);
    }
    for output in [&["-o", "o.npy"][..], &["-o", "-"], &[]] {
        embed(&room, &[&text, &["--hidden", "sd1"], output].concat()).ends_with(2);
    }
    assert_eq!(room.names(), ["a.png", "hf-patch16", "texts.txt"]);
    // Cut where that is asked for, with a warning next to the text.
    let cut = ["--texts", "texts.txt", "--long-text", "truncate"];
    embed(&room, &[&cut[..], &to("sd1")].concat())
        .ends_with(0)
        .says(&["line 2"]);
    assert!(read(&room, "o.safetensors").rows.contains("cut 54 tokens"));
    // It is not a file of embeddings.
    let search = ["search", "o.safetensors", "cat", "-m", small::model()];
    room.longclip(&search, &[])
        .ends_with(2)
        .says(&["hidden states"]);
}
