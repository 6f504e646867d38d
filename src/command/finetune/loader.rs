//! Decodes batches ahead of the steps: the next one is made while one is trained on.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context as _, Result, bail};
use candle_core::{Device, Tensor};
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::recipe::Recipe;
use crate::input::dataset::pairs::{Pair, Tokens};
use crate::input::image::{self, DecodeOptions};
use crate::input::preprocess::Preprocess;
use crate::train::Batch;

/// Replacements tried for a pair with an image that cannot be decoded.
const TRIES: usize = 1000;
/// Separates the random numbers of augmentation from those of the order.
const OF_IMAGES: u64 = 0x70_69_63_74_75_72_65_73;

/// The data and settings that batches are made from.
pub(super) struct Source {
    pub(super) pairs: Vec<Pair>,
    pub(super) recipe: Arc<Recipe>,
    pub(super) preprocess: Preprocess,
    pub(super) decode: DecodeOptions,
    pub(super) threads: usize,
}

/// A batch, and the images that failed.
pub(super) struct Loaded {
    pub(super) batch: Batch,
    /// Images that could not be decoded and were replaced, with the errors.
    pub(super) failed: Vec<(String, String)>,
}

/// The error of a batch that cannot be made.
pub(super) struct Unloaded {
    pub(super) error: anyhow::Error,
    /// As in [`Loaded`].
    pub(super) failed: Vec<(String, String)>,
}

impl Unloaded {
    fn new(error: anyhow::Error) -> Self {
        Self {
            error,
            failed: Vec::new(),
        }
    }
}

type Made = std::result::Result<Loaded, Unloaded>;

/// Batches in the order of the steps.
pub(super) struct Loader {
    batches: Receiver<Made>,
}

impl Loader {
    /// Starts making batches from step `first`, counted from 0.
    pub(super) fn start(source: Arc<Source>, first: usize) -> Result<Self> {
        // No queue: a finished batch waits until it is taken.
        let (sender, batches) = sync_channel(0);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(source.threads)
            .build()
            .context("cannot start threads")?;
        std::thread::spawn(move || {
            let mut order = (usize::MAX, Vec::new());
            for step in first..source.recipe.total {
                let (epoch, number) = source.recipe.place(step);
                if order.0 != epoch {
                    order = (epoch, source.recipe.order.epoch(epoch));
                }
                let chosen = &order.1[source.recipe.order.range(number)];
                let made = pool.install(|| source.batch(epoch, number, chosen));
                let failed = made.is_err();
                if sender.send(made).is_err() || failed {
                    return;
                }
            }
        });
        Ok(Self { batches })
    }

    /// The next step's batch.
    pub(super) fn next(&self) -> Made {
        let received = self.batches.recv();
        received
            .context("the thread that reads images has stopped")
            .unwrap_or_else(|error| Err(Unloaded::new(error)))
    }
}

impl Source {
    /// The batch of the pairs `chosen`, with replacements for those that fail.
    fn batch(&self, epoch: usize, number: usize, chosen: &[u32]) -> Made {
        let mut chosen: Vec<usize> = chosen.iter().map(|&pair| pair as usize).collect();
        let values = 3 * self.preprocess.image_size.pow(2);
        let mut all = vec![0.0; chosen.len() * values];
        let looked: Vec<_> = chosen
            .par_iter()
            .zip(all.par_chunks_mut(values))
            .map(|(&pair, to)| self.pixels(epoch, pair, to))
            .collect();
        let mut failed = Vec::new();
        for (place, looked) in looked.into_iter().enumerate() {
            let Err(error) = looked else { continue };
            let name = self.pairs[chosen[place]].image.name();
            failed.push((name, format!("{error:#}")));
            // Depends only on its position, so that a resumed run chooses the same.
            let random = self.random(epoch, number, 1 << 32 | place as u64);
            let to = &mut all[place * values..][..values];
            match self.stand_in(epoch, &chosen, random, to) {
                Ok(pair) => chosen[place] = pair,
                Err(error) => return Err(Unloaded { error, failed }),
            }
        }
        match self.made(&chosen, all) {
            Ok(batch) => Ok(Loaded { batch, failed }),
            Err(error) => Err(Unloaded { error, failed }),
        }
    }

    /// The batch of the pairs `chosen` and their pixels.
    fn made(&self, chosen: &[usize], pixels: Vec<f32>) -> Result<Batch> {
        let side = self.preprocess.image_size;
        let shape = (chosen.len(), 3, side, side);
        let pixels = Tensor::from_vec(pixels, shape, &Device::Cpu)?;
        let pairs = || chosen.iter().map(|&pair| &self.pairs[pair]);
        let long = pairs().map(|pair| pair.long.ids());
        let short: Option<Vec<_>> = pairs().map(|pair| pair.short.as_ref()).collect();
        let short = short.map(|all| all.into_iter().map(Tokens::ids).collect::<Result<_>>());
        Ok(Batch {
            pixels,
            long: long.collect::<Result<_>>()?,
            short: short.transpose()?,
        })
    }

    /// A pair outside the batch that can be decoded, to replace one that cannot.
    fn stand_in(
        &self,
        epoch: usize,
        chosen: &[usize],
        mut random: ChaCha8Rng,
        to: &mut [f32],
    ) -> Result<usize> {
        let count = self.pairs.len();
        // Starts at a random pair and visits all of them once, however few are outside the batch.
        let first = ((u128::from(random.next_u64()) * count as u128) >> 64) as usize;
        let others = (0..count).map(|at| (first + at) % count);
        let others = others.filter(|pair| !chosen.contains(pair));
        let mut tried = 0;
        for pair in others.take(TRIES) {
            if self.pixels(epoch, pair, to).is_ok() {
                return Ok(pair);
            }
            tried += 1;
        }
        if tried == 0 {
            bail!(
                "an image cannot be decoded, and all {count} pairs are in the batch, so none can \
                 replace it; fix or remove it, or pass a smaller --batch-size"
            );
        }
        bail!(
            "too many images cannot be decoded: none of {tried} replacements for an image could; \
             longclip embed lists all of them"
        )
    }

    /// The preprocessed image of a pair, augmented for this epoch.
    fn pixels(&self, epoch: usize, pair: usize, to: &mut [f32]) -> Result<()> {
        let bytes = self.pairs[pair].image.read(&self.decode)?;
        let decoded = image::decode(&bytes, &self.decode)?;
        let mut random = self.random(epoch, 0, pair as u64);
        let augment = self.recipe.augment;
        to.copy_from_slice(&augment.run(&decoded.image, &self.preprocess, &mut random));
        Ok(())
    }

    /// A generator seeded by epoch, index and purpose, independent of earlier numbers.
    fn random(&self, epoch: usize, number: usize, what: u64) -> ChaCha8Rng {
        let seed = self.recipe.settings.seed ^ OF_IMAGES;
        let mixed = seed
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(epoch as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(number as u64);
        let mut random = ChaCha8Rng::seed_from_u64(mixed);
        random.set_stream(what);
        random
    }
}
