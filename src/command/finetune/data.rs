//! The data of a run: read, looked at, and told about.

use std::collections::HashMap;

use anyhow::{Result, bail, ensure};

use super::flags::FinetuneArgs;
use crate::checkpoint::architecture::Architecture;
use crate::input::dataset::pairs;
use crate::input::dataset::pairs::{Bad, LongCaption, PairOptions, Pairs, ShortCaption};
use crate::run::Console;
use crate::run::images::IMAGES;

/// Bad pairs that are told one by one, and of those with the same cause.
const TOLD: usize = 10;
const TOLD_OF_A_KIND: usize = 3;

/// Reads all of it.
///
/// # Errors
/// When something in it is bad and not to be skipped, or nothing can be learnt from it.
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
    tell_bad(&found.bad, args.pairs.skip_bad, console);
    let (bad, good) = (found.bad.len(), found.pairs.len());
    ensure!(
        bad == 0 || good > 0,
        "none of {bad} pairs in {} can be used",
        args.data.display()
    );
    ensure!(
        bad == 0 || args.pairs.skip_bad,
        "{bad} of {} pairs cannot be used; mend them, or go on without them with --skip-bad",
        bad + good
    );
    ensure!(
        !found.pairs.is_empty(),
        "there is no pair of image and caption in {} that can be used",
        args.data.display()
    );
    tell(&found, architecture.context_length, console);
    check(args, &found, console)?;
    Ok(found)
}

fn tell_bad(bad: &[Bad], skipped: bool, console: &Console) {
    let mut of_a_kind = HashMap::new();
    let mut told = 0;
    for one in bad {
        let times = of_a_kind.entry(&one.cause).or_insert(0);
        *times += 1;
        if told < TOLD && *times <= TOLD_OF_A_KIND {
            console.failed(&one.place, &one.cause);
            told += 1;
        }
    }
    let more = bad.len() - told;
    if more > 0 {
        let place = if skipped {
            "all of them are in skipped.jsonl"
        } else {
            "--skip-bad writes all of them to skipped.jsonl"
        };
        console.note(&format!("and {more} more that cannot be used; {place}"));
    }
}

fn tell(found: &Pairs, context_length: usize, console: &Console) {
    let counts = &found.counts;
    let mut told = format!(
        "{}: {} pairs, {} different images, {} different captions",
        found.kind,
        found.pairs.len(),
        counts.images,
        counts.different
    );
    if counts.derived > 0 {
        told += &format!("; {} short captions are first sentences", counts.derived);
    }
    console.note(&told);
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

/// Whether there is anything to learn.
fn check(args: &FinetuneArgs, found: &Pairs, console: &Console) -> Result<()> {
    let counts = &found.counts;
    let pairs = found.pairs.len();
    if counts.different == 1 && pairs > 1 {
        bail!(
            "all {pairs} captions are the same: a caption is learnt by telling it from others, so there \
             is nothing to learn"
        );
    }
    if counts.images == 1 && pairs > 1 {
        bail!("all {pairs} pairs have the same image: there is nothing to tell it from");
    }
    if args.wants_short() && counts.derived == pairs && counts.whole == pairs {
        bail!(
            "there are no short captions: none is given, and no caption has a second sentence that its \
             first could stand for; add a column short (or .short.txt files), or pass --loss clip"
        );
    }
    let batch = args.steps.batch_size as usize;
    if counts.images < batch.min(pairs) {
        console.warn(&format!(
            "there are {} different images and {batch} pairs in a batch: equal ones in a batch count as wrong answers to \
             each other",
            counts.images
        ));
    }
    if counts.different < batch.min(pairs) {
        console.warn(&format!(
            "there are {} different captions and {batch} pairs in a batch: equal ones in a batch count as \
             wrong answers to each other",
            counts.different
        ));
    }
    Ok(())
}
