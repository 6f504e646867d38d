//! Weights as training programs write them: under a prefix, with a logit bias, with head counts
//! that no file gives.

use std::path::Path;

use longclip::checkpoint::architecture::Activation;
use longclip::checkpoint::sizes::{Heads, Stated};
use longclip::checkpoint::source::resolve;
use longclip::checkpoint::{Checkpoint, hub};
use safetensors::Dtype;

use super::{Model, Q, refused, write_tensors};

#[test]
fn a_prefix_shared_by_all_names_changes_nothing() {
    let plain = Model::new().load().unwrap();
    for prefix in ["model.", "net.", "student.clip.", "module._orig_mod."] {
        let mut model = Model::new();
        let tensors = std::mem::take(&mut model.tensors).into_iter();
        model.tensors = tensors
            .map(|(name, tensor)| (format!("{prefix}{name}"), tensor))
            .collect();
        let found = model.load().unwrap();
        assert!(found.tensors.keys().eq(plain.tensors.keys()), "{prefix}");
        let values = |checkpoint: &Checkpoint| checkpoint.tensors[Q].to_f32().unwrap();
        assert!(values(&found) == values(&plain), "{prefix}");
        let stranger = (Dtype::F32, vec![3], vec![0; 12]);
        model.tensors.insert("loss.weight".to_owned(), stranger);
        refused(&model, &["another is not", "loss.weight"]);
    }
}

#[test]
fn a_logit_bias_is_kept_in_either_shape() {
    for shape in [vec![], vec![1]] {
        let mut model = Model::new();
        let bytes = (-7.5f32).to_le_bytes().to_vec();
        let tensor = (Dtype::F32, shape, bytes);
        model.tensors.insert("logit_bias".to_owned(), tensor);
        let bias = model.load().unwrap().logit_bias();
        assert_eq!(bias.unwrap(), Some(-7.5));
    }
    assert_eq!(Model::new().load().unwrap().logit_bias().unwrap(), None);
    let mut model = Model::new();
    let tensor = (Dtype::F32, vec![2], vec![0; 8]);
    model.tensors.insert("logit_bias".to_owned(), tensor);
    refused(&model, &["misshapen", "logit_bias is [2]"]);
}

#[test]
fn user_given_head_counts_win() {
    let model = Model::new();
    let bare = model.folder.path().join("bare.safetensors");
    write_tensors(&model.tensors, &bare);
    write_tensors(&model.tensors, &model.path().join("model.safetensors"));
    let load = |path: &Path, heads| {
        let source = resolve(
            path.to_str().unwrap(),
            &hub::Settings::from_env(),
            &hub::Silent,
        );
        let stated = Stated {
            activation: Some(Activation::QuickGelu),
            heads,
        };
        Checkpoint::load(&source.unwrap(), &stated)
    };
    let heads = |image, text| Heads { image, text };
    for path in [&bare, &model.path()] {
        for (stated, expected) in [
            (heads(Some(4), None), Ok(4)),
            (heads(Some(8), Some(1)), Ok(8)),
            (heads(Some(7), None), Err("7 attention heads")),
        ] {
            match (load(path, stated), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.heads().image, expected),
                (Err(error), Err(expected)) => {
                    assert!(format!("{error:#}").contains(expected), "{error:#}");
                }
                (found, _) => panic!("{stated:?}: {:?}", found.map(|found| found.heads())),
            }
        }
    }
    let found = load(&bare, Heads::default()).unwrap();
    assert!(
        found
            .warnings
            .iter()
            .any(|warning| warning.contains("--heads"))
    );
}
