//! Libraries that cannot be used: each says why, and how to mend it.

use std::path::Path;

use pressroom_plugin_host::{LibraryFile, open, register};

use crate::support::{compile_text, examples, refusal, registry, twins_in_c};

/// A plugin that does not start, and `more`.
fn plugin(name: &str, more: &str) -> std::path::PathBuf {
    let source = format!(
        r#"#include "pressroom_plugin.h"
static uint32_t open_library(const PressroomHost *host, const PressroomCall *call) {{
    (void)host;
    call->fail(call, (PressroomText){{(const uint8_t *)"no licence", 10}});
    return PRESSROOM_FAILED;
}}
static const PressroomPress *press(uint32_t index) {{ (void)index; return 0; }}
PRESSROOM_EXPORT const PressroomEntry pressroom_plugin_v1 = {{
    PRESSROOM_MAGIC, sizeof(PressroomEntry), 1, 1, 1, "test", open_library, press
}};
{more}"#
    );
    compile_text(name, &source)
}

/// A pipe that nobody writes to.
fn pipe(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("pipe.so");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// A file that says it has a TiB.
fn huge(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("huge.so");
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    path
}

#[test]
fn what_is_no_plugin_is_refused_before_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let library = std::fs::read(twins_in_c("refused")).unwrap();
    let foreign: Vec<u8> = library.iter().enumerate().map(|(at, byte)| if at == 18 { 0xB7 } else { *byte }).collect();
    let cases = [
        (folder.path().join("absent.so"), "No such file"),
        (folder.path().to_owned(), "no shared library"),
        ("/dev/zero".into(), "not a file"),
        (pipe(folder.path()), "not a file"),
        (huge(folder.path()), "a file of 1099511627776 bytes"),
        (file("text.so", b"hello"), "no shared library"),
        (file("half.so", &library[..library.len() / 2]), ""),
        (file("foreign.so", &foreign), "is built for Aarch64, this is X86_64"),
        (std::env::current_exe().unwrap(), "exports no `pressroom_plugin_v1`"),
        (compile_text("no_entry", "int unrelated(void);\nint unrelated(void) { return 1; }\n"), "exports no `press"),
        (
            compile_text("other_major", "extern const int pressroom_plugin_v2;\nconst int pressroom_plugin_v2 = 2;\n"),
            "of interface version 2",
        ),
        (
            compile_text("code", "int pressroom_plugin_v1(void);\nint pressroom_plugin_v1(void) { return 1; }\n"),
            "it is a function",
        ),
        (compile_text("zeros", "extern int pressroom_plugin_v1[64];\nint pressroom_plugin_v1[64];\n"), "is none"),
    ];
    for (path, expected) in cases {
        let text = refusal(&path).to_string();
        assert!(text.starts_with(&path.display().to_string()) && text.contains(expected), "{text}");
    }
}

#[test]
fn entries_that_make_no_sense_are_refused_before_they_run() {
    let entry = |magic: &str, size: &str, version: u32, minimum: u32, presses: u32| {
        let name = format!("entry_{version}_{minimum}_{presses}_{}", magic.len() + size.len());
        let source = format!(
            "#include \"pressroom_plugin.h\"\nPRESSROOM_EXPORT const PressroomEntry pressroom_plugin_v1 = \
             {{{magic}, {size}, {version}, {minimum}, {presses}, \"test\", 0, 0}};\n"
        );
        refusal(&compile_text(&name, &source)).to_string()
    };
    let size = "sizeof(PressroomEntry)";
    assert!(entry("1", size, 1, 1, 1).contains("its magic is 0x0000000000000001"));
    assert!(entry("PRESSROOM_MAGIC", "8", 1, 1, 1).contains("its size is 8"));
    assert!(entry("PRESSROOM_MAGIC", size, 99, 98, 1).contains("needs a host of interface version 1.98"));
    let next = pressroom_plugin_abi::PRESSROOM_ABI_VERSION + 1;
    assert!(entry("PRESSROOM_MAGIC", size, next, next, 1).contains("needs a host"));
    assert!(entry("PRESSROOM_MAGIC", size, 0, 0, 1).contains("versions make no sense"));
    assert!(entry("PRESSROOM_MAGIC", size, 1, 1, 0).contains("offers no press"));
    assert!(entry("PRESSROOM_MAGIC", size, 1, 1, 1).contains("`open` or `press` is null"));
}

#[test]
fn a_newer_plugin_loads_where_its_minimum_allows() {
    let source = std::fs::read_to_string(crate::support::root().join("plugins/examples/c/twins.c")).unwrap();
    let newer = source.replace(".abi_version = PRESSROOM_ABI_VERSION", ".abi_version = 99");
    let library = compile_text("newer", &newer);
    assert_eq!(
        LibraryFile::open(&library, None).unwrap().agreed_version(),
        pressroom_plugin_abi::PRESSROOM_ABI_VERSION
    );
    assert_eq!(open(&library, None, None).unwrap().presses.len(), 2);
}

#[test]
fn a_plugin_that_does_not_start_says_why() {
    let text = refusal(&plugin("licence", "")).to_string();
    assert!(text.contains("does not start: no licence"), "{text}");
}

#[test]
fn what_a_library_misses_is_named() {
    let source =
        plugin("needy_source", "extern int helper(void);\nint user(void);\nint user(void) { return helper(); }\n");
    let text = refusal(&source).to_string();
    assert!(text.contains("undefined symbol: helper"), "{text}");
}

#[test]
fn two_presses_of_one_name_are_refused() {
    let mut both = registry(&[&examples()]);
    let error = register(&mut both, open(&examples(), None, None).unwrap()).unwrap_err().to_string();
    assert!(error.contains("two presses called `rkv`"), "{error}");
}

#[test]
fn the_hash_is_that_of_the_file() {
    let library = examples();
    let found = LibraryFile::open(&library, None).unwrap().sha256;
    assert!(open(&library, Some(&found.to_uppercase()), None).is_ok());
    let text = open(&library, Some(&"0".repeat(64)), None).unwrap_err().to_string();
    assert!(text.contains(&found) && text.contains(&"0".repeat(64)), "{text}");
}

#[test]
fn what_is_loaded_is_what_was_hashed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libreplaced.so");
    std::fs::copy(twins_in_c("original"), &path).unwrap();
    let file = LibraryFile::open(&path, None).unwrap();
    // Somebody puts another file at the path between the hash and the loader.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"not a library").unwrap();
    let library = pressroom_plugin_host::Library::load(file).unwrap();
    assert_eq!(library.presses()[0].description.name, "c_knorm");
    assert!(open(Path::new(&path), None, None).is_err());
}
