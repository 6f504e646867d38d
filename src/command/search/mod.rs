//! `longclip search`: searches a file of embeddings by text or image.

mod index;
mod query;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::file::atomic::AtomicFile;
use crate::input::paths::split_name;
use crate::output::found::{HitStyle, PathEnd, QueryHits};
use crate::output::{Format, Name, found};
use crate::run::engine::Engine;
use crate::run::flags::{EngineArgs, LongTextArgs, OutputFileArgs};
use crate::run::images::IMAGES;
use crate::run::results::{Destination, stdout};
use crate::run::session::{Session, Stop};
use crate::run::{Console, Outcome, advice, flags};
use index::{Index, Own, Wanted};
use query::{Added, Query};

/// The default number of hits per query.
const HITS: u64 = 10;

/// What only `--help` and the manual page say.
const DETAILS: &str = r#"Matrices of other programs:
  Numbers have 16 to 64 bits, in either byte order and either array order. Rows
  that are not unit vectors are normalised, and a note says so. longclip probe
  reads the same files if their rows have names.

Weighted queries:
  "sun" --add 0.5 "a heart" searches for the unit embedding of "sun" plus 0.5
  times that of "a heart", normalised. A negative weight subtracts."#;

const NOTES: &str = "\
Examples:
  longclip search photos.npy \"a cat asleep on a sofa\" --threshold 0.25
  longclip search photos.npy ./like-this.jpg --exclude-query -k 5 --preview
  longclip search photos.npy \"a red car\" --format paths -0 | xargs -0 -r cp -t found/
  longclip search photos.npy sun --add 0.5 \"a heart\" --add -0.5 ./night.jpg
  longclip search captions.parquet --image img.jpg --format jsonl
  longclip search vectors.npz:images \"a cat\" --model clip-vit-b-32

INDEX is a file written by longclip embed. It names the model to search with; if that is not a
published model, pass --model too. A QUERY is an image if at least two of these hold: it begins
with ./, ../ or /; it has an image extension; the file exists. --image takes any path.

--add makes a weighted sum: the unit embedding of QUERY plus WEIGHT times that of each added text
or image, normalised. --exclude-query omits rows that are the query itself: images with the same
path (from the working folder or the folder of INDEX), or with the same name, size and
modification time; copies under other names stay. --threshold applies to the cosines that are
printed.

INDEX may also be a matrix from another program, one embedding per row, with --model naming the
model: .npy, .npz, .safetensors, .parquet or .jsonl with float16, float32 or float64 numbers,
which are normalised if needed. FILE:NAME selects one of several arrays. Rows are numbered from 0,
unless X.paths.jsonl next to X.npy names them: one {\"image\": PATH} or {\"text\": TEXT} per line.

The search is exact: it compares every embedding, which takes about half a second for a million
rows of 512 features on 2 cores, from .npy or .safetensors in the page cache. .parquet and .jsonl
are decoded first, which takes longer.

Exit status: 0 every query was answered, 1 some failed, 2 could not run, 130 or 143 stopped by a
signal.";

/// The arguments of `longclip search`.
#[derive(Debug, Args)]
#[command(after_help = NOTES, after_long_help = format!("{DETAILS}\n\n{NOTES}"))]
pub struct SearchArgs {
    /// File from longclip embed, or a matrix from another program (FILE or FILE:NAME)
    #[arg(value_name = "INDEX")]
    index: PathBuf,
    /// Texts, or paths of images
    #[arg(value_name = "QUERY")]
    queries: Vec<String>,
    /// Search by these images; - reads one from stdin
    #[arg(long, value_name = "FILE", num_args = 1..)]
    image: Vec<PathBuf>,
    /// Add WEIGHT times this text or image to every query; negative weights subtract
    #[arg(long, value_names = ["WEIGHT", "QUERY"], num_args = 2, allow_negative_numbers = true)]
    add: Vec<String>,
    /// Number of hits per query [default: 10]
    #[arg(short = 'k', long, value_name = "K", value_parser = flags::count())]
    top_k: Option<u64>,
    /// Omit hits with a cosine below P
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = flags::finite)]
    threshold: Option<f32>,
    /// Omit rows that are the query itself
    #[arg(long)]
    exclude_query: bool,
    #[command(flatten)]
    long: LongTextArgs,
    /// Output format [default: by suffix of --output, else table on terminals or jsonl]
    #[arg(short, long, value_name = "FORMAT", help_heading = "Output", value_parser = flags::formats(FORMATS))]
    format: Option<Format>,
    /// With --format paths: separate paths with NUL, for xargs -0
    #[arg(short = '0', long = "null", help_heading = "Output")]
    null: bool,
    #[command(flatten)]
    file: OutputFileArgs,
    /// Show images in the table, on terminals with 24-bit colour
    #[arg(long, help_heading = "Output")]
    preview: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// The output formats.
const FORMATS: &[(Format, &str)] = &[
    (Format::Table, "Aligned text"),
    (Format::Json, "One array, with an object per query"),
    (Format::Jsonl, "One object per query and line"),
    (Format::Csv, "Comma-separated, one row per hit"),
    (Format::Tsv, "Tab-separated, one row per hit"),
    (Format::Paths, "The paths of the hits only"),
];

/// The queries, and what is added to each.
struct Asked {
    queries: Vec<Query>,
    added: Added,
}

impl Asked {
    fn new(args: &SearchArgs) -> Result<Self> {
        if let Some(threshold) = args.threshold {
            ensure!(
                (-1.0..=1.0).contains(&threshold),
                "--threshold {threshold} is out of range: cosines lie between -1 and 1"
            );
        }
        let asked = Self {
            queries: Query::all(&args.queries, &args.image)?,
            added: Added::new(&args.add)?,
        };
        ensure!(
            !args.exclude_query || !args.image.iter().any(|path| path.as_os_str() == "-"),
            "--exclude-query recognises images by their file, which stdin does not have; name a \
             file"
        );
        Ok(asked)
    }

    /// The queries, followed by what is added.
    fn all(&self) -> Vec<&Query> {
        let added = self.added.0.iter().map(|(_, query)| query);
        self.queries.iter().chain(added).collect()
    }

    /// The images among them.
    fn images(&self) -> impl Iterator<Item = &PathBuf> {
        self.all().into_iter().filter_map(|query| match query {
            Query::Image(path) => Some(path),
            Query::Text(_) => None,
        })
    }

    /// What a query and all that is added to it are recognised by in an index.
    fn own(&self, args: &SearchArgs, query: &Query) -> Option<Own> {
        let added = self.added.0.iter().map(|(_, query)| query);
        let (index, _) = split_name(&args.index);
        args.exclude_query
            .then(|| Own::new(std::iter::once(query).chain(added), &index))
    }

    /// The answers, given the embeddings of all queries and of what is added.
    fn answers(
        &self,
        args: &SearchArgs,
        index: &Index,
        mut encoded: Vec<Result<Vec<f32>>>,
        console: &Console,
    ) -> Result<Vec<QueryHits>> {
        let added = encoded.split_off(self.queries.len().min(encoded.len()));
        let sums: Vec<Result<Vec<f32>>> = (self.queries.iter().zip(encoded))
            .map(|(query, encoded)| {
                let sum = self.added.to(encoded?, &added, index.dim());
                sum.inspect_err(|error| {
                    console.failed(&self.added.shown(query), &format!("{error:#}"));
                })
            })
            .collect();
        let embeddings: Vec<&[f32]> = sums.iter().flatten().map(Vec::as_slice).collect();
        let answered = self
            .queries
            .iter()
            .zip(&sums)
            .filter(|(_, sum)| sum.is_ok());
        let own: Vec<Option<Own>> = answered.map(|(query, _)| self.own(args, query)).collect();
        let wanted = Wanted {
            most: args.top_k.unwrap_or(HITS) as usize,
            threshold: args.threshold,
        };
        let found = index.hits(&embeddings, &own, wanted)?;
        if found.are_cut && args.threshold.is_some() && args.top_k.is_none() {
            console.note(&format!(
                "more than {HITS} hits reach --threshold; pass -k to show more"
            ));
        }
        let mut hits = found.of_query.into_iter();
        let decode = args.engine.decode.options();
        let preview = args.preview.then_some((console, &decode));
        let answer = |(query, sum): (&Query, &Result<Vec<f32>>)| {
            Ok(QueryHits {
                query: self.added.shown(query),
                outcome: match sum {
                    Ok(_) => Ok(index.named(&hits.next().unwrap_or_default(), preview)?),
                    Err(error) => Err(format!("{error:#}")),
                },
            })
        };
        self.queries.iter().zip(&sums).map(answer).collect()
    }
}

/// Searches a file of embeddings.
///
/// # Errors
/// When it cannot run; a query image that fails is reported as an answer.
pub fn run(args: SearchArgs, console: &Console) -> Result<Outcome> {
    // Everything that can be checked without a model is checked before one is downloaded.
    let asked = Asked::new(&args)?;
    let policy = args.long.policy()?;
    if let Some(path) = args.file.path() {
        advice::check_output(path)?;
        let (index, _) = split_name(&args.index);
        advice::check_not_an_input(path, asked.images().chain([&index]), IMAGES)?;
    }
    let (format, style) = format(&args, console)?;
    let index = Index::open(&args.index)?;
    ensure!(
        !args.exclude_query || index.has_names(),
        "the rows of {} have no names, so --exclude-query cannot recognise the query",
        args.index.display()
    );
    let style = HitStyle {
        is_numbered: !index.has_names(),
        ..style
    };
    let cache = args.engine.cache.folder()?;
    let model = index.model(&args.engine, console)?;
    let session = Session::open(&model, console).with_context(|| index.wants())?;
    index.check_dim(&session)?;
    index.report(&session, console);
    let engine = Engine::new(&session, args.engine.decoding(&session))
        .single(asked.images().count() == 1)
        .cached(cache)?;
    // Both the digest and loading read all weights, so they run in parallel.
    let (checked, loaded) = std::thread::scope(|scope| {
        let checking = scope.spawn(|| index.check_model(&session));
        let loaded = engine.load(console);
        let checked = checking.join();
        (
            checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            loaded,
        )
    });
    checked?;
    loaded?;
    session.checkpoint.unchanged()?;
    let stop = Stop::default();
    let encoded = query::encode(&asked.all(), &engine, policy, &stop, console)?;
    engine.finish(console);
    let answers = encoded
        .map(|encoded| asked.answers(&args, &index, encoded, console))
        .transpose()?;
    if let Some(signal) = stop.signal() {
        console.warn("stopped before all queries were answered");
        return Ok(Outcome::Stopped(signal));
    }
    let answers = answers.context("some queries were not read")?;
    let mut style = style;
    style.extras.image_bytes |= format.is_csv() && has_odd_names(&answers);
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

fn format(args: &SearchArgs, console: &Console) -> Result<(Format, HitStyle)> {
    let destination = Destination::new(args.file.path());
    let usual = match args.preview {
        true => Format::Table,
        false => Format::Jsonl,
    };
    let format = destination.format(args.format, usual, Format::SUFFIXES, console)?;
    ensure!(
        !args.null || format == Format::Paths,
        "-0 requires --format paths; add it, or drop -0"
    );
    ensure!(
        !args.preview || format == Format::Table,
        "--preview requires --format table; pass it, or drop --format"
    );
    let style = HitStyle {
        terminal: destination.terminal(console),
        extras: args.file.extras(format)?,
        is_numbered: false,
        end: if args.null {
            PathEnd::Nul
        } else {
            PathEnd::Line
        },
    };
    Ok((format, style))
}

/// Whether a hit's path is not UTF-8.
fn has_odd_names(answers: &[QueryHits]) -> bool {
    let hits = answers
        .iter()
        .filter_map(|answer| answer.outcome.as_ref().ok());
    hits.flatten()
        .any(|hit| matches!(&hit.name, Some(Name::Image(name)) if name.bytes.is_some()))
}

fn write(args: &SearchArgs, answers: &[QueryHits], format: Format, style: HitStyle) -> Result<()> {
    let Some(path) = args.file.path() else {
        return found::write(answers, format, style, &mut *stdout(format))
            .context("cannot write the results to stdout");
    };
    let file = AtomicFile::create(path)?;
    let mut sink: Box<dyn Write + Send> = file.sink()?;
    found::write(answers, format, style, &mut sink)
        .with_context(|| format!("cannot write the results to {}", path.display()))?;
    drop(sink);
    file.commit()
}
