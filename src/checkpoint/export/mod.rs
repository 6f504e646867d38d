//! Writes a checkpoint as files that other programs load: with canonical names or another
//! library's, as safetensors or in PyTorch's format, as a single file or a folder with the
//! configuration that the library expects.

mod config;
mod entry;
mod names;
mod pytorch;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::architecture::{Activation, ImageTower};
use super::layout::LOGIT_BIAS;
use super::metadata::Metadata;
use super::{Checkpoint, Tensors};
use crate::file::atomic::AtomicFile;
use crate::file::temporary::TemporaryFolder;
use crate::input::preprocess::{CropOffset, Preprocess, Resize};
use crate::output::suffix::{self, Suffix};
use entry::Entry;

pub(crate) use entry::FloatType;

/// The library whose tensor names and files to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// transformers' `CLIPModel`; uses the canonical names.
    HuggingFace,
    /// openai/CLIP's `build_model`.
    OpenAi,
    /// open_clip.
    OpenClip,
    /// The Long-CLIP repository's `build_model`: OpenAI's names with two tables of 248 positions.
    LongClip,
    /// The text tower for diffusers' pipelines: a folder with `text_encoder` and `tokenizer`.
    Diffusers,
}

/// Options for writing.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The tensor names.
    pub layout: Layout,
    /// The element type; `None` keeps the stored types.
    pub dtype: Option<FloatType>,
    /// Whether existing files may be replaced.
    pub force: bool,
}

/// Writes `checkpoint` to `target`: one file if its name ends in `.safetensors` or `.pt`, else a
/// folder. Every file appears complete or not at all. Returns the files in the order of writing,
/// the weights last.
///
/// # Errors
/// When the layout's library cannot represent this model, the target exists and `force` is not
/// set, a number does not fit the type, or the disk fails.
pub fn write(
    checkpoint: &Checkpoint,
    metadata: &Metadata,
    target: &Path,
    options: &Options,
) -> Result<Vec<PathBuf>> {
    let container = FileKind::of(target)?;
    suits(checkpoint, options.layout, container)?;
    if !options.force {
        ensure!(
            !target.try_exists().unwrap_or(true),
            "{} already exists; pass --force to replace it",
            target.display()
        );
    }
    for (name, tensor) in &checkpoint.tensors {
        if let Some(at) = tensor.first_non_finite() {
            bail!(
                "tensor {name} holds a number that is not finite, at element {at}; longclip inspect \
                 says more"
            );
        }
    }
    let entries = names::entries(checkpoint, options.layout, options.dtype)?;
    let Some(kind) = container else {
        return folder(checkpoint, metadata, &entries, target, options.layout);
    };
    ensure!(
        !target.is_dir(),
        "{} is a folder and cannot be replaced by a file",
        target.display()
    );
    weights(checkpoint, target, kind, &entries, metadata)?;
    Ok(vec![target.to_owned()])
}

/// Fails if [`write()`] would refuse to write this model, whatever the target: for checking before
/// hours of work.
///
/// # Errors
/// When the layout's library cannot represent this model.
pub fn check(checkpoint: &Checkpoint, target: &Path, layout: Layout) -> Result<()> {
    suits(checkpoint, layout, FileKind::of(target)?)
}

/// Writes arbitrary tensors as one safetensors file, which appears complete or not at all; the
/// caller holds a lock on it. Integers become f32.
///
/// # Errors
/// When writing fails.
pub fn write_tensors(path: &Path, tensors: &Tensors, metadata: &Metadata) -> Result<()> {
    let entries = tensors
        .iter()
        .map(|(name, tensor)| Entry::new(name.clone(), vec![tensor.clone()], None));
    let entries = entries.collect::<Result<Vec<_>>>()?;
    let file = AtomicFile::create_alone(path)?;
    let mut sink = BufWriter::with_capacity(1 << 20, file.sink()?);
    entry::safetensors(&mut sink, &entries, metadata)
        .and_then(|()| Ok(sink.flush()?))
        .with_context(|| format!("cannot write {}", path.display()))?;
    drop(sink);
    file.commit()
}

/// Formats of a weight file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    Safetensors,
    PyTorch,
}

impl FileKind {
    /// The format implied by the name; none for a folder.
    fn of(path: &Path) -> Result<Option<Self>> {
        let known = [("safetensors", Self::Safetensors), ("pt", Self::PyTorch)];
        Ok(match suffix::of(path, &known) {
            Suffix::Names(kind) => Some(kind),
            // File names of other formats, for which a folder would be a surprise.
            Suffix::Other(ending) if suffix::is_data(&ending) => bail!(
                "{} has the extension of another file type; name it .safetensors or .pt, or give a \
                 folder",
                path.display()
            ),
            _ => None,
        })
    }
}

/// The folder that the library of `layout` loads.
fn folder(
    checkpoint: &Checkpoint,
    metadata: &Metadata,
    entries: &[Entry],
    target: &Path,
    layout: Layout,
) -> Result<Vec<PathBuf>> {
    let parent = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent)
        .with_context(|| format!("cannot create the folder {}", parent.display()))?;
    // Completed under a temporary name first, so that a failure leaves nothing at the target.
    let mut room = TemporaryFolder::next_to(target)
        .with_context(|| format!("cannot write in {}", parent.display()))?;
    let making = room.path().join("model");
    fs::create_dir(&making).context("cannot create a temporary folder")?;
    let tokenizer = || config::tokenizer(checkpoint.architecture.context_length);
    let (texts, weight_file, kind) = match layout {
        Layout::HuggingFace => {
            let mut texts = config::hugging_face(checkpoint)?;
            texts.extend(tokenizer()?);
            (texts, "model.safetensors", FileKind::Safetensors)
        }
        Layout::OpenClip => (
            config::open_clip(checkpoint)?,
            "open_clip_model.safetensors",
            FileKind::Safetensors,
        ),
        Layout::Diffusers => {
            let mut texts = vec![config::text_encoder(checkpoint)?];
            texts.extend(tokenizer()?);
            (texts, "model.safetensors", FileKind::Safetensors)
        }
        // These two read a single file and ship their tokenizer with the code.
        Layout::OpenAi | Layout::LongClip => (Vec::new(), "model.pt", FileKind::PyTorch),
    };
    // A pipeline has a folder per component.
    let part = |name: &str| match (layout, name) {
        (Layout::Diffusers, "config.json" | "model.safetensors") => format!("text_encoder/{name}"),
        (Layout::Diffusers, _) => format!("tokenizer/{name}"),
        _ => name.to_owned(),
    };
    let weight_file = part(weight_file);
    let folder_of = |path: &Path| -> Result<()> {
        let folder = path.parent().unwrap_or(path);
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
    };
    let mut names = Vec::new();
    for (name, text) in texts {
        let name = part(name);
        let path = making.join(&name);
        folder_of(&path)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        names.push(name);
    }
    weights(
        checkpoint,
        &making.join(&weight_file),
        kind,
        entries,
        metadata,
    )?;
    names.push(weight_file);
    // What is moved to its place must not be removed by a signal meanwhile, not even in part.
    room.keep();
    if target.exists() {
        for name in &names {
            folder_of(&target.join(name))?;
            fs::rename(making.join(name), target.join(name))
                .with_context(|| format!("cannot replace {}", target.join(name).display()))?;
        }
    } else {
        fs::rename(&making, target)
            .with_context(|| format!("cannot create the folder {}", target.display()))?;
    }
    Ok(names.into_iter().map(|name| target.join(name)).collect())
}

/// Writes one weight file, which appears only if it is complete and its source did not change.
fn weights(
    checkpoint: &Checkpoint,
    path: &Path,
    kind: FileKind,
    entries: &[Entry],
    metadata: &Metadata,
) -> Result<()> {
    let file = AtomicFile::create(path)?;
    let mut sink = BufWriter::with_capacity(1 << 20, file.sink()?);
    let written = match kind {
        FileKind::Safetensors => entry::safetensors(&mut sink, entries, metadata),
        FileKind::PyTorch => pytorch::write(&mut sink, entries),
    };
    written
        .and_then(|()| Ok(sink.flush()?))
        .with_context(|| format!("cannot write {}", path.display()))?;
    drop(sink);
    checkpoint.unchanged()?;
    file.commit()
}

/// Fails if the library of `layout` would compute something else.
fn suits(checkpoint: &Checkpoint, layout: Layout, container: Option<FileKind>) -> Result<()> {
    let architecture = &checkpoint.architecture;
    let library = match layout {
        // A single file with canonical names is for this program; a folder is for transformers.
        Layout::HuggingFace => {
            let resnet = matches!(architecture.image, ImageTower::ResNet(_));
            ensure!(
                container.is_some() || !resnet,
                "transformers has no {}: pass --layout open_clip or openai, or write a single file",
                architecture.image.describe()
            );
            return pixels_survive(checkpoint, layout, container);
        }
        // The pixels and the image tower play no part.
        Layout::Diffusers => {
            ensure!(
                container.is_none(),
                "--layout diffusers writes a folder with text_encoder and tokenizer; give a folder"
            );
            return Ok(());
        }
        Layout::OpenClip => "open_clip",
        Layout::OpenAi => "openai/CLIP",
        Layout::LongClip => "Long-CLIP's code",
    };
    let vision = match &architecture.image {
        ImageTower::VisionTransformer(vision) => Some(&vision.tower),
        ImageTower::ResNet(resnet) => {
            ensure!(
                resnet.heads == resnet.width / 2,
                "{library} uses attention pooling with heads of 64 features, but this model has {} \
                 heads for {}",
                resnet.heads,
                resnet.features()
            );
            None
        }
    };
    for tower in vision.into_iter().chain([&architecture.text]) {
        // An open_clip folder gives it in its configuration.
        let is_stated = layout == Layout::OpenClip && container.is_none();
        ensure!(
            is_stated || tower.norm_epsilon == 1e-5,
            "{library} uses a LayerNorm epsilon of 1e-5, but this model has {}; pass --layout hf",
            tower.norm_epsilon
        );
        ensure!(
            layout == Layout::OpenClip || tower.heads == tower.width / 64,
            "{library} supports only heads of 64 features, but this model has {} heads for {} \
             features; pass --layout hf",
            tower.heads,
            tower.width
        );
        ensure!(
            layout == Layout::OpenClip || tower.mlp_width == 4 * tower.width,
            "{library} supports only MLPs four times as wide as the tower; pass --layout hf"
        );
    }
    pixels_survive(checkpoint, layout, container)?;
    if layout == Layout::OpenClip {
        return Ok(());
    }
    ensure!(
        checkpoint.activation == Activation::QuickGelu,
        "{library} supports only quick_gelu, but this model has {}; pass --layout open_clip or hf",
        checkpoint.activation
    );
    ensure!(
        !checkpoint.tensors.contains_key(LOGIT_BIAS),
        "{library} has no logit_bias, but this model has one for sigmoid scores; pass --layout \
         open_clip or hf"
    );
    let context_length = architecture.context_length;
    if layout == Layout::LongClip && context_length != 248 {
        bail!(
            "{library} supports only 248 positions, but this model has {context_length}; stretch \
             it first with longclip stretch"
        );
    }
    Ok(())
}

/// Fails if the target cannot store this model's preprocessing or its epsilons. The rounding of the
/// crop offset is not checked: each library has its own.
fn pixels_survive(
    checkpoint: &Checkpoint,
    layout: Layout,
    container: Option<FileKind>,
) -> Result<()> {
    let pixels = &checkpoint.preprocess;
    let clips = Preprocess::clip(pixels.image_size);
    let is_squash = pixels.resize
        == Resize::Exact {
            width: pixels.image_size,
            height: pixels.image_size,
        };
    let has_place = match (container, layout) {
        (Some(FileKind::Safetensors), _) | (None, Layout::HuggingFace) => true,
        (None, Layout::OpenClip) => is_squash || pixels.resize == clips.resize,
        _ => {
            let crops = CropOffset::HalfToEven;
            Preprocess {
                offset: crops,
                ..pixels.clone()
            } == clips
        }
    };
    ensure!(
        has_place,
        "this model's preprocessing (resize, interpolation, mean or standard deviation) is not \
         CLIP's, and the target cannot store it; write a .safetensors file or a folder with --layout hf"
    );
    let ImageTower::VisionTransformer(vision) = &checkpoint.architecture.image else {
        return Ok(());
    };
    let epsilons = [
        vision.tower.norm_epsilon,
        checkpoint.architecture.text.norm_epsilon,
    ];
    ensure!(
        container != Some(FileKind::PyTorch) || epsilons == [1e-5; 2],
        "this model has LayerNorm epsilons of {} and {}, which a .pt file cannot store; write a \
         .safetensors file or a folder with --layout hf",
        epsilons[0],
        epsilons[1]
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_file_or_folder() {
        let cases = [
            ("m.safetensors", Ok(Some(FileKind::Safetensors))),
            ("m.pt", Ok(Some(FileKind::PyTorch))),
            ("models/m", Ok(None)),
            ("clip-v1.5", Ok(None)),
            ("m.json", Err("another file type")),
            ("m.npy", Err("another file type")),
        ];
        for (name, expected) in cases {
            match (FileKind::of(Path::new(name)), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{name}"),
                (Err(error), Err(expected)) => {
                    assert!(error.to_string().contains(expected), "{error}");
                }
                (found, _) => panic!("{name}: {found:?}"),
            }
        }
    }
}
