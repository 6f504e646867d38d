//! Reads, validates and describes the data of a run.

use std::collections::HashMap;

use anyhow::{Result, bail, ensure};

use super::flags::FinetuneArgs;
use crate::checkpoint::architecture::Architecture;
use crate::input::dataset::pairs::{self, Bad, LongCaption, PairOptions, Pairs, ShortCaption};
use crate::run::Console;
use crate::run::images::IMAGES;

/// Bad pairs reported individually, and of those with the same cause.
const MAX_REPORTED: usize = 10;
const MAX_REPORTED_PER_CAUSE: usize = 3;

/// Reads and validates all data.
///
/// # Errors
/// When a pair is bad and not skipped, or the data cannot be trained on.
pub(super) fn read(
    args: &FinetuneArgs,
    architecture: &Architecture,
    console: &Console,
) -> Result<Pairs> {
    let options = PairOptions {
        images: args.pairs.images.clone(),
        split: args.pairs.split.clone(),
        decode: args.decode.options(),
        context_length: architecture.context_length,
        long: match args.cuts() {
            true => LongCaption::Cut,
            false => LongCaption::Bad,
        },
        short: match args.wants_short() {
            true => ShortCaption::Used,
            false => ShortCaption::Unused,
        },
    };
    console.start_pairs();
    let found = pairs::read(&args.data, &options, IMAGES, &|pairs| {
        console.seen(pairs as u64)
    });
    console.end_progress();
    let found = found?;
    found.notes.iter().for_each(|note| console.note(note));
    report_bad(&found.bad, args.pairs.skip_bad, console);
    let (bad, good) = (found.bad.len(), found.pairs.len());
    ensure!(
        bad == 0 || good > 0,
        "none of the {bad} pairs in {} can be used",
        args.data.display()
    );
    ensure!(
        bad == 0 || args.pairs.skip_bad,
        "{bad} of {} pairs cannot be used; fix them, or pass --skip-bad to continue without them",
        bad + good
    );
    ensure!(
        !found.pairs.is_empty(),
        "{} has no usable pair of image and caption",
        args.data.display()
    );
    describe(&found, architecture.context_length, console);
    check(args, &found, console)?;
    Ok(found)
}

fn report_bad(bad: &[Bad], skipped: bool, console: &Console) {
    let mut of_a_kind = HashMap::new();
    let mut reported = 0;
    for one in bad {
        let times = of_a_kind.entry(&one.cause).or_insert(0);
        *times += 1;
        if reported < MAX_REPORTED && *times <= MAX_REPORTED_PER_CAUSE {
            console.failed(&one.place, &one.cause);
            reported += 1;
        }
    }
    let more = bad.len() - reported;
    if more > 0 {
        let place = if skipped {
            "skipped.jsonl lists all of them"
        } else {
            "--skip-bad lists all of them in skipped.jsonl"
        };
        console.note(&format!("{more} more cannot be used; {place}"));
    }
}

fn describe(found: &Pairs, context_length: usize, console: &Console) {
    let counts = &found.counts;
    let mut summary = format!(
        "{}: {} pairs, {} distinct images, {} distinct captions",
        found.kind,
        found.pairs.len(),
        counts.images,
        counts.different
    );
    if counts.derived > 0 {
        summary += &format!(
            "; {} short captions taken from first sentences",
            counts.derived
        );
    }
    console.note(&summary);
    if counts.cut > 0 {
        let (verb, them) = if counts.cut == 1 {
            ("was", "")
        } else {
            ("were", "s")
        };
        console.warn(&format!(
            "{} caption{them} longer than the model's {context_length} tokens {verb} cut",
            counts.cut
        ));
    }
}

/// Checks that there is something to learn.
fn check(args: &FinetuneArgs, found: &Pairs, console: &Console) -> Result<()> {
    let counts = &found.counts;
    let pairs = found.pairs.len();
    if counts.different == 1 && pairs > 1 {
        bail!(
            "all {pairs} captions are the same, so there is nothing to learn: training contrasts \
             each caption with others"
        );
    }
    if counts.images == 1 && pairs > 1 {
        bail!("all {pairs} pairs have the same image, so there is nothing to learn");
    }
    if args.wants_short() && counts.derived == pairs && counts.whole == pairs {
        bail!(
            "there are no short captions: none is given, and all captions are single sentences; \
             add a column short (or .short.txt files), or pass --loss clip"
        );
    }
    let batch = args.steps.batch_size as usize;
    if counts.images < batch.min(pairs) {
        console.warn(&format!(
            "only {} distinct images for batches of {batch} pairs: duplicates within a batch count \
             as negatives",
            counts.images
        ));
    }
    if counts.different < batch.min(pairs) {
        console.warn(&format!(
            "only {} distinct captions for batches of {batch} pairs: duplicates within a batch \
             count as negatives",
            counts.different
        ));
    }
    Ok(())
}
