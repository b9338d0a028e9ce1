//! Models on GPUs, with libraries that stand in for libtorch's CUDA half and the driver: two devices of the processor's memory
//! that refuse to work on each other's tensors.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::json;

use crate::context;
use crate::support::tiny::{Answers, Tiny};
use crate::support::{letters, pressroom_with, stdout};

/// The folder of the libraries.
static LIBRARIES: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let libraries = tempfile::tempdir().unwrap();
    let torch = PathBuf::from(std::env::var_os("LIBTORCH").unwrap()).join("include");
    compile(
        Command::new("c++")
            .args(["-std=c++17", "-shared", "-fPIC", "-I"])
            .arg(&torch)
            .arg("-I")
            .arg(torch.join("torch/csrc/api/include"))
            .arg(source("tests/support/pretend_cuda.cpp"))
            .arg("-o")
            .arg(libraries.path().join("libtorch_cuda.so")),
    );
    driver(libraries.path(), &[]);
    libraries
});

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn compile(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A driver with two devices.
fn driver(folder: &Path, more: &[&str]) {
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-DVERSION=13000", "-DSTART=0", "-DDEVICES=2"]).args(more);
    compile(command.arg(source("../kernels/tests/driver.c")).arg("-o").arg(folder.join("libcuda.so.1")));
    std::os::unix::fs::symlink("libcuda.so.1", folder.join("libcuda.so")).unwrap();
}

/// What a process needs to find the libraries, the driver being in a folder that may be another. There is no GPU to run
/// kernels of ours.
fn variables(driver: &Path) -> [(&'static str, &Path); 3] {
    [
        ("PRESSROOM_LIBTORCH_CUDA", LIBRARIES.path()),
        ("LD_LIBRARY_PATH", driver),
        ("PRESSROOM_KERNELS", Path::new("reference")),
    ]
}

#[test]
fn layers_on_two_devices_give_the_answers_of_one() {
    let tiny = Tiny::new(&[json!({
        "context": "THE KEEPER OF THE LIGHTHOUSE SLEEPS BY DAY AND WAKES BY NIGHT WHEN THE SHIPS PASS BY",
        "question": "WHO?", "answer": "KEEPER",
    })]);
    // What decides on all layers together, runs backwards, edits values, removes channels, and compresses answers.
    let more = [
        "name = 'kvcompose'",
        "name = 'kvgrad'",
        "name = 'merging'\npress = { name = 'knorm' }",
        "name = 'think'\nkey_channel_compression_ratio = 0.5\nwindow_size = 4",
        "name = 'decoding'\nbase_press = { name = 'knorm' }\ncompression_interval = 2\ntarget_size = 40",
        "label = 'int4'\nname = 'observed_attention'\ncache = { bits = 4, group = 32 }",
    ];
    let written = std::fs::read_to_string(tiny.at("run.toml")).unwrap();
    let more: String = more.iter().map(|press| format!("[[press]]\n{press}\n")).collect();
    std::fs::write(tiny.at("run.toml"), written + &more).unwrap();
    let run = |device: &str| {
        let mut command = tiny.command(device, &["--set", &format!("model.device={device:?}")]);
        let done = command.envs(variables(LIBRARIES.path())).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() && !said.contains("error:"), "{device}: {said}");
        tiny.answers(device)
    };
    let one = run("cuda:1");
    assert!(one.len() > 30);
    for device in ["auto", "cuda:0=1,cuda:1=2"] {
        assert_eq!(run(device), one, "{device}");
    }
    // Libtorch runs other operations backwards on the processor, and rounds a gradient otherwise.
    let forwards =
        |answers: Answers| -> Answers { answers.into_iter().filter(|(label, _)| !label.contains("kvgrad")).collect() };
    assert_eq!(forwards(run("cpu")), forwards(one));
}

#[test]
fn devices_that_are_not_there_or_too_small_are_told() {
    let folder = tempfile::tempdir().unwrap();
    letters(&folder.path().join("model"));
    let model = folder.path().join("model").display().to_string();
    let text = context(folder.path(), "WHO KEEPS THE LIGHTHOUSE");
    let small = folder.path().join("small");
    std::fs::create_dir(&small).unwrap();
    driver(&small, &["-DFREE=100000ul"]);
    let ask = |driver: &Path, device: &str| {
        let arguments = ["--max-new-tokens", "2", "--dtype", "f32", "--model", &model, "--device", device];
        let arguments = [&["ask", "--context", &text, "--question", "WHO?"], arguments.as_slice()].concat();
        let output = pressroom_with(&variables(driver), &arguments);
        (output.status.success(), stdout(&output) + &String::from_utf8_lossy(&output.stderr))
    };
    for (driver, device, problem) in [
        (LIBRARIES.path(), "cuda:2", "there are 2 CUDA devices, counted from cuda:0"),
        (LIBRARIES.path(), "cuda:0=1,cuda:7=2", "device cuda:7 cannot be used: there are 2 CUDA devices"),
        (LIBRARIES.path(), "cuda:0=1,cuda:1=1", "the device map places 2 layers, and the model has 3"),
        (small.as_path(), "cuda:0", "and the weights take"),
        (small.as_path(), "cuda:0=3,cuda:1=0", "free it (`nvidia-smi` lists who holds it)"),
    ] {
        let (success, said) = ask(driver, device);
        assert!(!success && said.contains(problem) && !said.contains("panicked"), "{device}: {said}");
    }
    // Half of the weights fit on either.
    let (success, said) = ask(&small, "auto");
    assert!(success, "{said}");
}
