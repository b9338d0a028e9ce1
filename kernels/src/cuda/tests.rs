//! Every kernel compiles for every architecture; what does not compile is told with file and line.

pub(crate) mod emulator;

use std::collections::BTreeSet;
use std::path::Path;

use super::compile::{Architecture, compile};
use super::program::HEADERS;
use super::{Program, Source, library};
use crate::{attention, gate, keep, norm, order, quadratic, received, rotary, vector_norm};

const ARCHITECTURES: [Architecture; 3] = [Architecture(80), Architecture(90), Architecture(100)];

/// Opens the run-time compiler that `scripts/setup.py nvrtc` fetches.
fn open_nvrtc() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.deps/nvrtc");
    library::open_nvrtc_in(&folder).expect("`make test`, or `python3 scripts/setup.py nvrtc`, fetches the compiler");
}

/// What presses score and select with.
fn scoring() -> Vec<Program> {
    // Of sources with two kernels both are compiled, whichever is asked for.
    let mut programs = vec![order::gpu::program("best")];
    programs.extend([1, 2, 4, 8, 16].map(keep::gpu::program));
    for element in ["float", "bf16", "f16"] {
        programs
            .extend([(128, true), (80, false)].map(|(width, wide)| vector_norm::gpu::program(element, width, wide)));
        programs.push(quadratic::gpu::program(element));
        programs.extend(["float", element].map(|query| received::gpu::program("received", [query, element])));
    }
    programs.dedup();
    programs
}

/// Every kernel, with the shapes and dtypes that models have.
fn every_program() -> Vec<Program> {
    let others = ["float", "bf16", "f16"]
        .into_iter()
        .flat_map(|element| [norm::gpu::program, gate::gpu::program, rotary::gpu::program].map(|make| make(element)));
    attention::programs().into_iter().chain(others).chain(scoring()).collect()
}

#[test]
fn every_kernel_compiles_for_every_architecture() {
    open_nvrtc();
    for program in every_program() {
        for architecture in ARCHITECTURES {
            let code = compile(&program, architecture).unwrap_or_else(|problem| panic!("{program:?}: {problem}"));
            assert_eq!(&code[..4], b"\x7fELF");
        }
    }
}

/// Paths from `home` of the files below `folder` whose names end so.
fn files(home: &Path, folder: &Path, extension: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(home, &path, extension));
        } else if path.extension().is_some_and(|own| own == extension) {
            found.insert(path.strip_prefix(home).unwrap().display().to_string());
        }
    }
    found
}

#[test]
fn no_source_is_left_out() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let compiled: BTreeSet<String> = every_program().iter().map(|program| program.path().to_owned()).collect();
    assert_eq!(files(&home, &home, "cu"), compiled);
    // That of the emulator is in the place of one of these.
    let headers = HEADERS.iter().map(|header| header.path.to_owned());
    assert_eq!(files(&home, &home, "cuh"), headers.chain(["cuda/tests/emulator.cuh".to_owned()]).collect());
}

#[test]
fn a_mistake_is_told_with_file_and_line() {
    open_nvrtc();
    let source = Source { path: "broken.cu", text: "#include \"cuda/rows.cuh\"\n\nint x = 1 +;\n" };
    let problem = compile(&Program::new(&source, "broken", 32), Architecture(90)).unwrap_err();
    assert!(problem.contains("broken.cu(3): error"), "{problem}");
    let source = Source { path: "broken.cu", text: "#include \"cuda/rows.cuh\"\nusing A = Lanes<bf16, none, true>;\n" };
    let problem = compile(&Program::new(&source, "broken", 32), Architecture(90)).unwrap_err();
    assert!(problem.contains("broken.cu(2): error"), "{problem}");
    let problem = compile(&attention::programs()[0].clone().with("KEY_DIM", "nothing"), Architecture(90)).unwrap_err();
    assert!(problem.contains("attention/stream.cu("), "{problem}");
}
