//! Which implementation runs: device, dtype and the processor choose, and `PRESSROOM_KERNELS` may.

use std::sync::OnceLock;

use tch::{Device, TchError, Tensor};

/// Environment variable that forces an implementation: `reference`, `portable`, `avx2` or `avx512`.
pub const VARIABLE: &str = "PRESSROOM_KERNELS";

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor has.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 with bf16 products.
    Avx512,
}

impl Level {
    const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// The name that [`VARIABLE`] knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// The levels that this processor has, the best last.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|level| level.is_available()).collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        use std::arch::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("fma") && has!("f16c");
        match self {
            Self::Portable => true,
            Self::Avx2 => avx2,
            Self::Avx512 => {
                avx2 && has!("avx512f")
                    && has!("avx512bw")
                    && has!("avx512vl")
                    && has!("avx512dq")
                    && has!("avx512bf16")
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        self == Self::Portable
    }
}

/// What an operation runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Torch operations: any device, and gradients.
    Reference,
    /// Our kernels on the processor.
    Kernels(Level),
    /// Our kernels on the GPU with this index.
    Gpu(usize),
}

impl Choice {
    /// What operations on the processor run with, unless their operands call for the reference.
    ///
    /// # Errors
    /// [`VARIABLE`] names something that is not there.
    pub fn of_process() -> Result<Self, TchError> {
        static CHOICE: OnceLock<Result<Choice, String>> = OnceLock::new();
        let choice = CHOICE.get_or_init(|| {
            let wanted = std::env::var_os(VARIABLE);
            Self::from_name(wanted.as_deref().map(|name| name.to_string_lossy()).as_deref())
        });
        choice.clone().map_err(TchError::Torch)
    }

    fn from_name(name: Option<&str>) -> Result<Self, String> {
        let levels = Level::available();
        match name {
            None | Some("" | "auto") => Ok(Self::Kernels(levels.last().copied().unwrap_or(Level::Portable))),
            Some("reference") => Ok(Self::Reference),
            Some(name) => match levels.iter().find(|level| level.name() == name) {
                Some(level) => Ok(Self::Kernels(*level)),
                None => Err(format!(
                    "{VARIABLE}={name} cannot be used: this processor has {}, and reference is always there",
                    levels.iter().map(|level| level.name()).collect::<Vec<_>>().join(", ")
                )),
            },
        }
    }

    /// What an operation on `operands` runs with: the kernels of the one device that they are all on, or the reference
    /// where there are none for it, and where gradients are due.
    ///
    /// # Errors
    /// As [`Self::of_process`].
    pub(crate) fn of<'a>(operands: impl IntoIterator<Item = Option<&'a Tensor>>) -> Result<Self, TchError> {
        let mut devices = operands.into_iter().flatten().map(|tensor| (tensor.device(), tensor.requires_grad()));
        let first = devices.next();
        let alike = devices.all(|other| Some(other) == first);
        Ok(match (Self::of_process()?, first) {
            (Self::Kernels(_), Some((Device::Cuda(index), false))) if alike => Self::Gpu(index),
            (choice, Some((Device::Cpu, false)) | None) if alike => choice,
            _ => Self::Reference,
        })
    }
}

/// Runs an expression with a type that stands for an instruction set.
macro_rules! for_level {
    ($level:expr, $isa:ident => $body:expr) => {
        match $level {
            #[cfg(target_arch = "x86_64")]
            $crate::dispatch::Level::Avx512 => {
                type $isa = $crate::simd::Avx512;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            $crate::dispatch::Level::Avx2 => {
                type $isa = $crate::simd::Avx2;
                $body
            }
            _ => {
                type $isa = $crate::simd::Portable;
                $body
            }
        }
    };
}
pub(crate) use for_level;

/// Runs an expression with a type that stands for a dtype; `None` for dtypes that kernels do not know.
macro_rules! for_kind {
    ($kind:expr, $element:ident => $body:expr) => {
        match $kind {
            tch::Kind::Float => {
                type $element = f32;
                Some($body)
            }
            tch::Kind::BFloat16 => {
                type $element = half::bf16;
                Some($body)
            }
            tch::Kind::Half => {
                type $element = half::f16;
                Some($body)
            }
            _ => None,
        }
    };
}
pub(crate) use for_kind;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_level_can_be_forced_and_others_are_refused() {
        for level in Level::available() {
            assert_eq!(Choice::from_name(Some(level.name())), Ok(Choice::Kernels(level)));
        }
        assert_eq!(Choice::from_name(Some("reference")), Ok(Choice::Reference));
        assert_eq!(Choice::from_name(None), Choice::from_name(Some("auto")));
        let error = Choice::from_name(Some("avx3")).unwrap_err();
        assert!(error.contains("PRESSROOM_KERNELS=avx3") && error.contains("portable"), "{error}");
    }

    #[test]
    fn gradients_call_for_the_reference() {
        let plain = Tensor::zeros([2], (tch::Kind::Float, Device::Cpu));
        let trained = plain.copy().set_requires_grad(true);
        assert_eq!(Choice::of([Some(&plain), None]).unwrap(), Choice::of_process().unwrap());
        assert_eq!(Choice::of([Some(&plain), Some(&trained)]).unwrap(), Choice::Reference);
    }
}
