use serde_json::json;

use super::*;
use crate::embedding::Kind;
use crate::embedding::probe::write;
use crate::embedding::testing::about;

fn linear() -> ProbeFile {
    ProbeFile {
        about: about(Kind::Images, 3),
        classes: vec!["n1".to_owned(), "b_c".to_owned()],
        labels: vec!["a".to_owned(), "b c".to_owned()],
        method: "linear".to_owned(),
        hyperparameters: json!({"l2": 0.5}),
        scores: json!({}),
        weights: vec![1.0, -2.0, 0.25, f32::MIN_POSITIVE, 5.0, 6.0],
        bias: vec![0.5, -0.5],
        keys: None,
        texts: None,
    }
}

fn tip_adapter() -> ProbeFile {
    ProbeFile {
        method: "tip-adapter".to_owned(),
        hyperparameters: json!({"alpha": 1.5, "beta": 5.5}),
        keys: Some(Keys {
            embeddings: vec![0.0, 1.0, 0.0, 1.0, 0.0, 0.0],
            classes: vec![1, 0],
            alpha: 1.5,
            beta: 5.5,
        }),
        ..linear()
    }
}

fn zero_shot() -> ProbeFile {
    let texts = Texts {
        logit_scale: 100.00001,
        logit_bias: Some(-10.1),
        labels_sha256: "0".repeat(64),
        is_for_sigmoid: false,
        none: Some(NoneRows {
            label: "none of these".to_owned(),
            embeddings: vec![0.6, 0.8, 0.0, 0.0, 0.0, -1.0],
        }),
    };
    ProbeFile {
        method: ZERO_SHOT.to_owned(),
        hyperparameters: texts.to_json(),
        weights: vec![0.0, 1.0, 0.0, 0.8, 0.0, 0.6],
        bias: vec![0.0; 2],
        texts: Some(texts),
        ..linear()
    }
}

#[test]
fn what_was_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.safetensors");
    for probe in [linear(), tip_adapter(), zero_shot()] {
        write(&path, &probe).unwrap();
        assert_eq!(read(&path).unwrap(), probe);
    }
}

type Change = fn(&mut ProbeFile);

/// Fails unless each change makes a file that is refused with these words and its name.
fn refuse(path: &Path, whole: &ProbeFile, cases: &[(Change, &str)]) {
    for (change, part) in cases {
        let mut probe = whole.clone();
        change(&mut probe);
        write(path, &probe).unwrap();
        let error = format!("{:#}", read(path).unwrap_err());
        assert!(
            error.contains(part) && error.contains("p.safetensors"),
            "{error}"
        );
    }
}

#[test]
fn inconsistent_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.safetensors");
    let cases: [(Change, &str); 9] = [
        (|p| p.weights[1] = f32::NAN, "\"weight\" holds NaN"),
        (|p| p.bias[0] = f32::INFINITY, "\"bias\" holds inf"),
        (|p| p.labels[1] = "a".to_owned(), "twice among the labels"),
        (|p| p.classes[0] = " ".to_owned(), "has no name"),
        (|p| p.labels.truncate(1), "2 classes and 1 labels"),
        (|p| p.method = "magic".to_owned(), "\"magic\" is unknown"),
        (|p| p.hyperparameters = json!({}), "lack \"alpha\""),
        (|p| p.keys = None, "no list \"key_classes\""),
        (
            |p| p.keys.iter_mut().for_each(|k| k.classes[0] = 2),
            "has no class",
        ),
    ];
    refuse(&path, &tip_adapter(), &cases);
}

#[test]
fn inconsistent_texts_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.safetensors");
    let cases: [(Change, &str); 5] = [
        (
            |p| p.hyperparameters["logit_scale"] = json!("x"),
            "logit_scale",
        ),
        (
            |p| p.hyperparameters["logit_scale"] = json!(-1),
            "logit_scale -1 is not",
        ),
        (
            |p| p.hyperparameters["logit_bias"] = json!(1e300),
            "logit_bias",
        ),
        (
            |p| p.hyperparameters["scores"] = json!("magic"),
            "\"magic\"",
        ),
        (|p| p.texts = None, "no texts \"none\""),
    ];
    refuse(&path, &zero_shot(), &cases);
}

#[test]
fn numbers_that_overflow_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.safetensors");
    let cases: [(Change, &str); 4] = [
        (|p| p.weights.fill(3e38), "row 0 of the tensor \"weight\""),
        (|p| p.bias[1] = -3e38, "the tensor \"bias\" holds -3e38"),
        (|p| p.hyperparameters["alpha"] = json!(1e300), "alpha 1e300"),
        (|p| p.hyperparameters["beta"] = json!(1e300), "beta 1e300"),
    ];
    refuse(&path, &tip_adapter(), &cases);
    // Large but finite ones are accepted.
    let mut large = tip_adapter();
    large.weights.fill(1e29);
    write(&path, &large).unwrap();
    assert_eq!(read(&path).unwrap(), large);
}

#[test]
fn damaged_and_cut_files_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.safetensors");
    write(&path, &tip_adapter()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(read(&path).is_err(), "{length}");
    }
    let mut random = 1u64;
    for _ in 0..2000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695);
        let mut bytes = whole.clone();
        let at = (random >> 33) as usize % bytes.len();
        bytes[at] = [0, 0xff, 0x7f, b'9', bytes[at] ^ 1][(random >> 20) as usize % 5];
        std::fs::write(&path, &bytes).unwrap();
        // Whatever is read is what was written.
        if let Ok(probe) = read(&path) {
            assert_eq!(probe, tip_adapter(), "byte {at}");
        }
    }
    assert!(read(folder.path()).is_err());
}
