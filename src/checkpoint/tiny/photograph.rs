//! Distinguishes photographs, of which the built-in model knows nothing, from drawings: a linear
//! function of its own embeddings. `assets/tiny/make/photographs.py` fits it and measures how often it is right.

use std::sync::LazyLock;

use serde::Deserialize;

/// The warning about a photograph.
pub(crate) const WARNING: &str = "looks like a photograph, of which the built-in model tiny knows \
     nothing: the answer is a guess; choose another model with --model";

#[derive(Deserialize)]
struct Head {
    weight: Vec<f32>,
    bias: f32,
}

static HEAD: LazyLock<Head> = LazyLock::new(|| {
    let text = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/tiny/photograph.json"
    ));
    serde_json::from_str(text).expect("a constant file that the tests read")
});

/// Whether the image of this unit embedding `[dim]` by the built-in model is a photograph, most
/// likely.
#[must_use]
pub(crate) fn is_likely(embedding: &[f32]) -> bool {
    let products = embedding.iter().zip(&HEAD.weight).map(|(x, w)| x * w);
    products.sum::<f32>() + HEAD.bias > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_finite_weight_for_each_feature() {
        let dim = super::super::architecture().unwrap().embed_dim;
        assert_eq!(HEAD.weight.len(), dim);
        let numbers = HEAD.weight.iter().chain([&HEAD.bias]);
        assert!(numbers.clone().all(|x| x.is_finite()) && numbers.clone().any(|x| *x != 0.0));
    }
}
