//! First and second moments of the queries of every layer and head, summed up text by text.

use pressroom::Result;
use pressroom::error::During;
use pressroom::press::ModelFacts;
use tch::{Kind, Tensor};

use super::nothing_learned;

/// Sums over queries, in float64.
pub(super) struct Moments {
    layers: Vec<Option<Sums>>,
}

struct Sums {
    count: i64,
    /// `[heads, head_dim]`
    first: Tensor,
    /// `[heads, head_dim, head_dim]`
    second: Tensor,
}

impl Moments {
    pub(super) fn new(model: &ModelFacts) -> Self {
        Self { layers: (0..model.geometry.layers).map(|_| None).collect() }
    }

    /// Adds `queries`, `[heads, n, head_dim]`, of a layer.
    pub(super) fn add(&mut self, layer: usize, queries: &Tensor) -> Result<()> {
        let queries = queries.f_to_kind(Kind::Double)?;
        let products = queries.f_transpose(1, 2)?.f_matmul(&queries).during("moments of the queries", &[&queries])?;
        let new = Sums {
            count: queries.size()[1],
            first: queries.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Double)?,
            second: products,
        };
        let sums = &mut self.layers[layer];
        *sums = Some(match sums.take() {
            None => new,
            Some(old) => Sums {
                count: old.count + new.count,
                first: old.first.f_add(&new.first)?,
                second: old.second.f_add(&new.second)?,
            },
        });
        Ok(())
    }

    /// Means `[layers, heads, head_dim]`.
    pub(super) fn mean(&self) -> Result<Tensor> {
        self.stack(|sums| Ok(sums.first.f_div_scalar(sums.count)?))
    }

    /// Sums of products `[layers, heads, head_dim, head_dim]`, not centred.
    pub(super) fn products(&self) -> Result<Tensor> {
        self.stack(|sums| Ok(sums.second.shallow_clone()))
    }

    /// Covariances `[layers, heads, head_dim, head_dim]`, without bias.
    pub(super) fn covariance(&self) -> Result<Tensor> {
        self.stack(|sums| {
            let mean = sums.first.f_div_scalar(sums.count)?;
            let outer = mean.f_unsqueeze(2)?.f_mul(&mean.f_unsqueeze(1)?)?.f_mul_scalar(sums.count)?;
            Ok(sums.second.f_sub(&outer)?.f_div_scalar((sums.count - 1).max(1))?)
        })
    }

    fn stack(&self, of: impl Fn(&Sums) -> Result<Tensor>) -> Result<Tensor> {
        let each = |sums: &Option<Sums>| of(sums.as_ref().ok_or_else(nothing_learned)?);
        Ok(Tensor::f_stack(&self.layers.iter().map(each).collect::<Result<Vec<_>>>()?, 0)?)
    }
}
