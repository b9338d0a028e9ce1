//! Training of small networks: AdamW over gradients of the mean squared error.

use pressroom::{Result, random};
use tch::{Device, Kind, Tensor};

use crate::kvzap::predict;

const EPOCHS: usize = 15;
const BATCH: i64 = 512;
const RATE: f64 = 5e-3;
const DECAY: f64 = 0.01;
const BETAS: (f64, f64) = (0.9, 0.999);
const LARGEST_GRADIENT: f64 = 1.0;

/// Learns `targets`, `[n, outputs]`, from `inputs`, `[n, width]`, with one hidden layer of `hidden` units: weight and
/// bias of both layers in turn. The rate falls to zero along a cosine.
pub(super) fn train(inputs: &Tensor, targets: &Tensor, hidden: i64, seed: u64) -> Result<Vec<Tensor>> {
    let (samples, width) = inputs.size2()?;
    let uniform = |part: u64, shape: &[i64], from: i64| -> Result<Tensor> {
        let bound = 1.0 / (from as f64).sqrt();
        let drawn = random::uniform(random::derive_seed(seed, part), shape, inputs.device())?;
        Ok(drawn.f_mul_scalar(2.0 * bound)?.f_sub_scalar(bound)?)
    };
    let outputs = targets.size2()?.1;
    let mut params = vec![
        uniform(0, &[hidden, width], width)?,
        uniform(1, &[hidden], width)?,
        uniform(2, &[outputs, hidden], hidden)?,
        // What is learned are differences from the mean.
        targets.f_mean_dim([0i64].as_slice(), false, Kind::Float)?,
    ];
    let mut moments: Vec<[Tensor; 2]> =
        params.iter().map(|param| Ok([param.f_zeros_like()?, param.f_zeros_like()?])).collect::<Result<_>>()?;
    let batches = (samples + BATCH - 1) / BATCH;
    let mut step = 0;
    for epoch in 0..EPOCHS {
        let rate = RATE * (1.0 + (std::f64::consts::PI * epoch as f64 / EPOCHS as f64).cos()) / 2.0;
        let order = random::uniform(random::derive_seed(seed, 10 + epoch as u64), &[samples], Device::Cpu)?;
        let order = order.f_argsort(0, false)?.f_to_device(inputs.device())?;
        for rows in order.f_chunk(batches, 0)? {
            step += 1;
            let gradients = gradients(&params, &inputs.f_index_select(0, &rows)?, &targets.f_index_select(0, &rows)?)?;
            for ((param, moments), gradient) in params.iter_mut().zip(&mut moments).zip(gradients) {
                *param = adam_w(param, moments, &gradient, rate, step)?;
            }
        }
    }
    Ok(params)
}

/// Gradients of the mean squared error, together no longer than [`LARGEST_GRADIENT`].
fn gradients(params: &[Tensor], inputs: &Tensor, targets: &Tensor) -> Result<Vec<Tensor>> {
    let before = inputs.f_linear(&params[0], Some(&params[1]))?;
    let active = before.f_gelu("none")?;
    let error = predict(params, inputs)?.f_sub(targets)?;
    let error = error.f_mul_scalar(2.0 / error.numel() as f64)?;
    let back = before.f_gelu_backward(&error.f_matmul(&params[2])?, "none")?;
    let over_rows = |data: &Tensor| data.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Float);
    let gradients = vec![
        back.f_transpose(0, 1)?.f_matmul(inputs)?,
        over_rows(&back)?,
        error.f_transpose(0, 1)?.f_matmul(&active)?,
        over_rows(&error)?,
    ];
    let mut squares = 0.0;
    for gradient in &gradients {
        squares += gradient.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])?;
    }
    let scale = (LARGEST_GRADIENT / squares.sqrt().max(f64::MIN_POSITIVE)).min(1.0);
    gradients.iter().map(|gradient| Ok(gradient.f_mul_scalar(scale)?)).collect()
}

/// One step of AdamW (Loshchilov and Hutter, 2019), the `step`-th.
fn adam_w(param: &Tensor, moments: &mut [Tensor; 2], gradient: &Tensor, rate: f64, step: i32) -> Result<Tensor> {
    let blend = |old: &Tensor, new: &Tensor, beta: f64| old.f_mul_scalar(beta)?.f_add(&new.f_mul_scalar(1.0 - beta)?);
    moments[0] = blend(&moments[0], gradient, BETAS.0)?;
    moments[1] = blend(&moments[1], &gradient.f_square()?, BETAS.1)?;
    let first = moments[0].f_div_scalar(1.0 - BETAS.0.powi(step))?;
    let second = moments[1].f_div_scalar(1.0 - BETAS.1.powi(step))?;
    let change = first.f_div(&second.f_sqrt()?.f_add_scalar(1e-8)?)?;
    Ok(param.f_mul_scalar(1.0 - rate * DECAY)?.f_sub(&change.f_mul_scalar(rate)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smooth_function_is_learned() {
        let inputs = random::uniform(1, &[16_384, 3], Device::Cpu).unwrap() * 4.0 - 2.0;
        let targets = inputs.narrow(1, 0, 1).sin() * inputs.narrow(1, 1, 1) + 5.0;
        let params = train(&inputs, &targets, 32, 0).unwrap();
        let error = (predict(&params, &inputs).unwrap() - &targets).square().mean(Kind::Float);
        let share = f64::try_from(error).unwrap() / f64::try_from(targets.var(true)).unwrap();
        assert!(share < 0.1, "{share} of the variance is left");
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let draw = |seed, shape: &[i64]| random::uniform(seed, shape, Device::Cpu).unwrap() - 0.5;
        let params = vec![draw(1, &[4, 3]), draw(2, &[4]), draw(3, &[2, 4]), draw(4, &[2])];
        let (inputs, targets) = (draw(5, &[6, 3]), draw(6, &[6, 2]));
        let loss = |params: &[Tensor]| {
            let error = predict(params, &inputs).unwrap() - &targets;
            f64::try_from(error.square().mean(Kind::Double)).unwrap()
        };
        let ours = gradients(&params, &inputs, &targets).unwrap();
        for (part, gradient) in ours.iter().enumerate() {
            let moved = |by: f64| {
                let moved: Vec<Tensor> = params.iter().map(Tensor::copy).collect();
                let _ = moved[part].view(-1).get(1).g_add_scalar_(by);
                loss(&moved)
            };
            let due = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            let found = gradient.view(-1).double_value(&[1]);
            assert!((found - due).abs() < 1e-3, "part {part}: {found} where {due} is due");
        }
    }
}
