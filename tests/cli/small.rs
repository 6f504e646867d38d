//! A small model with random weights, for tests that need any model.
//!
//! It is quick, its logit scale is 100, and its answers differ from image to image and from label
//! to label. What the built-in model knows is tested with `--model tiny`.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use longclip::checkpoint::architecture::{Architecture, ImageTower, Tower, VisionTransformer};
use longclip::checkpoint::{layout, metadata};
use safetensors::{Dtype, tensor::TensorView};

/// Pixels per side of an image that the model reads as it is.
pub(crate) const SIDE: u32 = 64;

/// What `--model` takes: the path of a file that is written when it is first asked for.
pub(crate) fn model() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = folder.join("small.safetensors");
        let content = file();
        // Other processes may have it open: it is replaced atomically, and only if needed.
        if std::fs::read(&path).ok().as_ref() != Some(&content) {
            let mut temporary = tempfile::NamedTempFile::new_in(folder).unwrap();
            temporary.write_all(&content).unwrap();
            temporary.persist(&path).unwrap();
        }
        path.into_os_string().into_string().unwrap()
    })
}

fn architecture() -> Architecture {
    let tower = Tower {
        width: 64,
        layers: 2,
        heads: 1,
        mlp_width: 256,
        norm_epsilon: 1e-5,
    };
    Architecture {
        context_length: 248,
        vocabulary: 49408,
        embed_dim: 64,
        image: ImageTower::VisionTransformer(VisionTransformer {
            image_size: SIDE as usize,
            patch_size: 16,
            tower: tower.clone(),
        }),
        text: tower,
    }
}

fn file() -> Vec<u8> {
    let shapes = layout::canonical::expected(&architecture());
    let tensors: Vec<_> = (0u64..)
        .zip(shapes)
        .map(|(seed, (name, shape))| {
            let values = values(&name, seed, shape.iter().product());
            let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
            (name, shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name, view)
    });
    let header = [
        (metadata::ACTIVATION, "quick_gelu"),
        (metadata::VISION_HEADS, "1"),
        (metadata::TEXT_HEADS, "1"),
    ];
    let header = header.map(|(key, value)| (key.to_owned(), value.to_owned()));
    safetensors::serialize(views, Some(HashMap::from(header))).unwrap()
}

/// Gains around 1, the logarithm of 100 for the logits, everything else around 0.
fn values(name: &str, seed: u64, count: usize) -> Vec<f32> {
    let is_gain = name.contains("norm") && name.ends_with(".weight");
    let (centre, spread) = match name {
        "logit_scale" => (100f32.ln(), 0.0),
        _ if is_gain => (1.0, 0.1),
        _ => (0.0, 0.25),
    };
    let mut state = seed
        .wrapping_add(0x10c6_c119)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        // SplitMix64 (Steele, Lea, Flood 2014): uniform, and the same on every machine.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32 * 2.0 - 1.0
    };
    (0..count).map(|_| centre + spread * next()).collect()
}

/// A question that it answers about `a.png`.
pub(crate) fn question() -> [&'static str; 7] {
    ["classify", "-m", model(), "a.png", "-l", "cat", "dog"]
}
