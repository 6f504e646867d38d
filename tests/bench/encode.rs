//! Raw inputs in, embeddings out, for comparisons with other implementations:
//!
//!     cargo run --release --example encode -- CHECKPOINT INPUTS OUTPUTS PRECISION…
//!
//! INPUTS is a safetensors file with `pixels` [n, 3, size, size] in f32 and `tokens` [m, length] in
//! i64, start and end of text included. OUTPUTS becomes one with `image.P` [n, `embed_dim`] and
//! `text.P` [m, `embed_dim`], of unit length, for each precision P of f32, bf16, int8 and
//! int8-fast.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor, safetensors};
use longclip::checkpoint::Checkpoint;
use longclip::checkpoint::hub::{Settings, Silent};
use longclip::checkpoint::source;
use longclip::input::tokenizer::TokenIds;
use longclip::model::device::{Compute, CpuPrecision};
use longclip::model::{self, DualEncoder};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [checkpoint, inputs, outputs, precisions @ ..] = &arguments[..] else {
        bail!("usage: encode CHECKPOINT INPUTS OUTPUTS PRECISION…")
    };
    let inputs = safetensors::load(inputs, &Device::Cpu)?;
    let pixels = inputs.get("pixels").context("no tensor pixels")?;
    let tokens = inputs.get("tokens").context("no tensor tokens")?;
    let texts = tokens
        .to_vec2::<i64>()?
        .iter()
        .map(|ids| {
            let ids: Result<Vec<u32>, _> = ids.iter().map(|&id| u32::try_from(id)).collect();
            TokenIds::new(ids?)
        })
        .collect::<Result<Vec<_>>>()?;
    let source = source::resolve(checkpoint, &Settings::from_env(), &Silent)?;
    let checkpoint = Checkpoint::load(&source, &None.into())?;
    let mut found: HashMap<String, Tensor> = HashMap::new();
    for name in precisions {
        let precision = match name.as_str() {
            "f32" => CpuPrecision::F32,
            "bf16" => CpuPrecision::Bf16,
            "int8" => CpuPrecision::Int8,
            "int8-fast" => CpuPrecision::Int8Fast,
            _ => bail!("no precision {name}"),
        };
        let clip = model::load(&checkpoint, &Compute::Kernel(precision))?;
        found.insert(format!("image.{name}"), clip.encode_image(pixels)?);
        found.insert(format!("text.{name}"), clip.encode_text(&texts)?);
    }
    Ok(safetensors::save(&found, outputs)?)
}
