//! Logits of tiny random Llamas against transformers'.

use pressroom::model::{ModelFolder, Step};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::support;

#[derive(Deserialize)]
struct Golden {
    input_ids: Vec<i64>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    shape: String,
    rope: String,
    rope_parameters: Value,
    older: Map<String, Value>,
    logits: String,
}

#[test]
fn every_shape_and_rope_type_in_both_spellings() {
    let golden: Golden = support::json("logits.json");
    let bytes = std::fs::read(support::golden("logits.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for case in &golden.cases {
        let tiny = support::golden("tiny").join(&case.shape);
        let config: Map<String, Value> = support::json(&format!("tiny/{}/config.json", case.shape));
        for newer in [true, false] {
            let mut config = config.clone();
            if newer {
                config.insert("rope_parameters".into(), case.rope_parameters.clone());
            } else {
                config.remove("rope_parameters");
                config.extend(case.older.clone());
            }
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("config.json"), Value::Object(config).to_string()).unwrap();
            std::fs::copy(tiny.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
            let model = support::load(&ModelFolder::read(folder.path()).unwrap());

            let mut cache = model.empty_cache().unwrap();
            let hidden =
                model.forward(&mut [Step { tokens: &golden.input_ids, cache: &mut cache, hook: None }]).unwrap();
            let logits = model.logits(&hidden).unwrap();
            let off = support::distance(&logits, &support::tensor(&expected, &case.logits));
            assert!(off < 1e-4, "{} (newer spelling: {newer}): logits are off by {off}", case.logits);
        }
        seen.insert((case.shape.clone(), case.rope.split('-').next().unwrap().to_owned()));
    }
    for shape in ["mha", "gqa", "mqa"] {
        for rope in ["default", "linear", "dynamic", "yarn", "llama3"] {
            assert!(seen.contains(&(shape.into(), rope.into())), "no golden case for {shape} with {rope}");
        }
    }
}
