//! `longclip search`: the images or texts of a file of embeddings that fit a query best.

mod index;
mod query;

use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};

use super::pipeline::Plan;
use super::remembered::{self, Engine, Remembered};
use super::session::{Session, Stop};
use super::{Console, Outcome, advice};
use crate::cli::{self, CacheArgs, LongTextArgs, ModelArgs, ModelChoice, PictureArgs};
use crate::output::Colour;
use crate::output::file::AtomicFile;
use crate::output::found::{self, Answer, End, Format, Style};

use index::Index;
use query::Query;

const NOTES: &str = "\
Examples:
  longclip search photos.npy \"a cat asleep on a sofa\"
  longclip search photos.npy ./like-this.jpg -k 5 --preview
  longclip search photos.npy \"a red car\" --format paths -0 | xargs -0 -r cp -t found/
  longclip search captions.parquet --image img.jpg --format jsonl

INDEX is what longclip embed wrote, and names the model to search with (one that is no published model is
to be named by --model too). A QUERY that is the path of a
picture (it has a picture's extension or begins with ./ or /, and the file is there, or both) asks
for what looks like it; --image takes any path.

Every embedding is compared, so that nothing is missed: about half a second for a million rows of
512 features on 2 cores, from .npy or .safetensors that lie in the system's memory. What is in
.parquet or .jsonl is decoded first, which takes longer.

Exit status: 0 every query was answered, 1 some failed, 2 it could not run, 130 or 143
stopped by a signal.";

/// The arguments of `longclip search`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct SearchArgs {
    /// A file that longclip embed wrote
    #[arg(value_name = "INDEX")]
    index: PathBuf,
    /// Texts, or paths of pictures
    #[arg(value_name = "QUERY")]
    queries: Vec<String>,
    /// Ask for what looks like these pictures; - reads one from stdin
    #[arg(long, value_name = "FILE", num_args = 1..)]
    image: Vec<PathBuf>,
    /// How many hits a query gets
    #[arg(short = 'k', long, value_name = "K", default_value_t = 10, value_parser = cli::count())]
    top_k: u64,
    #[command(flatten)]
    long: LongTextArgs,
    /// The results' format [default: table on a terminal, else jsonl]
    #[arg(short, long, value_name = "FORMAT", help_heading = "Output")]
    format: Option<SearchFormat>,
    /// With --format paths: end each path with NUL, as xargs -0 reads them
    #[arg(short = '0', long = "null", help_heading = "Output")]
    null: bool,
    /// Write to a file, which appears whole or not at all
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,
    /// Show the pictures in the table, on terminals with 24-bit colours
    #[arg(long, help_heading = "Output")]
    preview: bool,
    #[command(flatten)]
    model_choice: ModelChoice,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    pictures: PictureArgs,
}

/// The forms of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SearchFormat {
    /// For people.
    Table,
    /// One array.
    Json,
    /// One object a line.
    Jsonl,
    /// Comma-separated, one row a hit.
    Csv,
    /// Tab-separated.
    Tsv,
    /// The hits' paths alone, for other programs.
    Paths,
}

impl SearchFormat {
    /// What an output's suffix names.
    fn of_suffix(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "json" => Some(Self::Json),
            "jsonl" => Some(Self::Jsonl),
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            _ => None,
        }
    }
}

/// Searches a file of embeddings.
///
/// # Errors
/// When it cannot run; a query image that fails is an answer.
pub fn run(args: SearchArgs, console: &Console) -> Result<Outcome> {
    // Whatever can be wrong without a model is found before a model is fetched.
    let queries = Query::all(&args.queries, &args.image)?;
    let policy = args.long.policy()?;
    let (format, style) = format(&args, console)?;
    if let Some(path) = &args.output {
        advice::check_output(path)?;
        let inputs = args.image.iter().chain([&args.index]);
        advice::check_not_an_input(path, inputs, super::images::PICTURES)?;
    }
    let index = Index::open(&args.index)?;
    let cache = remembered::folder(&args.cache)?;
    let model = index
        .made_with()
        .model(&args.model, args.model_choice, console)?;
    let session = Session::open(&model, console);
    let session = Arc::new(session.with_context(|| index.wants())?);
    index.made_with().check_dim(&session)?;
    let plan = Plan::new(&session, &args.model, &args.pictures);
    let memory = cache.map(|folder| Remembered::open(&folder, session.clone(), &plan));
    let memory = memory.transpose()?;
    // The weights' digest reads all of them, as loading does: both at once.
    let (checked, engine) = std::thread::scope(|scope| {
        let checking = scope.spawn(|| index.made_with().check_model(&session));
        let engine = Engine::new(&session, memory.clone(), console);
        let checked = checking.join();
        (
            checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            engine,
        )
    });
    checked?;
    let engine = engine?;
    session.checkpoint.unchanged()?;
    let encoder = query::Encoder {
        encoder: engine.encoder.clone(),
        plan: plan.memory(memory),
        context_length: session.checkpoint.architecture.context_length,
        policy,
        console,
    };
    let stop = Stop::default();
    let encoded = encoder.encode(&queries, &stop)?;
    engine.finish(console);
    let preview = args.preview.then_some(console);
    let answers = encoded
        .map(|encoded| index.answers(&queries, encoded, args.top_k as usize, preview))
        .transpose()?;
    if let Some(signal) = stop.signal() {
        console.warn("stopped before all queries were answered");
        return Ok(Outcome::Stopped(signal));
    }
    let answers = answers.context("not every query was read")?;
    write(&args, &answers, format, style)?;
    let failed = answers
        .iter()
        .filter(|answer| answer.outcome.is_err())
        .count();
    Ok(match failed {
        0 => Outcome::Answered,
        all if all == answers.len() => Outcome::NoneRead,
        _ => Outcome::SomeFailed,
    })
}

fn format(args: &SearchArgs, console: &Console) -> Result<(Format, Style)> {
    let to_terminal = args.output.is_none() && std::io::stdout().is_terminal();
    let by_destination = match to_terminal || args.preview {
        true => SearchFormat::Table,
        false => SearchFormat::Jsonl,
    };
    let by_suffix = args.output.as_deref().and_then(SearchFormat::of_suffix);
    let by_destination = by_suffix.unwrap_or(by_destination);
    let format = match args.format.unwrap_or(by_destination) {
        SearchFormat::Table => Format::Table,
        SearchFormat::Json => Format::Json,
        SearchFormat::Jsonl => Format::Jsonl,
        SearchFormat::Csv => Format::Csv,
        SearchFormat::Tsv => Format::Tsv,
        SearchFormat::Paths if args.null => Format::Paths(End::Nul),
        SearchFormat::Paths => Format::Paths(End::Line),
    };
    ensure!(
        !args.null || matches!(format, Format::Paths(_)),
        "-0 ends paths with NUL; add --format paths"
    );
    ensure!(
        !args.preview || format == Format::Table,
        "--preview shows pictures in the table; leave out --format, or pass --format table"
    );
    let style = Style {
        width: terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0)),
        colour: if console.colors_results(to_terminal) {
            Colour::Ansi
        } else {
            Colour::Plain
        },
    };
    Ok((format, style))
}

fn write(args: &SearchArgs, answers: &[Answer], format: Format, style: Style) -> Result<()> {
    let Some(path) = &args.output else {
        let mut stdout = std::io::stdout().lock();
        return found::write(answers, format, style, &mut stdout)
            .context("cannot write the results to stdout");
    };
    let file = AtomicFile::create(path)?;
    let mut sink: Box<dyn Write + Send> = file.sink()?;
    found::write(answers, format, style, &mut sink)
        .with_context(|| format!("cannot write the results to {}", path.display()))?;
    drop(sink);
    file.commit()
}
