//! A convolution with the batch norm after it, which at inference is a scale and a shift per
//! channel and is folded into the weights.

use anyhow::{Result, bail, ensure};
use candle_core::{Device, Tensor};

use super::{FeatureMap, Rows};
use crate::kernel::{self, Activation, Epilogue, PackedMatrix, Precision};
use crate::model::device::Compute;
use crate::model::weights::{Weights, check_finite, pack_checked};

/// Epsilon added to the variance in every batch norm (the default of torch, which CLIP keeps).
const EPSILON: f64 = 1e-5;

/// A convolution with an odd kernel size, padded so that its centre runs over all pixels.
pub(super) struct Convolution {
    side: usize,
    stride: usize,
    body: Body,
}

enum Body {
    Packed {
        /// [out, side side channels], a window row by row, pixel by pixel.
        weight: PackedMatrix,
        bias: Vec<f32>,
    },
    Plain {
        /// [out, channels, side, side]
        weight: Tensor,
        /// [1, out, 1, 1]
        bias: Tensor,
    },
}

impl Convolution {
    /// The convolution `{filter}.weight` [out, channels, side, side] with the batch norm `{norm}`
    /// folded in.
    pub(super) fn load(
        weights: &Weights,
        [filter, norm]: &[String; 2],
        stride: usize,
        precision: Precision,
    ) -> Result<Self> {
        let name = format!("{filter}.weight");
        let &[out, channels, side, _] = weights.tensor(&name)?.shape() else {
            bail!("tensor {name} is not a convolution");
        };
        let fold = Fold::load(weights, norm)?;
        let matrix = weights.matrix(&name)?;
        let columns = channels * side * side;
        let folded = |row: usize, values: &mut [f32]| {
            matrix.copy_row_f32(row, values)?;
            check_finite(&name, values)?;
            fold.scale(row, values);
            check_finite(&format!("{name} with {norm} folded in"), values)
        };
        let body = match weights.compute {
            Compute::Kernel(_) => {
                let fill = |row: usize, values: &mut [f32]| {
                    let mut stored = vec![0.0; columns];
                    folded(row, &mut stored)?;
                    to_window(&stored, channels, values);
                    Ok(())
                };
                Body::Packed {
                    weight: pack_checked([out, columns], precision, &fill, None)?,
                    bias: fold.bias,
                }
            }
            Compute::Candle(device, dtype) => {
                let mut values = vec![0.0; out * columns];
                for (row, values) in values.chunks_exact_mut(columns).enumerate() {
                    folded(row, values)?;
                }
                let place = |values: Vec<f32>, shape: [usize; 4]| -> Result<Tensor> {
                    let tensor = Tensor::from_vec(values, &shape, &Device::Cpu)?;
                    Ok(tensor.to_dtype(*dtype)?.to_device(device)?)
                };
                Body::Plain {
                    weight: place(values, [out, channels, side, side])?,
                    bias: place(fold.bias, [1, out, 1, 1])?,
                }
            }
        };
        // The folded tensors are no longer needed; releasing them keeps peak memory near the packed
        // size.
        matrix.release();
        Ok(Self { side, stride, body })
    }

    /// `activation(conv(x) + bias)`: `x` [images, height, width, channels] ->
    /// [images, height / stride, width / stride, out].
    pub(super) fn forward(
        &self,
        x: &FeatureMap,
        activation: Option<Activation>,
    ) -> Result<FeatureMap> {
        match (&self.body, x) {
            (Body::Packed { weight, bias }, FeatureMap::Rows(x)) => {
                let windows = x.windows(self.side, self.stride);
                Ok(FeatureMap::Rows(Rows {
                    values: kernel::convolve_to_vec(windows, weight, Some(bias), activation),
                    images: x.images,
                    size: windows.places(),
                    channels: weight.n(),
                }))
            }
            (Body::Plain { weight, bias }, FeatureMap::Plain(x)) => {
                let out = self.plain(x, weight, bias)?;
                Ok(FeatureMap::Plain(match activation {
                    None => out,
                    Some(Activation::Relu) => out.relu()?,
                    Some(other) => bail!("{other:?} cannot follow a convolution"),
                }))
            }
            _ => bail!("a convolution and its input are on different devices"),
        }
    }

    /// `relu(residual + conv(x) + bias)`, written over the residual.
    pub(super) fn add_relu(&self, x: &FeatureMap, residual: FeatureMap) -> Result<FeatureMap> {
        match (&self.body, x, residual) {
            (Body::Packed { weight, bias }, FeatureMap::Rows(x), FeatureMap::Rows(mut sum)) => {
                let windows = x.windows(self.side, self.stride);
                ensure!(
                    (sum.size, sum.channels) == (windows.places(), weight.n()),
                    "the residual has another size"
                );
                let bias = Some(bias.as_slice());
                kernel::convolve(windows, weight, bias, Epilogue::AddToRelu, &mut sum.values);
                Ok(FeatureMap::Rows(sum))
            }
            (Body::Plain { weight, bias }, FeatureMap::Plain(x), FeatureMap::Plain(residual)) => {
                let sum = (residual + self.plain(x, weight, bias)?)?;
                Ok(FeatureMap::Plain(sum.relu()?))
            }
            _ => bail!("a convolution and its inputs are on different devices"),
        }
    }

    fn plain(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let out = x.conv2d(weight, self.side / 2, self.stride, 1, 1)?;
        Ok(out.broadcast_add(bias)?)
    }
}

/// A batch norm as a scale and shift of the channels before it: `x * factors + bias`.
struct Fold {
    /// In f64, so that a weight is rounded once.
    factors: Vec<f64>,
    bias: Vec<f32>,
}

impl Fold {
    /// The norm at `path`: `(x - running_mean) / sqrt(running_var + epsilon) * weight + bias`.
    fn load(weights: &Weights, path: &str) -> Result<Self> {
        let part = |name: &str| weights.vector(&format!("{path}.{name}"));
        let (gain, shift) = (part("weight")?, part("bias")?);
        let (mean, variance) = (part("running_mean")?, part("running_var")?);
        if let Some(value) = variance.iter().find(|v| **v < 0.0) {
            bail!("tensor {path}.running_var holds {value}, which is not a variance");
        }
        let fold = Self::new([&gain, &shift, &mean, &variance]);
        check_finite(&format!("{path}, folded,"), &fold.bias)?;
        Ok(fold)
    }

    /// Gains, shifts, means and variances of the channels.
    fn new([gain, shift, mean, variance]: [&[f32]; 4]) -> Self {
        let factors: Vec<f64> = gain
            .iter()
            .zip(variance)
            .map(|(gain, variance)| f64::from(*gain) / (f64::from(*variance) + EPSILON).sqrt())
            .collect();
        let bias = shift
            .iter()
            .zip(mean)
            .zip(&factors)
            .map(|((shift, mean), factor)| (f64::from(*shift) - f64::from(*mean) * factor) as f32)
            .collect();
        Self { factors, bias }
    }

    /// The weights of output channel `row`, folded in place.
    fn scale(&self, row: usize, values: &mut [f32]) {
        for value in values {
            *value = (f64::from(*value) * self.factors[row]) as f32;
        }
    }
}

/// [channels, side side] -> [side side, channels].
fn to_window(stored: &[f32], channels: usize, window: &mut [f32]) {
    let taps = stored.len() / channels;
    for (tap, pixel) in window.chunks_exact_mut(channels).enumerate() {
        for (to, from) in pixel.iter_mut().zip(stored.chunks_exact(taps)) {
            *to = from[tap];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_norm_equals_the_norm() {
        let (gain, shift) = ([1.5, -0.5, 0.0], [0.25, 1.0, -2.0]);
        let (mean, variance) = ([0.5f32, -3.0, 7.0], [2.0f32, 0.01, 0.0]);
        let fold = Fold::new([&gain, &shift, &mean, &variance]);
        for (channel, bias) in fold.bias.iter().enumerate() {
            for x in [-1.0f32, 0.3, 4.0] {
                let deviation = (f64::from(variance[channel]) + 1e-5).sqrt();
                let normal = f64::from(x - mean[channel]) / deviation;
                let expected = normal * f64::from(gain[channel]) + f64::from(shift[channel]);
                let mut values = [x];
                fold.scale(channel, &mut values);
                let found = values[0] + bias;
                assert!(
                    (f64::from(found) - expected).abs() < 1e-5,
                    "channel {channel}, {x}: {found}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn windows_store_pixels_channel_by_channel() {
        // Two channels with four taps.
        let stored = [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0];
        let mut window = [0.0; 8];
        to_window(&stored, 2, &mut window);
        assert_eq!(window, [1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0]);
    }

    /// Both implementations of one convolution with random weights of the given shape.
    fn both(shape: [usize; 4], stride: usize) -> [Convolution; 2] {
        let [out, channels, side, _] = shape;
        let weight = Tensor::randn(0f32, 1.0, &shape, &Device::Cpu).unwrap();
        let bias = Tensor::randn(0f32, 1.0, out, &Device::Cpu).unwrap();
        let values: Vec<f32> = weight.flatten_all().unwrap().to_vec1().unwrap();
        let columns = channels * side * side;
        let fill = |row: usize, to: &mut [f32]| {
            to_window(&values[row * columns..][..columns], channels, to);
        };
        let packed = Body::Packed {
            weight: PackedMatrix::pack(out, columns, Precision::F32, &fill, None),
            bias: bias.to_vec1().unwrap(),
        };
        let bias = bias.reshape((1, out, 1, 1)).unwrap();
        [packed, Body::Plain { weight, bias }].map(|body| Convolution { side, stride, body })
    }

    /// [images, channels, height, width] in the layout of the kernels and in candle's.
    fn maps(x: &Tensor) -> [FeatureMap; 2] {
        let images = x.dim(0).unwrap();
        let rows =
            (0..images).map(|i| FeatureMap::Rows(Rows::of_image(&x.get(i).unwrap()).unwrap()));
        [
            FeatureMap::stack(rows.collect()).unwrap(),
            FeatureMap::Plain(x.clone()),
        ]
    }

    #[track_caller]
    fn assert_same(rows: FeatureMap, plain: FeatureMap) {
        let (FeatureMap::Rows(rows), FeatureMap::Plain(plain)) = (rows, plain) else {
            panic!("the maps have different layouts");
        };
        let (images, channels, height, width) = plain.dims4().unwrap();
        assert_eq!(
            (rows.images, rows.channels, rows.size),
            (images, channels, [height, width])
        );
        let plain = plain.permute((0, 2, 3, 1)).unwrap();
        let plain: Vec<f32> = plain.flatten_all().unwrap().to_vec1().unwrap();
        for (a, b) in rows.values.iter().zip(plain) {
            assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{a}, not {b}");
        }
    }

    #[test]
    fn kernels_and_candle_agree_on_odd_sizes() {
        let cases = [
            ([7, 3, 3, 3], 2, [2, 3, 9, 13]),
            ([33, 5, 3, 3], 1, [1, 5, 7, 11]),
            ([12, 20, 1, 1], 1, [3, 20, 5, 3]),
            ([4, 6, 3, 3], 2, [1, 6, 8, 6]),
        ];
        for (shape, stride, input) in cases {
            let [packed, plain] = both(shape, stride);
            let x = Tensor::randn(0f32, 1.0, &input, &Device::Cpu).unwrap();
            let [rows, whole] = maps(&x);
            for activation in [None, Some(Activation::Relu)] {
                assert_same(
                    packed.forward(&rows, activation).unwrap(),
                    plain.forward(&whole, activation).unwrap(),
                );
            }
            let size = [2, 3].map(|dim: usize| input[dim].div_ceil(stride));
            let residual = Tensor::randn(
                0f32,
                1.0,
                &[input[0], shape[0], size[0], size[1]],
                &Device::Cpu,
            );
            let [sum, whole_sum] = maps(&residual.unwrap());
            assert_same(
                packed.add_relu(&rows, sum).unwrap(),
                plain.add_relu(&whole, whole_sum).unwrap(),
            );
            assert_same(
                rows.average_pool(2).unwrap(),
                whole.average_pool(2).unwrap(),
            );
        }
    }
}
