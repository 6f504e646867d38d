//! Turns images and texts into embeddings, for every command that needs any: the model, the cache
//! of earlier embeddings, and how images are read.

use std::iter::Flatten;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::Result;
use candle_core::{Device, Tensor};
use sha2::{Digest as _, Sha256};

use super::Console;
use super::console::counted;
use super::pipeline::{Content, Known, Memory, ModelSlot, Pipeline, Place, Plan};
use super::report::THUMBNAIL;
use super::session::{Session, Stop};
use crate::checkpoint::architecture::Architecture;
use crate::checkpoint::tiny::photograph;
use crate::embedding::cache::{Cache, ImageRow, Recipe};
use crate::file::digest::{self, hexadecimal};
use crate::file::stamp::Stamp;
use crate::input::image::{DecodeOptions, FrameChoice};
use crate::input::paths::Entry;
use crate::input::tokenizer::TokenIds;
use crate::model::{Clip, DualEncoder, Towers};
use crate::run::flags::EngineArgs;

impl EngineArgs {
    /// How images are read for the model of a session.
    #[must_use]
    pub(crate) fn decoding(&self, session: &Session) -> DecodeOptions {
        let side = session.checkpoint.preprocess.reduced_side();
        DecodeOptions {
            reduce_to: self.fast_decode.then_some(side),
            ..self.decode.options()
        }
    }
}

/// The model of a session, ready to encode, perhaps with a cache.
pub(crate) struct Engine {
    pub(crate) session: Arc<Session>,
    plan: Plan,
    cached: Option<Arc<Cached>>,
    encoder: OnceLock<Arc<dyn DualEncoder>>,
    /// Whether its embeddings become answers in words.
    guesses: bool,
    towers: Towers,
}

impl Engine {
    /// Reads images as `decode` says. The model is not loaded yet.
    pub(crate) fn new(session: &Arc<Session>, decode: DecodeOptions) -> Self {
        Self {
            plan: Plan {
                decode,
                preprocess: session.checkpoint.preprocess.clone(),
                threads: session.threads,
                batch_size: session.batch_size,
                single: false,
                frames: None,
                thumbnails: None,
                memory: None,
            },
            session: session.clone(),
            cached: None,
            encoder: OnceLock::new(),
            guesses: false,
            towers: Towers::Both,
        }
    }

    /// Loads only these towers. Comes before [`Self::cached`].
    pub(crate) fn towers(mut self, towers: Towers) -> Self {
        self.towers = towers;
        self
    }

    /// Warns about photographs if the model can only guess what they show.
    pub(crate) fn guesses(mut self, guesses: bool) -> Self {
        self.guesses = guesses;
        self
    }

    /// For one image that all threads work on.
    pub(crate) fn single(mut self, single: bool) -> Self {
        self.plan.single = single;
        self
    }

    /// Reads these frames of animations and videos, instead of the first one.
    pub(crate) fn frames(mut self, choice: Option<FrameChoice>) -> Self {
        self.plan.frames = choice;
        self.plan.single &= choice.is_none();
        self
    }

    /// Also makes a thumbnail of each image, for a page.
    pub(crate) fn thumbnails(mut self, wanted: bool) -> Self {
        self.plan.thumbnails = wanted.then_some(THUMBNAIL);
        self
    }

    /// Encodes by this, instead of the session's model.
    pub(crate) fn encoded_by(self, encoder: Arc<dyn DualEncoder>) -> Self {
        Self {
            encoder: OnceLock::from(encoder),
            ..self
        }
    }

    /// Reuses and stores embeddings in the cache in `folder`, if any. The towers are then loaded
    /// only when something is missing. Comes last, since it depends on what images need.
    pub(crate) fn cached(mut self, folder: Option<&Path>) -> Result<Self> {
        let open = |folder| Cached::open(folder, self.session.clone(), &self.plan, self.towers);
        self.cached = folder.map(open).transpose()?;
        let memory = self.cached.clone();
        self.plan.memory = memory.map(|cached| cached as Arc<dyn Memory>);
        Ok(self)
    }

    /// Looks images up in another memory, made of the cache's.
    pub(crate) fn recall<M: Memory + 'static>(
        mut self,
        other: impl FnOnce(Option<Arc<dyn Memory>>) -> M,
    ) -> Self {
        self.plan.memory = Some(Arc::new(other(self.plan.memory.take())));
        self
    }

    /// The opened model.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The model, loaded by the first call; with a cache, on first use.
    pub(crate) fn load(&self, console: &Console) -> Result<&Arc<dyn DualEncoder>> {
        if let Some(encoder) = self.encoder.get() {
            return Ok(encoder);
        }
        let encoder: Arc<dyn DualEncoder> = match &self.cached {
            Some(cached) => cached.clone(),
            None => Arc::new(self.session.load(self.towers, console)?),
        };
        Ok(self.encoder.get_or_init(|| encoder))
    }

    /// Starts reading and decoding `sources`; they are encoded as soon as the slot has a model.
    pub(super) fn read(
        &self,
        sources: impl Iterator<Item = Entry> + Send + 'static,
        model: ModelSlot,
        stop: Stop,
    ) -> Pipeline {
        Pipeline::start(sources, self.plan.clone(), model, stop)
    }

    /// The embeddings of `sources` by a model that is loaded already, without messages.
    pub(crate) fn encode(
        &self,
        sources: impl Iterator<Item = Entry> + Send + 'static,
        model: &Arc<dyn DualEncoder>,
        stop: &Stop,
    ) -> Flatten<Pipeline> {
        let model = Arc::new(OnceLock::from(model.clone()));
        self.read(sources, model, stop.clone()).flatten()
    }

    /// Whether there is only one image, which all threads work on.
    pub(super) fn is_single(&self) -> bool {
        self.plan.single
    }

    /// Adds a warning to a photograph if the model is the built-in one, which knows drawings only.
    pub(super) fn warn_of_photograph(&self, known: &mut Known) {
        let warning = photograph::WARNING;
        // Results of an earlier run may have it.
        let is_new = known.warnings.iter().all(|other| other != warning);
        let is_blind = self.guesses && self.session.checkpoint.is_built_in();
        if is_new && is_blind && photograph::is_likely(&known.embedding) {
            known.warnings.push(warning.to_owned());
        }
    }

    /// Whether an image may have more than one result.
    pub(super) fn has_frames(&self) -> bool {
        self.plan.frames.is_some()
    }

    /// Ends the run and writes the cache.
    pub(crate) fn finish(&self, console: &Console) {
        if let Some(cached) = &self.cached {
            cached.flush(console);
        }
    }
}

/// A model whose embeddings come from a cache, where it has them.
struct Cached {
    cache: Cache,
    session: Arc<Session>,
    towers: Towers,
    logit_scale: f32,
    logit_bias: Option<f32>,
    images: Recipe,
    texts: Recipe,
    thumbnails: Option<Recipe>,
    clip: Mutex<Option<Arc<Clip>>>,
    /// Images and texts found in the cache.
    found: AtomicU64,
    /// Images and texts that went through a tower.
    computed: AtomicU64,
}

impl Cached {
    /// Opens the cache in `folder` for one model and one way to read images.
    fn open(
        folder: &Path,
        session: Arc<Session>,
        plan: &Plan,
        towers: Towers,
    ) -> Result<Arc<Self>> {
        let decode = &plan.decode;
        let cache = Cache::open(folder)?;
        let digest = session
            .checkpoint
            .weights_sha256(|file| digest_of(&cache, file))?;
        session.set_weights_sha256(digest);
        let thumbnail = |longest| {
            let recipe = format!(
                "longclip thumbnails 1; {longest} pixels; {}",
                decode.recipe()
            );
            cache.recipe(&recipe)
        };
        Ok(Arc::new(Self {
            images: cache.recipe(&session.image_recipe(decode)?)?,
            texts: cache.recipe(&session.text_recipe()?)?,
            thumbnails: plan.thumbnails.map(thumbnail).transpose()?,
            logit_scale: session.checkpoint.logit_scale()?,
            logit_bias: session.checkpoint.logit_bias()?,
            clip: Mutex::default(),
            found: AtomicU64::new(0),
            computed: AtomicU64::new(0),
            cache,
            session,
            towers,
        }))
    }

    /// The towers, loaded on first use.
    fn clip(&self) -> Result<Arc<Clip>> {
        let mut clip = self.clip.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clip) = &*clip {
            return Ok(clip.clone());
        }
        let loaded = Arc::new(self.session.build(self.towers)?);
        *clip = Some(loaded.clone());
        Ok(loaded)
    }

    /// Writes pending entries. A failure is only a warning, since the results are correct.
    fn flush(&self, console: &Console) {
        console.detail(&format!(
            "cache: {} embeddings found, {} computed",
            self.found.load(Ordering::Relaxed),
            self.computed.load(Ordering::Relaxed)
        ));
        if self.cache.is_renewed() {
            console.note("the cache of an older longclip had no checksums and was begun again");
        }
        match self.cache.damaged() {
            0 => {}
            count => console.warn(&format!(
                "{} of the cache could not be read or had a wrong checksum; what they held was \
                 computed again",
                counted(count as u64, "row")
            )),
        }
        if !self.cache.is_writable() {
            console.note("the cache is read-only; new embeddings were not saved");
        }
        if let Err(error) = self.cache.flush() {
            console.warn(&format!("{error:#}"));
        }
    }
}

/// The SHA-256 of a weight file in hexadecimal, from the cache if known, since computing it is
/// slow.
fn digest_of(cache: &Cache, file: &Path) -> Result<String> {
    let stamp = Stamp::of(file).filter(Stamp::is_settled);
    if let Some(known) = stamp.and_then(|stamp| cache.digest_of(file, stamp)) {
        return Ok(hexadecimal(&known));
    }
    let digest = digest::sha256(file)?;
    if let Some(stamp) = stamp.filter(|stamp| Stamp::of(file) == Some(*stamp)) {
        cache.keep_digest(file, stamp, digest);
    }
    Ok(hexadecimal(&digest))
}

impl Memory for Cached {
    fn of_file(&self, place: Place<'_>) -> Option<Known> {
        let content = self.cache.digest_of(place.path, place.stamp)?;
        self.of_content(&content, None)
    }

    fn digest(&self, bytes: &[u8]) -> Option<Content> {
        Some(Sha256::digest(bytes).into())
    }

    fn of_content(&self, content: &Content, place: Option<Place<'_>>) -> Option<Known> {
        let dim = self.session.checkpoint.architecture.embed_dim;
        let row = self.cache.image(self.images, content, dim)?;
        if let Some(place) = place {
            self.cache.keep_digest(place.path, place.stamp, *content);
        }
        self.found.fetch_add(1, Ordering::Relaxed);
        let thumbnail = self.thumbnails;
        Some(Known {
            embedding: row.embedding,
            size: row.size,
            warnings: row.warnings,
            thumbnail: thumbnail.and_then(|recipe| self.cache.thumbnail(recipe, content)),
        })
    }

    fn keep(&self, content: &Content, place: Option<Place<'_>>, known: &Known) {
        let row = ImageRow {
            size: known.size,
            warnings: known.warnings.clone(),
            embedding: known.embedding.clone(),
        };
        self.cache.keep_image(self.images, *content, row);
        if let Some((recipe, jpeg)) = self.thumbnails.zip(known.thumbnail.clone()) {
            self.cache.keep_thumbnail(recipe, *content, jpeg);
        }
        if let Some(place) = place {
            self.cache.keep_digest(place.path, place.stamp, *content);
        }
    }
}

impl DualEncoder for Cached {
    fn encode_image(&self, pixels: &Tensor) -> Result<Tensor> {
        let embeddings = self.clip()?.encode_image(pixels)?;
        let images = embeddings.dims2()?.0 as u64;
        self.computed.fetch_add(images, Ordering::Relaxed);
        Ok(embeddings)
    }

    /// Only texts that are not cached go through the tower.
    fn encode_text(&self, texts: &[TokenIds]) -> Result<Tensor> {
        let dim = self.session.checkpoint.architecture.embed_dim;
        let digest = |text: &TokenIds| -> Content {
            let bytes = text.as_slice().iter().flat_map(|id| id.to_le_bytes());
            Sha256::digest(bytes.collect::<Vec<_>>()).into()
        };
        let digests: Vec<Content> = texts.iter().map(digest).collect();
        let mut rows: Vec<Option<Vec<f32>>> = digests
            .iter()
            .map(|digest| self.cache.text(self.texts, digest, dim))
            .collect();
        let missing: Vec<usize> = (0..texts.len()).filter(|&n| rows[n].is_none()).collect();
        let found = (texts.len() - missing.len()) as u64;
        self.found.fetch_add(found, Ordering::Relaxed);
        self.computed
            .fetch_add(missing.len() as u64, Ordering::Relaxed);
        if !missing.is_empty() {
            let wanted: Vec<TokenIds> = missing.iter().map(|&n| texts[n].clone()).collect();
            let computed = self.clip()?.encode_text(&wanted)?.to_vec2::<f32>()?;
            for (&n, embedding) in missing.iter().zip(computed) {
                self.cache
                    .keep_text(self.texts, digests[n], embedding.clone());
                rows[n] = Some(embedding);
            }
        }
        let values: Vec<f32> = rows.into_iter().flatten().flatten().collect();
        Ok(Tensor::from_vec(values, (texts.len(), dim), &Device::Cpu)?)
    }

    fn logit_scale(&self) -> f32 {
        self.logit_scale
    }

    fn logit_bias(&self) -> Option<f32> {
        self.logit_bias
    }

    fn architecture(&self) -> &Architecture {
        &self.session.checkpoint.architecture
    }
}
