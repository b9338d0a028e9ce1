//! Experiment files: any text is an experiment or an error that points into the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pressroom::spec::Spec;

fuzz_target!(|text: &str| {
    let registry = pressroom_presses::registry().expect("the built-in presses");
    if let Err(error) = Spec::parse(text, "input.toml", &registry, &[]) {
        assert!(error.to_string().contains("--> input.toml:"), "{error}");
    }
    let _ = Spec::parse_pipeline(text, "input.toml", &registry);
});
