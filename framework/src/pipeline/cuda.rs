//! Where libtorch's CUDA half is, and whether it can be used.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pressroom_kernels::cuda::{LIBTORCH_CUDA, driver, open_libtorch_cuda};

use crate::model::checkout_home;

/// Names the folder that holds libtorch's CUDA half, where it is not the one that `make setup-cuda` makes.
pub const FOLDER_VARIABLE: &str = "PRESSROOM_LIBTORCH_CUDA";

/// Where `make setup-cuda` puts the libraries, from `.deps`.
const INSTALLED: &str = "libtorch-cuda/torch/lib";

/// A libtorch on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libtorch {
    /// The folder of its libraries.
    pub libraries: PathBuf,
    /// Its release, as in `2.11.0`, where a file beside the libraries tells.
    pub release: Option<String>,
}

/// CUDA as this process can use it.
#[derive(Clone, Debug)]
pub struct Cuda {
    /// The CUDA half that was opened.
    pub libtorch: Libtorch,
    /// Devices that it sees, at least one.
    pub devices: usize,
}

/// Why there is no CUDA, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct NoCuda {
    /// Whether the libraries are there, so that somebody expects CUDA to work.
    pub installed: bool,
    problem: String,
}

/// Opens libtorch's CUDA half and counts the devices; the first call decides for the process.
///
/// # Errors
/// The libraries are not installed, of another release or damaged; there is no driver; there is no device.
pub fn cuda() -> Result<&'static Cuda, &'static NoCuda> {
    static FOUND: OnceLock<Result<Cuda, NoCuda>> = OnceLock::new();
    FOUND.get_or_init(|| open(std::env::var_os(FOLDER_VARIABLE), Libtorch::loaded())).as_ref()
}

fn open(named: Option<OsString>, loaded: Option<Libtorch>) -> Result<Cuda, NoCuda> {
    let folder =
        find(named, loaded.as_ref(), checkout_home()).map_err(|problem| NoCuda { installed: false, problem })?;
    let found = Libtorch::at(folder);
    let broken = |problem: String| NoCuda { installed: true, problem };
    let release = |libtorch: &Libtorch| libtorch.release.clone();
    if let (Some(due), Some(found_release)) = (loaded.as_ref().and_then(release), release(&found))
        && due != found_release
    {
        return Err(broken(format!(
            "{} is of libtorch {found_release}, while {due} is loaded; run `make setup-cuda`",
            found.libraries.display()
        )));
    }
    open_libtorch_cuda(&found.libraries).map_err(|problem| {
        broken(format!(
            "libtorch's CUDA half cannot be opened: {problem}; if it is damaged, remove {} and run `make setup-cuda` again",
            found.libraries.display()
        ))
    })?;
    if driver().map_err(broken)?.devices == 0 {
        return Err(broken("the NVIDIA driver sees no device; check `nvidia-smi` and CUDA_VISIBLE_DEVICES".into()));
    }
    match usize::try_from(tch::Cuda::device_count()) {
        Ok(devices) if devices > 0 => Ok(Cuda { libtorch: found, devices }),
        _ => Err(broken("the NVIDIA driver sees a device and libtorch none; check `nvidia-smi`".into())),
    }
}

/// The folder of the CUDA half: the one that is named, else beside the loaded CPU half, else where `make setup-cuda`
/// puts it.
fn find(named: Option<OsString>, loaded: Option<&Libtorch>, deps: Option<PathBuf>) -> Result<PathBuf, String> {
    let holds = |folder: &PathBuf| folder.join(LIBTORCH_CUDA).is_file();
    if let Some(folder) = named.filter(|folder| !folder.is_empty()).map(PathBuf::from) {
        return if holds(&folder) {
            Ok(folder)
        } else {
            Err(format!("{FOLDER_VARIABLE} names {}, which holds no {LIBTORCH_CUDA}", folder.display()))
        };
    }
    let beside = loaded.map(|loaded| loaded.libraries.clone());
    let neighbour = beside.as_ref().and_then(|libraries| Some(libraries.parent()?.parent()?.join(INSTALLED)));
    let mut folders: Vec<PathBuf> =
        [beside, neighbour, deps.map(|deps| deps.join(INSTALLED))].into_iter().flatten().collect();
    folders.dedup();
    match folders.iter().find(|folder| holds(folder)) {
        Some(folder) => Ok(folder.clone()),
        None => {
            let places: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
            Err(format!(
                "libtorch's CUDA libraries are not installed (no {LIBTORCH_CUDA} in {}); run `make setup-cuda`, or set \
                 {FOLDER_VARIABLE} to the folder that holds it",
                places.join(" or ")
            ))
        }
    }
}

impl Libtorch {
    /// The libtorch that this process has loaded, where the system tells.
    pub fn loaded() -> Option<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let path = maps.lines().find_map(|line| line.get(line.find('/')?..)?.strip_suffix("/libtorch_cpu.so"))?;
        Some(Self::at(path.into()))
    }

    fn at(libraries: PathBuf) -> Self {
        let release = libraries.parent().and_then(release_of);
        Self { libraries, release }
    }
}

/// The release that a libtorch folder says it is: `build-version` of an archive, `version.py` of a Python package.
/// What follows a `+` names the build.
fn release_of(home: &Path) -> Option<String> {
    let archive = || std::fs::read_to_string(home.join("build-version")).ok();
    let package = || {
        let text = std::fs::read_to_string(home.join("version.py")).ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix("__version__"))?;
        Some(value.trim_matches([' ', '=', '\'', '"']).to_owned())
    };
    let text = archive().or_else(package)?;
    Some(text.trim().split('+').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(home: &Path, version: (&str, &str), library: &[u8]) -> PathBuf {
        let libraries = home.join("lib");
        std::fs::create_dir_all(&libraries).unwrap();
        std::fs::write(home.join(version.0), version.1).unwrap();
        std::fs::write(libraries.join(LIBTORCH_CUDA), library).unwrap();
        libraries
    }

    fn refusal(named: &Path, loaded: Option<Libtorch>) -> NoCuda {
        open(Some(named.into()), loaded).unwrap_err()
    }

    #[test]
    fn the_folder_is_looked_for_where_the_set_up_puts_it() {
        let deps = tempfile::tempdir().unwrap();
        let cpu = Libtorch { libraries: deps.path().join("libtorch/lib"), release: None };
        let installed = deps.path().join(INSTALLED);
        let error = find(None, Some(&cpu), Some(deps.path().into())).unwrap_err();
        assert!(error.contains("make setup-cuda") && error.contains(FOLDER_VARIABLE), "{error}");
        assert_eq!(error.matches(&installed.display().to_string()).count(), 1, "{error}");
        std::fs::create_dir_all(&installed).unwrap();
        std::fs::write(installed.join(LIBTORCH_CUDA), "").unwrap();
        assert_eq!(find(None, Some(&cpu), None).unwrap(), installed);
        assert_eq!(find(None, None, Some(deps.path().into())).unwrap(), installed);
        assert_eq!(find(Some("".into()), Some(&cpu), None).unwrap(), installed);
        // A full libtorch is its own CUDA half.
        std::fs::create_dir_all(&cpu.libraries).unwrap();
        std::fs::write(cpu.libraries.join(LIBTORCH_CUDA), "").unwrap();
        assert_eq!(find(None, Some(&cpu), None).unwrap(), cpu.libraries);
        let error = find(Some("/nowhere".into()), Some(&cpu), None).unwrap_err();
        assert!(error.contains("PRESSROOM_LIBTORCH_CUDA names /nowhere"), "{error}");
    }

    #[test]
    fn another_release_is_refused_before_it_is_opened() {
        let home = tempfile::tempdir().unwrap();
        let python = "from typing import Optional\n\n__version__ = '2.10.0+cu130'\ndebug = False\n";
        for version in [("build-version", "2.10.0+cu130\n"), ("version.py", python)] {
            let libraries = folder(&home.path().join(version.0), version, b"");
            assert_eq!(Libtorch::at(libraries.clone()).release.as_deref(), Some("2.10.0"));
            let loaded = Libtorch { libraries: "/x".into(), release: Some("2.11.0".into()) };
            let refused = refusal(&libraries, Some(loaded));
            assert!(refused.installed);
            assert!(refused.to_string().contains("is of libtorch 2.10.0, while 2.11.0 is loaded"), "{refused}");
        }
    }

    #[test]
    fn a_damaged_library_is_told_in_the_linkers_words() {
        let home = tempfile::tempdir().unwrap();
        let text = "no ELF file, but as long as the header of one".repeat(9);
        for (library, said) in [(text.as_bytes(), "invalid ELF header"), (b"", "file too short")] {
            let libraries = folder(home.path(), ("build-version", "2.11.0"), library);
            let refused = refusal(&libraries, Libtorch::loaded());
            let text = refused.to_string();
            assert!(refused.installed && text.contains("cannot be opened") && text.contains(said), "{text}");
        }
    }

    #[test]
    fn the_loaded_libtorch_is_found_with_its_release() {
        let loaded = Libtorch::loaded().unwrap();
        assert!(loaded.libraries.join("libtorch_cpu.so").is_file());
        assert!(loaded.release.unwrap().starts_with("2."));
    }
}
