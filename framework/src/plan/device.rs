//! Devices and number formats by the names they have in TOML and on the command line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::error::{Error, Result};
use crate::press::nearest;
use crate::spec::Choice;

/// Where the model runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DeviceChoice {
    /// The CUDA devices where there are some, as few as hold the model; else the processor.
    Auto,
    /// The processor.
    #[default]
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
    /// On each of these devices, in this order, as many layers.
    Layers(Vec<(Device, usize)>),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Layers(runs) => {
                for (index, (device, layers)) in runs.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    let device = match device {
                        Device::Cuda(index) => Self::Cuda(*index),
                        _ => Self::Cpu,
                    };
                    write!(f, "{comma}{device}={layers}")?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        if name.contains('=') {
            return Ok(Self::Layers(name.split(',').map(run).collect::<Result<_>>()?));
        }
        let index = name.strip_prefix("cuda:").and_then(|index| index.parse::<u16>().ok());
        let choice = match (name, index) {
            ("auto", _) => Some(Self::Auto),
            ("cpu", _) => Some(Self::Cpu),
            (_, Some(index)) => Some(Self::Cuda(index.into())),
            _ => None,
        };
        // Only the spelling that is shown again is accepted: no `cuda:+1`, no `cuda:01`.
        choice.filter(|choice| choice.to_string() == name).ok_or_else(|| {
            Error::input(format!("unknown device `{name}`: use cpu, auto, or cuda:0 (the number picks the GPU)"))
        })
    }
}

impl Choice for DeviceChoice {
    const PATTERN: Option<&'static str> = Some(concat!(
        "^(cuda:(0|[1-9][0-9]{0,4})|",
        "(cpu|cuda:(0|[1-9][0-9]{0,4}))=[0-9]+(,(cpu|cuda:(0|[1-9][0-9]{0,4}))=[0-9]+)*)$"
    ));

    fn names() -> Vec<&'static str> {
        vec!["cpu", "auto", "cuda:0"]
    }
}

/// `cuda:0=16`: a device and how many layers it holds.
fn run(text: &str) -> Result<(Device, usize)> {
    let known = text.split_once('=').and_then(|(device, layers)| {
        let device = match device.trim().parse().ok()? {
            DeviceChoice::Cpu => Device::Cpu,
            DeviceChoice::Cuda(index) => Device::Cuda(index),
            _ => return None,
        };
        Some((device, layers.trim().parse().ok()?))
    });
    known.ok_or_else(|| {
        Error::input(format!("`{text}` places no layers: use cuda:0=16,cuda:1=16, with the layers of each device"))
    })
}

/// Number format of weights, computation and cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DtypeChoice {
    /// bf16 where the hardware has bf16 arithmetic, else f32.
    #[default]
    Auto,
    /// 32-bit floating point.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE 16-bit floating point.
    F16,
}

impl DtypeChoice {
    const ALL: [Self; 4] = [Self::Auto, Self::F32, Self::Bf16, Self::F16];

    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// The format itself, for hardware with or without bf16 arithmetic.
    pub fn resolve(self, has_bf16_arithmetic: bool) -> Kind {
        match self {
            Self::Auto if has_bf16_arithmetic => Kind::BFloat16,
            Self::Auto | Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::F16 => Kind::Half,
        }
    }
}

impl fmt::Display for DtypeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DtypeChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|choice| choice.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            let hint = nearest(name, names).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            Error::input(format!("unknown dtype `{name}`: known are {}{hint}", names.join(", ")))
        })
    }
}

impl Choice for DtypeChoice {
    fn names() -> Vec<&'static str> {
        Self::ALL.map(Self::name).to_vec()
    }
}

macro_rules! as_text {
    ($($choice:ty),*) => {$(
        impl From<$choice> for String {
            fn from(choice: $choice) -> Self {
                choice.to_string()
            }
        }

        impl TryFrom<String> for $choice {
            type Error = Error;

            fn try_from(name: String) -> Result<Self> {
                name.parse()
            }
        }
    )*};
}
as_text!(DeviceChoice, DtypeChoice);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_shown() {
        for name in ["auto", "cpu", "cuda:0", "cuda:7"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        let map = "cuda:0=10,cuda:1=20,cpu=2";
        assert_eq!(map.parse::<DeviceChoice>().unwrap().to_string(), map);
        for choice in DtypeChoice::ALL {
            assert_eq!(serde_json::to_string(&choice).unwrap(), format!("\"{choice}\""));
            assert_eq!(choice.to_string().parse::<DtypeChoice>().unwrap(), choice);
        }
    }

    #[test]
    fn other_names_are_refused_with_the_known_ones() {
        for name in ["", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:01", "cuda:99999999", "CPU", "gpu"] {
            let message = name.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(message.contains("cpu, auto, or cuda:0"), "{message}");
        }
        for map in ["cuda:0=", "cuda:0=x", "auto=3", "cuda:0=3,", "=3", "cuda=3"] {
            let message = map.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(message.contains("cuda:0=16,cuda:1=16"), "{message}");
        }
        let message = "fp16".parse::<DtypeChoice>().unwrap_err().to_string();
        assert_eq!(message, "unknown dtype `fp16`: known are auto, f32, bf16, f16; did you mean `f16`?");
    }

    #[test]
    fn auto_takes_bf16_only_where_it_is_fast() {
        assert_eq!(DtypeChoice::Auto.resolve(true), Kind::BFloat16);
        assert_eq!(DtypeChoice::Auto.resolve(false), Kind::Float);
        assert_eq!(DtypeChoice::F16.resolve(true), Kind::Half);
    }
}
