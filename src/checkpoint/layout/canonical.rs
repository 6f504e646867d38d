//! The canonical names (Hugging Face's `CLIPModel`), and the check that a checkpoint has exactly
//! the tensors that its architecture needs.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use crate::checkpoint::Tensors;
use crate::checkpoint::architecture::{Architecture, Tower};

/// Every tensor of an architecture with its shape.
pub fn expected(architecture: &Architecture) -> Vec<(String, Vec<usize>)> {
    let a = architecture;
    let (vision, text) = (&a.vision, &a.text);
    let mut list: Vec<(String, Vec<usize>)> = Vec::new();
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
    add("visual_projection.weight", &[a.embed_dim, vision.width]);
    add("vision_model.embeddings.class_embedding", &[vision.width]);
    add(
        "vision_model.embeddings.patch_embedding.weight",
        &[vision.width, 3, a.patch_size, a.patch_size],
    );
    add(
        "vision_model.embeddings.position_embedding.weight",
        &[a.image_tokens(), vision.width],
    );
    for (norm, width) in [
        ("text_model.final_layer_norm", text.width),
        ("vision_model.pre_layrnorm", vision.width),
        ("vision_model.post_layernorm", vision.width),
    ] {
        add(&format!("{norm}.weight"), &[width]);
        add(&format!("{norm}.bias"), &[width]);
    }
    for (name, tower) in [("text_model", text), ("vision_model", vision)] {
        for layer in 0..tower.layers {
            list.extend(block(&format!("{name}.encoder.layers.{layer}"), tower));
        }
    }
    list
}

fn block(path: &str, tower: &Tower) -> Vec<(String, Vec<usize>)> {
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

/// What is wrong with a set of tensors.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// Names and expected shapes of tensors that are not there.
    pub missing: Vec<(String, Vec<usize>)>,
    /// Names and shapes of tensors that the architecture has no use for.
    pub unexpected: Vec<(String, Vec<usize>)>,
    /// Names, shapes, and the shapes that were expected.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

/// Compares tensors with what `architecture` needs.
pub fn problems(tensors: &Tensors, architecture: &Architecture) -> Problems {
    let mut problems = Problems::default();
    let expected = expected(architecture);
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

/// Fails unless `tensors` are exactly those of `architecture`: nothing missing, unused, misshapen
/// or of a type that holds no weights. Values are checked when they are read.
///
/// # Errors
/// Names every tensor that is wrong (the first of each kind, and how many more), its shape and the
/// shape that was expected.
pub fn check(tensors: &Tensors, architecture: &Architecture) -> Result<()> {
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
    let unreadable: Vec<_> = tensors.iter().filter(|(_, t)| !t.is_float()).collect();
    describe(
        &mut text,
        "not floating point",
        &unreadable,
        |(name, tensor)| format!("{name} ({})", tensor.dtype()),
    );
    if !text.is_empty() {
        bail!(
            "the tensors do not make a {}: {text}",
            architecture.describe()
        );
    }
    Ok(())
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
