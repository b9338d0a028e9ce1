//! Side data: what a method measured or learned of a model beforehand, in files that it reads before any context.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::de::DeserializeOwned;
use tch::{Device, Kind, Tensor};

use super::ModelFacts;
use crate::error::{Error, Result};
use crate::model::models_home;
use crate::tensors;

/// Side data of one press for one model: a folder, or a repository on the hub.
#[derive(Clone, Debug)]
pub struct SideData {
    place: String,
    press: String,
    model: ModelFacts,
}

impl SideData {
    /// Where calibration leaves the side data of `press` for `model`, and where it is looked for if nobody says where:
    /// `side-data/PRESS/MODEL` beside the models.
    pub fn home(press: &str, model: &ModelFacts) -> PathBuf {
        let home = models_home().parent().map(Path::to_owned).unwrap_or_default();
        home.join("side-data").join(press).join(&model.name)
    }

    /// The side data of `press`: the folder or hub id `given`, or what calibration left in [`Self::home`].
    ///
    /// # Errors
    /// Nothing is given, and nothing was calibrated.
    pub fn open(press: &str, given: Option<&str>, model: &ModelFacts) -> Result<Self> {
        let home = || Self::home(press, model).display().to_string();
        let place = given.map_or_else(home, str::to_owned);
        let data = Self { place, press: press.into(), model: model.clone() };
        match given.is_some() || data.folder().is_dir() {
            true => Ok(data),
            false => Err(data.bad("", "is not there: nothing was calibrated, and no `side_data` is given")),
        }
    }

    fn folder(&self) -> &Path {
        Path::new(&self.place)
    }

    /// The same data's folder `name`, if there is one.
    pub fn within(self, name: &str) -> Self {
        let inside = self.folder().join(name);
        if inside.is_dir() { Self { place: inside.display().to_string(), ..self } } else { self }
    }

    /// Its only file of the kind `extension`; of a folder alone, for nobody lists what a repository holds.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn only(&self, extension: &str) -> Result<String> {
        let entries = std::fs::read_dir(self.folder()).map_err(|error| self.bad("", &error.to_string()))?;
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let names: Vec<String> = names.filter(|name| Path::new(name).extension() == Some(extension.as_ref())).collect();
        match &names[..] {
            [name] => Ok(name.clone()),
            names => Err(self.bad("", &format!("holds {} files *.{extension}, one is due", names.len()))),
        }
    }

    /// Where a file is; one of a repository is fetched.
    fn locate(&self, file: &str) -> Result<PathBuf> {
        self.model.side_data(&self.place, file).map_err(|error| self.bad(file, &error.to_string()))
    }

    /// What is wrong with a file (or, without a name, with the folder), and how to mend it.
    pub fn bad(&self, file: &str, problem: &str) -> Error {
        let (press, model) = (&self.press, &self.model.name);
        let mend =
            format!("`pressroom calibrate {press} --model {model} --text FILE...` makes side data for this model");
        let path = if file.is_empty() { self.folder().to_owned() } else { self.folder().join(file) };
        Error::file(path, format!("{problem}; {mend}"))
    }

    /// The text of a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn text(&self, file: &str) -> Result<String> {
        std::fs::read_to_string(self.locate(file)?).map_err(|error| self.bad(file, &error.to_string()))
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
        let bytes = std::fs::read(self.locate(file)?).map_err(|error| self.bad(file, &error.to_string()))?;
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
        let array = Tensor::read_npy(self.locate(file)?).map_err(|error| self.bad(file, &error.to_string()))?;
        self.checked(file, "the array", array, shape)
    }

    fn checked(&self, file: &str, name: &str, tensor: Tensor, shape: &[i64]) -> Result<Tensor> {
        if tensor.size() != shape {
            let problem =
                format!("`{name}` has shape {:?} where {} calls for {shape:?}", tensor.size(), self.model.name);
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
        ModelFacts::new("tiny", geometry, 8)
    }

    fn message(result: Result<impl Sized>) -> String {
        result.err().unwrap().to_string()
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_with_the_way_to_make_it() {
        let folder = tempfile::tempdir().unwrap();
        let given = folder.path().to_str().unwrap();
        let data = SideData::open("filters", Some(given), &facts()).unwrap();
        let due = [("a".to_owned(), vec![1, 2])];
        let missing = message(data.tensors("model.safetensors", &due));
        assert!(missing.contains("holds no `model.safetensors`"), "{missing}");
        assert!(missing.contains("`pressroom calibrate filters --model tiny --text FILE...`"), "{missing}");
        let path = folder.path().join("model.safetensors");
        let wrong = Tensor::zeros([2, 2], (Kind::Float, Device::Cpu));
        tensors::save(&path, &[("a".into(), wrong)], None).unwrap();
        let shape = message(data.tensors("model.safetensors", &due));
        assert!(shape.contains("`a` has shape [2, 2] where tiny calls for [1, 2]"), "{shape}");
        let absent = message(data.tensors("model.safetensors", &[("b".to_owned(), vec![1])]));
        assert!(absent.contains("holds no tensor `b`"), "{absent}");
        let infinite = Tensor::full([1, 2], f64::INFINITY, (Kind::Float, Device::Cpu));
        tensors::save(&path, &[("a".into(), infinite)], None).unwrap();
        assert!(message(data.tensors("model.safetensors", &due)).contains("not finite"));
        assert!(message(data.only("npy")).contains("holds 0 files *.npy"));
        std::fs::write(folder.path().join("config.json"), "{").unwrap();
        assert!(message(data.json::<serde_json::Value>("config.json")).contains("config.json"));
    }
}
