//! AdamW's running means, and its step on the CPU and elsewhere.

use std::cell::RefCell;

use anyhow::{Context, Result, bail};
use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor};

use crate::kernel::{self, AdamWStep};
use crate::model::gradient::Sum;

/// The running means of one parameter's gradient and of its square.
pub(super) enum Moments {
    /// On the CPU.
    Host { means: Vec<f32>, squares: Vec<f32> },
    /// Elsewhere.
    Device { means: Tensor, squares: Tensor },
}

impl Moments {
    /// Nothing yet, for `parameter`.
    pub(super) fn new(parameter: &Tensor) -> Result<Self> {
        if parameter.device().is_cpu() {
            let count = parameter.elem_count();
            return Ok(Self::Host {
                means: vec![0.0; count],
                squares: vec![0.0; count],
            });
        }
        Ok(Self::Device {
            means: parameter.zeros_like()?,
            squares: parameter.zeros_like()?,
        })
    }

    /// Both, as they are.
    pub(super) fn values(&self) -> Result<[Vec<f32>; 2]> {
        Ok(match self {
            Self::Host { means, squares } => [means.clone(), squares.clone()],
            Self::Device { means, squares } => [
                means.flatten_all()?.to_vec1()?,
                squares.flatten_all()?.to_vec1()?,
            ],
        })
    }

    /// Takes up `values` again.
    pub(super) fn set(&mut self, [new_means, new_squares]: [Vec<f32>; 2]) -> Result<()> {
        match self {
            Self::Host { means, squares } => {
                if means.len() != new_means.len() || squares.len() != new_squares.len() {
                    bail!("running means of another size");
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

    /// Moves `parameter` against `gradient`, all but its first `frozen` numbers. On the CPU it is written in place, with all
    /// that view it.
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
                *parameter = match (frozen, parameter.dims()) {
                    (0, _) => moved,
                    (_, [rows, width]) => {
                        let kept = frozen / width;
                        let stay = parameter.narrow(0, 0, kept)?;
                        Tensor::cat(&[&stay, &moved.narrow(0, kept, rows - kept)?], 0)?
                    }
                    _ => bail!("rows of {:?} cannot stay", parameter.dims()),
                };
                Ok(())
            }
            _ => bail!("a gradient on another device than its parameter"),
        }
    }
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
                bail!("a gradient of another size than its parameter");
            }
            let from = self.frozen..;
            kernel::adamw(
                self.step,
                &mut values[from.clone()],
                &self.gradient[from.clone()],
                [&mut means[from.clone()], &mut squares[from]],
            );
            Ok(())
        };
        move_all().map_err(|error| candle_core::Error::Msg(error.to_string()))
    }
}
