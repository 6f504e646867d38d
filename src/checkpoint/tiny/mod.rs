//! The built-in model: a small CLIP trained on drawn images of everyday things.
//!
//! Its weights are embedded in the program as `assets/tiny/model.bin`, in the format of
//! `assets/tiny/FORMAT.md`. `packed` reads that file and creates tensors from it; it
//! treats it as untrusted, like any other file. Dimensions and activation come from the file.

mod packed;
pub(crate) mod photograph;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::architecture::{Activation, Architecture};
use super::config::ModelConfig;
use super::container::StoredTensor;
use super::sizes::{self, Code, Heads, Sizes, Stated};
use super::{Checkpoint, Tensors, layout};
use crate::file::digest::hexadecimal;
use crate::input::preprocess::Preprocess;
use crate::input::tokenizer::VOCABULARY;
use packed::{Header, Packed};

/// The notice that `--model tiny` prints on stderr.
pub(crate) const NOTICE: &str = "the built-in model tiny recognises only drawings of everyday things \
     (emoji artwork); for photographs, choose another model with --model";

/// Its recommended use, for the list of models.
pub(crate) const GOOD_FOR: &str =
    "for trying the program: recognises only drawings of everyday things";

static MODEL: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/assets/tiny/model.bin"
));

const DAMAGED: &str = "the built-in model is damaged; rebuild the program";

/// The dimensions of the built-in model, without its weights.
///
/// # Errors
/// None, unless the program is damaged.
pub fn architecture() -> Result<Architecture> {
    Header::read(MODEL)
        .and_then(|header| Ok(sizes(&header, &shapes(&header)?, Heads::default())?.architecture))
        .context(DAMAGED)
}

/// The built-in checkpoint.
///
/// # Errors
/// When the given head counts do not fit, or the program is damaged.
pub fn checkpoint(stated: &Stated) -> Result<Checkpoint> {
    let checkpoint = read(MODEL, stated);
    if stated.heads.are_stated() {
        return checkpoint;
    }
    checkpoint.context(DAMAGED)
}

/// The SHA-256 of the packed file, in hexadecimal digits.
#[must_use]
pub fn sha256() -> String {
    hexadecimal(&Sha256::digest(MODEL))
}

/// The checkpoint in a packed file.
fn read(bytes: &[u8], stated: &Stated) -> Result<Checkpoint> {
    let packed = Packed::read(bytes)?;
    // Before unpacking, because these determine its size.
    let sizes = sizes(&packed.header, &shapes(&packed.header)?, stated.heads)?;
    let architecture = sizes.architecture;
    let own = activation(&packed.header.activation)?;
    let tensors = packed::tensors(&packed)?;
    Ok(Checkpoint {
        name: "tiny".to_owned(),
        tensors,
        preprocess: Preprocess::clip(architecture.image.image_size()),
        architecture,
        activation: stated.activation.unwrap_or(own),
        activation_source: match stated.activation {
            Some(_) => "--activation".to_owned(),
            None => "the built-in model's".to_owned(),
        },
        heads_source: sizes.heads_source,
        layout: layout::HUGGING_FACE,
        container: None,
        files: Vec::new(),
        warnings: Vec::new(),
        weights: Vec::new(),
        archives: Vec::new(),
    })
}

/// Names and shapes, without values.
fn shapes(header: &Header) -> Result<Tensors> {
    let listed = header.tensors.iter();
    listed
        .map(|entry| {
            let tensor = StoredTensor::shape_only(entry.shape.clone())?;
            Ok((entry.name.clone(), tensor))
        })
        .collect()
}

/// The dimensions from the shapes, checked to be those of a complete CLIP and to match the header.
fn sizes(header: &Header, shapes: &Tensors, heads: Heads) -> Result<Sizes> {
    // Its heads have 64 features, like OpenAI's.
    let sizes = sizes::read(shapes, &ModelConfig::default(), heads, Code::OpenAi)?;
    let architecture = &sizes.architecture;
    ensure!(
        architecture.vocabulary == VOCABULARY,
        "the token embedding has {} rows, but CLIP's has {VOCABULARY}",
        architecture.vocabulary
    );
    layout::canonical::check_shapes(shapes, architecture)?;
    let image = &architecture.image;
    for (what, stated, found) in [
        ("image size", header.image_size, image.image_size()),
        (
            "patch size",
            header.patch_size,
            image.patch_size().unwrap_or(0),
        ),
        (
            "context length",
            header.context_length,
            architecture.context_length,
        ),
    ] {
        ensure!(
            stated == found,
            "the header says {what} {stated}, but the tensors say {found}"
        );
    }
    Ok(sizes)
}

fn activation(name: &str) -> Result<Activation> {
    let all = [Activation::QuickGelu, Activation::Gelu];
    match all.into_iter().find(|one| one.to_string() == name) {
        Some(activation) => Ok(activation),
        None => bail!("the header names the activation {name:?}, which CLIP does not have"),
    }
}
