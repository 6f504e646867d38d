//! Embeddings in parts: `-o DIR/`.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::destination::Destination;
use super::{EmbedArgs, Format, made_by, take};
use crate::embedding::About;
use crate::run::engine::Engine;
use crate::run::images::Images;
use crate::run::made_with::about_images;
use crate::run::parts::{self, Division, Folder, Parts};
use crate::run::session::Session;
use crate::run::{Console, Outcome};

/// Embeds the units of a share, each in a part.
pub(super) fn run(
    args: &EmbedArgs,
    folder: &Path,
    division: Option<Division>,
    console: &Console,
) -> Result<Outcome> {
    let started = Instant::now();
    let division = division.context("parts without a division")?;
    ensure!(
        !args.resume,
        "--resume continues a file; parts that are there are always kept, so drop it"
    );
    Folder::check(folder)?;
    let format = args.format.unwrap_or(Format::Npy);
    format.check_dtype(args.dtype)?;
    let images = Images::open(&args.images, &[])?;
    args.failures.check(args.output.as_deref())?;
    images.check_outputs(&[args.failures.file()], &[])?;
    let cache = args.engine.cache.folder()?;
    let session = Session::open(&args.engine.model, console)?;
    let engine = Engine::new(&session, args.engine.decoding(&session))
        .single(images.single())
        .frames(args.frames.frames)
        .cached(cache)?;
    let mut about = About {
        dtype: args.dtype,
        ..about_images(&session, &args.engine)?
    };
    about.settings.push_str(&args.frames.settings());
    let mut settings = parts::settings("embed", &session, &args.engine, &args.frames)?;
    settings.add("dtype", args.dtype);
    let parts = Parts::open(folder, division, format.suffix(), settings)?;
    let counts = parts.answer(images, &engine, console, |running, path| {
        engine.load(console)?;
        session.checkpoint.unchanged()?;
        let mut destination = Destination::of_part(path, about.clone(), console)?;
        let counts =
            running
                .averaged(args.frames.frames_mean)
                .for_each(&engine, console, |encoded| {
                    take(encoded, None, &mut destination)
                })?;
        if counts.signal.is_none() {
            destination.finish_part()?;
        }
        Ok(counts)
    })?;
    engine.finish(console);
    args.failures.end(
        &made_by(started, &session),
        &counts,
        counts.outcome(console),
    )
}
