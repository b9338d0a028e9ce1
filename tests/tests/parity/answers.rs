//! SmolLM2 in float32, token for token: greedy continuations against transformers', answers from compressed
//! caches against kvpress's.

use std::collections::BTreeMap;

use pressroom::hooks::AttentionHook;
use pressroom::model::{ChatTemplate, Llama, Message, ModelFolder, TextTokenizer};
use pressroom::pipeline::{Asked, Compressed, DecodeOptions, Session, answer};
use pressroom::press::{Budget, Pipeline, Stage};
use serde::Deserialize;

use crate::build::{Table, build};
use crate::support;

/// Two best logits of the reference closer than this excuse a difference.
const TIE: f64 = 1e-4;

pub fn smollm2() -> ModelFolder {
    ModelFolder::open("smollm2-135m-instruct").expect("`make setup` brings the model")
}

#[derive(Deserialize)]
struct Greedy {
    max_new_tokens: usize,
    prompts: Vec<GreedyPrompt>,
}

#[derive(Deserialize)]
struct GreedyPrompt {
    id: String,
    text: String,
    prompt_ids: Vec<i64>,
    ids: Vec<i64>,
    gaps: Vec<f64>,
}

/// Equal up to a step at which the reference's two best logits were a tie.
fn assert_same(id: &str, ours: &[i64], theirs: &[i64], gaps: &[f64]) {
    for (step, (mine, due)) in ours.iter().zip(theirs).enumerate() {
        if mine != due {
            let gap = gaps.get(step).copied().unwrap_or(f64::INFINITY);
            assert!(gap < TIE, "{id}: token {step} is {mine}, due is {due} (gap {gap}): {ours:?} against {theirs:?}");
            return;
        }
    }
    assert_eq!(ours.len(), theirs.len(), "{id}: {ours:?} against {theirs:?}");
}

#[test]
fn greedy_continuations_are_transformers() {
    let _alone = support::alone();
    let folder = smollm2();
    let (model, tokenizer) = (support::load(&folder), TextTokenizer::read(folder.path()).unwrap());
    let golden: Greedy = support::json("greedy.json");
    let eos_token_ids = folder.generation().unwrap().eos_token_ids;
    assert_eq!(eos_token_ids, [2]);
    assert!(golden.prompts.len() >= 20);
    let options = DecodeOptions { max_new_tokens: golden.max_new_tokens, eos_token_ids };
    for prompt in &golden.prompts {
        assert_eq!(tokenizer.encode(&prompt.text).unwrap(), prompt.prompt_ids, "{}", prompt.id);
        // The context alone is prefilled; the last token is the question.
        let (context, question) = prompt.prompt_ids.split_at(prompt.prompt_ids.len() - 1);
        let context = &compress(&model, context, vec![Pipeline::default()])[0];
        let ours = answer(&model, &[Asked { context, question }], &options, &mut |_, _| {}).unwrap().remove(0);
        assert_same(&prompt.id, &ours.token_ids, &prompt.ids, &prompt.gaps);
    }
}

#[derive(Deserialize)]
pub struct Answers {
    max_new_tokens: usize,
    pub contexts: Vec<AnswerContext>,
    pub cases: Vec<AnswerCase>,
}

#[derive(Deserialize)]
pub struct AnswerContext {
    pub id: String,
    pub context_ids: Vec<i64>,
}

#[derive(Deserialize)]
pub struct AnswerCase {
    pub id: String,
    pub context: String,
    pub press: String,
    pub params: Table,
    pub ratio: f64,
    pub answers: Vec<AnswerGolden>,
}

#[derive(Deserialize)]
pub struct AnswerGolden {
    pub question_ids: Vec<i64>,
    pub ids: Vec<i64>,
    text: String,
    gaps: Vec<f64>,
}

fn compress(model: &Llama, context: &[i64], pipelines: Vec<Pipeline>) -> Vec<Compressed> {
    let mut sessions: Vec<Session> = pipelines.into_iter().map(Session::new).collect();
    let mut hooks: Vec<&mut dyn AttentionHook> = sessions.iter_mut().map(|s| s as &mut dyn AttentionHook).collect();
    for outcome in model.prefill(context, 0, &mut hooks).unwrap() {
        outcome.unwrap();
    }
    let layers = model.geometry().layers;
    sessions.into_iter().map(|session| session.finish(layers).unwrap()).collect()
}

#[test]
fn answers_from_compressed_caches_are_kvpresss() {
    let _alone = support::alone();
    let folder = smollm2();
    let (model, tokenizer) = (support::load(&folder), TextTokenizer::read(folder.path()).unwrap());
    let golden: Answers = support::json("answers.json");
    let registry = pressroom_presses::registry().unwrap();
    let layers = model.geometry().layers;
    let options = DecodeOptions {
        max_new_tokens: golden.max_new_tokens,
        eos_token_ids: folder.generation().unwrap().eos_token_ids,
    };
    assert!(golden.cases.len() >= 20);
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    for context in &golden.contexts {
        let cases: Vec<&AnswerCase> = golden.cases.iter().filter(|case| case.context == context.id).collect();
        let pipeline = |case: &AnswerCase| {
            if case.press == "none" {
                return Pipeline::default();
            }
            let method = build(&registry, &case.press, &case.params).into_method();
            Pipeline::new(
                vec![Stage { method, budgets: vec![Budget::from_ratio(case.ratio).unwrap(); layers] }],
                layers,
            )
            .unwrap()
        };
        // One prefill for all cases of the context, as in a run.
        let contexts = compress(&model, &context.context_ids, cases.iter().map(|case| pipeline(case)).collect());
        for (case, context) in cases.iter().zip(&contexts) {
            for golden in &case.answers {
                let asked = Asked { context, question: &golden.question_ids };
                let ours = answer(&model, &[asked], &options, &mut |_, _| {}).unwrap().remove(0);
                // The reference does not look for the end in the first token it generates.
                if golden.ids.first().is_some_and(|first| options.eos_token_ids.contains(first)) {
                    assert_eq!(ours.token_ids, golden.ids[..1], "{}", case.id);
                } else {
                    assert_same(&case.id, &ours.token_ids, &golden.ids, &golden.gaps);
                    assert_eq!(tokenizer.decode(&golden.ids).unwrap(), golden.text, "{}", case.id);
                }
                *seen.entry((case.press.clone(), case.ratio.to_string())).or_default() += 1;
            }
        }
    }
    for press in registry.names() {
        for ratio in ["0.25", "0.5", "0.75"] {
            assert!(seen.contains_key(&(press.into(), ratio.into())), "no golden answer for {press} at {ratio}");
        }
    }
}

#[derive(Deserialize)]
struct Chat {
    templates: Vec<ChatCase>,
    encodings: Vec<Encoding>,
    decodings: Vec<Decoding>,
}

#[derive(Deserialize)]
struct ChatCase {
    messages: Vec<Message>,
    text: String,
    with_generation_prompt: String,
}

#[derive(Deserialize)]
struct Encoding {
    text: String,
    ids: Vec<i64>,
}

#[derive(Deserialize)]
struct Decoding {
    ids: Vec<i64>,
    skipping_special: String,
}

#[test]
fn chat_templates_and_token_ids_are_transformers() {
    let folder = smollm2();
    let tokenizer = TextTokenizer::read(folder.path()).unwrap();
    let template = ChatTemplate::read(folder.path()).unwrap().unwrap();
    let golden: Chat = support::json("chat.json");
    assert!(golden.templates.len() >= 6 && golden.encodings.len() >= 30 && golden.decodings.len() >= 10);
    for case in &golden.templates {
        assert_eq!(template.render(&case.messages, false).unwrap(), case.text);
        assert_eq!(template.render(&case.messages, true).unwrap(), case.with_generation_prompt);
    }
    for case in &golden.encodings {
        assert_eq!(tokenizer.encode(&case.text).unwrap(), case.ids, "{:?}", case.text);
    }
    for case in &golden.decodings {
        assert_eq!(tokenizer.decode(&case.ids).unwrap(), case.skipping_special, "{:?}", case.ids);
        let mut stream = tokenizer.stream();
        let streamed: String = case.ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        assert!(case.skipping_special.starts_with(&streamed), "{streamed:?} of {:?}", case.skipping_special);
    }
}
