//! A model with a cache: embeddings of earlier runs come from the cache, and the towers are loaded
//! only when needed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use candle_core::{Device, Tensor};
use sha2::{Digest as _, Sha256};

use super::Console;
use super::pipeline::{Content, Known, Memory, Place, Plan};
use super::session::Session;
use crate::checkpoint::architecture::Architecture;
use crate::embedding::cache;
use crate::embedding::cache::{Cache, ImageRow, Recipe};
use crate::file::digest;
use crate::file::digest::hexadecimal;
use crate::file::stamp::Stamp;
use crate::input::tokenizer::TokenIds;
use crate::model;
use crate::model::{Clip, DualEncoder};
use crate::run::flags::CacheArgs;

/// A model and the cache of its embeddings.
pub(crate) struct Remembered {
    cache: Cache,
    session: Arc<Session>,
    logit_scale: f32,
    logit_bias: Option<f32>,
    images: Recipe,
    texts: Recipe,
    thumbnails: Option<Recipe>,
    clip: Mutex<Option<Arc<Clip>>>,
    /// Images and texts found in the cache.
    found: AtomicU64,
    /// Images and texts that were computed.
    computed: AtomicU64,
}

/// A model to encode with, and perhaps a cache.
pub(crate) struct Engine {
    pub(crate) encoder: Arc<dyn DualEncoder>,
    memory: Option<Arc<Remembered>>,
}

/// The cache's folder, checked before a model is opened.
pub(crate) fn folder(args: &CacheArgs) -> Result<Option<PathBuf>> {
    let folder = args.cache.clone().filter(|folder| folder.as_os_str() != "");
    folder.as_deref().map(cache::check_folder).transpose()?;
    Ok(folder)
}

impl Remembered {
    /// Opens the cache in `folder` for one model and one way to read images.
    pub(crate) fn open(folder: &Path, session: Arc<Session>, plan: &Plan) -> Result<Arc<Self>> {
        let decode = &plan.decode;
        let cache = Cache::open(folder)?;
        let digest = session
            .checkpoint
            .weights_sha256(|file| digest_of(&cache, file))?;
        session.set_weights_sha256(digest);
        let thumbnail = |longest| {
            let recipe = format!(
                "longclip thumbnails 1; {longest} pixels; orient {}; alpha {:?}",
                decode.orient, decode.alpha
            );
            cache.recipe(&recipe)
        };
        Ok(Arc::new(Self {
            images: cache.recipe(&session.image_recipe(decode)?)?,
            texts: cache.recipe(&session.text_recipe()?)?,
            thumbnails: plan.thumbnails.map(thumbnail).transpose()?,
            logit_scale: model::logit_scale(&session.checkpoint)?,
            logit_bias: session.checkpoint.logit_bias()?,
            clip: Mutex::default(),
            found: AtomicU64::new(0),
            computed: AtomicU64::new(0),
            cache,
            session,
        }))
    }

    /// The towers, loaded on first use.
    fn clip(&self) -> Result<Arc<Clip>> {
        let mut clip = self.clip.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clip) = &*clip {
            return Ok(clip.clone());
        }
        let loaded = Arc::new(self.session.build()?);
        *clip = Some(loaded.clone());
        Ok(loaded)
    }

    /// Writes pending entries. A failure is only a warning, since the results are correct.
    pub(crate) fn flush(&self, console: &Console) {
        console.detail(&format!(
            "cache: {} embeddings found, {} computed",
            self.found.load(Ordering::Relaxed),
            self.computed.load(Ordering::Relaxed)
        ));
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

impl Memory for Remembered {
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
        self.computed.fetch_add(1, Ordering::Relaxed);
        if let Some((recipe, jpeg)) = self.thumbnails.zip(known.thumbnail.clone()) {
            self.cache.keep_thumbnail(recipe, *content, jpeg);
        }
        if let Some(place) = place {
            self.cache.keep_digest(place.path, place.stamp, *content);
        }
    }
}

impl DualEncoder for Remembered {
    fn encode_image(&self, pixels: &Tensor) -> Result<Tensor> {
        self.clip()?.encode_image(pixels)
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

/// An opened model, and how its images are read, before anything is loaded.
pub(crate) struct Ready {
    pub(crate) session: Arc<Session>,
    pub(crate) plan: Plan,
    memory: Option<Arc<Remembered>>,
}

impl Ready {
    /// With the cache in `folder`, if any.
    pub(crate) fn new(session: Arc<Session>, plan: Plan, folder: Option<&Path>) -> Result<Self> {
        let open = |folder| Remembered::open(folder, session.clone(), &plan);
        let memory = folder.map(open).transpose()?;
        Ok(Self {
            plan: plan.memory(memory.clone()),
            session,
            memory,
        })
    }

    /// Makes the engine.
    pub(crate) fn engine(&self, console: &Console) -> Result<Engine> {
        Engine::new(&self.session, self.memory.clone(), console)
    }
}

impl Engine {
    /// Without a cache the model is loaded now, with one on first use.
    pub(crate) fn new(
        session: &Session,
        memory: Option<Arc<Remembered>>,
        console: &Console,
    ) -> Result<Self> {
        let encoder: Arc<dyn DualEncoder> = match &memory {
            Some(memory) => memory.clone(),
            None => Arc::new(session.load(console)?),
        };
        Ok(Self { encoder, memory })
    }

    /// Ends the run and writes the cache.
    pub(crate) fn finish(&self, console: &Console) {
        if let Some(memory) = &self.memory {
            memory.flush(console);
        }
    }
}
