//! Training of a probe: hyperparameter selection on validation samples, and the fit.

use anyhow::{Context as _, Result};

use super::logistic::{Effort, Fit, Penalty, fit};
use super::tip_adapter::Mix;
use super::{Cache, Probe, Quality, Samples, Stopped, strength, tip_adapter};

/// The kind of classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Logistic regression.
    Linear,
    /// Tip-Adapter: the texts and the nearest known images.
    TipAdapter,
}

/// Where a regression starts, and what it is regularised towards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Init {
    /// Zero weights.
    Zero,
    /// The zero-shot classifier.
    ZeroShot,
}

/// A hyperparameter that is given, or to be selected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Setting {
    /// Selected on validation samples.
    Auto,
    /// This value.
    Value(f64),
}

/// What to train.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    /// The kind.
    pub method: Method,
    /// The L2 penalty of the regression.
    pub l2: Setting,
    /// Where the regression starts.
    pub init: Init,
    /// The trained share of a WiSE-FT blend with the zero-shot classifier; `None` for no blend.
    pub blend: Option<Setting>,
}

impl Recipe {
    /// Whether validation samples are needed.
    #[must_use]
    pub(crate) fn chooses(&self) -> bool {
        match self.method {
            Method::Linear => self.l2 == Setting::Auto || self.blend == Some(Setting::Auto),
            Method::TipAdapter => true,
        }
    }

    /// Whether the zero-shot classifier is needed.
    #[must_use]
    pub(crate) fn needs_texts(&self) -> bool {
        self.method == Method::TipAdapter || self.init == Init::ZeroShot || self.blend.is_some()
    }
}

/// The hyperparameters of a recipe, and the quality of those tried.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chosen {
    /// The L2 penalty.
    pub l2: Option<f64>,
    /// The trained share of a blend.
    pub share: Option<f64>,
    /// The weights of texts and images.
    pub mix: Option<Mix>,
    /// The penalties tried.
    pub strengths: Vec<(f64, Quality)>,
    /// The shares tried.
    pub shares: Vec<(f64, Quality)>,
}

/// A probe and its fit.
#[derive(Clone, Debug)]
pub(crate) struct Trained {
    /// The classifier.
    pub probe: Probe,
    /// The regression; `None` if nothing is fitted.
    pub fit: Option<Fit>,
}

/// A recipe, the zero-shot classifier `[classes, dim]` if there is one (scaled by the model's logit
/// scale), and a cancellation check.
#[derive(Clone, Copy)]
pub(crate) struct Training<'a> {
    /// What to train.
    pub recipe: Recipe,
    /// The zero-shot classifier.
    pub zero_shot: Option<&'a [f32]>,
    /// Whether the run was cancelled.
    pub is_stopped: &'a (dyn Fn() -> bool + Sync),
}

impl Training<'_> {
    /// The hyperparameters with which a classifier trained on `train` classifies `validation` best.
    /// Given values are kept.
    ///
    /// # Errors
    /// [`super::Stopped`]; when there are no validation samples, or no texts although they are
    /// needed.
    pub(crate) fn choose(&self, train: &Samples, validation: Option<&Samples>) -> Result<Chosen> {
        let validation = || {
            validation
                .filter(|samples| !samples.is_empty())
                .context("there are no validation images for selecting hyperparameters")
        };
        match self.recipe.method {
            Method::Linear => {
                let mut chosen = Chosen::default();
                match self.recipe.l2 {
                    Setting::Value(l2) => chosen.l2 = Some(l2),
                    Setting::Auto => {
                        let search = self.search(train, validation()?)?;
                        chosen.l2 = Some(search.best);
                        chosen.strengths = search.tried;
                    }
                }
                match self.recipe.blend {
                    Some(Setting::Auto) => self.choose_share(train, validation()?, &mut chosen)?,
                    Some(Setting::Value(share)) => chosen.share = Some(share),
                    None => {}
                }
                Ok(chosen)
            }
            Method::TipAdapter => {
                let validation = validation()?;
                let texts = self.texts()?;
                let (mix, _) = tip_adapter::choose(validation, texts, train, self.is_stopped)?;
                Ok(Chosen {
                    mix: Some(mix),
                    ..Chosen::default()
                })
            }
        }
    }

    /// Trains on `samples` with the hyperparameters in `chosen`.
    ///
    /// # Errors
    /// [`super::Stopped`]; when numbers overflow, or there are no texts although they are needed.
    pub(crate) fn train(&self, samples: &Samples, chosen: &Chosen) -> Result<Trained> {
        if let Some(mix) = chosen.mix {
            let keys = samples.clone();
            let bias = vec![0.0; samples.class_count()];
            let texts = Probe::new(self.texts()?.to_vec(), bias, samples.dim())?;
            return Ok(Trained {
                probe: texts.with_cache(Cache { keys, mix })?,
                fit: None,
            });
        }
        let l2 = chosen.l2.context("the L2 penalty was not selected")?;
        let fit = self.fit(samples, l2, None, Effort::EXACT)?;
        let parameters = match chosen.share {
            Some(share) => blend(&wide(self.texts()?), &fit.parameters, share),
            None => fit.parameters.clone(),
        };
        Ok(Trained {
            probe: probe(&parameters, samples)?,
            fit: Some(fit),
        })
    }

    /// Fails once the run is cancelled.
    ///
    /// # Errors
    /// [`Stopped`].
    pub(crate) fn go_on(&self) -> Result<()> {
        match (self.is_stopped)() {
            true => Err(Stopped.into()),
            false => Ok(()),
        }
    }

    fn search(&self, train: &Samples, validation: &Samples) -> Result<strength::Search> {
        let mut last: Option<Vec<f64>> = None;
        strength::search(|l2| {
            let fit = self.fit(train, l2, last.as_deref(), Effort::ROUGH)?;
            let quality = probe(&fit.parameters, train)?.quality(validation);
            last = Some(fit.parameters);
            Ok(quality)
        })
    }

    /// On ties, the smallest share is taken.
    fn choose_share(
        &self,
        train: &Samples,
        validation: &Samples,
        chosen: &mut Chosen,
    ) -> Result<()> {
        let l2 = chosen.l2.context("the L2 penalty was not selected")?;
        let fit = self.fit(train, l2, None, Effort::ROUGH)?;
        let texts = wide(self.texts()?);
        for share in shares() {
            self.go_on()?;
            let blended = probe(&blend(&texts, &fit.parameters, share), train)?;
            chosen.shares.push((share, blended.quality(validation)));
        }
        let mut best = chosen.shares[0];
        for one in &chosen.shares {
            if one.1.is_better_than(&best.1) {
                best = *one;
            }
        }
        chosen.share = Some(best.0);
        Ok(())
    }

    fn fit(
        &self,
        samples: &Samples,
        l2: f64,
        start: Option<&[f64]>,
        tolerance: f64,
    ) -> Result<Fit> {
        let towards = match self.recipe.init {
            Init::Zero => None,
            Init::ZeroShot => Some(wide(self.texts()?)),
        };
        let penalty = Penalty {
            l2,
            towards: towards.as_deref(),
        };
        let effort = Effort {
            tolerance,
            is_stopped: self.is_stopped,
        };
        fit(samples, penalty, start, effort)
    }

    fn texts(&self) -> Result<&[f32]> {
        self.zero_shot
            .context("this probe needs the classes' texts, but there are none")
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// Parameters as stored: in f32.
fn probe(parameters: &[f64], samples: &Samples) -> Result<Probe> {
    let values: Vec<f32> = parameters.iter().map(|value| *value as f32).collect();
    let (weights, bias) = values.split_at(samples.class_count() * samples.dim());
    Probe::new(weights.to_vec(), bias.to_vec(), samples.dim())
}

/// The number of intervals between candidate shares: 0 is zero-shot, 1 trained.
const SHARES: usize = 20;

/// All candidate shares, ascending.
fn shares() -> impl Iterator<Item = f64> {
    (0..=SHARES).map(|step| step as f64 / SHARES as f64)
}

/// WiSE-FT (Wortsman et al., 2022): interpolates the weights of a trained classifier and of the
/// zero-shot one it started from. With frozen embeddings, this interpolates their logits.
///
/// `share` of the trained `parameters` (weights `[classes, dim]`, then a bias) and `1 - share` of
/// `zero_shot`, which are weights without a bias.
fn blend(zero_shot: &[f64], parameters: &[f64], share: f64) -> Vec<f64> {
    let other = zero_shot.iter().copied().chain(std::iter::repeat(0.0));
    let both = parameters.iter().zip(other);
    both.map(|(trained, other)| share * trained + (1.0 - share) * other)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::testing::clusters;
    use super::*;

    const RECIPE: Recipe = Recipe {
        method: Method::Linear,
        l2: Setting::Auto,
        init: Init::Zero,
        blend: None,
    };

    fn training(recipe: Recipe, zero_shot: Option<&[f32]>) -> Training<'_> {
        Training {
            recipe,
            zero_shot,
            is_stopped: &|| false,
        }
    }

    /// Eight classes in 24 dimensions, and texts that are somewhat informative about them.
    fn data() -> (Samples, Samples, Samples, Vec<f32>) {
        let of = |seed, count| clusters(8, count, 24, 0.9, seed);
        let texts = clusters(8, 1, 24, 0.9, 77);
        let scaled = texts
            .embeddings()
            .iter()
            .map(|value| value * 20.0)
            .collect();
        (of(1, 6), of(2, 20), of(3, 60), scaled)
    }

    #[test]
    fn each_recipe_beats_the_texts() {
        let (train, validation, test, texts) = data();
        let zero_shot = Probe::new(texts.clone(), vec![0.0; 8], 24).unwrap();
        let least = zero_shot.quality(&test).accuracy();
        let recipes = [
            RECIPE,
            Recipe {
                init: Init::ZeroShot,
                ..RECIPE
            },
            Recipe {
                blend: Some(Setting::Auto),
                ..RECIPE
            },
            Recipe {
                method: Method::TipAdapter,
                ..RECIPE
            },
        ];
        for recipe in recipes {
            let training = training(recipe, Some(&texts));
            let chosen = training.choose(&train, Some(&validation)).unwrap();
            let found = training.train(&train, &chosen).unwrap();
            let accuracy = found.probe.quality(&test).accuracy();
            assert!(accuracy > least + 0.02, "{recipe:?}: {accuracy} {least}");
        }
    }

    #[test]
    fn given_values_are_used_and_the_ends_of_a_blend_equal_its_parts() {
        let (train, _, test, texts) = data();
        let train_with = |blend| {
            let recipe = Recipe {
                l2: Setting::Value(0.5),
                blend,
                ..RECIPE
            };
            assert!(!recipe.chooses());
            let training = training(recipe, Some(&texts));
            let chosen = training.choose(&train, None).unwrap();
            assert_eq!(chosen.l2, Some(0.5));
            training.train(&train, &chosen).unwrap().probe
        };
        assert_eq!(train_with(Some(Setting::Value(0.0))).weights(), texts);
        assert_eq!(train_with(Some(Setting::Value(1.0))), train_with(None));
        let half = train_with(Some(Setting::Value(0.5))).logits(test.embeddings());
        let ends = [0.0, 1.0]
            .map(|share| train_with(Some(Setting::Value(share))).logits(test.embeddings()));
        for (at, half) in half.iter().enumerate() {
            assert!((0.5 * (ends[0][at] + ends[1][at]) - half).abs() < 1e-4);
        }
    }

    #[test]
    fn missing_inputs_are_named_in_the_error() {
        let (train, validation, ..) = data();
        let error = |recipe, validation| {
            let found = training(recipe, None).choose(&train, validation);
            found.unwrap_err().to_string()
        };
        assert!(error(RECIPE, None).contains("no validation images"));
        let zero_shot = Recipe {
            init: Init::ZeroShot,
            ..RECIPE
        };
        assert!(zero_shot.needs_texts());
        assert!(error(zero_shot, Some(&validation)).contains("needs the classes' texts"));
    }

    #[test]
    fn the_ends_equal_the_two_classifiers() {
        let (zero_shot, trained) = ([4.0, 8.0], [0.0, 2.0, 6.0]);
        assert_eq!(blend(&zero_shot, &trained, 0.0), [4.0, 8.0, 0.0]);
        assert_eq!(blend(&zero_shot, &trained, 0.25), [3.0, 6.5, 1.5]);
        assert_eq!(blend(&zero_shot, &trained, 1.0), trained);
        let shares: Vec<f64> = shares().collect();
        assert_eq!((shares[0], shares[20], shares.len()), (0.0, 1.0, 21));
    }
}
