//! Scores, top-k and thresholds.

use serde_json::Value;

use crate::room::{Room, labels, number};

const LABELS: [&str; 4] = ["-l", "cat", "dog", "bus"];

fn record(arguments: &[&str]) -> Value {
    let room = Room::with(&["a.png"]);
    room.classify(&[&["a.png"], arguments].concat())
        .ends_with(0)
        .record()
}

fn scored(score: &str, more: &[&str]) -> Value {
    record(&[&LABELS[..], &["--score", score], more].concat())
}

#[test]
fn only_softmax_and_sigmoid_have_probabilities() {
    for (score, has_probability) in [
        ("softmax", true),
        ("sigmoid", true),
        ("cosine", false),
        ("logit", false),
    ] {
        let record = scored(score, &[]);
        for prediction in record["predictions"].as_array().unwrap() {
            assert_eq!(
                prediction.get("probability").is_some(),
                has_probability,
                "{score}"
            );
            assert!(prediction["logit"].is_number() && prediction["cosine"].is_number());
        }
    }
}

#[test]
fn every_score_gives_the_same_order_logits_and_cosines() {
    let softmax = scored("softmax", &[]);
    assert_eq!(record(&LABELS), softmax, "the default");
    for score in ["cosine", "logit", "sigmoid"] {
        let other = scored(score, &[]);
        assert_eq!(labels(&other), labels(&softmax));
        for label in labels(&softmax) {
            for key in ["logit", "cosine"] {
                assert_eq!(number(&other, label, key), number(&softmax, label, key));
            }
        }
    }
}

#[test]
fn softmax_follows_from_the_logits() {
    let record = scored("softmax", &[]);
    let logit = |label: &str| number(&record, label, "logit");
    let largest = labels(&record)
        .iter()
        .map(|label| logit(label))
        .fold(f64::MIN, f64::max);
    let sum: f64 = labels(&record)
        .iter()
        .map(|label| (logit(label) - largest).exp())
        .sum();
    for label in labels(&record) {
        let expected = (logit(label) - largest).exp() / sum;
        assert!(
            (number(&record, label, "probability") - expected).abs() < 1e-5,
            "{label}"
        );
    }
}

#[test]
fn sigmoid_compares_each_label_with_the_none_label() {
    let text = ["a photo", "nothing"];
    for (index, more) in [&[][..], &["--none-label", "nothing"]]
        .into_iter()
        .enumerate()
    {
        let record = scored("sigmoid", more);
        let none = self::record(&["--score", "logit", "-l", text[index]]);
        let none = number(&none, text[index], "logit");
        for label in labels(&record) {
            let expected = 1.0 / (1.0 + (none - number(&record, label, "logit")).exp());
            let probability = number(&record, label, "probability");
            assert!(
                (probability - expected).abs() < 1e-4,
                "{label} {probability} {expected}"
            );
        }
    }
}

#[test]
fn another_label_does_not_change_a_sigmoid_probability() {
    let alone = record(&["-l", "cat", "--score", "sigmoid"]);
    let among = scored("sigmoid", &[]);
    assert_eq!(
        number(&alone, "cat", "probability"),
        number(&among, "cat", "probability")
    );
    let softmax = |labels: &[&str]| number(&record(labels), "cat", "probability");
    assert_ne!(
        softmax(&["-l", "cat", "dog"]),
        softmax(&["-l", "cat", "dog", "cats"])
    );
}

#[test]
fn top_k_keeps_the_best() {
    let all = scored("softmax", &[]);
    for (k, count) in [("1", 1), ("2", 2), ("3", 3), ("50", 3)] {
        let best = scored("softmax", &["-k", k]);
        let expected = &all["predictions"].as_array().unwrap()[..count];
        assert_eq!(best["predictions"].as_array().unwrap(), expected);
        assert_eq!(scored("softmax", &["--top-k", k]), best);
    }
}

#[test]
fn a_threshold_keeps_labels_at_or_above_it() {
    for (score, key) in [
        ("softmax", "probability"),
        ("sigmoid", "probability"),
        ("cosine", "cosine"),
        ("logit", "logit"),
    ] {
        let all = scored(score, &[]);
        let second = labels(&all)[1];
        let least = all["predictions"][1][key].to_string();
        let kept = scored(score, &["--threshold", &least]);
        assert_eq!(labels(&kept), [labels(&all)[0], second], "{score} {least}");
    }
    assert_eq!(labels(&scored("logit", &["--threshold", "-1000"])).len(), 3);
}

#[test]
fn a_threshold_that_nothing_reaches_leaves_an_answer_without_predictions() {
    let record = scored("softmax", &["--threshold", "1"]);
    assert_eq!(record["predictions"], serde_json::json!([]));
    assert!(record.get("error").is_none());
    let room = Room::with(&["a.png"]);
    let in_format = |format| {
        let arguments = [&["a.png", "-f", format, "--threshold", "1"], &LABELS[..]].concat();
        room.classify(&arguments).ends_with(0).out
    };
    assert_eq!(in_format("csv").lines().nth(1), Some("a.png,,,,,,"));
    assert_eq!(
        in_format("table"),
        "a.png\n  no label reaches the threshold\n"
    );
}
