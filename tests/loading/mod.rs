//! Requirements on a checkpoint: every mistake is reported by name, nothing is substituted.

mod companions;
mod resnet;
mod values;
mod weights;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use longclip::checkpoint::architecture::Activation;
use longclip::checkpoint::source::{self, ModelSource};
use longclip::checkpoint::{Checkpoint, hub};
use longclip::model::device::CpuPrecision;
use longclip::model::{self, Compute};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::golden::unpack;

/// Tensors by name: type, shape, bytes.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// All tensors of a safetensors file.
fn tensors_of(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let views = file.tensors().into_iter();
    views
        .map(|(name, view)| {
            let tensor = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
            (name, tensor)
        })
        .collect()
}

/// Writes them as a safetensors file.
fn write_tensors(tensors: &Tensors, path: &Path) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// A Hugging Face folder that tests can break: tensors by name, and its config.json.
struct Model {
    folder: TempDir,
    tensors: Tensors,
    config: Value,
}

impl Model {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        unpack::unpack("hf-patch16", folder.path());
        let path = folder.path().join("hf-patch16");
        let tensors = tensors_of(&path.join("model.safetensors"));
        let config = serde_json::from_slice(&std::fs::read(path.join("config.json")).unwrap());
        Self {
            folder,
            tensors,
            config: config.unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("hf-patch16")
    }

    /// The whole chain of causes, or the loaded checkpoint.
    fn load(&self) -> Result<Checkpoint, String> {
        write_tensors(&self.tensors, &self.path().join("model.safetensors"));
        let config = serde_json::to_vec(&self.config).unwrap();
        std::fs::write(self.path().join("config.json"), config).unwrap();
        load(&self.path(), None)
    }
}

fn load(path: &Path, activation: Option<Activation>) -> Result<Checkpoint, String> {
    let settings = hub::Settings::from_env();
    let load = || {
        let source: ModelSource = source::resolve(path.to_str().unwrap(), &settings, &hub::Silent)?;
        let checkpoint = Checkpoint::load(&source, &activation.into())?;
        model::load(&checkpoint, &Compute::Kernel(CpuPrecision::F32))?;
        Ok(checkpoint)
    };
    load().map_err(|error: anyhow::Error| format!("{error:#}"))
}

#[track_caller]
fn refused(model: &Model, words: &[&str]) {
    let error = model.load().err().expect("it loaded");
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
}

const Q: &str = "vision_model.encoder.layers.1.self_attn.q_proj.weight";

#[test]
fn a_good_model_loads_without_a_warning() {
    let checkpoint = Model::new().load().unwrap();
    assert_eq!(checkpoint.warnings, [""; 0]);
    assert_eq!(checkpoint.activation, Activation::QuickGelu);
    assert!(checkpoint.activation_source.contains("config.json"));
    assert_eq!(checkpoint.files.len(), 2);
}

#[test]
fn a_missing_tensor_is_named_with_its_shape() {
    let mut model = Model::new();
    model.tensors.remove(Q);
    refused(&model, &["missing", Q, "[128, 128]"]);
}

#[test]
fn a_missing_logit_scale_is_not_replaced() {
    let mut model = Model::new();
    model.tensors.remove("logit_scale");
    refused(&model, &["missing", "logit_scale"]);
}

#[test]
fn an_unused_tensor_is_named_with_its_shape() {
    let mut model = Model::new();
    let tensor = (Dtype::F32, vec![3], vec![0; 12]);
    model
        .tensors
        .insert("text_model.adapter.weight".to_owned(), tensor);
    refused(&model, &["unused", "text_model.adapter.weight", "[3]"]);
}

#[test]
fn a_misshapen_tensor_is_named_with_both_shapes() {
    let mut model = Model::new();
    model.tensors.get_mut(Q).unwrap().1 = vec![64, 256];
    refused(&model, &["misshapen", Q, "[64, 256]", "[128, 128]"]);
}

#[test]
fn a_value_that_is_not_finite_is_named() {
    for (name, value) in [
        (Q, f32::NAN),
        ("text_model.final_layer_norm.bias", f32::INFINITY),
        (
            "vision_model.embeddings.position_embedding.weight",
            f32::NAN,
        ),
    ] {
        let mut model = Model::new();
        let bytes = &mut model.tensors.get_mut(name).unwrap().2;
        bytes[40..44].copy_from_slice(&value.to_le_bytes());
        refused(&model, &[name, "element 10"]);
    }
}

#[test]
fn integer_tensors_are_refused() {
    let mut model = Model::new();
    model.tensors.get_mut(Q).unwrap().0 = Dtype::I32;
    refused(&model, &["not floating point", Q, "i32"]);
}

#[test]
fn known_buffers_are_dropped() {
    let mut model = Model::new();
    for name in [
        "text_model.embeddings.position_ids",
        "vision_model.embeddings.position_ids",
    ] {
        let tensor = (Dtype::I64, vec![1, 2], vec![0; 16]);
        model.tensors.insert(name.to_owned(), tensor);
    }
    model.load().unwrap();
}

#[test]
fn the_table_overrides_the_config_only_for_the_context_length() {
    let mut model = Model::new();
    model.config["text_config"]["max_position_embeddings"] = json!(248);
    let checkpoint = model.load().unwrap();
    assert_eq!(checkpoint.architecture.context_length, 77);
    assert!(checkpoint.warnings[0].contains("248") && checkpoint.warnings[0].contains("77"));
    for (tower, key) in [
        ("vision_config", "hidden_size"),
        ("vision_config", "patch_size"),
        ("text_config", "num_hidden_layers"),
        ("text_config", "vocab_size"),
    ] {
        let mut model = Model::new();
        model.config[tower][key] = json!(7);
        refused(&model, &["config.json", tower, key, "is 7"]);
    }
}

#[test]
fn impossible_head_counts_are_refused() {
    let mut model = Model::new();
    model.config["vision_config"]["num_attention_heads"] = json!(3);
    refused(&model, &["128", "3 attention heads"]);
}

#[test]
fn activations_come_from_the_config_and_unknown_ones_are_refused() {
    let mut model = Model::new();
    for tower in ["text_config", "vision_config"] {
        model.config[tower]["hidden_act"] = json!("gelu");
    }
    let checkpoint = model.load().unwrap();
    assert_eq!(checkpoint.activation, Activation::Gelu);
    assert_eq!(checkpoint.warnings, [""; 0]);
    let checkpoint = load(&model.path(), Some(Activation::QuickGelu)).unwrap();
    let said = "hidden_act in config.json is gelu; --activation quick_gelu overrides it";
    assert_eq!(checkpoint.warnings, [said]);
    model.config["text_config"]["hidden_act"] = json!("gelu_new");
    refused(&model, &["gelu_new", "--activation"]);
    model.config["text_config"]["hidden_act"] = json!("quick_gelu");
    refused(&model, &["different activations"]);
}

#[test]
fn a_bare_file_takes_the_activation_of_its_layout_or_asks() {
    let folder = tempfile::tempdir().unwrap();
    unpack::unpack("", folder.path());
    let at = |path: &str| load(&folder.path().join(path), None);
    for path in [
        "longclip-patch16.pt",
        "openai-patch14.pt",
        "openai-patch14.safetensors",
    ] {
        let checkpoint = at(path).unwrap();
        assert_eq!(checkpoint.activation, Activation::QuickGelu, "{path}");
        assert_eq!(checkpoint.warnings, [""; 0], "{path}");
    }
    let bare = folder.path().join("bare.safetensors");
    std::fs::copy(folder.path().join("hf-patch16/model.safetensors"), &bare).unwrap();
    let error = at("bare.safetensors").err().unwrap();
    assert!(error.contains("--activation quick_gelu"), "{error}");
    assert!(load(&bare, Some(Activation::Gelu)).is_ok());
    let weights = std::fs::read_dir(folder.path().join("open-clip")).unwrap();
    let weights = weights.map(|entry| entry.unwrap().path());
    let weights = weights.filter(|path| path.extension().is_some_and(|e| e == "safetensors"));
    let lone = folder.path().join("lone.safetensors");
    std::fs::copy(weights.last().unwrap(), &lone).unwrap();
    let checkpoint = at("lone.safetensors").unwrap();
    assert!(checkpoint.warnings[0].contains("--activation gelu"));
}

#[test]
fn unsupported_preprocessing_is_refused_and_other_means_are_used() {
    let model = Model::new();
    let file = model.path().join("preprocessor_config.json");
    for (key, value) in [
        ("resample", json!(0)),
        ("do_center_crop", json!(false)),
        ("crop_size", json!({"height": 224, "width": 224})),
        ("rescale_factor", json!(1.0)),
        ("image_mean", json!([0.5])),
    ] {
        std::fs::write(&file, json!({ key: value }).to_string()).unwrap();
        refused(&model, &["preprocessor_config.json", key]);
    }
    let config =
        json!({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 1.0], "resample": 3});
    std::fs::write(&file, config.to_string()).unwrap();
    let checkpoint = model.load().unwrap();
    assert_eq!(checkpoint.preprocess.mean, [0.5; 3]);
    assert_eq!(checkpoint.preprocess.std, [0.25, 0.5, 1.0]);
}

#[test]
fn another_vocabulary_is_refused() {
    let model = Model::new();
    let file = model.path().join("vocab.json");
    std::fs::write(&file, r#"{"<|startoftext|>": 0, "cat</w>": 1}"#).unwrap();
    refused(&model, &["vocab.json", "2 tokens", "49408"]);
}

#[test]
fn a_single_tower_is_identified() {
    for (prefix, words) in [
        ("vision_model.", "text encoder only"),
        ("text_model.", "image tower only"),
    ] {
        let mut model = Model::new();
        model.tensors.retain(|name, _| !name.starts_with(prefix));
        refused(&model, &[words]);
    }
}

#[test]
fn an_unknown_file_is_described() {
    let mut model = Model::new();
    model.tensors.retain(|name, _| name == "logit_scale");
    refused(&model, &["not the tensors of a CLIP model", "logit_scale"]);
}
