//! Repositories of other libraries, where the model is not the file with the standard name.

use crate::hub::stand_in::StandIn;
use crate::hub::{Room, weights};

/// The weights' path within the snapshot, and whether config.json is used for them.
fn found(files: &[(&str, Vec<u8>)]) -> (String, bool) {
    let room = Room::new(StandIn::honest(files));
    let first = room.resolve("owner/model").unwrap();
    let requests = room.hub.seen().len();
    // From the cache the result is the same, without a request.
    assert_eq!(room.resolve("owner/model").unwrap(), first);
    assert_eq!(room.hub.seen().len(), requests);
    let path = first.weights[0].to_str().unwrap();
    let (_, snapshot) = path.split_once("/snapshots/").unwrap();
    let (_, file) = snapshot.split_once('/').unwrap();
    (file.to_owned(), first.config.is_some())
}

#[test]
fn in_a_timm_repository_open_clips_weights_are_used() {
    let timm = br#"{"architecture": "vit_base_patch16_clip_224", "num_classes": 0}"#.to_vec();
    let transformers = br#"{"model_type": "clip"}"#.to_vec();
    for (config, expected) in [
        (timm, ("open_clip_model.safetensors", false)),
        (transformers, ("model.safetensors", true)),
    ] {
        let files = [
            ("config.json", config),
            ("model.safetensors", weights()),
            ("open_clip_config.json", b"{}".to_vec()),
            ("open_clip_model.safetensors", weights()),
        ];
        let (file, has_config) = found(&files);
        assert_eq!((file.as_str(), has_config), expected);
    }
}

#[test]
fn in_a_sentence_transformers_repository_the_clip_model_is_used() {
    let modules = br#"[{"idx": 0, "name": "0", "path": "0_CLIPModel",
        "type": "sentence_transformers.models.CLIPModel"}]"#;
    for name in ["model.safetensors", "pytorch_model.bin"] {
        let weights_file = format!("0_CLIPModel/{name}");
        let files = [
            ("config_sentence_transformers.json", b"{}".to_vec()),
            ("modules.json", modules.to_vec()),
            ("0_CLIPModel/config.json", b"{}".to_vec()),
            ("0_CLIPModel/preprocessor_config.json", b"{}".to_vec()),
            (weights_file.as_str(), weights()),
        ];
        assert_eq!(found(&files), (weights_file.clone(), true));
    }
}

#[test]
fn a_repository_with_models_only_in_folders_lists_them() {
    let room = Room::new(StandIn::honest(&[
        ("README.md", Vec::new()),
        ("text_encoder/model.safetensors", weights()),
    ]));
    let (error, _) = room.failure("owner/model");
    assert!(
        error.contains("its folders hold text_encoder/model.safetensors"),
        "{error}"
    );
}
