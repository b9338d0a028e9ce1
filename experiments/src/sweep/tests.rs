//! Sweeps over a tiny model whose tokenizer knows letters: regimes, turns, memory, failures.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use pressroom::model::ModelFolder;
use pressroom::pipeline::Truncation;
use pressroom::plan::{DeviceChoice, DtypeChoice, sessions};
use pressroom::press::{DecodingPress, Method, Needs, Origin, Selection, Stage, StepHook, StepView};
use pressroom::spec::Spec;
use serde_json::json;

use super::*;
use crate::results::{Identity, Versions};
use crate::task::{self, Facets, Metric, Turn};

/// The model of the parity tests, with a token for every letter.
fn engine(folder: &Path) -> Engine {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tiny/gqa");
    std::fs::copy(golden.join("model.safetensors"), folder.join("model.safetensors")).unwrap();
    let config = std::fs::read_to_string(golden.join("config.json")).unwrap();
    let config = config.replace("\"max_position_embeddings\": 32", "\"max_position_embeddings\": 256");
    std::fs::write(folder.join("config.json"), config).unwrap();
    let vocab: serde_json::Map<_, _> =
        (' '..='Z').enumerate().map(|(id, letter)| (letter.to_string(), id.into())).collect();
    let tokenizer =
        json!({"version": "1.0", "decoder": {"type": "Fuse"}, "model": {"type": "BPE", "vocab": vocab, "merges": []}});
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.join("chat_template.jinja"), "<{{ messages[0]['content'] }}>").unwrap();
    Engine::load(&ModelFolder::read(folder).unwrap(), &DeviceChoice::Cpu, DtypeChoice::F32).unwrap()
}

fn plans(presses: &str) -> Vec<SessionPlan> {
    let text = format!(
        "[model]\npath='x'\n[task]\nname='needle'\n{presses}\n[sweep]\ncompression_ratio=[0.3, 0.6]\n[run]\noutput='x'"
    );
    let spec = Spec::parse(&text, "test", &pressroom_presses::registry().unwrap(), &task::tasks()).unwrap();
    let mut plans = vec![SessionPlan::baseline(None)];
    plans.extend(sessions(&spec.presses, &spec.sweep, 3).unwrap());
    plans
}

const PRESSES: &str = "[[press]]\nname='knorm'\n[[press]]\nname='adakv'\npress={name='snapkv', window_size=4}\n\
    [[press]]\nname='decoding'\nbase_press={name='knorm'}\ntarget_size=8\ncompression_interval=3";

/// A context with several questions, some longer than others.
fn sample(context: &str, questions: &[&str]) -> Sample {
    let turn = |question: &&str| Turn {
        question: (*question).to_owned(),
        answer_prefix: String::new(),
        answers: vec!["A".into()],
        max_new_tokens: 3 + question.len(),
        metric: Metric::StringMatch,
    };
    Sample {
        context: context.into(),
        turns: questions.iter().map(turn).collect(),
        task: "letters".into(),
        facets: Facets::new(),
        truncation: Truncation::End,
    }
}

struct Ran {
    records: Vec<Record>,
    prefills: usize,
}

fn run(engine: &Engine, plans: &[SessionPlan], samples: &[Sample], regime: Regime, budget: u64) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity {
        versions: Versions::of_process(),
        model_sha256: String::new(),
        template_sha256: None,
        samples_sha256: String::new(),
        side_data_sha256: BTreeMap::new(),
        device: String::new(),
        dtype: String::new(),
        plan: json!({}),
    };
    let mut results = RunFolder::open(folder.path(), &identity).unwrap();
    let options = RunOptions { regime, raw: false, seed: 1, keep_going: false, shard: Shard::ALL };
    let memory = Memory::new(engine.model.config(), engine.model.kind(), budget, plans, samples);
    let planned = units(&engine.texts, plans, samples, options, memory, &HashSet::new()).unwrap();
    let sweep = Sweep { sessions: plans, samples, options, memory, selections: None };
    let records = sweep.run(engine, &planned, &mut results, &mut Live::hidden()).unwrap();
    drop(results);
    let kept = RunFolder::open(folder.path(), &identity).unwrap();
    assert_eq!(kept.finished().len(), records.iter().filter(|record| record.error.is_none()).count());
    Ran { records, prefills: planned.units.len() }
}

const ALL: u64 = 1 << 40;
const CONTEXT: &str = "THE KEEPER OF THE LIGHTHOUSE SLEEPS BY DAY AND WAKES AT NIGHT";

#[test]
fn several_turns_on_one_context_are_those_asked_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, plans) = (engine(folder.path()), plans(PRESSES));
    let questions = ["WHO?", "WHERE DOES SHE SLEEP?", "WHY", "WHEN?"];
    let joint = [sample(CONTEXT, &questions), sample(&CONTEXT[..40], &questions[1..])];
    for (regime, prefills) in [(Regime::Hidden, 2), (Regime::Visible, 7)] {
        let together = run(&engine, &plans, &joint, regime, ALL);
        assert_eq!((together.prefills, together.records.len()), (prefills, 7 * plans.len()));
        for record in &together.records {
            assert_eq!((record.question, &record.error), (regime, &None));
            let one =
                Sample { turns: vec![joint[record.index].turns[record.turn].clone()], ..joint[record.index].clone() };
            let alone = run(&engine, &plans, &[one], regime, ALL).records;
            let same = alone.iter().find(|other| (&other.press, other.ratio) == (&record.press, record.ratio)).unwrap();
            assert_eq!(
                (&record.token_ids, record.stop_reason),
                (&same.token_ids, same.stop_reason),
                "{}",
                record.named()
            );
            assert!(record.token_ids.len() <= joint[record.index].turns[record.turn].max_new_tokens);
        }
    }
}

#[test]
fn memory_bounds_what_lives_at_once_and_changes_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, plans) = (engine(folder.path()), plans(PRESSES));
    let samples = [sample(CONTEXT, &["WHO?", "WHY?"]), sample(&CONTEXT[5..], &["WHERE?"])];
    let tokens = |run: &Ran| run.records.iter().map(|record| record.token_ids.clone()).collect::<Vec<_>>();
    let all = run(&engine, &plans, &samples, Regime::Hidden, ALL);
    let memory = Memory::new(engine.model.config(), engine.model.kind(), 0, &plans, &samples);
    let mut prefills = all.prefills;
    for sessions in [4, 2, 1] {
        // What the weights, the prefill and so many uncompressed sessions with two answers take.
        let session = memory.session(&plans[0], 63, [16, 16].into_iter());
        let budget = memory.weights + memory.prefill(63) + sessions * session;
        let bounded = run(&engine, &plans, &samples, Regime::Hidden, budget);
        assert!(bounded.prefills > prefills, "{} after {prefills}", bounded.prefills);
        prefills = bounded.prefills;
        assert_eq!(tokens(&bounded), tokens(&all));
    }
    // What is reckoned with is not less than what there is.
    for record in &all.records {
        let plan = plans.iter().find(|plan| (&plan.label, plan.ratio) == (&record.press, record.ratio)).unwrap();
        assert!(
            record.cache_bytes <= memory.session(plan, record.context_tokens, [2].into_iter()),
            "{}",
            record.named()
        );
    }
}

/// Fails while an answer grows.
struct Failing;

impl DecodingPress for Failing {
    fn identity(&self) -> String {
        "failing".into()
    }

    fn needs(&self) -> Needs {
        Needs::KEYS_AND_VALUES
    }

    fn start(&self, _origin: Origin<'_>) -> Box<dyn StepHook + Send> {
        Box::new(Self)
    }
}

impl StepHook for Failing {
    fn on_layer(&mut self, step: &StepView<'_>) -> Result<Option<Selection>> {
        if step.tokens() > 1 { Ok(None) } else { Err(Error::input("the answer has begun")) }
    }
}

#[test]
fn what_fails_in_a_batch_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    // Longer than the context: the press fails during the prefill.
    let mut plans = plans(&format!("{PRESSES}\n[[press]]\nlabel='long'\nname='snapkv'\nwindow_size=200"));
    let samples = [sample(CONTEXT, &["WHO?", "WHY?"])];
    let before = run(&engine, &plans, &samples, Regime::Hidden, ALL).records;
    let stage = Stage {
        method: Method::Phases { prefill: None, decoding: Arc::new(Failing) },
        budgets: vec![pressroom::press::Budget::ALL; 3],
    };
    let failing = Pipeline::new(vec![stage], 3).unwrap();
    plans.insert(2, SessionPlan { label: "failing".into(), pipeline: failing, ..SessionPlan::baseline(None) });
    let after = run(&engine, &plans, &samples, Regime::Hidden, ALL).records;
    assert_eq!(after.len(), before.len() + 2);
    for record in &after {
        match record.press.as_str() {
            "failing" => assert!(record.error.as_ref().unwrap().contains("the answer has begun"), "{record:?}"),
            "long" => assert!(record.error.as_ref().unwrap().contains("window_size = 200"), "{record:?}"),
            _ => {
                let same = before.iter().find(|other| other.key() == record.key()).unwrap();
                assert_eq!((&record.token_ids, &record.error), (&same.token_ids, &None));
            }
        }
    }
}
