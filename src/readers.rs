//! Every reader of files that may come from anywhere, by name: one table for the tests that damage
//! files (`tests/fuzz`) and for the fuzz targets. Not an interface of the library.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Result, anyhow, bail, ensure};

use crate::checkpoint::config::ModelConfig;
use crate::checkpoint::source::{self, ModelFiles};
use crate::checkpoint::{container, hub, vocabulary};
use crate::embedding::{self, journal, probe};
use crate::input::dataset::pairs::{self, LongCaption, PairOptions, ShortCaption};
use crate::input::dataset::{LabelledOptions, labelled};
use crate::input::image::{self, DecodeOptions, FrameChoice, FrameReader, MemoryBudget, Opened};
use crate::input::paths::{self, FilesFrom, ImageSource, ListSource, Separator};
use crate::input::preprocess::{Preprocess, Square};
use crate::input::prompt::{self, Templates};
use crate::input::text_file;
use crate::input::tokenizer::{self, LongText};
use crate::output::undo::{Run, undo};
use crate::output::xmp;
use crate::run::calibration::Calibration;
use crate::run::images::IMAGES;
use crate::run::parts::Folder;
use crate::train::log::Log;

/// A reader of files.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    /// The name of a file as this reader expects it.
    pub file: &'static str,
    read: fn(&Path) -> Result<()>,
}

impl Reader {
    /// Reads all of the file at `path`.
    ///
    /// # Errors
    /// When it is refused.
    pub fn read(&self, path: &Path) -> Result<()> {
        (self.read)(path)
    }
}

/// The readers.
pub const READERS: &[Reader] = &[
    of("weights.pt", weights),
    of("image.bin", |path| {
        let options = DecodeOptions::default();
        let _ = image::quality::jpeg_quality(&image::read_bytes(path, &options)?);
        image::check(path, &options).map(drop)
    }),
    #[cfg(feature = "heic")]
    of("photo.heic", picture),
    of("frames.gif", frames),
    of("frames.png", frames),
    of("frames.webp", frames),
    of("frames.y4m", frames),
    of("frames.ppm", frames),
    of("images.tar", archive),
    of("images.tar.gz", archive),
    of("images.tar.zst", archive),
    of("images.zip", archive),
    of("images.parquet", archive),
    of("pairs.tar", training_pairs),
    of("pairs.jsonl", training_pairs),
    of("pairs.csv", training_pairs),
    of("pairs.tsv", training_pairs),
    of("pairs.json", training_pairs),
    of("captions.json", training_pairs),
    of("dataset.csv", dataset),
    of("dataset.json", dataset),
    of("labels.txt", labels),
    of("labels.csv", labels),
    of("labels.json", labels),
    of("labels.yaml", labels),
    of("templates.txt", templates),
    of("list.txt", list),
    of("texts.txt", texts),
    of("array.npy", embeddings),
    of("array.npz", embeddings),
    of("rows.safetensors", embeddings),
    of("rows.parquet", embeddings),
    of("rows.jsonl", embeddings),
    of("rows.npy.partial", rows_in_progress),
    of("probe.safetensors", |path| probe::read(path).map(drop)),
    of("calibration.json", calibration),
    of("longclip-sorted.jsonl", undo_list),
    of("longclip-xmp.jsonl", undo_list),
    of("run.json", Folder::read_file),
    of("part-000000.json", Folder::read_file),
    of("units.json", Folder::read_file),
    of("a.xmp", xmp::read),
    of("log.jsonl", log),
    of("config.json", config),
    of("open_clip_config.json", config),
    of("preprocessor_config.json", config),
    of("processor_config.json", config),
    of("tokenizer_config.json", config),
    of("vocab.json", vocabulary_file),
    of("tokenizer.json", vocabulary_file),
    of("model.safetensors.index.json", model),
    of("modules.json", model),
];

const fn of(file: &'static str, read: fn(&Path) -> Result<()>) -> Reader {
    Reader { file, read }
}

/// Larger tensors are views of a few bytes, valid and slow to read.
const MOST_ELEMENTS: usize = 1 << 16;

fn weights(path: &Path) -> Result<()> {
    for tensor in container::open(path)?.tensors.values() {
        if tensor.elements() <= MOST_ELEMENTS {
            // What cannot be read is an error of that tensor.
            let _ = tensor.to_f32();
            let _ = tensor.transpose().map(|tensor| tensor.to_f32());
            let _ = tensor.count_non_finite();
        }
    }
    Ok(())
}

/// Decodes a picture, in as little memory as the tests allow.
#[cfg(feature = "heic")]
fn picture(path: &Path) -> Result<()> {
    let options = DecodeOptions {
        max_pixels: 1 << 20,
        memory: MemoryBudget::new(64 << 20),
        ..DecodeOptions::default()
    };
    image::read(path, &options).map(drop)
}

/// Composes every frame of an animation or a stream, in as little memory as the tests allow.
fn frames(path: &Path) -> Result<()> {
    let options = DecodeOptions {
        max_pixels: 1 << 20,
        memory: MemoryBudget::new(64 << 20),
        ..DecodeOptions::default()
    };
    let stream = BufReader::new(File::open(path)?);
    match FrameReader::of_stream(stream, &options, FrameChoice::All)? {
        Opened::Still(bytes, _) => image::decode(&bytes, &options).map(drop),
        Opened::Frames(mut frames) => {
            let preprocess = Preprocess::clip(8);
            while frames
                .next(&options, &mut Square::new(&preprocess))?
                .is_some()
            {}
            Ok(())
        }
    }
}

/// Reads every image of an archive, and its labels.
fn archive(path: &Path) -> Result<()> {
    let options = DecodeOptions {
        memory: MemoryBudget::new(64 << 20),
        ..DecodeOptions::default()
    };
    for entry in paths::expand(vec![path.to_owned()], None, IMAGES)? {
        match entry.source? {
            ImageSource::Member(member) => drop(member.read(&options)?),
            _ => bail!("it is not an archive"),
        }
    }
    labelled(path, &LabelledOptions::usual("test").or_shards(), IMAGES).map(drop)
}

fn training_pairs(path: &Path) -> Result<()> {
    let options = PairOptions {
        images: None,
        split: None,
        decode: DecodeOptions::default(),
        context_length: 77,
        long: LongCaption::Cut,
        short: ShortCaption::Used,
    };
    let found = pairs::read(path, &options, IMAGES, &|_| {})?;
    for pair in &found.pairs {
        pair.image.read(&options.decode)?;
    }
    ensure!(found.bad.is_empty(), "{}", found.bad[0].cause);
    Ok(())
}

fn dataset(path: &Path) -> Result<()> {
    labelled(path, &LabelledOptions::usual("test"), IMAGES).map(drop)
}

fn labels(path: &Path) -> Result<()> {
    let found = prompt::labels_from_file(path, None, &Templates::none())?;
    for class in &found.classes {
        tokenizer::fit(&class.label, 77, LongText::Truncate)?;
    }
    Ok(())
}

fn templates(path: &Path) -> Result<()> {
    Templates::named_or_file(&path.to_string_lossy())?.check_length("cat")
}

fn list(path: &Path) -> Result<()> {
    for separator in [Separator::Line, Separator::Nul] {
        let list = FilesFrom {
            source: ListSource::File(path.to_owned()),
            separator,
        };
        paths::expand(Vec::new(), Some(list), IMAGES)?
            .try_for_each(|entry| entry.source.map(drop))?;
    }
    Ok(())
}

fn texts(path: &Path) -> Result<()> {
    for line in text_file::Lines::open(path)? {
        let text = line.text().map_err(|no| anyhow!("{}", no.cause))?;
        tokenizer::fit(&text, 77, LongText::ChunkMean)?;
    }
    Ok(())
}

fn embeddings(path: &Path) -> Result<()> {
    let found = embedding::open_any(path)?;
    let mut values = Vec::new();
    let block = found.block_rows().clamp(1, MOST_ELEMENTS);
    for start in (0..found.rows()).step_by(block) {
        values.clear();
        found.vectors(start..(start + block).min(found.rows()), &mut values)?;
        found.name(start)?;
    }
    Ok(())
}

fn rows_in_progress(path: &Path) -> Result<()> {
    journal::scan(&File::open(path)?, |_, _| {}).map(drop)
}

fn calibration(path: &Path) -> Result<()> {
    Calibration::read(&Some(path.to_owned())).map(drop)
}

fn undo_list(path: &Path) -> Result<()> {
    undo(path, Run::Dry, false, &mut |_| {}).map(drop)
}

fn log(path: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let log = Log::go_on(file, path, usize::MAX, None)?;
    // It ends before its first damaged line.
    ensure!(!log.entries().is_empty(), "not one line is whole");
    Ok(())
}

/// Reads one configuration file alone, whichever its name says it is.
fn config(path: &Path) -> Result<()> {
    let is = |name: &str| path.ends_with(name).then(|| path.to_owned());
    let files = ModelFiles {
        config: is("config.json"),
        open_clip_config: is("open_clip_config.json"),
        preprocessor: is("preprocessor_config.json"),
        processor: is("processor_config.json"),
        tokenizer_config: is("tokenizer_config.json"),
        ..ModelFiles::default()
    };
    let config = ModelConfig::read(&files)?;
    config.activation()?;
    config.preprocess(224).map(drop)
}

fn vocabulary_file(path: &Path) -> Result<()> {
    let is = |name: &str| path.ends_with(name).then(|| path.to_owned());
    vocabulary::check(&ModelFiles {
        vocabulary: is("vocab.json"),
        tokenizer: is("tokenizer.json"),
        ..ModelFiles::default()
    })
}

/// Resolves the model that an index or a list of modules names; its folder has no other files.
fn model(path: &Path) -> Result<()> {
    let target = match path.ends_with("modules.json") {
        true => path.parent().unwrap_or(path),
        false => path,
    };
    let hub = hub::Settings::new("http://127.0.0.1:9", None);
    source::resolve(&target.to_string_lossy(), &hub, &hub::Silent).map(drop)
}
