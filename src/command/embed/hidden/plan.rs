//! What is computed of each text, from the name of a generator or of a layer.

use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};

use super::HiddenArgs;
use crate::input::tokenizer::END_OF_TEXT;
use crate::model::Layer;
use crate::run::session::Session;

/// What `--hidden` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum States {
    /// What an image generator takes.
    Of(&'static Generator),
    /// A layer of the text tower: 0 are the token embeddings, -1 is the last one.
    Layer(i64),
    /// All rows of the image tower.
    Patches,
}

impl FromStr for States {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if let Some(generator) = GENERATORS.iter().find(|known| known.name == name) {
            return Ok(Self::Of(generator));
        }
        if name == "patches" {
            return Ok(Self::Patches);
        }
        name.parse().map(Self::Layer).map_err(|_| {
            "neither sd1, sdxl, sd3, flux, longclip-sdxl, patches nor the number of a layer"
                .to_owned()
        })
    }
}

/// What an image generator takes from each of its CLIP text towers.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Generator {
    name: &'static str,
    /// The token after the end of a text, of each tower.
    pads: &'static [u32],
    rows: Rows,
    pooled: Pooled,
}

/// Which rows of a tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    /// None.
    No,
    /// The last layer's after the final norm.
    LastNormed,
    /// The last but one's.
    LastButOne,
}

/// What is read at the end of a text, after the last layer and the final norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pooled {
    /// Nothing.
    No,
    /// The state.
    State,
    /// The projected state of the last tower.
    ProjectedOfLast,
    /// The projected states of all towers, joined.
    Projected,
}

/// As the pipelines of diffusers have it, and for the last one the script in Long-CLIP's SDXL
/// folder.
const GENERATORS: &[Generator] = &[
    Generator {
        name: "sd1",
        pads: &[END_OF_TEXT],
        rows: Rows::LastNormed,
        pooled: Pooled::No,
    },
    Generator {
        name: "sdxl",
        pads: &[END_OF_TEXT, 0],
        rows: Rows::LastButOne,
        pooled: Pooled::ProjectedOfLast,
    },
    Generator {
        name: "sd3",
        pads: &[END_OF_TEXT, 0],
        rows: Rows::LastButOne,
        pooled: Pooled::Projected,
    },
    Generator {
        name: "flux",
        pads: &[END_OF_TEXT],
        rows: Rows::No,
        pooled: Pooled::State,
    },
    Generator {
        name: "longclip-sdxl",
        pads: &[0, 0],
        rows: Rows::LastNormed,
        pooled: Pooled::ProjectedOfLast,
    },
];
/// What is computed of each text.
pub(super) struct Plan {
    pub(super) name: String,
    /// The token after the end of a text, of each tower.
    pub(super) pads: Vec<u32>,
    /// `None` leaves the rows out.
    layer: Option<Place>,
    /// How many layers earlier the texts' states are taken.
    skipped: usize,
    is_normed: bool,
    pub(super) pooled: Pooled,
}

/// A layer, counted from one of the ends.
#[derive(Clone, Copy)]
enum Place {
    Start(usize),
    End(usize),
}

impl Plan {
    pub(super) fn new(args: &HiddenArgs, states: States) -> Result<Self> {
        let plan = match states {
            States::Patches => bail!("patches are of images"),
            States::Layer(number) => Self {
                name: number.to_string(),
                pads: vec![END_OF_TEXT],
                layer: Some(match usize::try_from(number) {
                    Ok(layer) => Place::Start(layer),
                    Err(_) => Place::End(usize::try_from(-1 - number)?),
                }),
                skipped: 0,
                is_normed: false,
                pooled: Pooled::ProjectedOfLast,
            },
            States::Of(generator) => Self {
                name: generator.name.to_owned(),
                pads: generator.pads.to_vec(),
                layer: match generator.rows {
                    Rows::No => None,
                    Rows::LastNormed => Some(Place::End(0)),
                    Rows::LastButOne => Some(Place::End(1)),
                },
                skipped: 0,
                is_normed: generator.rows == Rows::LastNormed,
                pooled: generator.pooled,
            },
        };
        plan.with(args)
    }

    /// Changes what the flags say.
    fn with(mut self, args: &HiddenArgs) -> Result<Self> {
        if let Some(pad) = args.pad {
            self.pads.fill(pad);
        }
        let name = &self.name;
        match (args.second_model.is_some(), self.pads.len()) {
            (false, 2) => bail!(
                "{name} joins the states of two text towers; name the second one with \
                 --second-model"
            ),
            (true, 1) => bail!("--hidden {name} is of one text tower; drop --second-model"),
            _ => {}
        }
        if let Some(skipped) = args.clip_skip {
            ensure!(
                ["sd1", "sdxl", "sd3"].contains(&name.as_str()),
                "--clip-skip applies to sd1, sdxl and sd3; drop it"
            );
            self.skipped = usize::try_from(skipped)?;
        }
        Ok(self)
    }

    /// Whether there are rows, besides what is pooled.
    pub(super) fn has_rows(&self) -> bool {
        self.layer.is_some()
    }

    /// The layer of a tower for the texts.
    pub(super) fn layer_of(&self, session: &Session) -> Result<Layer> {
        self.layer(session, self.skipped)
    }

    /// The same for the empty text, for which the pipelines skip nothing.
    pub(super) fn layer_of_empty(&self, session: &Session) -> Result<Layer> {
        self.layer(session, 0)
    }

    fn layer(&self, session: &Session, skipped: usize) -> Result<Layer> {
        let layers = session.checkpoint.architecture.text.layers;
        let index = match self.layer {
            None => Some(layers),
            Some(Place::Start(layer)) => Some(layer).filter(|layer| *layer <= layers),
            Some(Place::End(back)) => layers.checked_sub(back),
        };
        let index = index.and_then(|index| index.checked_sub(skipped));
        Ok(Layer {
            index: index.with_context(|| {
                format!(
                    "the text tower of {} has only {layers} layers",
                    session.checkpoint.name
                )
            })?,
            is_normed: self.is_normed,
        })
    }
}
