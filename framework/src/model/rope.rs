//! Rotary position embedding (Su et al., 2021, arXiv:2104.09864) in its half-split form, and its variants.

use std::f64::consts::PI;

use tch::{Device, Kind, Tensor};

use super::config::{LlamaConfig, RopeScaling};
use crate::error::{During, Result};

/// Frequencies of a model's rotary embedding.
///
/// It holds no state of past sequences: the tables of given positions depend on those positions alone.
#[derive(Debug)]
pub struct Rotary {
    /// Inverse frequencies, float32 `[head_dim / 2]`.
    inv_freq: Tensor,
    /// Factor of the tables (yarn), 1 otherwise.
    scaling: f64,
    /// `dynamic` only: what the frequencies of longer sequences are made from.
    dynamic: Option<Dynamic>,
}

#[derive(Debug)]
struct Dynamic {
    base: f64,
    factor: f64,
    max_position_embeddings: i64,
    head_dim: i64,
}

impl Rotary {
    /// Frequencies as the configuration asks for.
    ///
    /// # Errors
    /// libtorch cannot allocate on `device`.
    pub fn new(config: &LlamaConfig, device: Device) -> Result<Self> {
        let dim = config.head_dim;
        let base = config.rope_theta;
        let plain = inverse_frequencies(base, dim, device)?;
        let mut scaling = 1.0;
        let mut dynamic = None;
        let inv_freq = match config.rope_scaling {
            RopeScaling::Default => plain,
            RopeScaling::Linear { factor } => plain.f_div_scalar(factor)?,
            RopeScaling::Dynamic { factor } => {
                let max_position_embeddings = config.max_position_embeddings;
                dynamic = Some(Dynamic { base, factor, max_position_embeddings, head_dim: dim });
                plain
            }
            RopeScaling::Yarn { factor, original_max_position_embeddings, beta_fast, beta_slow, truncate, .. } => {
                scaling = yarn_table_factor(&config.rope_scaling);
                let ramp =
                    yarn_ramp(dim, base, original_max_position_embeddings, (beta_fast, beta_slow), truncate, device)?;
                let kept = ramp.f_neg()?.f_add_scalar(1.0)?;
                plain.f_div_scalar(factor)?.f_mul(&ramp)?.f_add(&plain.f_mul(&kept)?)?
            }
            RopeScaling::Llama3 { factor, original_max_position_embeddings, low_freq_factor, high_freq_factor } => {
                let length = original_max_position_embeddings as f64;
                let rotations = plain.f_mul_scalar(length / (2.0 * PI))?;
                // 0 where the wavelength is stretched, 1 where it is left alone, linear in the rotations between.
                let blend = rotations
                    .f_sub_scalar(low_freq_factor)?
                    .f_div_scalar(high_freq_factor - low_freq_factor)?
                    .f_clamp(0.0, 1.0)?;
                let stretched = plain.f_div_scalar(factor)?;
                let rest = blend.f_neg()?.f_add_scalar(1.0)?;
                stretched.f_mul(&rest)?.f_add(&plain.f_mul(&blend)?)?
            }
        };
        Ok(Self { inv_freq, scaling, dynamic })
    }

    /// Cosines and sines of `positions` (int64 `[n]`), each `[n, head_dim]` in `kind`.
    ///
    /// # Errors
    /// libtorch cannot allocate.
    pub fn tables(&self, positions: &Tensor, kind: Kind) -> Result<(Tensor, Tensor)> {
        let frequencies = self.frequencies_for(positions)?;
        let (cos, sin) = angle_tables(positions, &frequencies)?;
        let table = |values: Tensor| values.f_mul_scalar(self.scaling)?.f_to_kind(kind);
        Ok((table(cos)?, table(sin)?))
    }

    /// Mean of the rotation matrices of `positions`, float32 `[head_dim, head_dim]`.
    ///
    /// # Errors
    /// libtorch cannot allocate.
    pub fn mean_rotation(&self, positions: std::ops::Range<i64>) -> Result<Tensor> {
        let positions = Tensor::f_arange_start(positions.start, positions.end, (Kind::Int64, self.inv_freq.device()))?;
        let (cos, sin) = self.tables(&positions, Kind::Float)?;
        let average = |table: Tensor| table.f_mean_dim([0i64].as_slice(), false, Kind::Float);
        let (cos, sin) = (average(cos)?, average(sin)?);
        let half = sin.size()[0] / 2;
        let low = sin.f_narrow(0, 0, half)?.f_neg()?;
        let high = sin.f_narrow(0, half, half)?;
        Ok(cos.f_diag(0)?.f_add(&low.f_diag(half)?)?.f_add(&high.f_diag(-half)?)?)
    }

    /// Undoes the rotary embedding of `keys`, float32 `[.., n, head_dim]`, at `positions` (int64, broadcastable to
    /// `[.., n]`) of a sequence of `length` tokens.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn unrotate(&self, keys: &Tensor, positions: &Tensor, length: i64) -> Result<Tensor> {
        let frequencies = self.frequencies_within(length)?;
        let (cos, sin) = angle_tables(&positions.f_neg()?, &frequencies)?;
        // The tables' factor went into the keys once.
        Ok(Self::rotate(keys, &cos, &sin)?.f_div_scalar(self.scaling)?)
    }

    /// Moves the rotary embedding of `keys`, `[.., n, head_dim]`, by `delta` positions (int64, broadcastable to
    /// `[.., n]`) in a sequence of `length` tokens.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn shift(&self, keys: &Tensor, delta: &Tensor, length: i64) -> Result<Tensor> {
        let (cos, sin) = angle_tables(delta, &self.frequencies_within(length)?)?;
        Self::rotate(keys, &cos.f_to_kind(keys.kind())?, &sin.f_to_kind(keys.kind())?)
    }

    /// Rotates `data`, `[.., n, head_dim]`, with tables `[n, head_dim]`.
    ///
    /// # Errors
    /// The shapes do not fit.
    pub fn rotate(data: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let rotated = data
            .f_mul(cos)
            .and_then(|direct| direct.f_add(&rotate_half(data)?.f_mul(sin)?))
            .during("rotary embedding", &[data, cos])?;
        Ok(rotated)
    }

    fn frequencies_for(&self, positions: &Tensor) -> Result<Tensor> {
        match self.dynamic {
            Some(_) if positions.numel() > 0 => self.frequencies_within(positions.f_max()?.f_int64_value(&[])? + 1),
            _ => Ok(self.inv_freq.shallow_clone()),
        }
    }

    /// Frequencies of a sequence of `length` tokens.
    fn frequencies_within(&self, length: i64) -> Result<Tensor> {
        let Some(dynamic) = self.dynamic.as_ref().filter(|dynamic| length > dynamic.max_position_embeddings) else {
            return Ok(self.inv_freq.shallow_clone());
        };
        let stretch = dynamic.factor * length as f64 / dynamic.max_position_embeddings as f64 - (dynamic.factor - 1.0);
        let dim = dynamic.head_dim as f64;
        let base = dynamic.base * stretch.powf(dim / (dim - 2.0));
        inverse_frequencies(base, dynamic.head_dim, self.inv_freq.device())
    }
}

/// Cosines and sines, float32 `[.., head_dim]`, of `positions` `[..]` at `frequencies`.
fn angle_tables(positions: &Tensor, frequencies: &Tensor) -> Result<(Tensor, Tensor)> {
    let angles = positions.f_to_kind(Kind::Float)?.f_unsqueeze(-1)?.f_mul(frequencies)?;
    let angles = Tensor::f_cat(&[&angles, &angles], -1)?;
    Ok((angles.f_cos()?, angles.f_sin()?))
}

/// `(-second half, first half)` of the last dimension.
fn rotate_half(data: &Tensor) -> Result<Tensor, tch::TchError> {
    let halves = data.f_chunk(2, -1)?;
    Tensor::f_cat(&[halves[1].f_neg()?, halves[0].shallow_clone()], -1)
}

/// `base^(-2i / dim)`, float32 `[dim / 2]`.
fn inverse_frequencies(base: f64, dim: i64, device: Device) -> Result<Tensor> {
    let exponents = Tensor::f_arange_start_step(0, dim, 2, (Kind::Float, device))?.f_div_scalar(dim as f64)?;
    Ok(Tensor::f_pow_scalar(base, &exponents)?.f_reciprocal()?)
}

/// Yarn's ramp over channel pairs: 0 where the frequency is left alone, 1 where it is divided by the factor.
fn yarn_ramp(
    dim: i64,
    base: f64,
    original_length: i64,
    (beta_fast, beta_slow): (f64, f64),
    truncate: bool,
    device: Device,
) -> Result<Tensor> {
    let channel =
        |rotations: f64| dim as f64 * (original_length as f64 / (rotations * 2.0 * PI)).ln() / (2.0 * base.ln());
    let (mut low, mut high) = (channel(beta_fast), channel(beta_slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dim as f64 - 1.0));
    if low == high {
        high += 0.001;
    }
    let channels = Tensor::f_arange(dim / 2, (Kind::Float, device))?;
    Ok(channels.f_sub_scalar(low)?.f_div_scalar(high - low)?.f_clamp(0.0, 1.0)?)
}

/// Yarn's factor of the tables, which stands for a temperature of the attention.
fn yarn_table_factor(scaling: &RopeScaling) -> f64 {
    let RopeScaling::Yarn { factor, attention_factor, mscale, mscale_all_dim, .. } = *scaling else { return 1.0 };
    let scale = |coefficient: f64| if factor <= 1.0 { 1.0 } else { 0.1 * coefficient * factor.ln() + 1.0 };
    match (attention_factor, mscale, mscale_all_dim) {
        (Some(given), _, _) => given,
        (None, Some(numerator), Some(denominator)) => scale(numerator) / scale(denominator),
        _ => scale(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(rope: &str) -> LlamaConfig {
        LlamaConfig::parse(&format!(
            r#"{{"model_type": "llama", "vocab_size": 8, "hidden_size": 32, "intermediate_size": 8, "num_hidden_layers": 1,
                "num_attention_heads": 2, "max_position_embeddings": 32, "rope_parameters": {rope}}}"#
        ))
        .unwrap()
    }

    proptest! {
        #[test]
        fn products_of_rotated_vectors_depend_on_the_distance_alone(
            seed in 0i64..1000, start in 0i64..500, distance in 0i64..500, shift in 0i64..500,
        ) {
            let rotary = Rotary::new(&config(r#"{"rope_type": "default"}"#), Device::Cpu).unwrap();
            let pair = crate::random::uniform(seed as u64, &[2, 16], Device::Cpu).unwrap();
            let product = |first: i64, second: i64| {
                let (cos, sin) = rotary.tables(&Tensor::from_slice(&[first, second]), Kind::Float).unwrap();
                let rotated = Rotary::rotate(&pair, &cos, &sin).unwrap();
                f64::try_from(rotated.get(0).dot(&rotated.get(1))).unwrap()
            };
            prop_assert!((product(start, start + distance) - product(start + shift, start + shift + distance)).abs() < 1e-3);
        }
    }

    #[test]
    fn dynamic_tables_do_not_remember_longer_sequences() {
        let rotary = Rotary::new(&config(r#"{"rope_type": "dynamic", "factor": 2.0}"#), Device::Cpu).unwrap();
        let short = Tensor::arange(16, (Kind::Int64, Device::Cpu));
        let before = rotary.tables(&short, Kind::Float).unwrap().0;
        let long = rotary.tables(&Tensor::arange(100, (Kind::Int64, Device::Cpu)), Kind::Float).unwrap().0;
        assert_eq!(rotary.tables(&short, Kind::Float).unwrap().0, before);
        assert_ne!(long.narrow(0, 0, 16), before);
    }
}
