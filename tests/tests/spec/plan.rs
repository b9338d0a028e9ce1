//! What a valid file becomes: sessions with their budgets, and the JSON that is stored.

use pressroom::plan::{DeviceChoice, DtypeChoice, Plan, SessionPlan, sessions};
use pressroom::spec::{PressSpec, Spec, apply_overrides};
use serde_json::json;

use crate::support::{EVERYTHING, config, parse, registry, tasks};

fn plan(text: &str, layers: usize) -> Plan {
    Plan::resolve(&parse(text), &config(layers)).unwrap_or_else(|error| panic!("{error}"))
}

fn names(sessions: &[SessionPlan]) -> Vec<(&str, f64)> {
    sessions.iter().map(|session| (session.label.as_str(), session.ratio.unwrap())).collect()
}

const SMALL: &str = "[model]\npath = 'm'\n[task]\nname = 'needle'\n[run]\noutput = 'x'\n";

#[test]
fn own_ratios_win_and_the_others_take_the_sweep() {
    let plan = plan(EVERYTHING, 4);
    let expected = [
        ("none", 0.0),
        ("window", 0.5),
        ("shared", 0.25),
        ("norm > heads(norm)", 0.625),
        ("norm > heads(norm)", 0.75),
        ("norm", 0.25),
        ("norm", 0.5),
    ];
    assert_eq!(names(&plan.sessions), expected);
    assert_eq!(plan.sessions[1].identity, "window(window_size=32, kernel_size=5, epsilon=1, use_values=false)");
    assert_eq!(plan.sessions[3].pipeline.identity(), "norm > heads(alpha=0.25) over norm");
    let ratios = plan.sessions[1].stages[0].compression_ratio.as_ref().unwrap();
    assert!(ratios.iter().zip([0.2, 0.4, 0.6, 0.8]).all(|(a, b)| (a - b).abs() < 1e-12), "{ratios:?}");
}

#[test]
fn defaults_are_filled_in() {
    let spec = parse(SMALL);
    assert_eq!((spec.model.device, spec.model.dtype), (DeviceChoice::Cpu, DtypeChoice::Auto));
    assert!(spec.run.baseline && spec.warnings.is_empty() && spec.sweep.is_empty());
    let baseline = plan(SMALL, 3);
    assert_eq!(names(&baseline.sessions), [("none", 0.0)]);
    assert_eq!(baseline.sessions[0].identity, "none");
}

#[test]
fn the_baseline_can_be_left_out() {
    let text = format!("{SMALL}baseline = false\n[[press]]\nname = 'norm'\ncompression_ratio = 0.1");
    assert_eq!(names(&plan(&text, 30).sessions), [("norm", 0.1)]);
}

#[test]
fn every_session_is_stored_in_every_layout_that_is_swept() {
    let text = format!(
        "{SMALL}[[press]]\nname = 'norm'\n[[press]]\nname = 'window'\ncompression_ratio = 0.1\ncache = {{ bits = 2 }}\n\
         [sweep]\ncompression_ratio = [0.25, 0.5]\ncache = ['full', {{ bits = 4, keys = 'per-token', hadamard = true }}]"
    );
    let plan = plan(&text, 3);
    let expected = [
        ("none", 0.0),
        ("none + int4 per-token hadamard", 0.0),
        ("norm", 0.25),
        ("norm + int4 per-token hadamard", 0.25),
        ("norm", 0.5),
        ("norm + int4 per-token hadamard", 0.5),
        ("window + int2", 0.1),
    ];
    assert_eq!(names(&plan.sessions), expected);
    let stored = plan.to_json().unwrap();
    assert!(stored["sessions"][0].get("cache").is_none());
    let layout = json!({ "bits": 4, "group": 64, "residual": 128, "keys": "per-token", "hadamard": true });
    assert_eq!(stored["sessions"][3]["cache"], layout);
}

#[test]
fn one_layout_is_that_of_all_but_those_with_their_own() {
    let text = format!(
        "{SMALL}[cache]\nbits = 4\ngroup = 32\nresidual = 64\n[[press]]\nname = 'norm'\ncompression_ratio = 0.1\n\
         [[press]]\nlabel = 'plain'\nname = 'norm'\ncompression_ratio = 0.1\ncache = 'full'"
    );
    let expected = [
        ("none", 0.0),
        ("none + int4 group 32 residual 64", 0.0),
        ("norm + int4 group 32 residual 64", 0.1),
        ("plain", 0.1),
    ];
    assert_eq!(names(&plan(&text, 3).sessions), expected);
    let pipeline = "[cache]\nbits = 8\n[[press]]\nname = 'norm'\ncompression_ratio = 0.1";
    let presses = Spec::parse_pipeline(pipeline, "p.toml", &registry()).unwrap();
    assert_eq!(sessions(&presses, &[], 3).unwrap()[0].label, "norm + int8");
}

#[test]
fn the_stored_plan_says_everything_that_decides_an_answer() {
    let stored = plan(EVERYTHING, 4).to_json().unwrap();
    assert_eq!(stored["model"], json!({ "path": "smollm2-135m-instruct", "device": "cuda:1", "dtype": "bf16" }));
    let task = json!({
        "name": "needle", "context_tokens": [1024], "samples": 7, "question": "visible", "max_new_tokens": 32,
        "raw": false
    });
    assert_eq!(stored["task"], task);
    assert_eq!(stored["seed"], 7);
    let shared = json!({
        "label": "shared",
        "ratio": 0.25,
        "identity": "heads(alpha=0.25) over window(window_size=64, kernel_size=5, epsilon=0, use_values=true, seed=3)",
        "positions": "uncompressed",
        "stages": [{
            "name": "heads",
            "params": { "alpha": 0.25 },
            "press": {
                "name": "window",
                "params": { "epsilon": 0.0, "kernel_size": 5, "seed": 3, "use_values": true, "window_size": 64 }
            },
            "compression_ratio": [0.1, 0.2, 0.3, 0.4]
        }]
    });
    assert_eq!(stored["sessions"][2], shared);
    let keys: Vec<&String> = stored.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["model", "task", "seed", "sessions"], "output, threads and the like change no answer");
}

#[test]
fn overrides_change_values_and_add_sections() {
    let changes = [
        "task.samples=5",
        "model.dtype=\"f32\"",
        "model.device=cpu",
        "run.output=runs/é x",
        "press.0.compression_ratio=0.3",
        "press.3.label = plain",
        "press.1.press.seed=9",
        "sweep.compression_ratio=[0.75]",
    ];
    let text = apply_overrides(EVERYTHING, &changes.map(String::from)).unwrap();
    assert!(text.contains("# a name"), "comments stay");
    let spec = parse(&text);
    let plan = Plan::resolve(&spec, &config(4)).unwrap();
    let expected = [("none", 0.0), ("window", 0.3), ("shared", 0.25), ("norm > heads(norm)", 0.875), ("plain", 0.75)];
    assert_eq!(names(&plan.sessions), expected);
    assert_eq!((spec.model.device, spec.model.dtype), (DeviceChoice::Cpu, DtypeChoice::F32));
    assert_eq!(spec.run.output.to_str(), Some("runs/é x"));
    assert!(plan.sessions[2].identity.ends_with("seed=9)"));

    let inline =
        apply_overrides(EVERYTHING, &["press.1.press.window_size=9".into(), "press.1.press.a.b=1".into()]).unwrap();
    assert!(inline.contains("seed = 3 , window_size = 9, a = { b = 1 } }"), "{inline}");

    let added = apply_overrides("[model]\npath = 'm'\n", &["task.name=needle".into(), "run.output=x".into()]).unwrap();
    assert_eq!(parse(&added).run.output.to_str(), Some("x"));
}

#[test]
fn overrides_that_lead_nowhere_say_why() {
    let told = |change: &str| apply_overrides(EVERYTHING, &[change.into()]).unwrap_err().to_string();
    assert_eq!(told("task.samples"), "--set task.samples: write key=value, as in task.samples=5");
    assert_eq!(told("press.9.name=x"), "--set press.9.name=x: `press` has the entries 0 to 3, not `9`");
    assert_eq!(told("press.a.name=x"), "--set press.a.name=x: `press` has the entries 0 to 3, not `a`");
    assert_eq!(told("task.samples.x=1"), "--set task.samples.x=1: `task.samples` is a value (integer), it has no `x`");
    assert_eq!(
        told("sweep.compression_ratio.0=0.1"),
        "--set sweep.compression_ratio.0=0.1: `sweep.compression_ratio` is a list; set the whole list"
    );
    assert_eq!(told("=5"), "--set =5: `` is no path such as task.samples");
    assert_eq!(told("a..b=5"), "--set a..b=5: `a..b` is no path such as task.samples");
    assert_eq!(apply_overrides("not [ toml", &["a=1".into()]).unwrap(), "not [ toml");
}

#[test]
fn a_press_can_be_named_without_a_file() {
    let registry = registry();
    let press = PressSpec::named("window", Some(0.5), &registry).unwrap();
    let sessions = sessions(&[press], &[], 2).unwrap();
    assert_eq!(names(&sessions), [("window", 0.5)]);
    assert_eq!(sessions[0].stages[0].compression_ratio, Some(vec![0.5, 0.5]));

    let told = |name, ratio| PressSpec::named(name, ratio, &registry).err().unwrap().to_string();
    assert_eq!(
        told("windw", Some(0.5)),
        "unknown press `windw`: known are norm, window, heads; did you mean `window`?"
    );
    assert!(told("heads", Some(0.5)).contains("wraps a scorer"));
    assert!(told("norm", Some(1.0)).contains("outside [0, 1)"));
    assert!(told("norm", None).contains("--ratio 0.5"));
}

#[test]
fn a_budget_in_tokens_has_no_ratio() {
    let press = |budget: &str| format!("{SMALL}[[press]]\nname = 'norm'\nbudget = {budget}");
    let session = &plan(&press("512"), 2).sessions[1];
    assert_eq!((session.ratio, &session.stages[0].budget), (None, &Some(vec![512, 512])));
    assert_eq!(plan(&press("[100, 7]"), 2).sessions[1].stages[0].budget, Some(vec![100, 7]));
    let told = |text: &str| Spec::parse(text, "p.toml", &registry(), &tasks()).err().unwrap().to_string();
    for wrong in ["0", "-1", "0.5", "[]", "'many'", "[512, 0]", "{ from = 1 }"] {
        assert!(told(&press(wrong)).contains("budget"), "{wrong}");
    }
    assert!(told(&press("5\ncompression_ratio = 0.5")).contains("either a `compression_ratio` or a `budget`"));
    let lengths = Plan::resolve(&parse(&press("[100, 7]")), &config(3)).err().unwrap().to_string();
    assert!(lengths.contains("2 budgets for a model of 3 layers"), "{lengths}");
}

#[test]
fn a_pipeline_takes_ratios_from_outside() {
    let text = "[[press]]\nname = 'norm'\n[[press]]\nlabel = 'own'\nname = 'norm'\ncompression_ratio = 0.1";
    let presses = Spec::parse_pipeline(text, "p.toml", &registry()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(presses.iter().map(PressSpec::takes_ratio).collect::<Vec<_>>(), [true, false]);
    assert_eq!(names(&sessions(&presses, &[0.5], 2).unwrap()), [("norm", 0.5), ("own", 0.1)]);
    let error = sessions(&presses, &[], 2).err().unwrap().to_string();
    assert!(error.contains("`norm` has no compression ratio") && error.contains("p.toml:1:1"), "{error}");
}

#[test]
fn an_experiment_with_the_built_in_presses_is_read() {
    let text = r#"
        [model]
        path   = "smollm2-135m-instruct"
        device = "cpu"
        dtype  = "auto"

        [task]
        name = "needle"
        context_tokens = 2048
        samples = 50
        question = "hidden"

        [[press]]
        name = "snapkv"
        window_size = 64
        compression_ratio = { from = 0.2, to = 0.8, shape = "linear" }

        [[press]]
        label = "ada-ea"
        name = "adakv"
        press = { name = "expected_attention", epsilon = 0.01 }
        compression_ratio = 0.5

        [[press]]
        label = "snap-then-norm"
        chain = [ { name = "snapkv", compression_ratio = 0.5 }, { name = "knorm" } ]

        [sweep]
        compression_ratio = [0.25, 0.5, 0.75]

        [run]
        output = "runs/first-look"
    "#;
    let spec = Spec::parse(text, "first-look.toml", &pressroom_presses::registry().unwrap(), &tasks()).unwrap();
    assert!(spec.warnings.is_empty());
    let plan = Plan::resolve(&spec, &config(30)).unwrap();
    let expected = [
        ("none", 0.0),
        ("snapkv", 0.5),
        ("ada-ea", 0.5),
        ("snap-then-norm", 0.625),
        ("snap-then-norm", 0.75),
        ("snap-then-norm", 0.875),
    ];
    assert_eq!(names(&plan.sessions), expected);
}

#[test]
fn other_spellings_resolve_to_the_same() {
    let norm = "{ name = 'norm', compression_ratio = 0.5 }";
    let window = "{ name = 'window', window_size = 8, compression_ratio = 0.25 }";
    let layers = "{ name = 'per_layer_compression', press.name = 'norm', compression_ratios = [0.0, 0.5] }";
    let cases = [
        (format!("name = 'composed'\npresses = [{norm}, {window}]"), format!("chain = [{norm}, {window}]")),
        (
            "name = 'per_layer_compression'\npress = { name = 'window', epsilon = 1 }\ncompression_ratios = [0.25, 0.5]"
                .to_owned(),
            "name = 'window'\nepsilon = 1\ncompression_ratio = [0.25, 0.5]".to_owned(),
        ),
        (
            format!("label = 'x'\nname = 'composed'\npresses = [{layers}, {norm}]"),
            format!("label = 'x'\nchain = [{{ name = 'norm', compression_ratio = [0.0, 0.5] }}, {norm}]"),
        ),
    ];
    for (theirs, ours) in cases {
        let resolved = |press: &str| plan(&format!("{SMALL}[[press]]\n{press}"), 2).to_json().unwrap();
        assert_eq!(resolved(&theirs), resolved(&ours));
    }
}

#[test]
fn layers_are_placed_by_a_table() {
    let written = |device: &str| {
        let text = SMALL.replace("[model]\n", &format!("[model]\ndevice = {device}\n"));
        Spec::parse(&text, "p.toml", &registry(), &tasks())
    };
    let spec = written("{ 'cuda:10' = 2, 'cuda:2' = 30 }").unwrap();
    assert_eq!(spec.model.device.to_string(), "cuda:2=30,cuda:10=2");
    for (device, problem) in [
        ("{ gpu = 3 }", "`gpu` is no device to place layers on"),
        ("{ 'cuda:0' = 'all' }", "is a whole number"),
        ("{ 'cuda:0' = 0 }", "is outside 1 to 4096"),
        ("'cuda:0='", "places no layers"),
    ] {
        let Err(error) = written(device) else { panic!("{device} is taken") };
        assert!(error.to_string().contains(problem), "{device}: {error}");
    }
}
