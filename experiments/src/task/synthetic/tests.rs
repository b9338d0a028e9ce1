//! Every kind at several lengths: it fits, it can be answered from its context, and the seed decides it.

use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::task::testing::words;

fn made(kind: Kind, tokens: usize, seed: u64) -> Sample {
    let tokenizer = words();
    let task = Synthetic { kinds: Some(vec![kind]), context_tokens: vec![tokens], samples: 1, ..Synthetic::default() };
    task.samples(Setting { tokenizer: &tokenizer, seed }).unwrap().remove(0).unwrap()
}

#[test]
fn every_kind_fits_and_holds_its_answers() {
    let tokenizer = words();
    for kind in ALL {
        for tokens in [512, 3000] {
            let sample = made(kind, tokens, 7);
            let length = tokenizer.encode(&sample.context).unwrap().len();
            // The common words of a short list are few and far between.
            let least = if kind == Kind::Cwe && tokens == 512 { 0.5 } else { 0.85 };
            assert!(length <= tokens && length as f64 > least * tokens as f64, "{kind:?}: {length} of {tokens}");
            let turn = &sample.turns[0];
            assert!(!turn.answers.is_empty());
            assert!(turn.answers.iter().all(|answer| sample.context.contains(answer)), "{kind:?}");
            let told = turn.answers.join(", ");
            assert_eq!(turn.metric.score(&told, &turn.answers), 1.0);
            assert_eq!(sample.facets["length"], tokens as f64);
        }
        assert_eq!(made(kind, 600, 3), made(kind, 600, 3));
        assert_ne!(made(kind, 600, 3), made(kind, 600, 4));
    }
}

#[test]
fn needles_of_every_kind_are_asked_for_by_their_keys() {
    for kind in [Kind::NiahSingle1, Kind::NiahMultikey1, Kind::NiahMultikey2, Kind::NiahMultikey3] {
        let sample = made(kind, 800, 5);
        let needle = sample.turns[0].answers[0].clone();
        let line = sample.context.split("The code of ").find(|line| line.contains(&needle)).unwrap();
        let key = line.split(" is ").next().unwrap();
        assert!(sample.turns[0].question.contains(&format!("the code of {key} in")), "{}", sample.turns[0].question);
        let count = sample.context.matches("The code of ").count();
        match kind {
            Kind::NiahSingle1 => assert_eq!(count, 1),
            Kind::NiahMultikey1 => assert_eq!(count, 4),
            _ => assert!(count > 20, "{count}"),
        }
        let depth = sample.facets["depth"];
        assert!((0.0..=1.0).contains(&depth));
    }
    assert_eq!(made(Kind::NiahMultivalue, 800, 5).turns[0].answers.len(), 4);
    assert_eq!(made(Kind::NiahMultiquery, 800, 5).turns[0].answers.len(), 4);
}

#[test]
fn chains_of_variables_begin_with_the_value_and_go_on_in_order() {
    let sample = made(Kind::Vt, 700, 11);
    let places: Vec<usize> = sample.turns[0].answers.iter().map(|name| sample.context.find(name).unwrap()).collect();
    assert!(places.is_sorted() && places.len() == 5);
    assert!(
        sample.context.contains(&format!("VAR {} = VAR {}", sample.turns[0].answers[1], sample.turns[0].answers[0]))
    );
}

#[test]
fn frequent_words_are_the_most_frequent() {
    for (kind, tokens) in [(Kind::Cwe, 600), (Kind::Cwe, 5000), (Kind::Fwe, 600)] {
        let sample = made(kind, tokens, 2);
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let list = sample.context.split('\n').next_back().unwrap();
        for word in list.split_whitespace().filter(|word| word.chars().all(char::is_alphabetic)) {
            *counts.entry(word).or_default() += 1;
        }
        let answers = &sample.turns[0].answers;
        let least = answers.iter().map(|word| counts[word.as_str()]).min().unwrap();
        let others = counts.iter().filter(|(word, _)| !answers.iter().any(|answer| answer == *word));
        let most = others.map(|(_, count)| *count).max().unwrap();
        assert!(least > most, "{kind:?}: {least} and {most}");
    }
}

#[test]
fn all_kinds_lengths_and_samples_are_made_in_their_order() {
    let tokenizer = words();
    let task = Synthetic { context_tokens: vec![512, 700], samples: 2, ..Synthetic::default() };
    let samples = task.samples(Setting { tokenizer: &tokenizer, seed: 1 }).unwrap();
    assert_eq!(samples.len(), 2 * 13 * 2);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for sample in samples.into_iter().flatten() {
        *kinds.entry(sample.task).or_default() += 1;
    }
    assert!(kinds.len() == 13 && kinds.values().all(|count| *count == 4), "{kinds:?}");
    let short = Synthetic { context_tokens: vec![20], ..Synthetic::default() };
    let error = short.samples(Setting { tokenizer: &tokenizer, seed: 1 }).unwrap_err().to_string();
    assert!(error.contains("20 tokens has no room for this task"), "{error}");
}
