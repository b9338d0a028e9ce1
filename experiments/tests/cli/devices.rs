//! GPUs, on machines with and without one.

use std::process::Command;

use pressroom::model::models_home;

use crate::context;
use crate::support::{letters, pressroom, pressroom_with, refused, refused_with, stdout};

#[test]
fn a_gpu_that_cannot_be_used_is_told_with_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    letters(&folder.path().join("model"));
    let model = folder.path().join("model").display().to_string();
    let text = context(folder.path(), "WHO KEEPS THE LIGHTHOUSE");
    let ask = |device: &'static str| {
        [
            "ask",
            "--context",
            &text,
            "--question",
            "WHO?",
            "--max-new-tokens",
            "2",
            "--model",
            &model,
            "--device",
            device,
        ]
    };
    let libraries = folder.path().join("libraries");
    std::fs::create_dir_all(&libraries).unwrap();
    let variables = [("PRESSROOM_LIBTORCH_CUDA", libraries.as_path())];
    let doctor = || stdout(&pressroom_with(&variables, &["doctor"]));
    let cases = [None, Some("not a library"), Some("")];
    for (content, said) in cases.iter().zip(["holds no libtorch_cuda.so", "file too short", "file too short"]) {
        if let Some(content) = content {
            std::fs::write(libraries.join("libtorch_cuda.so"), content).unwrap();
        }
        refused_with(&variables, &ask("cuda:0"), &["device cuda:0 cannot be used", said, "or use device cpu"]);
        assert!(doctor().contains("CUDA       not usable") && doctor().contains(said), "{}", doctor());
        // `auto` goes on without, and says so where somebody had put the library there.
        let auto = pressroom_with(&variables, &ask("auto"));
        let stderr = String::from_utf8_lossy(&auto.stderr);
        assert!(auto.status.success(), "{stderr}");
        assert_eq!(stderr.contains("device auto is the processor"), content.is_some(), "{stderr}");
    }
}

#[test]
fn a_gpus_report_is_shown_as_tables() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let path = file.display().to_string();
    let report = r#"{"date": "2026-11-24", "device": "cuda:0", "torch": "2.11.0", "nvidia_smi": "GPU 0: a card",
        "checks": {"doctor": {"ok": true, "output": ""}, "kernels": {"ok": false, "output": "off by 1"}},
        "kernels": [{"kernel": "attention", "layout": "dense", "dtype": "bf16", "context_tokens": 32768, "batch": 8,
            "seconds": 4e-4, "bytes_per_s": 2.5e12, "bandwidth_share": 0.86}],
        "memory": {"context_tokens": 524288, "predicted": 61000000000, "measured": 62000000000}, "bench": null}"#;
    std::fs::write(&file, report).unwrap();
    let shown = stdout(&pressroom(&["bench", "--show", &path]));
    for part in [
        "2026-11-24, GPU 0: a card, torch 2.11.0: failed: kernels",
        "32768",
        "400 µs",
        "2500.0 GB/s",
        "86 %",
        "524288 tokens",
        "took 62.0 GB",
    ] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    std::fs::write(&file, "{}").unwrap();
    refused(&["bench", "--show", &path], &["is no report of `pressroom bench --json`", "missing field"]);
    refused(&["bench", "--show", "/nowhere"], &["/nowhere"]);
}

/// With libraries that stand in for libtorch's CUDA half and for the driver.
#[test]
fn a_driver_that_is_damaged_old_or_without_a_gpu_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let libraries = folder.path();
    let build = |name: &str, source: &str| {
        std::fs::write(libraries.join("source.c"), source).unwrap();
        let arguments = ["-shared", "-fPIC", "source.c", "-o", name];
        assert!(Command::new("cc").args(arguments).current_dir(libraries).status().unwrap().success());
    };
    build("libtorch_cuda.so", "");
    let version = |number: u32, devices: u32| {
        format!(
            "int cuDriverGetVersion(int* version) {{ *version = {number}; return 0; }}
             int cuInit(unsigned flags) {{ (void)flags; return 0; }}
             int cuDeviceGetCount(int* count) {{ *count = {devices}; return 0; }}"
        )
    };
    std::os::unix::fs::symlink("libcuda.so.1", libraries.join("libcuda.so")).unwrap();
    let cases = [
        (None, "there is no NVIDIA driver (", "install the driver of this machine's GPU"),
        (Some(version(12_080, 1)), "knows CUDA 12.8, and 13.0 is needed", "install driver 580 or newer"),
        (Some(version(13_000, 0)), "the NVIDIA driver sees no device", "check `nvidia-smi`"),
        (Some(version(13_000, 1)), "the NVIDIA driver sees a device and libtorch none", "check `nvidia-smi`"),
    ];
    for (source, problem, remedy) in cases {
        match source {
            Some(source) => build("libcuda.so.1", &source),
            None => std::fs::write(libraries.join("libcuda.so.1"), "damaged").unwrap(),
        }
        let variables = [("PRESSROOM_LIBTORCH_CUDA", libraries), ("LD_LIBRARY_PATH", libraries)];
        let report = stdout(&pressroom_with(&variables, &["doctor"]));
        let line = report.lines().find(|line| line.starts_with("CUDA")).unwrap();
        assert!(line.contains(problem) && line.contains(remedy), "{line}");
    }
}

#[test]
fn libtorchs_cuda_half_is_opened_where_it_is_installed() {
    let installed = models_home().parent().unwrap().join("libtorch-cuda/torch/lib/libtorch_cuda.so").is_file();
    if !installed && std::env::var_os("PRESSROOM_LIBTORCH_CUDA").is_none() {
        eprintln!("skipped: no CUDA libraries (`make setup-cuda` brings them)");
        return;
    }
    let report = stdout(&pressroom(&["doctor"]));
    let line = report.lines().find(|line| line.starts_with("CUDA")).unwrap();
    // It opens; whether there is a driver and a device is the machine's affair.
    let outcomes = [" devices; libtorch 2.", "the NVIDIA driver", "there is no NVIDIA driver"];
    assert!(outcomes.iter().any(|outcome| line.contains(outcome)), "{line}");
}
