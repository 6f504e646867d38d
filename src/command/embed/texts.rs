//! Texts -> rows.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::Result;

use super::destination::Destination;
use super::earlier::Earlier;
use super::{EmbedArgs, about, outputs};
use crate::command::pipeline::Plan;
use crate::command::remembered::{self, Engine, Remembered};
use crate::command::session::{Session, Stop};
use crate::command::tokens::lines::{Lines, NoText};
use crate::command::{Console, Outcome, advice};
use crate::input::tokenizer::{self, Fitted, LongText};
use crate::model::DualEncoder;
use crate::output::embedding::{Failure, Item, Kind, Name, Row};

/// Texts that go through the tower together, and that a kill may lose.
const BATCH: usize = 64;

type Texts = Box<dyn Iterator<Item = Result<String, NoText>> + Send>;

pub(super) fn run(args: &EmbedArgs, console: &Console) -> Result<Outcome> {
    let texts: Texts = match &args.texts {
        Some(path) => Box::new(Lines::open(path)?),
        None => Box::new(args.text.clone().into_iter().map(Ok)),
    };
    for output in outputs(args) {
        advice::check_output(&output)?;
        let inputs = args.texts.iter().filter(|path| *path != Path::new("-"));
        advice::check_not_an_input(&output, inputs, crate::command::images::PICTURES)?;
    }
    let cache = remembered::folder(&args.cache)?;
    let session = Arc::new(Session::open(&args.model, console)?);
    let plan = Plan::of(&session);
    let memory = cache.map(|folder| Remembered::open(&folder, session.clone(), &plan));
    let settings = match args.long_text {
        LongText::Error => "long_text=error",
        LongText::Truncate => "long_text=truncate",
    };
    let about = about(&session, Kind::Texts, settings, &session.text_recipe()?)?;
    let destination = Destination::open(args, about, console)?;
    let engine = Engine::new(&session, memory.transpose()?, console)?;
    session.checkpoint.unchanged()?;
    let stop = Stop::default();
    stop.listen()?;
    let mut embedding = Embedding {
        encoder: engine.encoder.as_ref(),
        context_length: session.checkpoint.architecture.context_length,
        policy: args.long_text,
        earlier: destination.earlier(),
        destination,
        console,
    };
    let texts = read_ahead(texts);
    while let Some(batch) = next_batch(&texts, &stop) {
        embedding.take(batch)?;
    }
    engine.finish(console);
    embedding.destination.finish(stop.signal(), console)
}

/// Reads in a thread of its own: a read from a pipe may last for ever.
fn read_ahead(texts: Texts) -> Receiver<Result<String, NoText>> {
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

/// What is there now, at most a batch; `None` when there is no more or a signal came.
fn next_batch(
    texts: &Receiver<Result<String, NoText>>,
    stop: &Stop,
) -> Option<Vec<Result<String, NoText>>> {
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
    context_length: usize,
    policy: LongText,
    earlier: Option<Arc<Earlier>>,
    destination: Destination,
    console: &'a Console,
}

/// What is known of a text before the tower has run.
enum Look {
    Known(super::earlier::Place),
    Fitted(String, Fitted),
    Failed(Failure),
}

impl Embedding<'_> {
    /// Encodes a batch and hands on its rows, in their order.
    fn take(&mut self, batch: Vec<Result<String, NoText>>) -> Result<()> {
        let looks: Vec<Look> = batch.into_iter().map(|text| self.look(text)).collect();
        let tokens = looks.iter().filter_map(|look| match look {
            Look::Fitted(_, fitted) => Some(fitted.token_ids.clone()),
            _ => None,
        });
        let tokens: Vec<_> = tokens.collect();
        let mut embeddings = match tokens.is_empty() {
            true => Vec::new(),
            false => self.encoder.encode_text(&tokens)?.to_vec2::<f32>()?,
        }
        .into_iter();
        for look in looks {
            match look {
                Look::Known(place) => self.destination.again(place),
                Look::Failed(failure) => self.destination.failed(&failure)?,
                Look::Fitted(text, fitted) => {
                    let row = Row {
                        item: Item::Text(text),
                        warnings: self.warnings(&fitted),
                    };
                    let embedding = embeddings.next().unwrap_or_default();
                    self.destination.row(&row, &embedding)?;
                }
            }
        }
        Ok(())
    }

    fn look(&self, text: Result<String, NoText>) -> Look {
        let text = match text {
            Ok(text) => text,
            Err(error) => {
                let place = error.place();
                self.console.failed(&place, &error.cause);
                return Look::Failed(Failure {
                    name: Name::Text(error.text),
                    error: format!("{place}: {}", error.cause),
                });
            }
        };
        if let Some(place) = self
            .earlier
            .as_ref()
            .and_then(|earlier| earlier.of_text(&text))
        {
            return Look::Known(place);
        }
        match tokenizer::fit(&text, self.context_length, self.policy) {
            Ok(fitted) => {
                for warning in self.warnings(&fitted) {
                    self.console.warn(&format!("{}: {warning}", start(&text)));
                }
                Look::Fitted(text, fitted)
            }
            Err(error) => {
                let error = format!("{error:#}");
                self.console.failed(&start(&text), &error);
                Look::Failed(Failure {
                    name: Name::Text(text),
                    error,
                })
            }
        }
    }

    fn warnings(&self, fitted: &Fitted) -> Vec<String> {
        let cut = fitted.cut.as_ref().map(|cut| {
            format!(
                "{} tokens over the model's {} were cut",
                cut.tokens, self.context_length
            )
        });
        cut.into_iter().collect()
    }
}

/// The start of a text, in quotes.
fn start(text: &str) -> String {
    let start: String = text.chars().take(40).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("{start:?}{more}")
}
