//! The C header: made from the crate, accepted by C11 and C++17, laid out as the Rust types are.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use pressroom_plugin_abi::*;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn header() -> PathBuf {
    folder().join("include/pressroom_plugin.h")
}

fn blessing() -> bool {
    std::env::var_os("PRESSROOM_BLESS").is_some()
}

/// Compares `text` with the committed file, or writes it where `PRESSROOM_BLESS` is set.
fn is_committed(path: &Path, text: &str) {
    if blessing() {
        std::fs::write(path, text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == text, "{} is stale: run this test with PRESSROOM_BLESS=1", path.display());
}

fn generated() -> String {
    let mut builder =
        cbindgen::Builder::new().with_config(cbindgen::Config::from_file(folder().join("cbindgen.toml")).unwrap());
    for module in ["call", "tensor", "view", "press", "extensions", "entry"] {
        builder = builder.with_src(folder().join(format!("src/{module}.rs")));
    }
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

fn compile(compiler: &str, arguments: &[&str], name: &str, source: &str) -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let (file, program) = (place.path().join(name), place.path().join("program"));
    std::fs::write(&file, source).unwrap();
    let mut command = Command::new(compiler);
    command.args(arguments).args(["-Wall", "-Wextra", "-Werror", "-pedantic"]).arg("-I").arg(folder().join("include"));
    let output = command.arg(&file).arg("-o").arg(&program).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (place, program)
}

macro_rules! layout {
    ($($type:ident { $($field:ident),* $(,)? })*) => {
        vec![$((stringify!($type), size_of::<$type>(), vec![$((stringify!($field), core::mem::offset_of!($type, $field))),*])),*]
    };
}

type Layout = Vec<(&'static str, usize, Vec<(&'static str, usize)>)>;

fn layout() -> Layout {
    layout! {
        PressroomText { data, len }
        PressroomCall { size, reserved, host_data, fail }
        PressroomDevice { device_type, device_id }
        PressroomDtype { code, bits, lanes }
        PressroomArray { data, device, ndim, dtype, shape, strides, byte_offset }
        PressroomTensor { size, flags, array, byte_len, stream }
        PressroomView {
            size, phase, layer, layers, batch, heads, kv_heads, head_dim, tokens, context_start, context_end, seed, keys, values,
            positions, queries, rotated_queries, attention, hidden_states, attention_sums,
            output_projection,
        }
        PressroomNeeds { size, devices, queries, rotated_queries, attention, hidden_states, head_wise, attention_sums, output_projection, without_keys, without_values }
        PressroomBudget { size, reserved, compression_ratio, kept }
        PressroomSelection { size, reserved, counts, indices }
        PressroomPress { size, kind, name, doc, params, create, destroy, needs, score, select, extension }
        PressroomLog { size, reserved, write }
        PressroomPrepare { size, reserved, prepare }
        PressroomModel { size, layers, name, heads, kv_heads, head_dim, hidden_size }
        PressroomHost { size, abi_version, extension }
        PressroomEntry { magic, size, abi_version, min_abi_version, press_count, build, open, press }
    }
}

/// `STRUCT size`, then `STRUCT.field offset`.
fn listing(layout: &Layout) -> String {
    let mut text = String::new();
    for (name, size, fields) in layout {
        writeln!(text, "{name} {size}").unwrap();
        for (field, offset) in fields {
            writeln!(text, "{name}.{field} {offset}").unwrap();
        }
    }
    text
}

#[test]
fn the_header_is_made_from_the_crate() {
    is_committed(&header(), &generated());
}

#[test]
fn the_layout_is_the_recorded_one() {
    is_committed(&folder().join(format!("layouts/{PRESSROOM_ABI_VERSION}.txt")), &listing(&layout()));
}

#[test]
fn structs_have_only_grown_at_their_end() {
    let now = listing(&layout());
    for version in 1..=PRESSROOM_ABI_VERSION {
        let then = std::fs::read_to_string(folder().join(format!("layouts/{version}.txt"))).unwrap();
        for line in then.lines() {
            let (name, offset) = line.split_once(' ').unwrap();
            let current = now.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap();
            let (current, offset): (usize, usize) = (current.parse().unwrap(), offset.parse().unwrap());
            assert!(current == offset || (!name.contains('.') && current > offset), "{name} has moved since {version}");
        }
    }
}

#[test]
fn the_smallest_sizes_are_the_first_ones() {
    let smallest = [
        ("PressroomEntry", PressroomEntry::SMALLEST),
        ("PressroomHost", PressroomHost::SMALLEST),
        ("PressroomLog", PressroomLog::SMALLEST),
        ("PressroomCall", PressroomCall::SMALLEST),
        ("PressroomPress", PressroomPress::SMALLEST),
        ("PressroomNeeds", PressroomNeeds::SMALLEST),
        ("PressroomBudget", PressroomBudget::SMALLEST),
        ("PressroomSelection", PressroomSelection::SMALLEST),
        ("PressroomTensor", PressroomTensor::SMALLEST),
        ("PressroomView", PressroomView::SMALLEST),
        ("PressroomPrepare", PressroomPrepare::SMALLEST),
        ("PressroomModel", PressroomModel::SMALLEST),
    ];
    let layouts: Vec<String> = (1..=PRESSROOM_ABI_VERSION)
        .map(|version| std::fs::read_to_string(folder().join(format!("layouts/{version}.txt"))).unwrap())
        .collect();
    for (name, size) in smallest {
        let first =
            layouts.iter().flat_map(|layout| layout.lines()).find_map(|line| line.strip_prefix(&format!("{name} ")));
        assert_eq!(first, Some(size.to_string().as_str()), "{name}");
    }
}

#[test]
fn c_and_cpp_accept_the_header_and_lay_structs_out_alike() {
    let layout = layout();
    let mut source =
        "#include \"pressroom_plugin.h\"\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n".to_owned();
    for (name, _, fields) in &layout {
        writeln!(source, "printf(\"{name} %u\\n\", (unsigned)sizeof({name}));").unwrap();
        for (field, _) in fields {
            writeln!(source, "printf(\"{name}.{field} %u\\n\", (unsigned)offsetof({name}, {field}));").unwrap();
        }
    }
    source += "return 0; }\n";
    for (compiler, standard, name) in [("cc", "-std=c11", "layout.c"), ("c++", "-std=c++17", "layout.cpp")] {
        let (_place, program) = compile(compiler, &[standard], name, &source);
        let output = Command::new(program).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), listing(&layout), "{compiler}");
    }
}

#[test]
fn the_header_has_the_names_of_the_extensions() {
    let text = std::fs::read_to_string(header()).unwrap();
    for (name, id) in [("PRESSROOM_LOG", PRESSROOM_LOG), ("PRESSROOM_PREPARE", PRESSROOM_PREPARE)] {
        assert!(text.contains(&format!("#define {name} \"{id}\"\n")), "{name}");
    }
    assert_eq!(text.matches("pressroom.").count(), 2, "an extension of the header has no constant");
}

#[test]
fn the_record_misses_no_field_of_the_header() {
    let text = std::fs::read_to_string(header()).unwrap();
    let recorded: usize = layout().iter().map(|(_, _, fields)| fields.len()).sum();
    let structs = text.split("typedef struct ").skip(1).map(|rest| rest.split("\n}").next().unwrap());
    let fields: usize = structs
        .flat_map(str::lines)
        .filter(|line| !line.trim_start().starts_with("//") && line.trim_end().ends_with(';'))
        .count();
    assert_eq!(fields, recorded);
}

#[test]
fn the_manual_names_every_function_and_struct() {
    let text = std::fs::read_to_string(header()).unwrap();
    let manual = std::fs::read_to_string(folder().join("../../docs/abi.md")).unwrap();
    for part in text.split("typedef struct ").skip(1) {
        let (body, rest) = part.split_once("\n}").unwrap();
        let name = rest.split(';').next().unwrap().trim();
        assert!(manual.contains(&format!("`{name}`")), "docs/abi.md does not name {name}");
        for function in body.split("(*").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let function = format!("`{name}::{function}`");
            assert!(manual.contains(&function), "docs/abi.md does not name {function}");
        }
    }
}

#[test]
fn every_function_says_which_thread_and_whether_it_may_be_null() {
    let text = std::fs::read_to_string(header()).unwrap();
    let mut comment = String::new();
    let mut functions = 0;
    for line in text.lines().map(str::trim) {
        if let Some(more) = line.strip_prefix("//") {
            comment += more;
        } else {
            if line.contains("(*") {
                functions += 1;
                assert!(comment.to_lowercase().contains("thread"), "{line} does not say which thread calls it");
                assert!(comment.to_lowercase().contains("null"), "{line} does not say whether it may be null");
            }
            comment.clear();
        }
    }
    assert!(functions >= 10, "{functions} functions");
}

#[test]
fn what_an_older_writer_did_not_know_is_zero() {
    #[repr(C, align(8))]
    struct Older([u8; 200]);
    let mut older = Older([0xFF; 200]);
    older.0[..4].copy_from_slice(&40u32.to_le_bytes());
    // SAFETY: 200 aligned bytes that state a size of 40.
    let needs = unsafe { read(older.0.as_ptr().cast::<PressroomNeeds>()) }.unwrap();
    assert_eq!((needs.size, needs.head_wise), (40, u32::MAX));
    older.0[..4].copy_from_slice(&100u32.to_le_bytes());
    // SAFETY: as above, with a size that reaches into the function pointers.
    let press = unsafe { read(older.0.as_ptr().cast::<PressroomPress>()) };
    assert!(press.is_none(), "a struct below the smallest size is refused");
    // SAFETY: null is allowed.
    assert!(unsafe { read(std::ptr::null::<PressroomView>()) }.is_none());
}
