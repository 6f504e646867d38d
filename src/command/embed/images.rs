//! Embeds images.

use anyhow::Result;

use super::destination::Destination;
use super::earlier::{Earlier, Resumed};
use super::{EmbedArgs, outputs};
use crate::embedding::{Failure, Item, Row};
use crate::output::Name;
use crate::run::engine::Engine;
use crate::run::images::Images;
use crate::run::made_with::about_images;
use crate::run::pipeline::Encoded;
use crate::run::session::{Session, Stop};
use crate::run::{Console, Outcome};

pub(super) fn run(args: EmbedArgs, console: &Console) -> Result<Outcome> {
    // Everything that can be checked without a model is checked before one is downloaded.
    let images = Images::open(&args.images, &[])?;
    for output in outputs(&args) {
        images.check_outputs(&[Some(&output)], &[])?;
    }
    let cache = args.engine.cache.folder()?;
    let session = Session::open(&args.engine.model, console)?;
    let mut engine = Engine::new(&session, args.engine.decode.options())
        .single(images.single())
        .cached(cache)?;
    let about = about_images(&session, &args.engine.decode)?;
    let mut destination = Destination::open(&args, about, console)?;
    let earlier = destination.earlier();
    if let Some(earlier) = earlier.clone() {
        engine = engine.recall(|cache| Resumed { earlier, cache });
    }
    let images = images.start(&engine, Stop::default());
    engine.load(console)?;
    session.checkpoint.unchanged()?;
    let counts = images.for_each(&engine, console, |encoded| {
        take(encoded, earlier.as_deref(), &mut destination)
    })?;
    engine.finish(console);
    destination.finish(counts.signal, console)
}

/// Passes on an image's row, or where an earlier run stored it.
fn take(encoded: Encoded, earlier: Option<&Earlier>, destination: &mut Destination) -> Result<()> {
    let known = match encoded.outcome {
        Ok(known) => known,
        Err(cause) => {
            return destination.failed(&Failure {
                name: Name::Image(encoded.image),
                error: format!("{cause:#}"),
            });
        }
    };
    let (width, height) = known.size;
    let row = Row {
        item: Item::Image {
            name: encoded.image,
            width: u32::try_from(width)?,
            height: u32::try_from(height)?,
            stamp: encoded.stamp,
        },
        warnings: known.warnings,
    };
    match earlier.and_then(|earlier| earlier.of_row(&row, &known.embedding)) {
        Some(place) => {
            destination.again(place);
            Ok(())
        }
        None => destination.row(&row, &known.embedding),
    }
}
