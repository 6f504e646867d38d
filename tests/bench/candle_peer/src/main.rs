//! candle-transformers' CLIP, timed the way `peers.py` times the Python peers.
//!
//! `candle-peer CHECKPOINT TOKENS.json SECONDS` reads a Hugging Face folder and a JSON object of
//! token lists by name, and prints one JSON object of medians. RAYON_NUM_THREADS sets the threads.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::clip::text_model::{Activation, ClipTextConfig};
use candle_transformers::models::clip::vision_model::ClipVisionConfig;
use candle_transformers::models::clip::{ClipConfig, ClipModel};
use serde_json::{Map, Value, json};

/// Pads shorter texts of a batch.
const END_OF_TEXT: u32 = 49407;
const TEXT_BATCH: usize = 256;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, checkpoint, tokens, seconds] = arguments.as_slice() else {
        anyhow::bail!("usage: candle-peer CHECKPOINT TOKENS.json SECONDS");
    };
    let budget = Duration::from_secs_f64(seconds.parse()?);
    let start = Instant::now();
    let checkpoint = Path::new(checkpoint);
    let config = config(&read(&checkpoint.join("config.json"))?)?;
    let file = std::fs::read(checkpoint.join("model.safetensors"))?;
    let weights = VarBuilder::from_buffered_safetensors(file, DType::F32, &Device::Cpu)?;
    let model = ClipModel::new(weights, &config)?;
    let mut report = Map::new();
    report.insert("load_ms".into(), json!(milliseconds(start.elapsed())));
    for batch in [1, 16] {
        let shape = (batch, 3, config.image_size, config.image_size);
        let pixels = Tensor::randn(0f32, 1f32, shape, &Device::Cpu)?;
        let time = median(budget, || model.get_image_features(&pixels).map(drop))?;
        report.insert(format!("image_b{batch}_ms"), json!(time));
    }
    for (name, lists) in read(Path::new(tokens))?
        .as_object()
        .context("not an object")?
    {
        let lists: Vec<Vec<u32>> = serde_json::from_value(lists.clone())?;
        let padded = batches(&lists, false)?;
        let exact = batches(&lists, true)?;
        let encode = |batches: &[Tensor]| -> candle_core::Result<()> {
            batches
                .iter()
                .try_for_each(|ids| model.get_text_features(ids).map(drop))
        };
        let padded = median(budget, || encode(&padded))?;
        let exact = median(budget, || encode(&exact))?;
        report.insert(format!("{name}_ms"), json!(padded.min(exact)));
    }
    println!("{}", Value::Object(report));
    Ok(())
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

/// The sizes that the checkpoint's config.json states.
fn config(json: &Value) -> Result<ClipConfig> {
    let size = |tower: &str, key: &str| -> Result<usize> {
        let number = json[tower][key]
            .as_u64()
            .with_context(|| format!("{tower}.{key}"))?;
        Ok(usize::try_from(number)?)
    };
    let (text, vision) = ("text_config", "vision_config");
    Ok(ClipConfig {
        text_config: ClipTextConfig {
            vocab_size: size(text, "vocab_size")?,
            embed_dim: size(text, "hidden_size")?,
            activation: Activation::QuickGelu,
            intermediate_size: size(text, "intermediate_size")?,
            max_position_embeddings: size(text, "max_position_embeddings")?,
            pad_with: None,
            num_hidden_layers: size(text, "num_hidden_layers")?,
            num_attention_heads: size(text, "num_attention_heads")?,
            projection_dim: size(text, "projection_dim")?,
        },
        vision_config: ClipVisionConfig {
            embed_dim: size(vision, "hidden_size")?,
            activation: Activation::QuickGelu,
            intermediate_size: size(vision, "intermediate_size")?,
            num_hidden_layers: size(vision, "num_hidden_layers")?,
            num_attention_heads: size(vision, "num_attention_heads")?,
            projection_dim: size(vision, "projection_dim")?,
            num_channels: 3,
            image_size: size(vision, "image_size")?,
            patch_size: size(vision, "patch_size")?,
        },
        logit_scale_init_value: 2.6592,
        image_size: size(vision, "image_size")?,
    })
}

/// Token lists -> id tensors [texts, tokens]: sorted into batches of one length each, or in order
/// and padded to the longest of each batch.
fn batches(lists: &[Vec<u32>], one_length: bool) -> Result<Vec<Tensor>> {
    let mut lists: Vec<&Vec<u32>> = lists.iter().collect();
    let groups: Vec<&[&Vec<u32>]> = if one_length {
        lists.sort_by_key(|list| list.len());
        lists.chunk_by(|a, b| a.len() == b.len()).collect()
    } else {
        vec![&lists]
    };
    groups
        .iter()
        .flat_map(|group| group.chunks(TEXT_BATCH))
        .map(tensor)
        .collect()
}

fn tensor(lists: &[&Vec<u32>]) -> Result<Tensor> {
    let longest = lists.iter().map(|list| list.len()).max().unwrap_or(0);
    let ids: Vec<u32> = lists
        .iter()
        .flat_map(|list| {
            let padding = std::iter::repeat_n(END_OF_TEXT, longest - list.len());
            list.iter().copied().chain(padding)
        })
        .collect();
    Ok(Tensor::from_vec(ids, (lists.len(), longest), &Device::Cpu)?)
}

/// The median of repeated calls, in milliseconds: as many as fit the budget, at least three, after
/// one that is not counted.
fn median(budget: Duration, mut call: impl FnMut() -> candle_core::Result<()>) -> Result<f64> {
    call()?;
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < 3 || (begin.elapsed() < budget && times.len() < 50) {
        let start = Instant::now();
        call()?;
        times.push(milliseconds(start.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    Ok((times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2.0)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
