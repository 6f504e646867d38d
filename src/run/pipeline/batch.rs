//! Collects pixels into batches and runs the image tower.

use std::sync::mpsc::{Receiver, Sender};

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::worker::{Prepared, guarded};
use super::{Encoded, ModelSlot, Plan};

/// Collects pixels into batches.
pub(crate) struct Batcher {
    pub(crate) prepared: Receiver<Prepared>,
    pub(crate) results: Sender<(u64, Encoded)>,
    pub(crate) size: usize,
    pub(crate) plan: Plan,
}

impl Batcher {
    pub(crate) fn run(self, model: &ModelSlot) {
        while let Ok(first) = self.prepared.recv() {
            let mut batch = vec![first];
            // Takes what is ready and never waits for a full batch, since the list may be a slow
            // pipe.
            while batch.len() < self.size
                && let Ok(next) = self.prepared.try_recv()
            {
                batch.push(next);
            }
            let refs: Vec<_> = batch.iter().collect();
            let embeddings = encode_batch(model, &refs, self.plan.preprocess.image_size);
            for (prepared, embedding) in batch.into_iter().zip(embeddings) {
                let answer = prepared.finish(embedding, self.plan.memory.as_ref());
                if self.results.send(answer).is_err() {
                    return;
                }
            }
        }
    }
}

/// One result per image. If the batch fails, each image is encoded separately, so that only bad
/// ones fail.
fn encode_batch(
    model: &ModelSlot,
    images: &[&Prepared],
    image_size: usize,
) -> Vec<Result<Vec<f32>>> {
    match guarded(|| encode(model, images, image_size)) {
        Ok(embeddings) => embeddings.into_iter().map(Ok).collect(),
        Err(error) if images.len() == 1 => vec![Err(error)],
        Err(_) => images
            .iter()
            .flat_map(|image| encode_batch(model, &[image], image_size))
            .collect(),
    }
}

/// Waits for the model and runs its image tower; returns one embedding per image.
pub(crate) fn encode(
    model: &ModelSlot,
    images: &[&Prepared],
    image_size: usize,
) -> Result<Vec<Vec<f32>>> {
    let model = model.wait();
    let pixels = images
        .iter()
        .flat_map(|image| &image.pixels)
        .copied()
        .collect();
    let shape = (images.len(), 3, image_size, image_size);
    let pixels = Tensor::from_vec(pixels, shape, &Device::Cpu)?;
    Ok(model.encode_image(&pixels)?.to_vec2::<f32>()?)
}
