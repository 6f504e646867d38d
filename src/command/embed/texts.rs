//! Embeds texts.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::destination::Destination;
use super::earlier::{Earlier, StoredAt};
use super::{EmbedArgs, outputs};
use crate::embedding::{Failure, Item, Kind, Row};
use crate::input::text_file::Line;
use crate::input::tokenizer::{Fitted, LongText};
use crate::model::DualEncoder;
use crate::output::Name;
use crate::run::engine::Engine;
use crate::run::made_with::about;
use crate::run::session::{Session, Stop};
use crate::run::texts::{Fitter, quoted};
use crate::run::{Console, Outcome, advice, texts};
use crate::task::embeddings::TextEmbeddings;

/// Texts per batch, which is also what a kill may lose.
const BATCH: usize = 64;

pub(super) type Texts = Box<dyn Iterator<Item = Line> + Send>;

pub(super) fn run(args: &EmbedArgs, console: &Console) -> Result<Outcome> {
    let policy = args.long.policy()?;
    ensure!(
        policy != LongText::BestChunk,
        "--long-text best-chunk chooses a chunk per image, but a file has one embedding per text; \
         pass --long-text chunk-mean or slide"
    );
    let texts = open(args)?;
    let cache = args.engine.cache.folder()?;
    let session = Session::open(&args.engine.model, console)?;
    let engine = Engine::new(&session, args.engine.decoding(&session)).cached(cache)?;
    let about = about(
        &session,
        Kind::Texts,
        &settings(policy),
        &session.text_recipe()?,
    )?;
    let destination = Destination::open(args, about, console)?;
    let model = engine.load(console)?;
    session.checkpoint.unchanged()?;
    let stop = Stop::default();
    stop.listen()?;
    let mut embedding = Embedding {
        encoder: model.as_ref(),
        fitter: Fitter::new(&session, policy, console),
        file: args.texts.as_deref(),
        earlier: destination.earlier(),
        destination,
        console,
    };
    let texts = read_ahead(texts);
    while let Some(batch) = next_batch(&texts, &stop) {
        embedding.take(batch)?;
    }
    engine.finish(console);
    embedding.fitter.finish();
    embedding.destination.finish(stop.signal(), console)
}

/// The texts, once the outputs are checked against their file.
pub(super) fn open(args: &EmbedArgs) -> Result<Texts> {
    for output in outputs(args) {
        advice::check_output(&output)?;
        let inputs = args.texts.iter().filter(|path| *path != Path::new("-"));
        advice::check_not_an_input(&output, inputs, crate::run::images::IMAGES)?;
    }
    Ok(match &args.texts {
        Some(path) => Box::new(texts::lines(path)?),
        None => {
            let texts = (1..).zip(args.text.clone());
            Box::new(texts.map(|(number, text)| Line::of(number, text)))
        }
    })
}

fn settings(policy: LongText) -> String {
    let stride = match policy {
        LongText::Slide {
            stride: Some(stride),
        } => format!(" stride={stride}"),
        _ => String::new(),
    };
    format!("long_text={}{stride}", policy.name())
}

/// Reads in a thread of its own, because a read from a pipe may block forever.
fn read_ahead(texts: Texts) -> Receiver<Line> {
    let (sender, receiver) = sync_channel(2 * BATCH);
    std::thread::spawn(move || {
        for text in texts {
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The texts that are available now, at most one batch; `None` at the end or after a signal.
fn next_batch(texts: &Receiver<Line>, stop: &Stop) -> Option<Vec<Line>> {
    loop {
        if stop.signal().is_some() {
            return None;
        }
        match texts.recv_timeout(Duration::from_millis(50)) {
            Ok(first) => {
                let rest = std::iter::from_fn(|| texts.try_recv().ok());
                return Some(std::iter::once(first).chain(rest).take(BATCH).collect());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

struct Embedding<'a> {
    encoder: &'a dyn DualEncoder,
    fitter: Fitter<'a>,
    /// The file that the texts come from.
    file: Option<&'a Path>,
    earlier: Option<Arc<Earlier>>,
    destination: Destination,
    console: &'a Console,
}

/// The state of a text before the tower has run.
enum Look {
    Known(StoredAt),
    Fitted(Row, Fitted),
    Failed(Failure),
}

impl Embedding<'_> {
    /// Encodes a batch and passes on its rows in order.
    fn take(&mut self, batch: Vec<Line>) -> Result<()> {
        let looks: Vec<Look> = batch.into_iter().map(|text| self.look(text)).collect();
        let fitted = looks.iter().filter_map(|look| match look {
            Look::Fitted(_, fitted) => Some(fitted.clone()),
            _ => None,
        });
        let mut embeddings = self.encode(&fitted.collect::<Vec<_>>()).into_iter();
        for look in looks {
            match look {
                Look::Known(place) => self.destination.again(place),
                Look::Failed(failure) => self.destination.failed(&failure)?,
                Look::Fitted(row, _) => match embeddings.next().context("a text is missing")? {
                    Ok(embedding) => self.destination.row(&row, &embedding)?,
                    Err(error) => {
                        let error = format!("{error:#}");
                        self.console.failed(&quoted(row.item.text(), 40), &error);
                        let name = Name::Text(row.item.text().to_owned());
                        self.destination.failed(&Failure {
                            name,
                            error,
                            kind: None,
                            given: None,
                        })?;
                    }
                },
            }
        }
        Ok(())
    }

    /// One result per text. If the batch fails, each text is encoded separately, so that only bad
    /// ones fail.
    fn encode(&self, texts: &[Fitted]) -> Vec<Result<Vec<f32>>> {
        if texts.is_empty() {
            return Vec::new();
        }
        match TextEmbeddings::encode(self.encoder, texts) {
            Ok(embeddings) => embeddings.texts().map(|row| Ok(row.to_vec())).collect(),
            Err(error) if texts.len() == 1 => vec![Err(error)],
            Err(_) => texts
                .iter()
                .flat_map(|text| self.encode(std::slice::from_ref(text)))
                .collect(),
        }
    }

    fn look(&mut self, line: Line) -> Look {
        let number = line.number;
        if let (Some(guess), Some(file)) = (line.guess, self.file) {
            self.console.note(&format!("{}: {guess}", file.display()));
        }
        let text = match line.text() {
            Ok(text) => text,
            Err(error) => {
                let file = self.file.unwrap_or(Path::new("-")).display();
                let place = format!("{file}, line {number}");
                self.console.failed(&place, &error.cause);
                return Look::Failed(Failure {
                    kind: None,
                    given: None,
                    name: Name::Text(error.start),
                    error: format!("{place}: {}", error.cause),
                });
            }
        };
        let earlier = self.earlier.as_ref();
        if let Some(place) = earlier.and_then(|earlier| earlier.of_text(&text)) {
            return Look::Known(place);
        }
        let place = match self.file {
            Some(_) => format!("line {number}"),
            None => format!("text {number}"),
        };
        match self.fitter.fit(&place, &text) {
            Ok(fitted) => {
                let row = Row {
                    given: None,
                    item: Item::Text(text),
                    warnings: self.fitter.what_it_took(&fitted).into_iter().collect(),
                };
                Look::Fitted(row, fitted)
            }
            Err(error) => {
                let error = format!("{error:#}");
                self.console.failed(&quoted(&text, 40), &error);
                Look::Failed(Failure {
                    kind: None,
                    given: None,
                    name: Name::Text(text),
                    error,
                })
            }
        }
    }
}
