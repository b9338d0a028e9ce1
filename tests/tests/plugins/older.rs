//! Plugins built against earlier versions of the interface.

use pressroom::press::{Budget, Params};
use pressroom_plugin_host::LibraryFile;
use tch::Kind;

use crate::layers::{Layer, rotary};
use crate::support::{compile, registry, root, twins_in_c};

#[test]
fn a_plugin_built_with_each_earlier_header_loads_and_decides_the_same() {
    let rotary = rotary();
    let view = Layer::new(3, 1, 90, 1.0, Kind::Float).view(&rotary);
    let decide = |library: &std::path::Path| {
        let registry = registry(&[library]);
        let press = registry.find("c_snapkv").unwrap().build(&Params::new(), Vec::new()).unwrap().into_press().unwrap();
        press.select(&view, Budget::from_ratio(0.5).unwrap()).unwrap().to_lists(2, 90).unwrap()
    };
    let now = decide(&twins_in_c("of_now"));
    for version in 1..pressroom_plugin_abi::PRESSROOM_ABI_VERSION {
        // The header as it was, under the name by which plugins include it.
        let include = tempfile::tempdir().unwrap();
        let header = root().join(format!("plugins/abi/history/pressroom_plugin.{version}.h"));
        std::fs::copy(header, include.path().join("pressroom_plugin.h")).unwrap();
        let name = format!("of_version_{version}");
        let library = compile(&name, &root().join("plugins/examples/c/twins.c"), include.path());
        assert_eq!(LibraryFile::open(&library, None).unwrap().agreed_version(), version);
        assert_eq!(decide(&library), now, "version {version}");
    }
}
