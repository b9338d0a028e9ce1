//! What calibration measures of tiny models, against kvpress: `golden/calibration.json`.

use pressroom::press::ModelFacts;
use pressroom_presses::calibrate::{Calibration, DuoAttentionCalibration, ExpectedAttentionStatsCalibration, Text};
use safetensors::SafeTensors;
use serde::Deserialize;
use tch::Tensor;

use crate::{compare, support};

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    shape: String,
    samples: Vec<Vec<i64>>,
    n_sink: i64,
    q_len: i64,
}

#[test]
fn statistics_and_head_scores_are_the_references() {
    let golden: Golden = support::json("calibration.json");
    let bytes = std::fs::read(support::golden("calibration.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert!(!golden.cases.is_empty());
    for Case { shape, samples, n_sink, q_len } in golden.cases {
        let model = support::tiny(&shape);
        let geometry = model.geometry();
        let facts = ModelFacts::new(shape.clone(), geometry, model.config().hidden_size);
        let mut statistics = ExpectedAttentionStatsCalibration::new(&facts, n_sink);
        let mut heads = DuoAttentionCalibration::new(&facts, q_len);
        for tokens in &samples {
            let text = Text { model: &model, tokens, prefix: &[], suffix: &[], encode: &|_| Ok(Vec::new()) };
            statistics.learn(text).unwrap();
            heads.learn(text).unwrap();
        }
        let [mean, covariance] = statistics.statistics().unwrap();
        let scores: Vec<f32> = heads.scores().unwrap().concat().into_iter().map(|score| score as f32).collect();
        let scores = Tensor::from_slice(&scores).view([geometry.layers as i64, geometry.kv_heads]);
        for (name, ours) in [("query_mean", mean), ("query_cov", covariance), ("duo_scores", scores)] {
            compare::content(&format!("{shape} {name}"), &ours, &support::tensor(&tensors, &format!("{shape}/{name}")));
        }
    }
}
