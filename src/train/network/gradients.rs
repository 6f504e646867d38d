//! Accumulators for gradients: which are needed, and their sums so far.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};

use super::operation::values;
use super::{Arithmetic, LowRank};
use crate::kernel::{self, View};

/// The accumulated gradient of one parameter.
pub enum Sum {
    /// On the CPU: summed in place.
    Host(Vec<f32>),
    /// On another device.
    Device(Tensor),
}

/// The form of a matrix gradient.
#[derive(Clone)]
pub(super) enum Wish {
    /// The full gradient.
    Whole,
    /// The gradients of the two low-rank factors that are added to it.
    Thin(LowRank),
}

/// The gradients of the trained parameters.
pub struct Gradients {
    arithmetic: Arithmetic,
    wishes: BTreeMap<String, Wish>,
    sums: BTreeMap<String, Sum>,
}

impl Gradients {
    pub(super) fn new(arithmetic: Arithmetic, wishes: BTreeMap<String, Wish>) -> Self {
        Self {
            arithmetic,
            wishes,
            sums: BTreeMap::new(),
        }
    }

    /// Whether the parameter `name`, or a LoRA of it, is trained.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.wishes.contains_key(name)
    }

    /// Whether any parameter with this prefix is trained.
    pub(super) fn wants_any(&self, prefix: &str) -> bool {
        self.wishes.keys().any(|name| name.starts_with(prefix))
    }

    /// The sums, by name; those of LoRA as `{name}.lora_A` and `{name}.lora_B`.
    #[must_use]
    pub(crate) fn into_sums(self) -> BTreeMap<String, Sum> {
        self.sums
    }

    /// Adds `part` to the gradient of `name`, if it is trained.
    pub(super) fn add(&mut self, name: &str, part: &Tensor) -> Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        self.add_to(name, part)
    }

    fn add_to(&mut self, name: &str, part: &Tensor) -> Result<()> {
        match self.sums.get_mut(name) {
            Some(Sum::Host(sum)) => {
                let part = values(part)?;
                sum.iter_mut().zip(&*part).for_each(|(s, x)| *s += x);
            }
            Some(Sum::Device(sum)) => *sum = (&*sum + part.to_dtype(DType::F32)?)?,
            None => {
                let first = match self.arithmetic {
                    Arithmetic::Kernel => Sum::Host(values(part)?.to_vec()),
                    Arithmetic::Candle(..) => Sum::Device(part.to_dtype(DType::F32)?),
                };
                self.sums.insert(name.to_owned(), first);
            }
        }
        Ok(())
    }

    /// Adds `dy`^T `x` to the gradient of the matrix `name` [out, in], where `dy` [rows, out] is
    /// the columns of a wider matrix from `first` on, and `x` [rows, in].
    pub(super) fn add_matrix(
        &mut self,
        name: &str,
        out: usize,
        dy: &Tensor,
        first: usize,
        x: &Tensor,
    ) -> Result<()> {
        match self.wishes.get(name).cloned() {
            None => Ok(()),
            Some(Wish::Whole) => self.add_outer(name, dy, first..first + out, x),
            Some(Wish::Thin(change)) => {
                let dy = dy.narrow(1, first, out)?.contiguous()?;
                let dtype = dy.dtype();
                let (a, b) = (change.a.to_dtype(dtype)?, change.b.to_dtype(dtype)?);
                let through_b = (dy.matmul(&b)? * change.factor)?; // [rows, rank]
                let through_a = (x.matmul(&a.t()?)? * change.factor)?; // [rows, rank]
                self.add_to(&lora_a(name), &through_b.t()?.matmul(x)?)?;
                self.add_to(&lora_b(name), &dy.t()?.matmul(&through_a)?)
            }
        }
    }

    fn add_outer(
        &mut self,
        name: &str,
        dy: &Tensor,
        columns: Range<usize>,
        x: &Tensor,
    ) -> Result<()> {
        let (out, input) = (columns.len(), x.dim(1)?);
        if let Arithmetic::Candle(..) = self.arithmetic {
            let dy = dy.narrow(1, columns.start, out)?.contiguous()?;
            return self.add_to(name, &dy.t()?.matmul(x)?);
        }
        let (rows, stride) = dy.dims2()?;
        let (dy, x) = (values(dy)?, values(x)?);
        let dy = View::strided(&dy[columns.start..], [rows, out], stride).t();
        let sum = self.host(name, out * input)?;
        kernel::add_product(dy, View::new(&x, [rows, input]), sum);
        Ok(())
    }

    /// Adds row i of `rows` [n, width] to row `index[i]` of the gradient of the table `name`
    /// [count, width].
    pub(super) fn add_rows(
        &mut self,
        name: &str,
        count: usize,
        index: &[u32],
        rows: &Tensor,
    ) -> Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        let width = rows.dim(1)?;
        if let Arithmetic::Candle(device, _) = &self.arithmetic {
            let index = Tensor::new(index, device)?;
            let zeros = Tensor::zeros((count, width), DType::F32, device)?;
            let sum = zeros.index_add(&index, &rows.to_dtype(DType::F32)?, 0)?;
            return self.add_to(name, &sum);
        }
        let rows = values(rows)?;
        let sum = self.host(name, count * width)?;
        for (&place, row) in index.iter().zip(rows.chunks_exact(width)) {
            let start = place as usize * width;
            let to = sum
                .get_mut(start..start + width)
                .context("a row index lies outside its table")?;
            to.iter_mut().zip(row).for_each(|(s, x)| *s += x);
        }
        Ok(())
    }

    /// The CPU accumulator of a parameter with `count` numbers.
    fn host(&mut self, name: &str, count: usize) -> Result<&mut Vec<f32>> {
        let sum = self
            .sums
            .entry(name.to_owned())
            .or_insert_with(|| Sum::Host(vec![0.0; count]));
        match sum {
            Sum::Host(sum) => Ok(sum),
            Sum::Device(_) => anyhow::bail!("the gradient of {name} is on a device"),
        }
    }
}

/// The name of LoRA's first matrix, A, [rank, in].
#[must_use]
pub(crate) fn lora_a(name: &str) -> String {
    format!("{name}.lora_A")
}

/// The name of LoRA's second matrix, B, [out, rank].
#[must_use]
pub(crate) fn lora_b(name: &str) -> String {
    format!("{name}.lora_B")
}
