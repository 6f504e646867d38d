//! Token ids against the fixtures that openai/CLIP made, and against another tokenizer.

mod independent;

use std::io::Write as _;
use std::path::Path;

use longclip::input::text::clean;
use longclip::input::tokenizer::encode;
use serde_json::{Value, json};

/// The cases of one file that `tests/golden/tokens.py` wrote.
fn cases(file: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/expected/tokens");
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let cases: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert!(!cases.is_empty());
    cases
}

fn text(case: &Value) -> &str {
    case["text"].as_str().unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn token_ids_are_those_of_the_reference() {
    let differing: Vec<String> = cases("same.jsonl")
        .iter()
        .filter(|case| encode(text(case)) != ids(&case["ids"]))
        .map(|case| format!("{case}\n  ours {:?}", encode(text(case))))
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// The differences that are known and accepted, one or more cases of each class. A case that stops
/// differing belongs in the other file.
#[test]
fn known_differences_are_still_what_they_were() {
    for case in cases("differing.jsonl") {
        assert_ne!(ids(&case["ids"]), ids(&case["ours"]), "{case}");
        assert_eq!(encode(text(&case)), ids(&case["ours"]), "{case}");
    }
}

#[test]
fn the_tokenizers_crate_agrees_on_text_that_needs_no_repair() {
    let other = independent::tokenizer();
    let mut compared = 0;
    for case in cases("same.jsonl") {
        let text = text(&case);
        // Beyond composing and lowering single characters the other tokenizer cleans nothing.
        let repaired = clean(text) != text.to_lowercase() || text.contains('Σ');
        let odd = ["<|", "'ſ", "\u{345}"]
            .iter()
            .any(|piece| text.contains(piece));
        if !repaired && !odd {
            let theirs = other.encode(text, false).unwrap();
            let ours = encode(text);
            assert_eq!(ours[1..ours.len() - 1], *theirs.get_ids(), "{text:?}");
            compared += 1;
        }
    }
    assert!(
        compared > 500,
        "only {compared} cases were fit for a comparison"
    );
}

/// The far end of `tests/golden/tokens.py`: one JSON string a line in, one object a line out.
#[test]
#[ignore = "needs the reference implementation; run with python3 tests/golden/tokens.py --help"]
fn dump_token_ids_for_the_comparison() {
    let path = |name| std::env::var_os(name).unwrap_or_else(|| panic!("{name} names no file"));
    let input = std::fs::read_to_string(path("LONGCLIP_TOKENS_IN")).unwrap();
    let output = std::fs::File::create(path("LONGCLIP_TOKENS_OUT")).unwrap();
    let mut output = std::io::BufWriter::new(output);
    for line in input.lines() {
        let text: String = serde_json::from_str(line).unwrap();
        let record = json!({"clean": clean(&text), "ids": encode(&text)});
        writeln!(output, "{record}").unwrap();
    }
    output.flush().unwrap();
}
