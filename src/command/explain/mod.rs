//! `longclip explain`: which words and which regions a score comes from.

mod outputs;
mod pairs;
mod picture;
mod scorer;
mod words;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::Args;

use crate::checkpoint::tiny::photograph;
use crate::input::tokenizer::encode;
use crate::model::DualEncoder;
use crate::output::explanation::Explanation;
use crate::output::{Format, ImageName};
use crate::run::flags::{DecodeArgs, LongTextArgs, ModelArgs, formats, names};
use crate::run::images::IMAGES;
use crate::run::report::check_page;
use crate::run::results::{Destination, check_suffix};
use crate::run::session::Session;
use crate::run::texts::Fitter;
use crate::run::{Console, Outcome, advice};
use crate::task::attribution::parts::Unit;
use picture::{Picture, RegionMethod};
use scorer::Scorer;
use words::WordMethod;

/// What only `--help` and the manual page say.
const DETAILS: &str = r#"What is explained:
  Without --against, the cosine of image and label. With --against, the cosine
  with --label less the cosine with --against; times the model's logit scale this
  is the difference of the logits, by which a softmax over both decides. Words of
  the other label then have values too, with the sign of their effect on the
  difference.

Words:
  shapley gives each word the mean of what it adds to the words that are there,
  over all orders in which words can be added. Up to 12 words, all subsets are
  encoded (4096 texts), and the values are exact. They sum to the score less that
  of the empty text, which is printed: a text without words has a cosine too. A
  longer label is split into sentences, or into clauses if it is one sentence,
  and each has its words below it. A label that cannot be split so, or
  more than 12 parts, are sampled: --samples N takes N random orders (200 if not
  given), each value then has a standard error, and the sum is exact all the same.
  --parts says what the parts are.

  "loss" is what the score loses if one word alone is left out; --words
  leave-one-out gives only that, which takes one text per word and sums to nothing
  in particular. Words that say the same thing can each have a small loss and a
  large value.

  Leaving words out changes the grammar of the rest. The values describe the
  model on such texts too, not only on sentences that a person would write.

Regions:
  --regions occlusion covers each cell of a grid with the mean colour of the
  model's preprocessing and gives what the score loses: for every kind of model, at
  the price of one image per cell. The grid lies over the square that the model
  sees ("area", in pixels of the image). What is outside it has no influence.

  legrad and grad-eclip take one backward pass of a vision transformer, in f32 on
  the CPU, and give each patch a number of at least 0, without a unit: compare the
  numbers of one map only. legrad sums the positive gradients of the attention in
  the last two layers (arXiv 2404.03214); grad-eclip multiplies the gradient of
  what the class token attends to with each patch's value, and with the
  likeness of its key to the class token's query (arXiv 2502.18816).

Words with patches:
  --pairs writes the cosine with --label as a sum. What each token writes through
  the attention of all layers into the row that becomes the embedding is a vector,
  for words and for the patches of a vision transformer; the product of two of
  them is what that word and that patch have of the cosine together. Three
  remainders are left: words with what is in no patch (class token, biases,
  MLPs), patches with what is in no word, and the product of both. They are often
  most of it: "share" says how much, in absolute terms. It is computed in f64 on the
  CPU, whatever --precision is.

Precision:
  Values are differences of cosines, and in bf16 a cosine is rounded by about
  0.001. Pass --precision f32 if small values matter."#;

const EXAMPLES: &str = "\
Examples:
  longclip explain img.jpg --label \"a red car on a bridge\"
  longclip explain img.jpg --label \"a cat\" --against \"a dog\" --regions occlusion
  longclip explain img.jpg --label \"a red car\" --report why.html --heatmap why.png

Exit status: 0 the score was explained, 2 could not run, 75 temporary failure, try again.";

/// The arguments of `longclip explain`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{DETAILS}\n\n{EXAMPLES}"))]
pub struct ExplainArgs {
    /// Image file; - reads one from stdin
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// Text whose score is explained
    #[arg(short, long, value_name = "TEXT", help_heading = "Labels")]
    label: String,
    /// Explain why --label fits better than this text
    #[arg(long, value_name = "TEXT", help_heading = "Labels")]
    against: Option<String>,
    /// Method for words: shapley, leave-one-out or none
    #[arg(long, value_name = "METHOD", default_value = "shapley", value_parser = names(WORDS), help_heading = "Words")]
    words: WordMethod,
    /// Parts of a label: words, clauses or sentences [default: words, if at most 12]
    #[arg(long, value_name = "UNIT", value_parser = names(UNITS), help_heading = "Words")]
    parts: Option<Unit>,
    /// Estimate Shapley values from N random orders, with standard errors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=1_000_000), help_heading = "Words")]
    samples: Option<u64>,
    /// Seed of the random orders
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Words")]
    seed: u64,
    #[command(flatten)]
    long: LongTextArgs,
    /// Method for regions: occlusion [default with --report and --heatmap], legrad or grad-eclip
    #[arg(long, value_name = "METHOD", value_parser = names(REGIONS), help_heading = "Regions")]
    regions: Option<RegionMethod>,
    /// Cells per side of the grid for occlusion [default: 7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64), help_heading = "Regions")]
    grid: Option<u64>,
    /// Split the label's cosine among all pairs of words and patches (vision transformers)
    #[arg(long, help_heading = "Regions")]
    pairs: bool,
    /// Write the image with the map over it to FILE (.png)
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    heatmap: Option<PathBuf>,
    /// Write an HTML page to FILE
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    report: Option<PathBuf>,
    /// Output format [default: table on a terminal, else jsonl]
    #[arg(short, long, value_name = "FORMAT", value_parser = formats(FORMATS), help_heading = "Output")]
    format: Option<Format>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    decode: DecodeArgs,
}

/// Cells per side, if nothing is said.
const GRID: u64 = 7;

const WORDS: &[(&str, WordMethod)] = &[
    ("shapley", WordMethod::Shapley),
    ("leave-one-out", WordMethod::LeaveOneOut),
    ("none", WordMethod::None),
];

const UNITS: &[(&str, Unit)] = &[
    ("words", Unit::Words),
    ("clauses", Unit::Clauses),
    ("sentences", Unit::Sentences),
];

const REGIONS: &[(&str, RegionMethod)] = &[
    ("occlusion", RegionMethod::Occlusion),
    ("legrad", RegionMethod::LeGrad),
    ("grad-eclip", RegionMethod::GradEclip),
];

const FORMATS: &[(Format, &str)] = &[
    (Format::Table, "Aligned text with bars"),
    (Format::Json, "One JSON array"),
    (Format::Jsonl, "One JSON object per line"),
];

/// Explains the score of one image and writes the page and the map.
///
/// # Errors
/// When it cannot run.
pub fn run(args: &ExplainArgs, console: &Console) -> Result<Outcome> {
    check_page(args.report.as_deref())?;
    if let Some(path) = &args.heatmap {
        check_suffix(path, &["png"], "a PNG picture")?;
    }
    let outputs = [args.report.as_deref(), args.heatmap.as_deref()];
    advice::check_outputs(&outputs, &[Some(&args.image)], IMAGES)?;
    check_labels(args)?;
    ensure!(
        args.words == WordMethod::Shapley || args.samples.is_none(),
        "--samples is for --words shapley; drop it"
    );

    let session = Session::open(&args.model, console)?;
    let wants_map = args.report.is_some() || args.heatmap.is_some();
    let regions = args
        .regions
        .or(wants_map.then_some(RegionMethod::Occlusion));
    if let Some(method) = regions {
        method.check(&session.checkpoint.architecture.image, args.grid)?;
    }
    let mut fitter = Fitter::new(&session, args.long.policy()?, console);
    for (place, text) in [
        ("--label", Some(&args.label)),
        ("--against", args.against.as_ref()),
    ] {
        if let Some(text) = text {
            fitter.fit(place, text)?;
        }
    }
    let is_long = fitter.long() > 0;
    fitter.finish();
    let picture = Picture::read(&args.image, &args.decode.options(), &session)?;
    let model: Arc<dyn DualEncoder> = Arc::new(session.load(Default::default(), console)?);
    let image = picture.encode(model.as_ref())?;
    let mut found = Explanation::of(&name(&args.image));
    found.notes.extend(picture.warnings.iter().cloned());
    if session.checkpoint.is_built_in() && photograph::is_likely(&image) {
        found.notes.push(photograph::WARNING.to_owned());
    }
    let mut scorer = Scorer::new(model.as_ref(), image, args.long.policy()?);
    scorer.score(args, &mut found)?;
    if is_long {
        found.notes.push(
            "a label is longer than the context: the values are those of what --long-text makes of it \
             and of its parts"
                .to_owned(),
        );
    }
    words::explain(args, &mut scorer, &mut found, console)?;
    if let Some(method) = regions {
        let grid = args.grid.unwrap_or(GRID) as usize;
        found.regions = Some(picture.regions(method, grid, &scorer, &session)?);
    }
    if args.pairs {
        found.pairs = Some(pairs::explain(&args.label, &picture, &session)?);
    }
    for note in &found.notes {
        console.note(note);
    }
    outputs::write(args, &session, &picture, &found)?;
    let stdout = Destination::stdout();
    outputs::print(
        &found,
        stdout.usual(args.format, Format::Jsonl),
        stdout.terminal(console),
    )?;
    Ok(Outcome::Answered)
}

/// Fails if there is nothing to explain.
fn check_labels(args: &ExplainArgs) -> Result<()> {
    for (flag, text) in [
        ("--label", Some(&args.label)),
        ("--against", args.against.as_ref()),
    ] {
        let is_empty = text.is_some_and(|text| encode(text).len() <= 2);
        ensure!(!is_empty, "{flag} has no words; pass a text");
    }
    let is_same = args
        .against
        .as_ref()
        .is_some_and(|other| encode(other) == encode(&args.label));
    ensure!(
        !is_same,
        "--label and --against are the same text for the model, so their difference is 0 for every \
         image; pass another text"
    );
    Ok(())
}

fn name(image: &std::path::Path) -> ImageName {
    match image.as_os_str() == "-" {
        true => ImageName::stdin(),
        false => ImageName::from(image),
    }
}
