//! The canonical names (Hugging Face's `CLIPModel`; OpenAI's for a ResNet, which transformers
//! lacks), and the check that a checkpoint has exactly the tensors that its architecture needs.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use super::LOGIT_BIAS;
use crate::checkpoint::Tensors;
use crate::checkpoint::architecture::{Architecture, ImageTower, ResNet, Tower, VisionTransformer};

/// The names and shapes of some tensors.
type Shapes = Vec<(String, Vec<usize>)>;

/// Whether the image tower is a ResNet.
pub(crate) fn has_resnet(tensors: &Tensors) -> bool {
    tensors
        .keys()
        .any(|name| name.starts_with("visual.layer1.") || name.starts_with("visual.attnpool."))
}

/// Every tensor of an architecture and its shape.
pub fn expected(architecture: &Architecture) -> Shapes {
    let a = architecture;
    let text = &a.text;
    let mut list = Shapes::new();
    let mut add = |name: &str, shape: &[usize]| list.push((name.to_owned(), shape.to_vec()));
    add("logit_scale", &[]);
    add(
        "text_model.embeddings.token_embedding.weight",
        &[a.vocabulary, text.width],
    );
    add(
        "text_model.embeddings.position_embedding.weight",
        &[a.context_length, text.width],
    );
    add("text_projection.weight", &[a.embed_dim, text.width]);
    match &a.image {
        ImageTower::VisionTransformer(sizes) => {
            list.extend(embeddings(sizes, a.embed_dim));
            list.extend(norm("text_model.final_layer_norm", text.width));
            list.extend(norm("vision_model.pre_layrnorm", sizes.tower.width));
            list.extend(norm("vision_model.post_layernorm", sizes.tower.width));
            list.extend(blocks("text_model", text));
            list.extend(blocks("vision_model", &sizes.tower));
        }
        ImageTower::ResNet(sizes) => {
            list.extend(norm("text_model.final_layer_norm", text.width));
            list.extend(blocks("text_model", text));
            list.extend(resnet(sizes, a.embed_dim));
        }
    }
    list
}

/// The tensors of a vision transformer outside its blocks.
fn embeddings(sizes: &VisionTransformer, embed_dim: usize) -> Shapes {
    let (width, patch) = (sizes.tower.width, sizes.patch_size);
    let path = |name: &str| format!("vision_model.embeddings.{name}");
    vec![
        (
            "visual_projection.weight".to_owned(),
            vec![embed_dim, width],
        ),
        (path("class_embedding"), vec![width]),
        (path("patch_embedding.weight"), vec![width, 3, patch, patch]),
        (
            path("position_embedding.weight"),
            vec![sizes.tokens(), width],
        ),
    ]
}

/// OpenAI's names. `num_batches_tracked` was dropped with the other buffers.
fn resnet(sizes: &ResNet, embed_dim: usize) -> Shapes {
    let (width, features) = (sizes.width, sizes.features());
    let mut list = Shapes::new();
    let mut convolution = |path: &str, [conv, bn]: [&str; 2], shape: [usize; 3]| {
        let [out, input, side] = shape;
        let path = |name: &str| format!("visual.{path}{name}");
        list.push((
            path(&format!("{conv}.weight")),
            vec![out, input, side, side],
        ));
        for part in ["weight", "bias", "running_mean", "running_var"] {
            list.push((path(&format!("{bn}.{part}")), vec![out]));
        }
    };
    convolution("", ["conv1", "bn1"], [width / 2, 3, 3]);
    convolution("", ["conv2", "bn2"], [width / 2, width / 2, 3]);
    convolution("", ["conv3", "bn3"], [width, width / 2, 3]);
    for (stage, blocks) in sizes.blocks.into_iter().enumerate() {
        let inside = width << stage;
        for block in 0..blocks {
            let first = block == 0;
            let input = if first {
                sizes.channels_into(stage)
            } else {
                4 * inside
            };
            let path = format!("layer{}.{block}.", stage + 1);
            convolution(&path, ["conv1", "bn1"], [inside, input, 1]);
            convolution(&path, ["conv2", "bn2"], [inside, inside, 3]);
            convolution(&path, ["conv3", "bn3"], [4 * inside, inside, 1]);
            if first {
                convolution(
                    &path,
                    ["downsample.0", "downsample.1"],
                    [4 * inside, input, 1],
                );
            }
        }
    }
    let path = |name: &str| format!("visual.attnpool.{name}");
    list.push((path("positional_embedding"), vec![sizes.tokens(), features]));
    for (name, out) in [
        ("q_proj", features),
        ("k_proj", features),
        ("v_proj", features),
        ("c_proj", embed_dim),
    ] {
        list.push((path(&format!("{name}.weight")), vec![out, features]));
        list.push((path(&format!("{name}.bias")), vec![out]));
    }
    list
}

fn norm(path: &str, width: usize) -> Shapes {
    ["weight", "bias"]
        .map(|part| (format!("{path}.{part}"), vec![width]))
        .to_vec()
}

fn blocks(tower: &str, sizes: &Tower) -> Shapes {
    (0..sizes.layers)
        .flat_map(|layer| block(&format!("{tower}.encoder.layers.{layer}"), sizes))
        .collect()
}

fn block(path: &str, tower: &Tower) -> Shapes {
    let (width, hidden) = (tower.width, tower.mlp_width);
    let linears = [
        ("self_attn.q_proj", width, width),
        ("self_attn.k_proj", width, width),
        ("self_attn.v_proj", width, width),
        ("self_attn.out_proj", width, width),
        ("mlp.fc1", hidden, width),
        ("mlp.fc2", width, hidden),
    ];
    let mut list = Vec::new();
    for (name, out, input) in linears {
        list.push((format!("{path}.{name}.weight"), vec![out, input]));
        list.push((format!("{path}.{name}.bias"), vec![out]));
    }
    for name in ["layer_norm1", "layer_norm2"] {
        list.push((format!("{path}.{name}.weight"), vec![width]));
        list.push((format!("{path}.{name}.bias"), vec![width]));
    }
    list
}

/// The problems of a set of tensors.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems {
    /// Names and expected shapes of tensors that are missing.
    pub missing: Vec<(String, Vec<usize>)>,
    /// Names and shapes of tensors that the architecture does not use.
    pub unexpected: Vec<(String, Vec<usize>)>,
    /// Names with actual and expected shapes.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

/// Compares tensors with what `architecture` needs.
pub(crate) fn problems(tensors: &Tensors, architecture: &Architecture) -> Problems {
    let mut problems = Problems::default();
    let mut expected = expected(architecture);
    if tensors.contains_key(LOGIT_BIAS) {
        expected.push((LOGIT_BIAS.to_owned(), Vec::new()));
    }
    for (name, shape) in &expected {
        match tensors.get(name) {
            None => problems.missing.push((name.clone(), shape.clone())),
            Some(tensor) if tensor.shape() != shape => {
                let found = tensor.shape().to_vec();
                problems
                    .misshapen
                    .push((name.clone(), found, shape.clone()));
            }
            Some(_) => {}
        }
    }
    let known: std::collections::BTreeSet<_> = expected.iter().map(|(name, _)| name).collect();
    for (name, tensor) in tensors {
        if !known.contains(name) {
            problems
                .unexpected
                .push((name.clone(), tensor.shape().to_vec()));
        }
    }
    problems
}

/// Fails unless `tensors` are exactly those of `architecture`: none missing, unused, misshapen or
/// of an element type that is not floating point. Values are checked when they are read.
///
/// # Errors
/// Names the wrong tensors (the first of each kind and how many more), with actual and expected
/// shapes.
pub fn check(tensors: &Tensors, architecture: &Architecture) -> Result<()> {
    let mut text = mismatches(tensors, architecture);
    let unreadable: Vec<_> = tensors.iter().filter(|(_, t)| !t.is_float()).collect();
    describe(
        &mut text,
        "not floating point",
        &unreadable,
        |(name, tensor)| format!("{name} ({})", tensor.dtype()),
    );
    refuse(&text, architecture)
}

/// [`check`] for tensors with only names and shapes.
///
/// # Errors
/// As [`check`], except for the element types.
pub(crate) fn check_shapes(tensors: &Tensors, architecture: &Architecture) -> Result<()> {
    refuse(&mismatches(tensors, architecture), architecture)
}

fn refuse(problems: &str, architecture: &Architecture) -> Result<()> {
    if !problems.is_empty() {
        bail!(
            "the tensors do not form a {}: {problems}",
            architecture.image.describe()
        );
    }
    Ok(())
}

/// The problems as text; empty if there are none.
fn mismatches(tensors: &Tensors, architecture: &Architecture) -> String {
    let problems = problems(tensors, architecture);
    let mut text = String::new();
    describe(&mut text, "missing", &problems.missing, |(name, shape)| {
        format!("{name} {shape:?}")
    });
    describe(
        &mut text,
        "misshapen",
        &problems.misshapen,
        |(name, found, expected)| format!("{name} is {found:?}, expected {expected:?}"),
    );
    describe(
        &mut text,
        "unused",
        &problems.unexpected,
        |(name, shape)| format!("{name} {shape:?}"),
    );
    text
}

fn describe<T>(text: &mut String, what: &str, items: &[T], show: impl Fn(&T) -> String) {
    const SHOWN: usize = 4;
    if items.is_empty() {
        return;
    }
    let separator = if text.is_empty() { "" } else { "; " };
    let shown: Vec<_> = items.iter().take(SHOWN).map(show).collect();
    let _ = write!(text, "{separator}{what}: {}", shown.join(", "));
    if items.len() > SHOWN {
        let _ = write!(text, " and {} more", items.len() - SHOWN);
    }
}
