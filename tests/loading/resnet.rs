//! The same for CLIP's ResNets: no tensor missing, unused, misshapen or not finite.

use std::path::PathBuf;

use longclip::checkpoint::Checkpoint;
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Tensors, load, tensors_of, unpack, write_tensors};

/// An open_clip folder of a tiny ResNet that tests can break.
struct Model {
    folder: TempDir,
    tensors: Tensors,
    config: Value,
}

impl Model {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        unpack::unpack_from("resnet", "resnet-open-clip", folder.path());
        let path = folder.path().join("resnet-open-clip");
        let tensors = tensors_of(&path.join("open_clip_model.safetensors"));
        let config = std::fs::read(path.join("open_clip_config.json")).unwrap();
        Self {
            folder,
            tensors,
            config: serde_json::from_slice(&config).unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("resnet-open-clip")
    }

    /// A tensor of zeros with another shape.
    fn reshape(&mut self, name: &str, shape: &[usize]) {
        let bytes = vec![0; 4 * shape.iter().product::<usize>()];
        *self.tensors.get_mut(name).unwrap() = (Dtype::F32, shape.to_vec(), bytes);
    }

    fn load(&self) -> Result<Checkpoint, String> {
        let file = self.path().join("open_clip_model.safetensors");
        write_tensors(&self.tensors, &file);
        let config = serde_json::to_vec(&self.config).unwrap();
        std::fs::write(self.path().join("open_clip_config.json"), config).unwrap();
        load(&self.path(), None)
    }
}

#[track_caller]
fn refused(model: &Model, words: &[&str]) {
    let error = model.load().err().expect("it loaded");
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
}

#[test]
fn a_resnet_loads_without_a_warning() {
    let checkpoint = Model::new().load().unwrap();
    assert_eq!(checkpoint.warnings, [""; 0]);
    assert_eq!(checkpoint.architecture.image.patch_size(), None);
    assert_eq!(
        checkpoint.architecture.image.describe(),
        "RN-1.2.1.1x6@64px"
    );
}

#[test]
fn missing_tensors_of_a_resnet_are_named() {
    for name in [
        "visual.conv2.weight",
        "visual.bn3.running_var",
        "visual.layer1.0.conv1.weight",
        "visual.layer2.1.bn2.running_mean",
        "visual.layer4.0.conv1.weight",
        "visual.layer3.0.downsample.0.weight",
        "visual.attnpool.positional_embedding",
        "visual.attnpool.k_proj.bias",
    ] {
        let mut model = Model::new();
        model.tensors.remove(name);
        refused(&model, &["missing", name]);
    }
}

#[test]
fn misshapen_tensors_of_a_resnet_are_named() {
    for (name, shape) in [
        ("visual.conv1.weight", &[3, 4, 3, 3][..]),
        ("visual.layer1.0.conv2.weight", &[6, 6, 5, 5]),
        ("visual.layer4.0.bn1.bias", &[47]),
        ("visual.attnpool.c_proj.weight", &[40, 64]),
    ] {
        let mut model = Model::new();
        model.reshape(name, shape);
        refused(&model, &["misshapen"]);
    }
    let mut model = Model::new();
    model.config = json!({});
    model.reshape("visual.layer1.0.conv1.weight", &[8, 8, 1, 1]);
    refused(&model, &["misshapen"]);
    let mut model = Model::new();
    model.reshape("visual.layer1.0.conv1.weight", &[5, 5, 1, 1]);
    refused(&model, &["stem has 5 channels"]);
    let mut model = Model::new();
    model.reshape("visual.layer1.0.conv1.weight", &[6, 6, 3, 3]);
    refused(&model, &["[channels, channels, 1, 1]"]);
    let mut model = Model::new();
    model.reshape("visual.attnpool.positional_embedding", &[6, 192]);
    refused(&model, &["6 positions"]);
}

#[test]
fn unused_tensors_of_a_resnet_are_named() {
    for name in [
        "visual.proj",
        "visual.layer5.0.conv1.weight",
        "visual.layer1.0.bn4.weight",
    ] {
        let mut model = Model::new();
        let tensor = (Dtype::F32, vec![1], vec![0; 4]);
        model.tensors.insert(name.to_owned(), tensor);
        refused(&model, &["unused", name]);
    }
}

#[test]
fn values_of_a_resnet_that_are_not_finite_are_named() {
    for name in [
        "visual.conv1.weight",
        "visual.layer2.0.conv2.weight",
        "visual.layer3.0.bn1.running_mean",
        "visual.layer1.0.bn2.running_var",
        "visual.attnpool.positional_embedding",
        "visual.attnpool.q_proj.weight",
        "visual.attnpool.k_proj.weight",
        "visual.attnpool.k_proj.bias",
        "visual.attnpool.v_proj.weight",
    ] {
        for value in [f32::NAN, f32::INFINITY] {
            let mut model = Model::new();
            let bytes = &mut model.tensors.get_mut(name).unwrap().2;
            bytes[8..12].copy_from_slice(&value.to_le_bytes());
            refused(&model, &[name, "element 2"]);
        }
    }
    let mut model = Model::new();
    let name = "visual.layer1.0.bn2.running_var";
    let bytes = &mut model.tensors.get_mut(name).unwrap().2;
    bytes[8..12].copy_from_slice(&(-1.0f32).to_le_bytes());
    refused(&model, &[name, "-1"]);
}

#[test]
fn a_resnet_and_its_config_must_agree() {
    for (key, value) in [
        ("layers", json!([3, 4, 6, 3])),
        ("layers", json!(12)),
        ("width", json!(64)),
        ("image_size", json!(224)),
    ] {
        let mut model = Model::new();
        model.config["model_cfg"]["vision_cfg"][key] = value;
        refused(&model, &["open_clip_config.json", "vision_cfg", key]);
    }
}
