//! `longclip tokens`: the tokens of a text, and whether it fits.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::room::{Ran, Room, records};
use crate::unpack::unpack;

const START: u64 = 49406;
const END: u64 = 49407;

fn tokens(arguments: &[&str]) -> Ran {
    Room::new().longclip(&[&["tokens"], arguments].concat(), &[])
}

/// The only record of a run on one text.
fn record(text: &str) -> Value {
    let ran = tokens(&["--", text]).ends_with(0);
    let mut records = records(&ran.out);
    assert_eq!(records.len(), 1);
    records.remove(0)
}

#[test]
fn a_text_becomes_ids_and_pieces() {
    let expected = json!({
        "text": "A photo of a cat.",
        "cleaned": "a photo of a cat.",
        "changes": ["case"],
        "tokens": 8,
        "read_tokens": 8,
        "ids": [START, 320, 1125, 539, 320, 2368, 269, END],
        "pieces": [
            "<|startoftext|>", "a</w>", "photo</w>", "of</w>", "a</w>", "cat</w>", ".</w>",
            "<|endoftext|>",
        ],
        "contexts": [
            {"context_length": 77, "fits": true},
            {"context_length": 248, "fits": true},
        ],
    });
    assert_eq!(record("A photo of a cat."), expected);
}

#[test]
fn changes_by_cleaning_are_listed() {
    for (text, cleaned, changes) in [
        ("", "", json!([])),
        ("a cat", "a cat", json!([])),
        ("rock &amp; roll", "rock & roll", json!(["entities"])),
        (
            "it\u{2019}s \u{201c}it\u{201d}",
            "it's \"it\"",
            json!(["quotes"]),
        ),
        ("  Two\nlines ", "two lines", json!(["whitespace", "case"])),
        ("cafÃ©", "café", json!(["characters"])),
    ] {
        let record = record(text);
        assert_eq!(record["cleaned"], cleaned, "{text:?}");
        assert_eq!(record["changes"], changes, "{text:?}");
        assert_eq!(record["text"], text);
    }
    assert_eq!(record("")["ids"], json!([START, END]));
}

#[test]
fn emoji_are_shown_by_their_bytes() {
    let record = record("👍🏽 汉");
    let pieces = record["pieces"].as_array().unwrap();
    assert_eq!(pieces.len(), record["ids"].as_array().unwrap().len());
    assert!(pieces.contains(&json!("\\xE6")), "{pieces:?}");
    assert_eq!(record["cleaned"], "👍🏽 汉");
}

#[test]
fn an_end_of_text_that_was_typed_is_one() {
    let record = record("a <|endoftext|> b");
    assert_eq!(record["ids"], json!([START, 320, END, 321, END]));
    assert_eq!(
        (&record["tokens"], &record["read_tokens"]),
        (&json!(5), &json!(3))
    );
    let table = tokens(&["-f", "table", "a <|endoftext|> b"]).ends_with(0);
    assert!(table.out.contains("only 3 are read"), "{}", table.out);
}

#[test]
fn a_text_that_is_too_long_shows_where_it_is_cut() {
    let long = "A red  house ".repeat(50);
    let record = record(&long);
    assert_eq!(record["tokens"], 152);
    let [short, enough] = record["contexts"].as_array().unwrap().as_slice() else {
        panic!("{record}")
    };
    assert_eq!(
        (&short["fits"], &enough["fits"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(short["cut"]["tokens"], 75);
    assert_eq!(short["cut"]["kept"], "a red house ".repeat(25).trim_end());
    assert_eq!(short["cut"]["lost"], "a red house ".repeat(25).trim_end());

    let table = tokens(&["-f", "table", "--context", "4", "a red house"]).ends_with(0);
    let line = "  of 4     does not fit: 1 too many; cut between \"a red\" and \"house\"";
    assert!(
        table.out.lines().any(|found| found == line),
        "{}",
        table.out
    );
}

#[test]
fn the_context_of_a_local_model_is_used() {
    let room = Room::new();
    let contexts = |arguments: &[&str], model: &str| {
        let arguments = [&["tokens", "a cat"], arguments].concat();
        let ran = room.longclip(&arguments, &[("LONGCLIP_MODEL", model)]);
        let record = records(&ran.ends_with(0).out).remove(0);
        let list = record["contexts"].as_array().unwrap().iter();
        let lengths: Vec<u64> = list
            .map(|fit| fit["context_length"].as_u64().unwrap())
            .collect();
        (lengths, record["model"].clone())
    };
    assert_eq!(contexts(&[], "tiny"), (vec![248], json!("tiny")));
    assert_eq!(
        contexts(&["-m", "tiny"], "longclip-b"),
        (vec![248], json!("tiny"))
    );
    assert_eq!(
        contexts(&["--context", "9"], "tiny"),
        (vec![9], Value::Null)
    );
    assert_eq!(contexts(&[], "longclip-b"), (vec![77, 248], Value::Null));
    assert_eq!(contexts(&[], ""), (vec![77, 248], Value::Null));
    let room = Room::new();
    room.longclip(&["tokens", "x", "-m", "clip-vit-b-32"], &[])
        .ends_with(2)
        .says(&[
            "clip-vit-b-32 is not cached",
            "longclip models pull clip-vit-b-32",
        ]);
    assert_eq!(room.names(), [""; 0], "nothing is written");
}

#[test]
fn the_context_is_read_off_the_checkpoint() {
    let room = Room::new();
    let golden = ["hf-248-patch8/", "openai-patch14.pt", "longclip-patch16.pt"];
    for (name, context) in golden.into_iter().zip([248, 77, 248]) {
        unpack(name, &room.path(""));
        let ran = room
            .longclip(&["tokens", "x", "-m", name], &[])
            .ends_with(0);
        assert_eq!(
            ran.record()["contexts"][0]["context_length"],
            context,
            "{name}"
        );
        assert_eq!(ran.record()["contexts"].as_array().unwrap().len(), 1);
    }
    room.file("cut.safetensors", b"\xff\0\0\0\0\0\0\0{\"a\":");
    room.longclip(&["tokens", "x", "-m", "cut.safetensors"], &[])
        .ends_with(2)
        .says(&["cannot read model \"cut.safetensors\""]);
}

#[test]
fn texts_come_from_a_file_or_stdin_one_per_line() {
    let room = Room::new();
    room.file("texts", "a cat\r\n\n# two\n");
    let texts = |ran: &Ran| -> Vec<String> {
        let records = records(&ran.out);
        let texts = records
            .iter()
            .map(|record| record["text"].as_str().unwrap());
        texts.map(str::to_owned).collect()
    };
    let from_file = room
        .longclip(&["tokens", "--file", "texts"], &[])
        .ends_with(0);
    assert_eq!(texts(&from_file), ["a cat", "", "# two"]);
    let from_stdin = room
        .longclip_with_stdin(&["tokens", "--file", "-"], b"a cat\n\n# two")
        .ends_with(0);
    assert_eq!(from_stdin.out, from_file.out);

    let mixed = room
        .longclip_with_stdin(&["tokens", "--file", "-"], b"a\n\xff\xfe\nb\n")
        .ends_with(1);
    let mixed = mixed.says(&["-, line 2: not UTF-8"]);
    let mixed = records(&mixed.out);
    assert!(mixed[1]["error"].as_str().unwrap().contains("UTF-8"));
    assert_eq!(mixed.len(), 3);
    room.longclip_with_stdin(&["tokens", "--file", "-"], b"\xff")
        .ends_with(2);
    let empty = room
        .longclip_with_stdin(&["tokens", "--file", "-", "-f", "json"], b"")
        .ends_with(0);
    assert_eq!(empty.out, "[]\n");
    empty.says(&["no texts"]);
}

#[test]
fn every_format_holds_the_same() {
    let texts = ["a cat", "it\u{2019}s"];
    let lines = tokens(&texts).ends_with(0);
    let array = tokens(&["-f", "json", texts[0], texts[1]]).ends_with(0);
    let array: Vec<Value> = serde_json::from_str(&array.out).unwrap();
    assert_eq!(array, records(&lines.out));
    let table = tokens(&["-f", "table", texts[0], texts[1]]).ends_with(0);
    let expected = "\
\"a cat\"
  tokens   4
  of 77    fits, 73 left
  of 248   fits, 244 left
  pieces   <|startoftext|>  a</w>  cat</w>  <|endoftext|>
  ids      49406            320    2368     49407

\"it\u{2019}s\"
  cleaned  \"it's\"  (quotes)
";
    assert!(table.out.starts_with(expected), "{}", table.out);
}

#[test]
fn texts_cannot_control_the_terminal() {
    let table = tokens(&["-f", "table", "\x1b[2Jcat\u{202e}"]).ends_with(0);
    assert!(!table.out.contains(['\x1b', '\u{202e}']), "{:?}", table.out);
}

#[test]
fn wrong_usage_is_2() {
    for (arguments, expected) in [
        (&[][..], "no text given"),
        (&["--context", "1", "x"], "--context"),
        (&["--context", "9", "-m", "tiny", "x"], "--context"),
        (&["--file", "f", "x"], "--file"),
        (&["--file", "gone"], "cannot read gone"),
        (&["--file", "."], "cannot read ."),
        (&["-f", "csv", "x"], "csv"),
    ] {
        let ran = tokens(arguments).ends_with(2);
        assert_eq!(ran.out, "");
        ran.says(&[expected]);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let room = Room::new();
    room.file("texts", "a cat on a mat\n".repeat(20_000));
    for format in ["table", "json", "jsonl"] {
        let mut command = room.command();
        command.args(["tokens", "--file", "texts", "-f", format]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut first = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{format}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{format}");
    }
}
