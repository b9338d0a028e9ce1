//! What a press may know of the model before it sees a context.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::model::{hub, models_home};
use crate::view::Geometry;

/// Facts about the model that a press prepares itself for: side data is looked up and checked with them.
#[derive(Clone, Debug)]
pub struct ModelFacts {
    /// The model's name: its folder's, or its hub id.
    pub name: String,
    /// Attention geometry.
    pub geometry: Geometry,
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// The files that presses have read, by the names that they have on every machine.
    read: Arc<Mutex<BTreeMap<String, PathBuf>>>,
}

/// What presses have read is no fact about the model.
impl PartialEq for ModelFacts {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.geometry, self.hidden_size) == (&other.name, other.geometry, other.hidden_size)
    }
}

impl ModelFacts {
    /// Facts about a model for which no press has prepared itself yet.
    pub fn new(name: impl Into<String>, geometry: Geometry, hidden_size: i64) -> Self {
        Self { name: name.into(), geometry, hidden_size, read: Arc::default() }
    }

    /// Where the file of side data called `name` is, of what `place` is: a folder, or a repository on the hub. That it is
    /// read is noted, in all clones of these facts.
    ///
    /// # Errors
    /// See [`hub::locate`].
    pub fn side_data(&self, place: &str, name: &str) -> Result<PathBuf> {
        let path = hub::locate(place, name)?;
        let home = models_home();
        let place = Path::new(place);
        let place = home.parent().and_then(|home| place.strip_prefix(home).ok()).unwrap_or(place);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.insert(place.join(name).display().to_string(), path.clone());
        Ok(path)
    }

    /// SHA-256 of every file of side data that was read, by its name: the folder or hub id as it was given, or its place
    /// beside the models.
    ///
    /// # Errors
    /// A file cannot be read any more.
    pub fn side_data_sha256(&self) -> Result<BTreeMap<String, String>> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = |(name, path): (&String, &PathBuf)| {
            let mut hash = Sha256::new();
            let copied = File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut hash));
            copied.map_err(Error::io(path))?;
            Ok((name.clone(), format!("{:x}", hash.finalize())))
        };
        read.iter().map(hash).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_known_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().to_str().unwrap();
        let geometry = Geometry { layers: 1, heads: 2, kv_heads: 1, head_dim: 4 };
        let facts = ModelFacts::new("tiny", geometry, 8);
        assert!(facts.side_data(place, "a.json").is_err() && facts.side_data_sha256().unwrap().is_empty());
        let write = |text: &str| std::fs::write(folder.path().join("a.json"), text).unwrap();
        write("one");
        facts.clone().side_data(place, "a.json").unwrap();
        let before = facts.side_data_sha256().unwrap();
        assert_eq!(before.keys().collect::<Vec<_>>(), [&format!("{place}/a.json")]);
        assert_eq!(before, facts.side_data_sha256().unwrap());
        write("two");
        assert_ne!(before, facts.side_data_sha256().unwrap());
        assert_eq!(facts, ModelFacts::new("tiny", geometry, 8));
    }
}
