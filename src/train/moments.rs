//! AdamW's moments, and its step on the CPU and other devices.

use std::cell::RefCell;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Tensor};

use super::CURE;
use crate::kernel::{self, AdamWStep};
use crate::train::network::{Arithmetic, Sum};

/// The running means of one parameter's gradient and squared gradient.
pub(super) enum Moments {
    /// For gradients from the kernels, on the CPU.
    Host { means: Vec<f32>, squares: Vec<f32> },
    /// For gradients from candle, on any device.
    Device { means: Tensor, squares: Tensor },
}

impl Moments {
    /// Zero moments for `parameter`, with gradients computed by `arithmetic`.
    pub(super) fn new(parameter: &Tensor, arithmetic: &Arithmetic) -> Result<Self> {
        let count = parameter.elem_count();
        Ok(match arithmetic {
            Arithmetic::Kernel => Self::Host {
                means: vec![0.0; count],
                squares: vec![0.0; count],
            },
            Arithmetic::Candle(..) => Self::Device {
                means: parameter.zeros_like()?,
                squares: parameter.zeros_like()?,
            },
        })
    }

    /// Both moments, as tensors.
    pub(super) fn values(&self) -> Result<[Vec<f32>; 2]> {
        Ok(match self {
            Self::Host { means, squares } => [means.clone(), squares.clone()],
            Self::Device { means, squares } => [
                means.flatten_all()?.to_vec1()?,
                squares.flatten_all()?.to_vec1()?,
            ],
        })
    }

    /// Restores saved moments.
    pub(super) fn set(&mut self, [new_means, new_squares]: [Vec<f32>; 2]) -> Result<()> {
        match self {
            Self::Host { means, squares } => {
                if means.len() != new_means.len() || squares.len() != new_squares.len() {
                    bail!("the running means have the wrong size");
                }
                (*means, *squares) = (new_means, new_squares);
            }
            Self::Device { means, squares } => {
                let (shape, device) = (means.shape().clone(), means.device().clone());
                *means = Tensor::from_vec(new_means, shape.clone(), &device)?;
                *squares = Tensor::from_vec(new_squares, shape, &device)?;
            }
        }
        Ok(())
    }

    /// Updates `parameter` by `gradient`, except for its first `frozen` numbers. With the kernels'
    /// gradients it is written in place, including all views of it.
    ///
    /// # Errors
    /// When the result is not finite, or the device fails; the parameter is then neither the
    /// old nor the new one.
    pub(super) fn step(
        &mut self,
        step: &AdamWStep,
        parameter: &mut Tensor,
        gradient: &Sum,
        frozen: usize,
    ) -> Result<()> {
        match (self, gradient) {
            (Self::Host { means, squares }, Sum::Host(gradient)) => {
                let op = InPlace {
                    step,
                    gradient,
                    frozen,
                    moments: RefCell::new([means, squares]),
                };
                Ok(parameter.inplace_op1(&op)?)
            }
            (Self::Device { means, squares }, Sum::Device(gradient)) => {
                let moved = on_device(step, parameter, gradient, [means, squares])?;
                finite(squared_norm([&moved, &*means, &*squares])?)?;
                *parameter = match (frozen, parameter.dims()) {
                    (0, _) => moved,
                    (_, [rows, width]) => {
                        let kept = frozen / width;
                        let stay = parameter.narrow(0, 0, kept)?;
                        Tensor::cat(&[&stay, &moved.narrow(0, kept, rows - kept)?], 0)?
                    }
                    _ => bail!("cannot freeze rows of shape {:?}", parameter.dims()),
                };
                Ok(())
            }
            _ => bail!("the gradient and its parameter are on different devices"),
        }
    }
}

/// The sum of the squares of all numbers of `tensors`, with one transfer from the device.
pub(super) fn squared_norm<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<f64> {
    let sums = tensors
        .into_iter()
        .map(|tensor| Ok(tensor.to_dtype(DType::F32)?.sqr()?.sum_all()?))
        .collect::<Result<Vec<_>>>()?;
    if sums.is_empty() {
        return Ok(0.0);
    }
    let sums = Tensor::stack(&sums, 0)?.to_vec1::<f32>()?;
    Ok(sums.into_iter().map(f64::from).sum())
}

/// Otherwise the damage would be noticed only a step later, when it is already saved.
fn finite(squared_norm: f64) -> Result<()> {
    ensure!(
        squared_norm.is_finite(),
        "the step produces numbers that are not finite; {CURE}"
    );
    Ok(())
}

fn on_device(
    step: &AdamWStep,
    parameter: &Tensor,
    gradient: &Tensor,
    [means, squares]: [&mut Tensor; 2],
) -> Result<Tensor> {
    let [b1, b2] = step.betas;
    let power = i32::try_from(step.step).unwrap_or(i32::MAX);
    let gradient = (gradient.reshape(parameter.shape())? * step.factor)?;
    *means = ((&*means * b1)? + (&gradient * (1.0 - b1))?)?;
    *squares = ((&*squares * b2)? + (gradient.sqr()? * (1.0 - b2))?)?;
    let root = (1.0 - b2.powi(power)).sqrt();
    let bottom = ((squares.sqrt()? * (1.0 / root))? + step.epsilon)?;
    let change = ((&*means / bottom)? * (step.rate / (1.0 - b1.powi(power))))?;
    Ok(((parameter * (1.0 - step.rate * step.weight_decay))? - change)?)
}

struct InPlace<'a> {
    step: &'a AdamWStep,
    gradient: &'a [f32],
    frozen: usize,
    moments: RefCell<[&'a mut Vec<f32>; 2]>,
}

impl InplaceOp1 for InPlace<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let mut move_all = || -> Result<()> {
            let (start, end) = layout
                .contiguous_offsets()
                .context("a parameter is not contiguous")?;
            let CpuStorage::F32(values) = storage else {
                bail!("a parameter is not f32")
            };
            let values = &mut values[start..end];
            let mut moments = self.moments.borrow_mut();
            let [means, squares] = &mut *moments;
            if self.gradient.len() != values.len() || self.frozen > values.len() {
                bail!("the gradient and its parameter differ in size");
            }
            let from = self.frozen..;
            kernel::adamw(
                self.step,
                &mut values[from.clone()],
                &self.gradient[from.clone()],
                [&mut means[from.clone()], &mut squares[from]],
            );
            let all = [&*values, means.as_slice(), squares.as_slice()];
            finite(all.into_iter().map(kernel::squared_norm).sum())
        };
        move_all().map_err(|error| candle_core::Error::Msg(error.to_string()))
    }
}
