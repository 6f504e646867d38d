//! `longclip embed`: writes embeddings of images or texts to a file that other programs can read.

mod destination;
mod earlier;
mod hidden;
mod parts;
mod texts;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Error, Result, bail, ensure};
use clap::Args;

use crate::embedding::{Dtype, Failure, Format, Item, Row, errors_of, journal_of, sidecar_of};
use crate::file::stamp::Stamp;
use crate::output::{FailureKind, Given, ImageName, Name};
use crate::run::engine::Engine;
use crate::run::failures::{FailureArgs, MadeBy};
use crate::run::flags::{EngineArgs, FrameArgs, ImageArgs, LongTextArgs, PartArgs};
use crate::run::images::Images;
use crate::run::made_with::about_images;
use crate::run::parts::{Division, is_folder};
use crate::run::pipeline::{Encoded, Known};
use crate::run::session::{Session, Stop};
use crate::run::{Console, Outcome, flags};
use destination::Destination;
use earlier::{Earlier, Resumed};
use hidden::HiddenArgs;

/// Written by hand, because texts replace images.
const USAGE: &str = "longclip embed [OPTIONS] <IMAGE>... --output <FILE>
       longclip embed [OPTIONS] --texts <FILE> --output <FILE>";

/// What only `--help` and the manual page say.
const DETAILS: &str = r#"Other programs:
  numpy, pandas, pyarrow, safetensors and faiss read the files as they are.
  Each file names its model with the SHA-256 of its weights, and longclip
  search accepts that model only. A line of JSON has the image's path both as
  "image", as classify writes it, and as "path", as Parquet does.

Frames:
  With --frames, each frame of an animation or video has a row, named a.gif#3;
  with --frames-mean, one row per file has their mean. longclip help classify,
  "Animations and video", says more.

Many processes:
  --shard and -o DIR/ divide the input as in longclip classify ("Many
  processes"). The parts are files of embeddings in the format of --format, and
  longclip merge DIR -o FILE joins them.

Hidden states:
  --hidden saves every row of a layer instead of one embedding per input. Texts
  are padded to the context (77 or 248), since the rows after their ends depend
  on the padding. prompt_embeds has the shape [texts, context, features]:
    sd1            last layer after the final norm; with --pad zero, sd2
    sdxl           last layer but one of both towers, joined
    sd3            the same; the rows of T5 are not included
    flux           no rows; T5 is not included
    longclip-sdxl  last layer of both after the final norm, padded with zeros
    LAYER          0 is the sum of the embeddings of tokens and positions, -1 is
                   the last layer; without the final norm
  pooled_prompt_embeds is what each of them takes from the end of a text: for
  sdxl and longclip-sdxl the projected state of the second tower, for sd3 those
  of both, for flux the state after the final norm without the projection, for
  LAYER the projected state. --model is the first tower, --second-model another
  whole CLIP model. negative_prompt_embeds and negative_pooled_prompt_embeds,
  from --with-empty, are of the empty text and have one row, to which --clip-skip
  does not apply, as in diffusers; without a negative prompt, SDXL takes zeros.
  --hidden patches saves last_hidden_state [images, 1 + patches, features] of
  the image tower: the class token, then the patches row by row, without the
  final norm. "rows" holds the texts or images, one JSON object per row.
  A text that does not fit ends the run, unless --long-text truncate cuts it.
  --precision f32 gives the numbers of PyTorch; the default may be bf16. --cache
  is not used. A generator that computes the states itself reads the folder of
  longclip convert --layout diffusers.

Resuming:
  --resume computes images that are new or changed and keeps the rest. The
  finished file equals that of an uninterrupted run byte for byte. Frames of
  animations and images in archives are always computed again (--cache keeps the
  latter). Other settings than those of the earlier run are refused. An input
  without images never replaces a file."#;

const NOTES: &str = "\
Examples:
  longclip embed photos/ -o photos.npy
  longclip embed photos/ -o photos.npy --resume
  find . -name '*.jpg' -print0 | longclip embed --files-from - -0 -o photos.parquet
  longclip embed --texts captions.txt -o captions.safetensors --dtype f16
  longclip embed img.jpg | jq .embedding
  longclip embed --texts prompts.txt --hidden sd1 --with-empty -o prompts.safetensors

The suffix of FILE selects the format: .npy (with the names of the images in NAME.paths.jsonl next
to it, one object per row), .safetensors, .parquet or .jsonl. Each row records the path and size
of its image, each file the model. Embeddings have unit length.

During a run, rows are written to FILE.partial; FILE appears when it is complete. After an
interrupted or killed run, --resume continues and recomputes only images whose files have changed.
Images that failed are listed in the file (jsonl) or in FILE.errors.jsonl. FILE.writing is the new
content of FILE while it is being completed.

Exit status: 0 every input was embedded, 1 some failed, 2 could not run, 75 temporary failure, try
again (the disk is full, another run is writing FILE), 130 or 143 stopped by a signal.";

/// The arguments of `longclip embed`.
#[derive(Debug, Args)]
#[command(override_usage = USAGE, after_help = NOTES, after_long_help = format!("{DETAILS}\n\n{NOTES}"))]
pub struct EmbedArgs {
    #[command(flatten)]
    images: ImageArgs,
    /// Embed texts, one per line of this file, or - for stdin
    #[arg(long, value_name = "FILE", help_heading = "Texts")]
    texts: Option<PathBuf>,
    /// Embed these texts
    #[arg(long, value_name = "TEXT", num_args = 1.., help_heading = "Texts", conflicts_with = "texts")]
    text: Vec<String>,
    #[command(flatten)]
    long: LongTextArgs,
    /// Write to FILE, in the format of its suffix; - is stdout [default: stdout, jsonl]
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,
    #[command(flatten)]
    failures: FailureArgs,
    /// Continue an earlier run that wrote to FILE, computing only new or changed rows
    #[arg(long, help_heading = "Output", requires = "output")]
    resume: bool,
    /// Data type in .npy and .safetensors
    #[arg(long, value_name = "TYPE", default_value = "f32", help_heading = "Output", value_parser = dtype())]
    dtype: Dtype,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    frames: FrameArgs,
    /// With -o DIR/: format of the parts [default: npy]
    #[arg(short, long, value_name = "FORMAT", help_heading = "Output", value_parser = format())]
    format: Option<Format>,
    #[command(flatten)]
    parts: PartArgs,
    #[command(flatten)]
    hidden: HiddenArgs,
}

fn format() -> impl clap::builder::TypedValueParser<Value = Format> {
    flags::names(&[
        ("npy", Format::Npy),
        ("safetensors", Format::Safetensors),
        ("parquet", Format::Parquet),
        ("jsonl", Format::Jsonl),
    ])
}

fn dtype() -> impl clap::builder::TypedValueParser<Value = Dtype> {
    flags::names(&[("f32", Dtype::F32), ("f16", Dtype::F16)])
}

impl EmbedArgs {
    fn has_texts(&self) -> bool {
        self.texts.is_some() || !self.text.is_empty()
    }
}

/// Embeds images or texts.
///
/// # Errors
/// When it cannot run; a failed input is not an error.
pub fn run(mut args: EmbedArgs, console: &Console) -> Result<Outcome> {
    args.output = args.output.filter(|path| path.as_os_str() != "-");
    ensure!(
        !args.resume || args.output.is_some(),
        "--resume continues a file, but --output - is stdout; name a file"
    );
    let has_images = !args.images.images.is_empty() || args.images.files_from.is_some();
    match (has_images, args.has_texts()) {
        (true, true) => {
            bail!("images and texts cannot share a file; run longclip embed once for each")
        }
        (false, false) => bail!(
            "nothing to embed; pass image files or folders, or --texts FILE with one text per line"
        ),
        _ => {}
    }
    ensure!(
        has_images || !args.failures.is_given(),
        "--max-errors and --summary apply to images, not to texts; drop them"
    );
    if let Some(states) = args.hidden.hidden {
        return hidden::run(&args, states, has_images, console);
    }
    ensure!(
        has_images || args.frames.frames.is_none(),
        "--frames applies to images, not to texts; drop it"
    );
    let has_parts = args.output.as_deref().is_some_and(is_folder);
    let division = args.parts.division(has_parts)?;
    ensure!(
        has_images || division.is_none(),
        "--shard and -o DIR/ divide images, not texts; name a file with --output"
    );
    ensure!(
        has_parts || args.format.is_none(),
        "--format is about the parts of -o DIR/; the suffix of --output selects the format of a \
         file"
    );
    match &args.output {
        Some(folder) if has_parts => return parts::run(&args, folder, division, console),
        Some(path) => Format::of_path(path)?.check_dtype(args.dtype)?,
        None => ensure!(
            args.dtype == Dtype::F32,
            "--dtype f16 requires --output with .npy or .safetensors"
        ),
    }
    if has_images {
        embed_images(args, division, console)
    } else {
        texts::run(&args, console)
    }
}

fn embed_images(args: EmbedArgs, division: Option<Division>, console: &Console) -> Result<Outcome> {
    let started = Instant::now();
    // Everything that can be checked without a model is checked before one is downloaded.
    let images = Images::open(&args.images, &[])?;
    for output in outputs(&args) {
        images.check_outputs(&[Some(&output)], &[])?;
    }
    args.failures.check(args.output.as_deref())?;
    if let Some(summary) = args.failures.file() {
        images.check_outputs(&[Some(summary), args.output.as_deref()], &[])?;
    }
    let cache = args.engine.cache.folder()?;
    let session = Session::open(&args.engine.model, console)?;
    let mut engine = Engine::new(&session, args.engine.decoding(&session))
        .single(images.single())
        .frames(args.frames.frames)
        .cached(cache)?;
    let mut about = about_images(&session, &args.engine)?;
    about.settings.push_str(&args.frames.settings());
    let mut destination = Destination::open(&args, about, console)?;
    let earlier = destination.earlier();
    if let Some(earlier) = earlier.clone() {
        engine = engine.recall(|cache| Resumed { earlier, cache });
    }
    let images = images
        .shared(division)
        .start(&engine, Stop::default())
        .averaged(args.frames.frames_mean);
    engine.load(console)?;
    session.checkpoint.unchanged()?;
    let counts = images.for_each(&engine, console, |encoded| {
        take(encoded, earlier.as_deref(), &mut destination)
    })?;
    engine.finish(console);
    let outcome = destination.finish(counts.signal, console)?;
    args.failures
        .end(&made_by(started, &session), &counts, outcome)
}

fn made_by(started: Instant, session: &Session) -> MadeBy<'_> {
    MadeBy {
        command: "embed",
        started,
        session,
        labels_sha256: None,
        probe_sha256: None,
    }
}

/// Passes on an image's row, or where an earlier run stored it.
fn take(encoded: Encoded, earlier: Option<&Earlier>, destination: &mut Destination) -> Result<()> {
    let name = encoded.name();
    let known = match encoded.outcome {
        Ok(known) => known,
        Err(cause) => return destination.failed(&failure(name, encoded.given, &cause)),
    };
    let row = image_row(name, encoded.stamp, encoded.given, &known)?;
    match earlier.and_then(|earlier| earlier.of_row(&row, &known.embedding)) {
        Some(place) => {
            destination.again(place);
            Ok(())
        }
        None => destination.row(&row, &known.embedding),
    }
}

/// The row of an image without its embedding.
fn image_row(
    name: ImageName,
    stamp: Option<Stamp>,
    given: Option<Given>,
    known: &Known,
) -> Result<Row> {
    let (width, height) = known.size;
    Ok(Row {
        item: Item::Image {
            name,
            width: u32::try_from(width)?,
            height: u32::try_from(height)?,
            stamp,
        },
        warnings: known.warnings.clone(),
        given,
    })
}

fn failure(name: ImageName, given: Option<Given>, cause: &Error) -> Failure {
    let failure = FailureKind::Decode.else_this(cause);
    Failure {
        name: Name::Image(name),
        error: failure.cause,
        kind: Some(failure.kind),
        given,
    }
}

/// Every file that a run may write.
fn outputs(args: &EmbedArgs) -> Vec<PathBuf> {
    let Some(path) = &args.output else {
        return Vec::new();
    };
    let mut outputs = vec![path.clone(), journal_of(path), errors_of(path)];
    if Format::of_path(path).is_ok_and(|format| format == Format::Npy) {
        outputs.push(sidecar_of(path));
    }
    outputs
}
