//! Every kernel compiles for every architecture; what does not compile is told with file and line.

pub(crate) mod emulator;

use std::path::Path;

use super::compile::{Architecture, compile};
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

#[test]
fn every_kernel_compiles_for_every_architecture() {
    open_nvrtc();
    let others = ["float", "bf16", "f16"]
        .into_iter()
        .flat_map(|element| [norm::gpu::program, gate::gpu::program, rotary::gpu::program].map(|make| make(element)));
    for program in attention::programs().into_iter().chain(others).chain(scoring()) {
        for architecture in ARCHITECTURES {
            let code = compile(&program, architecture).unwrap_or_else(|problem| panic!("{program:?}: {problem}"));
            assert_eq!(&code[..4], b"\x7fELF");
        }
    }
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
