//! PyTorch archives (`.pt`, what `torch.save` writes): tensors in dictionaries and lists.
//!
//! The archive is a zip file, its table of contents a pickle. The pickle is parsed into data and never run.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use candle_core::pickle::{Object, Stack};
use tch::{Device, Kind, Tensor};
use zip::ZipArchive;

use crate::error::{Error, Result};
use crate::tensors;

/// What an archive holds.
#[derive(Debug)]
pub enum Stored {
    /// A tensor, on the CPU.
    Tensor(Tensor),
    /// Values by name; those under other keys are left out.
    Dict(Vec<(String, Stored)>),
    /// A list or tuple.
    List(Vec<Stored>),
    /// Anything else.
    Other,
}

impl Stored {
    /// The value called `name` of a dictionary.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Dict(entries) => entries.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The tensor called `name` of a dictionary.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        match self.get(name) {
            Some(Self::Tensor(tensor)) => Some(tensor),
            _ => None,
        }
    }

    /// The values of a list.
    pub fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(values) => Some(values),
            _ => None,
        }
    }
}

/// Reads the archive at `path`.
///
/// # Errors
/// The file is missing, damaged or no such archive, or holds a tensor of a dtype that is not read here.
pub fn read(path: &Path) -> Result<Stored> {
    let bad = |problem: String| Error::file(path, format!("is no intact PyTorch archive: {problem}"));
    let file = File::open(path).map_err(Error::io(path))?;
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|error| bad(error.to_string()))?;
    let contents = zip.file_names().find_map(|name| name.strip_suffix("/data.pkl").map(str::to_owned));
    let folder = contents.ok_or_else(|| bad("it has no data.pkl".into()))?;
    let mut archive = Archive { zip: &mut zip, folder };
    let pickle = archive.entry("data.pkl").map_err(bad)?;
    let mut stack = Stack::empty();
    stack.read_loop(&mut pickle.as_slice()).map_err(|error| bad(error.to_string()))?;
    let object = stack.finalize().map_err(|error| bad(error.to_string()))?;
    archive.stored(&object).map_err(bad)
}

struct Archive<'z> {
    zip: &'z mut ZipArchive<BufReader<File>>,
    folder: String,
}

impl Archive<'_> {
    fn entry(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let mut entry = self.zip.by_name(&format!("{}/{name}", self.folder)).map_err(|e| format!("{name}: {e}"))?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
        Ok(bytes)
    }

    fn stored(&mut self, object: &Object) -> Result<Stored, String> {
        match object {
            Object::Dict(entries) => {
                let named = entries.iter().filter_map(|(key, value)| match key {
                    Object::Unicode(name) => Some((name, value)),
                    _ => None,
                });
                named
                    .map(|(name, value)| Ok((name.clone(), self.stored(value)?)))
                    .collect::<Result<_, _>>()
                    .map(Stored::Dict)
            }
            Object::List(values) | Object::Tuple(values) => {
                values.iter().map(|value| self.stored(value)).collect::<Result<_, _>>().map(Stored::List)
            }
            Object::Reduce { callable, args } => match (callable.as_ref(), args.as_ref()) {
                (Object::Class { class_name, .. }, Object::Tuple(args)) => self.called(class_name, args),
                _ => Ok(Stored::Other),
            },
            // An object with its state set, such as an `OrderedDict` with metadata.
            Object::Build { callable, .. } => self.stored(callable),
            _ => Ok(Stored::Other),
        }
    }

    /// What calling a class with `args` makes, as far as tensors go.
    fn called(&mut self, class: &str, args: &[Object]) -> Result<Stored, String> {
        match (class, args) {
            ("_rebuild_parameter", [tensor, ..]) => self.stored(tensor),
            ("_rebuild_tensor_v2", [Object::PersistentLoad(storage), offset, size, stride, ..]) => {
                let Object::Tuple(storage) = storage.as_ref() else { return Err("a tensor without storage".into()) };
                let [_, Object::Class { class_name: kind, .. }, Object::Unicode(key), ..] = storage.as_slice() else {
                    return Err("a tensor of an unknown storage".into());
                };
                self.tensor(kind, key, number(offset)?, &numbers(size)?, &numbers(stride)?).map(Stored::Tensor)
            }
            ("OrderedDict", []) => Ok(Stored::Dict(Vec::new())),
            _ => Ok(Stored::Other),
        }
    }

    fn tensor(&mut self, kind: &str, key: &str, offset: i64, size: &[i64], stride: &[i64]) -> Result<Tensor, String> {
        let kind = match kind {
            "FloatStorage" => Kind::Float,
            "DoubleStorage" => Kind::Double,
            "HalfStorage" => Kind::Half,
            "BFloat16Storage" => Kind::BFloat16,
            "LongStorage" => Kind::Int64,
            other => return Err(format!("tensors of {other} are not read")),
        };
        let bytes = self.entry(&format!("data/{key}"))?;
        let count = bytes.len() / kind.elt_size_in_bytes();
        let storage = tensors::from_bytes(&bytes, &[count], kind, Device::Cpu).map_err(|error| error.to_string())?;
        let tensor = storage.f_as_strided(size, stride, offset).and_then(|view| view.f_contiguous());
        tensor.map_err(|error| format!("data/{key}: {}", error.to_string().lines().next().unwrap_or_default()))
    }
}

fn number(object: &Object) -> Result<i64, String> {
    match object {
        Object::Int(number) => Ok(i64::from(*number)),
        Object::Long(number) => Ok(*number),
        other => Err(format!("{other:?} where a number is due")),
    }
}

fn numbers(object: &Object) -> Result<Vec<i64>, String> {
    match object {
        Object::Tuple(numbers) => numbers.iter().map(number).collect(),
        other => Err(format!("{other:?} where a shape is due")),
    }
}
