//! What kvpress's evaluation calls a press.

use pressroom::Result;
use pressroom::plan::BASELINE;
use pressroom::spec::Spec;
use serde_json::{Map, Value};

/// Parameters that stand in `config.yaml` and not in a press's name.
const IN_CONFIG: [&str; 6] = [
    "key_channel_compression_ratio",
    "head_compression_ratio",
    "threshold",
    "compression_interval",
    "target_size",
    "hidden_states_buffer_size",
];

/// kvpress's name of the uncompressed baseline.
pub const NO_PRESS: &str = "no_press";

/// The registry of kvpress's evaluation, written as a pipeline of ours.
pub struct Names(Vec<(String, Value)>);

impl Names {
    /// The names of 0.5.5.
    ///
    /// # Errors
    /// A press of the list is none of ours.
    pub fn known() -> Result<Self> {
        let registry = pressroom_presses::registry()?;
        let presses = Spec::parse_pipeline(include_str!("kvpress.toml"), "kvpress.toml", &registry)?;
        let entry = |press: pressroom::spec::PressSpec| {
            let stages = press.stages.iter().map(|stage| serde_json::to_value(&stage.config));
            let stages: Value = stages.collect::<Result<Vec<_>, _>>().unwrap_or_default().into();
            (press.label, comparable(&stages))
        };
        Ok(Self(presses.into_iter().map(entry).collect()))
    }

    /// Their name of a session of a stored plan, if it has one there.
    pub fn of(&self, session: &Value) -> Option<&str> {
        if session["label"] == BASELINE {
            return Some(NO_PRESS);
        }
        // kvpress stores caches as they are computed.
        if session.get("cache").is_some() {
            return None;
        }
        let stages = comparable(&session["stages"]);
        self.0.iter().find(|(_, known)| *known == stages).map(|(name, _)| name.as_str())
    }
}

/// The parameters of a stored session that kvpress keeps in `config.yaml`.
pub fn in_config(session: &Value) -> Map<String, Value> {
    let stages = session["stages"].as_array().into_iter().flatten();
    let params = stages.filter_map(|stage| stage["params"].as_object()).flatten();
    params
        .filter(|(key, _)| IN_CONFIG.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Stages without their budgets and what stands in `config.yaml`.
fn comparable(stages: &Value) -> Value {
    let mut stages = stages.clone();
    for stage in stages.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        stage.retain(|key, _| key != "compression_ratio" && key != "budget");
        if let Some(params) = stage.get_mut("params").and_then(Value::as_object_mut) {
            params.retain(|key, _| !IN_CONFIG.contains(&key.as_str()));
        }
        stage.retain(|key, value| key != "params" || value.as_object().is_some_and(|params| !params.is_empty()));
    }
    stages
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn presses_have_kvpresss_names_whatever_their_budget() {
        let names = Names::known().unwrap();
        let expected = json!({ "label": "ours", "stages": [{
            "name": "adakv", "params": { "alpha_safeguard": 0.2 }, "compression_ratio": [0.5, 0.5],
            "press": { "name": "expected_attention", "params": {
                "n_future_positions": 512, "n_sink": 4, "use_covariance": true, "use_vnorm": true, "epsilon": 0.01 } },
        }]});
        assert_eq!(names.of(&expected), Some("expected_attention"));
        let think = json!({ "label": "x", "stages": [
            { "name": "think", "params": { "key_channel_compression_ratio": 0.25, "window_size": 32 } }]});
        assert_eq!(names.of(&think), Some("think"));
        assert_eq!(in_config(&think)["key_channel_compression_ratio"], 0.25);
        assert_eq!(names.of(&json!({ "label": "none", "stages": [] })), Some("no_press"));
        assert_eq!(names.of(&json!({ "label": "x", "stages": [{ "name": "h2o" }] })), None);
    }
}
