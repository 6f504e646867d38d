//! `--hidden`: the rows of a layer for image generators and detectors, instead of embeddings.

mod plan;
mod texts;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use super::{EmbedArgs, failure, image_row, made_by, outputs};
use crate::checkpoint::architecture::ImageTower;
use crate::embedding::{Format, StatesFile};
use crate::input::tokenizer::END_OF_TEXT;
use crate::model::{Patches, Towers};
use crate::run::engine::Engine;
use crate::run::flags::{count, names};
use crate::run::images::Images;
use crate::run::made_with::about_images;
use crate::run::session::{Session, Stop};
use crate::run::{Console, Outcome};
use plan::{Plan, States};

/// The flags of hidden states.
#[derive(Debug, Args)]
#[command(next_help_heading = "Hidden states")]
pub(super) struct HiddenArgs {
    /// Save hidden states: sd1, sdxl, sd3, flux, longclip-sdxl, patches or a layer
    #[arg(
        long,
        value_name = "STATES",
        requires = "output",
        allow_negative_numbers = true
    )]
    pub(super) hidden: Option<States>,
    /// Token after the end of each text: end or zero [default: as STATES has it]
    #[arg(long, value_name = "PAD", requires = "hidden", value_parser = names(PADS))]
    pad: Option<u32>,
    /// With sd1, sdxl or sd3: take the states of N layers earlier
    #[arg(long, value_name = "N", requires = "hidden", value_parser = count())]
    clip_skip: Option<u64>,
    /// Model of the second text tower of sdxl, sd3 and longclip-sdxl
    #[arg(long, value_name = "MODEL", requires = "hidden")]
    second_model: Option<String>,
    /// Add the states of the empty text as negative_prompt_embeds
    #[arg(long, requires = "hidden")]
    with_empty: bool,
}

const PADS: &[(&str, u32)] = &[("end", END_OF_TEXT), ("zero", 0)];

/// Checks the flags and saves the states.
pub(super) fn run(
    args: &EmbedArgs,
    states: States,
    has_images: bool,
    console: &Console,
) -> Result<Outcome> {
    let path = args.output.as_deref();
    let path = path.context("--hidden requires --output FILE.safetensors, which is not stdout")?;
    ensure!(
        Format::of_path(path).is_ok_and(|format| format == Format::Safetensors),
        "hidden states are written as safetensors; name a file FILE.safetensors"
    );
    ensure!(
        !args.resume && args.frames.frames.is_none(),
        "--hidden computes everything again and of one frame; drop --resume and --frames"
    );
    ensure!(
        args.format.is_none() && args.parts.division(false)?.is_none(),
        "--hidden writes one file of all inputs; drop --shard and --format"
    );
    let HiddenArgs {
        pad,
        clip_skip,
        second_model,
        with_empty,
        ..
    } = &args.hidden;
    match (states, has_images) {
        (States::Patches, false) => bail!("--hidden patches is of images, not of texts"),
        (States::Patches, true) => {
            ensure!(
                pad.is_none() && clip_skip.is_none() && second_model.is_none() && !with_empty,
                "--pad, --clip-skip, --second-model and --with-empty apply to texts; drop them"
            );
            save_patches(args, path, console)
        }
        (_, true) => bail!("these hidden states are of texts; for images pass --hidden patches"),
        (_, false) => texts::save(args, path, &Plan::new(&args.hidden, states)?, console),
    }
}

fn save_patches(args: &EmbedArgs, path: &Path, console: &Console) -> Result<Outcome> {
    let started = Instant::now();
    let images = Images::open(&args.images, &[])?;
    for output in outputs(args) {
        images.check_outputs(&[Some(&output)], &[])?;
    }
    args.failures.check(Some(path))?;
    if let Some(summary) = args.failures.file() {
        images.check_outputs(&[Some(summary), Some(path)], &[])?;
    }
    let session = Session::open(&args.engine.model, console)?;
    let architecture = &session.checkpoint.architecture;
    let ImageTower::VisionTransformer(sizes) = &architecture.image else {
        bail!("a ResNet has no patches; use a model with a vision transformer");
    };
    let side = sizes.image_size / sizes.patch_size;
    let shape = [sizes.tokens(), sizes.tower.width];
    let patches = Patches::new(session.load(Towers::Image, console)?)?;
    let engine = Engine::new(&session, args.engine.decoding(&session))
        .single(images.single())
        .encoded_by(Arc::new(patches));
    let about = about_images(&session, &args.engine)?;
    session.checkpoint.unchanged()?;
    let mut file = StatesFile::create(path, args.dtype)?;
    let images = images.start(&engine, Stop::default());
    let counts = images.for_each(&engine, console, |encoded| {
        let (name, given) = (encoded.name(), encoded.given);
        match encoded.outcome {
            Ok(known) => {
                let row = image_row(name, encoded.stamp, given, &known)?;
                file.push(&row, &known.embedding)
            }
            Err(cause) => {
                file.failed(failure(name, given, &cause));
                Ok(())
            }
        }
    })?;
    if counts.signal.is_none() && counts.answered > 0 {
        let pairs = [
            ("hidden", "patches".to_owned()),
            ("grid", format!("{side}x{side} after the class token")),
        ];
        file.finish(&about, &pairs, ("last_hidden_state", &shape), &[])?;
    }
    let outcome = counts.outcome(console);
    args.failures
        .end(&made_by(started, &session), &counts, outcome)
}
