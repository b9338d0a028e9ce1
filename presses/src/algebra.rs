//! What several presses compute: unit vectors, z-scores, and leverage by a Cholesky factor.

use pressroom::error::During;
use pressroom::{Error, Result};
use tch::{Kind, Tensor};

/// Norms below are taken for this.
const SMALLEST_NORM: f64 = 1e-12;
/// Standard deviations below are taken for this.
const SMALLEST_DEVIATION: f64 = 1e-6;
/// Tenfold steps of the diagonal: beyond them the matrix is not finite.
const JITTERS: i32 = 40;

/// Vectors along the last dimension at length 1; zeros, which have no direction, stay zeros.
pub(crate) fn unit(vectors: &Tensor) -> Result<Tensor> {
    let norms = vectors.f_linalg_norm(2.0, [-1i64].as_slice(), true, Kind::Float)?;
    Ok(vectors.f_div(&norms.f_clamp_min(SMALLEST_NORM)?)?)
}

/// `scores`, `[batch, kv_heads, tokens]`, at mean 0 and deviation 1 over the heads and tokens of each sequence.
pub(crate) fn z_scores(scores: &Tensor) -> Result<Tensor> {
    let all = [1i64, 2].as_slice();
    let centered = scores.f_sub(&scores.f_mean_dim(all, true, Kind::Float)?)?;
    if scores.size()[1] * scores.size()[2] == 1 {
        // One score deviates from nothing.
        return Ok(centered);
    }
    let deviation = scores.f_std_dim(all, true, true)?.f_clamp_min(SMALLEST_DEVIATION)?;
    Ok(centered.f_div(&deviation)?)
}

/// Leverage `x_i^T (G + jitter I)^-1 x_i` of the rows of `rows`, float32 `[.., n, k]`, in the symmetric matrix `gram`,
/// `[.., k, k]`: `[.., n]`. The jitter is raised tenfold where `gram` is not positive definite for rounding.
///
/// # Errors
/// The matrix is not finite, or a tensor operation fails.
pub(crate) fn leverage(rows: &Tensor, gram: &Tensor, jitter: f64) -> Result<Tensor> {
    let factor = cholesky(gram, jitter)?;
    // With G = L L^T the leverage of x is the squared length of L^-1 x.
    let solved = factor
        .f_linalg_solve_triangular(&rows.f_transpose(-2, -1)?, false, true, false)
        .during("leverage", &[rows, gram])?;
    Ok(solved.f_square()?.f_sum_dim_intlist([-2i64].as_slice(), false, Kind::Float)?)
}

fn cholesky(gram: &Tensor, jitter: f64) -> Result<Tensor> {
    let identity = Tensor::f_eye(gram.size()[gram.dim() - 1], (gram.kind(), gram.device()))?;
    for step in 0..JITTERS {
        let lifted = gram.f_add(&identity.f_mul_scalar(jitter * 10f64.powi(step))?)?;
        let (factor, info) = lifted.f_linalg_cholesky_ex(false, false).during("factoring", &[gram])?;
        if info.f_any()?.f_int64_value(&[])? == 0 {
            return Ok(factor);
        }
    }
    Err(Error::input("leverage of keys or values that are not finite"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn leverage_is_the_diagonal_of_the_hat_matrix() {
        let rows = pressroom::random::normal(1, &[2, 20, 4], Device::Cpu).unwrap();
        let gram = rows.transpose(1, 2).matmul(&rows);
        let hat = rows.matmul(&gram.inverse()).matmul(&rows.transpose(1, 2));
        let due = hat.diagonal(0, 1, 2);
        let ours = leverage(&rows, &gram, 1e-9).unwrap();
        assert!(f64::try_from((ours - due).abs().max()).unwrap() < 1e-4);
    }

    #[test]
    fn a_matrix_without_rank_is_lifted_until_it_can_be_factored() {
        let rows = Tensor::full([1, 30, 6], 1e4, (Kind::Float, Device::Cpu));
        let gram = rows.transpose(1, 2).matmul(&rows);
        let ours = leverage(&rows, &gram, 1e-2).unwrap();
        assert_eq!(ours.isfinite().all().int64_value(&[]), 1);
        assert!(leverage(&rows, &(gram * f64::INFINITY), 1e-2).is_err());
    }

    #[test]
    fn z_scores_of_equal_or_single_scores_are_zero() {
        for shape in [[2, 3, 5], [1, 1, 1]] {
            let scores = z_scores(&Tensor::full(shape, 7.0, (Kind::Float, Device::Cpu))).unwrap();
            assert_eq!(f64::try_from(scores.abs().max()).unwrap(), 0.0);
        }
    }
}
