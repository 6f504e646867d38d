//! Smoothing factors for the input columns of an 8-bit matrix, from the weights alone.
//!
//! Trained CLIP has outlier channels; rounded to 8 bits with one scale per row, they crowd out the
//! rest. Multiplying input column j by s_j and dividing weight column j by it changes only
//! the rounding. s_j = sqrt(max_i |W_ij| / a_j), with a_j an estimate of the column's size: gain
//! and bias of the LayerNorm before it, or the norm of the weight row that produces it. (After
//! SmoothQuant, arXiv 2211.10438, which measures a_j on data.)

use anyhow::Result;

use super::device::Part;
use super::layer::LayerNorm;
use super::weights::Weights;

/// Inputs for the factors of one block.
pub(super) struct Smoothing<'a> {
    pub(super) weights: &'a Weights<'a>,
    /// The block's path.
    pub(super) path: &'a str,
    /// Its two LayerNorms.
    pub(super) norms: [&'a LayerNorm; 2],
}

impl Smoothing<'_> {
    /// One factor for each input of the layers at `paths`, which form `part` of the block.
    pub(super) fn factors(&self, part: Part, paths: &[String]) -> Result<Vec<f32>> {
        let sizes = match part {
            Part::Qkv => after_norm(self.norms[0]),
            Part::Fc1 => after_norm(self.norms[1]),
            Part::Out => self.after_layer("self_attn.v_proj", self.norms[0])?,
            Part::Fc2 => self.after_layer("mlp.fc1", self.norms[1])?,
        };
        let mut largest = vec![0.0f32; sizes.len()];
        for path in paths {
            self.each_row(path, |_, row| {
                for (largest, value) in largest.iter_mut().zip(row) {
                    *largest = largest.max(value.abs());
                }
            })?;
        }
        Ok(sizes
            .iter()
            .zip(&largest)
            .map(|(&size, &largest)| factor(largest, size))
            .collect())
    }

    /// The norm of each row of the layer that produces the input, with its own input scaled by
    /// `norm`.
    fn after_layer(&self, layer: &str, norm: &LayerNorm) -> Result<Vec<f32>> {
        let path = format!("{}.{layer}", self.path);
        let mut sizes = self.weights.vector(&format!("{path}.bias"))?;
        self.each_row(&path, |index, row| {
            let squares: f32 = row
                .iter()
                .zip(norm.gain())
                .map(|(value, gain)| (value * gain).powi(2))
                .sum();
            sizes[index] = squares.sqrt() + sizes[index].abs();
        })?;
        Ok(sizes)
    }

    fn each_row(&self, path: &str, mut see: impl FnMut(usize, &[f32])) -> Result<()> {
        let matrix = self.weights.matrix(&format!("{path}.weight"))?;
        let mut row = vec![0.0; matrix.shape()[1]];
        for index in 0..matrix.shape()[0] {
            matrix.copy_row_f32(index, &mut row)?;
            see(index, &row);
        }
        matrix.release();
        Ok(())
    }
}

fn after_norm(norm: &LayerNorm) -> Vec<f32> {
    norm.gain()
        .iter()
        .zip(norm.bias())
        .map(|(gain, bias)| gain.abs() + bias.abs())
        .collect()
}

fn factor(largest: f32, size: f32) -> f32 {
    let factor = (largest / size).sqrt();
    // A column without weights or without input needs no smoothing.
    if factor.is_finite() && factor > 0.0 {
        factor
    } else {
        1.0
    }
}
