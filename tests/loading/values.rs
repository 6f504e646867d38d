//! Values that are there but cannot be meant: of another kind, out of range, not finite.

use std::collections::HashMap;

use longclip::checkpoint::Checkpoint;
use longclip::checkpoint::source::resolve;
use longclip::checkpoint::{hub, inspect};
use longclip::input::tokenizer::{TokenIds, encode};
use longclip::model::device::CpuPrecision;
use longclip::model::{self, Compute, DualEncoder as _};
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::{Model, load, refused};

fn set_f32(model: &mut Model, name: &str, at: usize, value: f32) {
    let bytes = &mut model.tensors.get_mut(name).unwrap().2;
    bytes[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes());
}

/// What `inspect` says of the model's folder: whether it loads, and why not.
fn inspected(model: &Model) -> (bool, String) {
    let name = model.path();
    let settings = hub::Settings::from_env();
    let source = resolve(name.to_str().unwrap(), &settings, &hub::Silent).unwrap();
    let found = inspect::inspect(&source, &None.into());
    (found.loads, found.error.unwrap_or_default())
}

#[test]
fn a_setting_of_another_kind_is_named_wherever_it_stands() {
    for (key, value) in [
        ("num_attention_heads", json!(-1)),
        ("num_hidden_layers", json!(2.5)),
        ("layer_norm_eps", json!("nan")),
        ("hidden_act", json!(3)),
        ("projection_dim", json!("128")),
        ("attention_dropout", json!([0.0])),
    ] {
        for tower in [None, Some("text_config"), Some("vision_config")] {
            let mut model = Model::new();
            match tower {
                None => model.config[key] = value.clone(),
                Some(tower) => model.config[tower][key] = value.clone(),
            }
            let shown = value.to_string();
            refused(&model, &["config.json: ", tower.unwrap_or(""), key, &shown]);
        }
    }
    for value in [json!(null), json!([]), json!("clip"), json!(1)] {
        let mut model = Model::new();
        model.config = value.clone();
        refused(
            &model,
            &["config.json is", &value.to_string(), "not a JSON object"],
        );
    }
}

#[test]
fn other_files_next_to_the_weights_are_as_strict() {
    for (file, content, words) in [
        (
            "preprocessor_config.json",
            json!({"do_normalize": "false"}),
            "do_normalize is \"false\", not true or false",
        ),
        ("preprocessor_config.json", json!([]), "not a JSON object"),
        (
            "processor_config.json",
            json!({"image_processor": {"do_resize": "no"}}),
            "image_processor.do_resize is \"no\"",
        ),
        (
            "tokenizer_config.json",
            json!({"model_max_length": "77"}),
            "model_max_length is \"77\", not a number",
        ),
        (
            "tokenizer_config.json",
            Value::Null,
            "tokenizer_config.json is null",
        ),
        (
            "open_clip_config.json",
            json!({"model_cfg": 7}),
            "model_cfg is 7, not an object",
        ),
    ] {
        let model = Model::new();
        std::fs::write(model.path().join(file), content.to_string()).unwrap();
        if file.starts_with("open_clip") {
            // Without the other library's file it is the one that counts.
            model.load().unwrap();
            std::fs::remove_file(model.path().join("config.json")).unwrap();
            let error = load(&model.path(), None).err().unwrap();
            assert!(error.contains(words), "{error}");
        } else {
            refused(&model, &[words]);
        }
    }
}

#[test]
fn a_configuration_has_only_so_many_keys() {
    let mut model = Model::new();
    for number in 0..20_000 {
        model.config[format!("key{number}")] = json!(number);
    }
    refused(&model, &["config.json", "keys, too many"]);
}

#[test]
fn the_header_of_the_weights_has_numbers_where_convert_writes_them() {
    for (key, value) in [
        ("longclip.text_heads", "2.5"),
        ("longclip.vision_heads", "0"),
        ("longclip.text_norm_epsilon", "nan"),
        ("longclip.preprocess", "[]"),
    ] {
        let model = Model::new();
        let views = model.tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        let mut header = HashMap::from([("longclip.activation", "quick_gelu"), (key, value)]);
        header.entry("longclip.text_heads").or_insert("2");
        let header = header
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let file = model.folder.path().join("lone.safetensors");
        safetensors::serialize_to_file(views, Some(header.collect()), &file).unwrap();
        let error = load(&file, None).err().expect("it loaded");
        assert!(
            error.contains(&format!("{key} is ")) && error.contains(value),
            "{error}"
        );
    }
}

#[test]
fn a_logit_scale_that_says_nothing_is_refused() {
    for value in [-100.0, -0.5, 11.0, 80.0, f32::NAN, f32::INFINITY] {
        let mut model = Model::new();
        set_f32(&mut model, "logit_scale", 0, value);
        refused(&model, &["logit_scale", &value.to_string()]);
        let (loads, why) = inspected(&model);
        assert!(!loads && why.contains("logit_scale"), "{value}: {why}");
    }
    let mut model = Model::new();
    set_f32(&mut model, "logit_scale", 0, 100f32.ln());
    model.load().unwrap();
}

#[test]
fn a_token_that_is_not_finite_is_named_when_it_is_read_and_by_inspect() {
    const TOKENS: &str = "text_model.embeddings.token_embedding.weight";
    let dog = encode("dog");
    for row in [0, dog[1] as usize] {
        let mut model = Model::new();
        let width = model.tensors[TOKENS].1[1];
        set_f32(&mut model, TOKENS, row * width, f32::NAN);
        // The table is not read as a whole: a run needs few of its rows.
        let checkpoint: Checkpoint = model.load().unwrap();
        let clip = model::load(&checkpoint, &Compute::Kernel(CpuPrecision::F32)).unwrap();
        let encoded = clip.encode_text(&[TokenIds::new(dog.clone()).unwrap()]);
        match row {
            0 => assert!(encoded.is_ok()),
            _ => {
                let error = format!("{:#}", encoded.unwrap_err());
                assert!(error.contains(&format!("row {row}")), "{error}");
                assert!(error.contains(TOKENS) && error.contains("NaN"), "{error}");
            }
        }
        let (loads, why) = inspected(&model);
        assert!(!loads && why.contains(TOKENS), "{row}: {why}");
    }
}
