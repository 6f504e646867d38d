//! Batches of images on the CPU: one image per core.

use anyhow::Result;
use candle_core::Tensor;
use rayon::ThreadPool;

/// Runs `encode` on parts of `pixels` [n, 3, size, size], one part per core, in order: [n,
/// embed_dim].
///
/// Threads that share a layer wait for each other at every join, so only a single image is shared.
pub(super) fn one_image_a_core(
    pixels: &Tensor,
    encode: impl Fn(&Tensor) -> Result<Tensor> + Sync,
) -> Result<Tensor> {
    let n = pixels.dim(0)?;
    let threads = rayon::current_num_threads().min(n);
    if n == 1 || threads == 1 {
        return encode(pixels);
    }
    let share = n.div_ceil(threads);
    let starts: Vec<usize> = (0..n).step_by(share).collect();
    let run = |start: usize| -> Result<Tensor> {
        let part = pixels.narrow(0, start, share.min(n - start))?;
        one_thread()?.install(|| encode(&part))
    };
    let parts: Vec<Result<Tensor>> = std::thread::scope(|scope| {
        let workers: Vec<_> = starts
            .iter()
            .map(|&start| {
                let run = &run;
                scope.spawn(move || run(start))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    Ok(Tensor::cat(
        &parts.into_iter().collect::<Result<Vec<_>>>()?,
        0,
    )?)
}

/// A pool in which the kernels use one thread.
fn one_thread() -> Result<ThreadPool> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(1).build()?)
}
