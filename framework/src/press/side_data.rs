//! Side data: what a method measured or learned of a model beforehand, in files that it reads before any context.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};

use super::ModelFacts;
use crate::error::{Error, Result};
use crate::model::{hub, models_home};
use crate::tensors;

/// A folder of side data of one press for one model.
#[derive(Clone, Debug)]
pub struct SideData {
    folder: PathBuf,
    press: String,
    model: String,
}

impl SideData {
    /// Where calibration leaves the side data of `press` for `model`, and where it is looked for if nobody says where:
    /// `side-data/PRESS/MODEL` beside the models.
    pub fn home(press: &str, model: &ModelFacts) -> PathBuf {
        let home = models_home().parent().map(Path::to_owned).unwrap_or_default();
        home.join("side-data").join(press).join(&model.name)
    }

    /// The side data of `press`: the folder `given`, or that hub id (of which the files that `wanted` accepts by name
    /// are fetched), or what calibration left in [`Self::home`].
    ///
    /// # Errors
    /// There is no such folder, nor such a repository on the hub.
    pub fn open(press: &str, given: Option<&str>, model: &ModelFacts, wanted: &dyn Fn(&str) -> bool) -> Result<Self> {
        let found = |folder| Self { folder, press: press.into(), model: model.name.clone() };
        let data = found(given.map_or_else(|| Self::home(press, model), PathBuf::from));
        if data.folder.is_dir() {
            return Ok(data);
        }
        match given {
            Some(id) if id.split('/').count() == 2 && !id.starts_with(['.', '/']) => hub::fetch_files(id, wanted)
                .map(found)
                .map_err(|error| data.bad("", &format!("is no folder, and as a hub id: {error}"))),
            Some(_) => Err(data.bad("", "is no folder")),
            None => Err(data.bad("", "is not there: nothing has been calibrated, and no `side_data` is given")),
        }
    }

    /// The path of one of its files.
    pub fn path(&self, file: &str) -> PathBuf {
        if file.is_empty() { self.folder.clone() } else { self.folder.join(file) }
    }

    /// The same data's folder `name`, if there is one.
    pub fn within(self, name: &str) -> Self {
        let inside = self.folder.join(name);
        if inside.is_dir() { Self { folder: inside, ..self } } else { self }
    }

    /// Its only file of the kind `extension`.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn only(&self, extension: &str) -> Result<String> {
        let entries = std::fs::read_dir(&self.folder).map_err(Error::io(&self.folder))?;
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> =
            names.filter(|name| Path::new(name).extension() == Some(extension.as_ref())).collect();
        match (names.pop(), names.len()) {
            (Some(name), 0) => Ok(name),
            (found, others) => {
                let count = usize::from(found.is_some()) + others;
                Err(self.bad("", &format!("holds {count} files *.{extension}, one is due")))
            }
        }
    }

    /// What is wrong with a file (or, without a name, with the folder), and how to mend it.
    pub fn bad(&self, file: &str, problem: &str) -> Error {
        let (press, model) = (&self.press, &self.model);
        let mend =
            format!("`pressroom calibrate {press} --model {model} --text FILE...` makes side data for this model");
        Error::file(self.path(file), format!("{problem}; {mend}"))
    }

    /// The text of a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn text(&self, file: &str) -> Result<String> {
        std::fs::read_to_string(self.path(file)).map_err(|error| self.bad(file, &error.to_string()))
    }

    /// The JSON of a file.
    ///
    /// # Errors
    /// It cannot be read, or something is missing or of another type.
    pub fn json<T: DeserializeOwned>(&self, file: &str) -> Result<T> {
        serde_json::from_str(&self.text(file)?).map_err(|error| self.bad(file, &error.to_string()))
    }

    /// Tensors of a safetensors file, float32, each of the shape named beside it.
    ///
    /// # Errors
    /// The file cannot be read, a tensor is missing, of another shape or not finite.
    pub fn tensors(&self, file: &str, expected: &[(String, Vec<i64>)]) -> Result<Vec<Tensor>> {
        let bytes = std::fs::read(self.path(file)).map_err(|error| self.bad(file, &error.to_string()))?;
        let parsed = SafeTensors::deserialize(&bytes)
            .map_err(|error| self.bad(file, &format!("is no intact safetensors file: {error}")))?;
        let tensor = |(name, shape): &(String, Vec<i64>)| {
            let view = parsed.tensor(name).map_err(|_| self.bad(file, &format!("holds no tensor `{name}`")))?;
            let kind = tensors::kind_of(view.dtype())
                .ok_or_else(|| self.bad(file, &format!("`{name}` has dtype {:?}", view.dtype())))?;
            let tensor = tensors::from_bytes(view.data(), view.shape(), kind, Device::Cpu)?;
            self.checked(file, name, tensor, shape)
        };
        expected.iter().map(tensor).collect()
    }

    /// The array of an npy file, float32, of the given shape.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn array(&self, file: &str, shape: &[i64]) -> Result<Tensor> {
        let array = Tensor::read_npy(self.path(file)).map_err(|error| self.bad(file, &error.to_string()))?;
        self.checked(file, "the array", array, shape)
    }

    fn checked(&self, file: &str, name: &str, tensor: Tensor, shape: &[i64]) -> Result<Tensor> {
        if tensor.size() != shape {
            let problem = format!("`{name}` has shape {:?} where {} calls for {shape:?}", tensor.size(), self.model);
            return Err(self.bad(file, &problem));
        }
        let tensor = tensor.f_to_kind(Kind::Float)?;
        match tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? {
            0 => Err(self.bad(file, &format!("`{name}` holds numbers that are not finite"))),
            _ => Ok(tensor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Geometry;

    fn facts() -> ModelFacts {
        let geometry = Geometry { layers: 1, heads: 2, kv_heads: 1, head_dim: 4 };
        ModelFacts { name: "tiny".into(), geometry, hidden_size: 8 }
    }

    fn message(result: Result<impl Sized>) -> String {
        result.err().unwrap().to_string()
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_with_the_way_to_make_it() {
        let folder = tempfile::tempdir().unwrap();
        let given = folder.path().to_str().unwrap();
        let none = SideData::open("filters", Some("/no/such/folder"), &facts(), &|_| true);
        assert!(message(none).contains("is no folder; `pressroom calibrate filters --model tiny --text FILE...`"));
        let data = SideData::open("filters", Some(given), &facts(), &|_| true).unwrap();
        let due = [("a".to_owned(), vec![1, 2])];
        assert!(message(data.tensors("model.safetensors", &due)).contains("model.safetensors"));
        let wrong = Tensor::zeros([2, 2], (Kind::Float, Device::Cpu));
        tensors::save(&data.path("model.safetensors"), &[("a".into(), wrong)], None).unwrap();
        let shape = message(data.tensors("model.safetensors", &due));
        assert!(shape.contains("`a` has shape [2, 2] where tiny calls for [1, 2]"), "{shape}");
        let absent = message(data.tensors("model.safetensors", &[("b".to_owned(), vec![1])]));
        assert!(absent.contains("holds no tensor `b`"), "{absent}");
        let infinite = Tensor::full([1, 2], f64::INFINITY, (Kind::Float, Device::Cpu));
        tensors::save(&data.path("model.safetensors"), &[("a".into(), infinite)], None).unwrap();
        assert!(message(data.tensors("model.safetensors", &due)).contains("not finite"));
        assert!(message(data.only("npy")).contains("holds 0 files *.npy"));
        std::fs::write(data.path("config.json"), "{").unwrap();
        assert!(message(data.json::<serde_json::Value>("config.json")).contains("config.json"));
    }
}
