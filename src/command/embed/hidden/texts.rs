//! The hidden states of texts.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};

use super::super::{EmbedArgs, texts};
use super::plan::{Plan, Pooled};
use crate::embedding::{Item, Kind, Row, StatesFile, Stored};
use crate::input::tokenizer::{LongText, PaddedIds};
use crate::model::{self, Clip, Layer, TextStates};
use crate::run::flags::{ModelArgs, StatedArgs};
use crate::run::made_with::about;
use crate::run::session::{Session, Stop};
use crate::run::texts::Fitter;
use crate::run::{Console, Outcome};

/// Texts per batch.
const BATCH: usize = 32;

/// Saves the states that `plan` wants.
pub(super) fn save(
    args: &EmbedArgs,
    path: &Path,
    plan: &Plan,
    console: &Console,
) -> Result<Outcome> {
    let policy = args.long.policy()?;
    ensure!(
        matches!(policy, LongText::Error | LongText::Truncate),
        "--long-text {} combines embeddings, but --hidden saves the rows of one text; pass \
         --long-text truncate",
        policy.name()
    );
    let lines = texts::open(args)?;
    let sessions = open_models(args, plan, console)?;
    let rows = rows(args, lines, Fitter::new(&sessions[0], policy, console))?;
    let encoders = Encoders::load(&sessions, plan, console)?;

    let stop = Stop::default();
    stop.listen()?;
    let mut file = StatesFile::create(path, args.dtype)?;
    let mut pooled = Vec::new();
    for batch in rows.chunks(BATCH) {
        if let Some(signal) = stop.signal() {
            return Ok(Outcome::Stopped(signal));
        }
        let texts: Vec<&str> = batch.iter().map(|row| row.item.text()).collect();
        let (states, of_ends) = encoders.states(&texts, |encoder| encoder.layer)?;
        let size = states.len() / batch.len();
        for (index, row) in batch.iter().enumerate() {
            file.push(row, &states[index * size..][..size])?;
        }
        pooled.extend(of_ends);
    }
    let mut others = vec![stored("pooled_prompt_embeds", &[rows.len()], pooled)];
    let (length, width) = (encoders.context_length(), encoders.width());
    if args.hidden.with_empty {
        let (states, of_end) = encoders.states(&[""], |encoder| encoder.layer_of_empty)?;
        others.push(stored("negative_prompt_embeds", &[1, length], states));
        others.push(stored("negative_pooled_prompt_embeds", &[1], of_end));
    }
    others.retain(|tensor| !tensor.values.is_empty());

    let first = &sessions[0];
    let settings = format!("long_text={}{}", policy.name(), encoders.settings());
    let about_first = about(first, Kind::Texts, &settings, &first.text_recipe()?)?;
    let mut pairs = vec![
        ("hidden", plan.name.clone()),
        ("context_length", length.to_string()),
    ];
    if let Some(second) = sessions.get(1) {
        let second = about(second, Kind::Texts, "", &second.text_recipe()?)?;
        pairs.push(("model_2", second.model_id()));
    }
    let of_row = [length, width];
    let of_row: &[usize] = if encoders.has_rows { &of_row } else { &[] };
    file.finish(&about_first, &pairs, ("prompt_embeds", of_row), &others)?;
    Ok(Outcome::Answered)
}

/// A tensor of this shape and as many columns as there are numbers for.
fn stored(name: &'static str, shape: &[usize], values: Vec<f32>) -> Stored {
    let columns = values.len() / shape.iter().product::<usize>();
    Stored {
        name,
        shape: [shape, &[columns]].concat(),
        values,
    }
}

/// The texts. One that cannot be read ends the run, so that row i is the text of line i.
fn rows(args: &EmbedArgs, lines: texts::Texts, mut fitter: Fitter<'_>) -> Result<Vec<Row>> {
    let what = if args.texts.is_some() { "line" } else { "text" };
    let mut rows = Vec::new();
    for line in lines {
        let place = format!("{what} {}", line.number);
        let text = line.text();
        let text = text.map_err(|bad| anyhow!("{place}: {}", bad.cause))?;
        let fitted = fitter.fit(&place, &text)?;
        rows.push(Row {
            warnings: fitter.what_it_took(&fitted).into_iter().collect(),
            item: Item::Text(text),
            given: None,
        });
    }
    fitter.finish();
    ensure!(
        !rows.is_empty(),
        "nothing to embed: the list of texts is empty"
    );
    Ok(rows)
}

/// The model of each text tower.
fn open_models(args: &EmbedArgs, plan: &Plan, console: &Console) -> Result<Vec<Arc<Session>>> {
    let first = Session::open(&args.engine.model, console)?;
    plan.layer_of(&first)?;
    let Some(model) = &args.hidden.second_model else {
        return Ok(vec![first]);
    };
    // What the flags state about the first model need not hold for the second.
    let stated = StatedArgs {
        activation: None,
        heads: None,
    };
    let second = ModelArgs {
        model: model.clone(),
        stated,
        ..args.engine.model.clone()
    };
    let second = first.open_next(&second, console)?;
    plan.layer_of(&second)?;
    let (a, b) = (context_length(&first), context_length(&second));
    ensure!(
        a == b,
        "{} reads {a} tokens and {} {b}, so that their states cannot be joined; longclip stretch \
         makes one longer",
        first.checkpoint.name,
        second.checkpoint.name
    );
    Ok(vec![first, second])
}

/// One text tower and what is taken from it.
struct Encoder {
    session: Arc<Session>,
    clip: Clip,
    layer: Layer,
    layer_of_empty: Layer,
    pad: u32,
}

impl Encoder {
    /// The states of `texts`, cut to the context.
    fn states(&self, texts: &[&str], layer: Layer) -> Result<TextStates> {
        let length = self.session.checkpoint.architecture.context_length;
        let padded = texts
            .iter()
            .map(|text| PaddedIds::new(text, length, self.pad));
        self.clip
            .text_states(&padded.collect::<Result<Vec<_>>>()?, layer)
    }
}

/// The towers in the order in which their states are joined.
struct Encoders {
    towers: Vec<Encoder>,
    has_rows: bool,
    pooled: Pooled,
}

impl Encoders {
    /// Builds the towers of `sessions`.
    fn load(sessions: &[Arc<Session>], plan: &Plan, console: &Console) -> Result<Self> {
        let mut towers = Vec::new();
        for (session, &pad) in sessions.iter().zip(&plan.pads) {
            let clip = session.load(model::Towers::Text, console)?;
            session.checkpoint.unchanged()?;
            towers.push(Encoder {
                session: session.clone(),
                clip,
                layer: plan.layer_of(session)?,
                layer_of_empty: plan.layer_of_empty(session)?,
                pad,
            });
        }
        Ok(Self {
            towers,
            has_rows: plan.has_rows(),
            pooled: plan.pooled,
        })
    }

    /// What is taken from each, for the header.
    fn settings(&self) -> String {
        let of = |tower: &Encoder| {
            let layers = tower.session.checkpoint.architecture.text.layers;
            let norm = if tower.layer.is_normed { "yes" } else { "no" };
            let (index, pad) = (tower.layer.index, tower.pad);
            format!(" layer={index}/{layers} norm={norm} pad={pad}")
        };
        self.towers.iter().map(of).collect()
    }

    /// The rows [texts, context_length, width of all], if there are to
    /// be any, and what is pooled, [texts, width].
    fn states(&self, texts: &[&str], layer: fn(&Encoder) -> Layer) -> Result<(Vec<f32>, Vec<f32>)> {
        let states: Vec<TextStates> = self
            .towers
            .iter()
            .map(|encoder| encoder.states(texts, layer(encoder)))
            .collect::<Result<_>>()?;
        let rows: Vec<&[f32]> = states.iter().map(|states| &states.rows[..]).collect();
        let rows = match self.has_rows {
            true => joined(&rows, texts.len() * self.context_length()),
            false => Vec::new(),
        };
        let projected: Vec<&[f32]> = states.iter().map(|states| &states.projected[..]).collect();
        let pooled = match self.pooled {
            Pooled::No => Vec::new(),
            Pooled::State => states.iter().flat_map(|s| s.pooled.clone()).collect(),
            Pooled::ProjectedOfLast => projected.last().map_or(Vec::new(), |last| last.to_vec()),
            Pooled::Projected => joined(&projected, texts.len()),
        };
        Ok((rows, pooled))
    }

    fn context_length(&self) -> usize {
        context_length(&self.towers[0].session)
    }

    /// Of all joined.
    fn width(&self) -> usize {
        let widths = self
            .towers
            .iter()
            .map(|tower| tower.session.checkpoint.architecture.text.width);
        widths.sum()
    }
}

/// `parts`, each of `rows` rows -> their rows one behind the other.
fn joined(parts: &[&[f32]], rows: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    for row in 0..rows {
        for part in parts {
            let width = part.len() / rows;
            all.extend_from_slice(&part[row * width..][..width]);
        }
    }
    all
}

fn context_length(session: &Session) -> usize {
    session.checkpoint.architecture.context_length
}
