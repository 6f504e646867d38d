//! The files next to the weights: which one is used, and what `convert` keeps of it.

use longclip::checkpoint::architecture::Activation;
use longclip::checkpoint::config::ModelConfig;
use longclip::checkpoint::export::{self, Layout, Options};
use longclip::checkpoint::inspect::inspect;
use longclip::checkpoint::metadata;
use longclip::checkpoint::sizes::Stated;
use longclip::checkpoint::source::{self, ModelFiles};
use longclip::checkpoint::{Checkpoint, hub};
use longclip::input::preprocess::{CropOffset, Resize};
use serde_json::{Value, json};

use super::{Model, load, refused, unpack};

fn put(model: &Model, file: &str, content: &Value) {
    std::fs::write(model.path().join(file), content.to_string()).unwrap();
}

#[test]
fn the_image_processor_in_processor_config_wins() {
    let model = Model::new();
    put(
        &model,
        "preprocessor_config.json",
        &json!({"image_mean": [0.1, 0.1, 0.1]}),
    );
    let nested = json!({"image_processor": {"image_mean": [0.5, 0.5, 0.5]}, "processor_class": "CLIPProcessor"});
    put(&model, "processor_config.json", &nested);
    let checkpoint = model.load().unwrap();
    assert_eq!(checkpoint.preprocess.mean, [0.5; 3]);
    assert_eq!(checkpoint.warnings, [""; 0]);
    // An older file of that name has no image processor.
    put(
        &model,
        "processor_config.json",
        &json!({"processor_class": "CLIPProcessor"}),
    );
    assert_eq!(model.load().unwrap().preprocess.mean, [0.1; 3]);
}

#[test]
fn the_crop_is_rounded_as_the_owner_of_the_folder_does() {
    let model = Model::new();
    assert_eq!(
        model.load().unwrap().preprocess.offset,
        CropOffset::HalfToEven
    );
    put(&model, "preprocessor_config.json", &json!({}));
    assert_eq!(model.load().unwrap().preprocess.offset, CropOffset::Floor);
}

#[test]
fn inspect_reports_the_same_as_loading() {
    let model = Model::new();
    model.load().unwrap();
    put(
        &model,
        "tokenizer_config.json",
        &json!({"padding_side": "left"}),
    );
    refused(&model, &["tokenizer_config.json: padding_side is \"left\""]);
    let settings = hub::Settings::from_env();
    let found = source::resolve(model.path().to_str().unwrap(), &settings, &hub::Silent).unwrap();
    let found = inspect(&found, &Stated::default());
    assert!(!found.loads);
    assert!(found.error.unwrap().contains("padding_side is \"left\""));
}

#[test]
fn the_names_of_the_weights_decide_which_configuration_is_used() {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack("open-clip", folder.path());
    let path = folder.path().join("open-clip");
    let strange = json!({"architecture": "vit_base", "num_classes": 0, "pretrained_cfg": {}});
    let other = json!({"model_type": "clip", "text_config": {"hidden_act": "quick_gelu"}});
    for config in [strange, other] {
        std::fs::write(path.join("config.json"), config.to_string()).unwrap();
        std::fs::write(path.join("preprocessor_config.json"), "{\"resample\": 0}").unwrap();
        let checkpoint = load(&path, None).unwrap();
        assert_eq!(checkpoint.activation, Activation::Gelu);
        assert_eq!(checkpoint.warnings, [""; 0], "{config}");
        assert_eq!(checkpoint.preprocess.offset, CropOffset::HalfToEven);
    }
}

/// A converted copy of the checkpoint, loaded again, or the error of the conversion.
fn converted(checkpoint: &Checkpoint, name: &str, layout: Layout) -> Result<Checkpoint, String> {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join(name);
    let options = Options {
        layout,
        dtype: None,
        force: false,
    };
    let header = metadata::describe(checkpoint, &[]);
    export::write(checkpoint, &header, &target, &options).map_err(|error| format!("{error:#}"))?;
    load(&target, None)
}

#[test]
fn preprocessing_and_epsilons_survive_conversion_or_stop_it() {
    let mut model = Model::new();
    model.config["text_config"]["layer_norm_eps"] = json!(1e-3);
    let processor = json!({
        "size": {"height": 48, "width": 48}, "crop_size": 48,
        "image_mean": [0.5, 0.5, 0.5], "image_std": 0.25,
    });
    put(&model, "preprocessor_config.json", &processor);
    let before = model.load().unwrap();
    assert_eq!(
        before.preprocess.resize,
        Resize::Exact {
            width: 48,
            height: 48
        }
    );
    for (name, layout) in [
        ("out", Layout::HuggingFace),
        ("out", Layout::OpenClip),
        ("out.safetensors", Layout::HuggingFace),
    ] {
        let after = converted(&before, name, layout).unwrap();
        assert_eq!(after.preprocess, before.preprocess, "{name} {layout:?}");
        assert_eq!(after.architecture, before.architecture, "{name} {layout:?}");
    }
    for (name, layout, word) in [
        ("out.pt", Layout::HuggingFace, "preprocessing"),
        ("out.safetensors", Layout::OpenClip, "epsilon"),
        ("out.pt", Layout::OpenAi, "epsilon"),
    ] {
        let error = converted(&before, name, layout).err().unwrap();
        assert!(error.contains(word), "{name} {layout:?}: {error}");
    }
    // A crop from a larger image, which an open_clip folder cannot express.
    put(
        &model,
        "preprocessor_config.json",
        &json!({"size": 64, "crop_size": 48}),
    );
    model.config["text_config"]["layer_norm_eps"] = json!(1e-5);
    let before = model.load().unwrap();
    let after = converted(&before, "out", Layout::HuggingFace).unwrap();
    assert_eq!(after.preprocess, before.preprocess);
    let error = converted(&before, "out", Layout::OpenClip).err().unwrap();
    assert!(error.contains("preprocessing"), "{error}");
}

#[test]
fn a_file_that_is_not_an_object_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    for (content, words) in [("[]", "not a JSON object"), ("{", "not JSON")] {
        std::fs::write(&path, content).unwrap();
        let files = ModelFiles {
            config: Some(path.clone()),
            ..ModelFiles::default()
        };
        let error = format!("{:#}", ModelConfig::read(&files).unwrap_err());
        assert!(
            error.contains("config.json") && error.contains(words),
            "{error}"
        );
    }
}
