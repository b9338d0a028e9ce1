//! Samples from a JSONL file with the columns `context`, `question`, `answer_prefix`, `answer`, `max_new_tokens`
//! and `task`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use pressroom::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

use super::{Facets, Metric, Sample, Turn};

/// Longest answer where neither the file nor the experiment says.
const MAX_NEW_TOKENS: usize = 50;

#[derive(Deserialize)]
struct Row {
    context: String,
    question: String,
    #[serde(default)]
    answer_prefix: String,
    answer: Value,
    max_new_tokens: Option<usize>,
    task: Option<String>,
}

/// Reads at most `limit` samples of `path`, in order. Blank lines are skipped.
///
/// # Errors
/// The file is missing or holds no sample; a line is no JSON object with the columns (named with its number).
pub fn read_jsonl(path: &Path, limit: Option<usize>) -> Result<Vec<Sample>> {
    let file = File::open(path).map_err(Error::io(path))?;
    let fallback = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let mut samples = Vec::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        if limit.is_some_and(|limit| samples.len() >= limit) {
            break;
        }
        let bad = |problem: String| Error::file(path, format!("line {}: {problem}", number + 1));
        let line = line.map_err(|error| bad(error.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let row: Row = serde_json::from_str(&line).map_err(|error| {
            bad(format!("{error}; a sample is an object with context, question and answer (answer_prefix, max_new_tokens and task may follow)"))
        })?;
        samples.push(sample(row, &fallback).map_err(bad)?);
    }
    if samples.is_empty() {
        return Err(Error::file(path, "holds no sample"));
    }
    Ok(samples)
}

fn sample(row: Row, fallback: &str) -> Result<Sample, String> {
    let answers = match row.answer {
        Value::String(text) => vec![text],
        Value::Number(number) => vec![number.to_string()],
        Value::Array(list) => list
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                Value::Number(number) => Ok(number.to_string()),
                other => Err(format!("answer holds {other}; strings are due")),
            })
            .collect::<Result<_, _>>()?,
        other => return Err(format!("answer is {other}; a string or a list of strings is due")),
    };
    if answers.is_empty() {
        return Err("answer is an empty list; nothing could be right".into());
    }
    let max_new_tokens = row.max_new_tokens.unwrap_or(MAX_NEW_TOKENS);
    if max_new_tokens == 0 {
        return Err("max_new_tokens is 0; at least 1 is due".into());
    }
    let turn = Turn { question: row.question, answer_prefix: row.answer_prefix, answers, max_new_tokens };
    Ok(Sample {
        context: row.context,
        turns: vec![turn],
        task: row.task.unwrap_or_else(|| fallback.to_owned()),
        metric: Metric::StringMatch,
        facets: Facets::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<Vec<Sample>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, content).unwrap();
        read_jsonl(&path, None)
    }

    #[test]
    fn columns_and_defaults() {
        let rows = read(
            b"{\"context\": \"c\", \"question\": \"q\", \"answer\": [\"a\", 7]}\n\n{\"context\": \"c\", \"question\": \"\", \"answer\": \"b\", \"answer_prefix\": \"p\", \"max_new_tokens\": 3, \"task\": \"t\", \"extra\": 1}",
        )
        .unwrap();
        assert_eq!(rows.len(), 2);
        let turns: Vec<&Turn> = rows.iter().map(|row| &row.turns[0]).collect();
        assert_eq!(turns[0].answers, ["a", "7"]);
        assert_eq!((rows[0].task.as_str(), turns[0].max_new_tokens), ("rows", 50));
        assert_eq!((rows[1].task.as_str(), turns[1].max_new_tokens, turns[1].answer_prefix.as_str()), ("t", 3, "p"));
    }

    #[test]
    fn bad_lines_are_named() {
        let cases: [(&[u8], &str); 7] = [
            (b"\n{\"context\": \"c\"}", "line 2: missing field `question`"),
            (b"not json", "line 1:"),
            (b"{\"context\": 1, \"question\": \"q\", \"answer\": \"a\"}", "line 1: invalid type"),
            (b"{\"context\": \"c\", \"question\": \"q\", \"answer\": {}}", "line 1: answer is {}"),
            (b"{\"context\": \"c\", \"question\": \"q\", \"answer\": []}", "empty list"),
            (b"{\"context\": \"\xff\", \"question\": \"q\", \"answer\": \"a\"}", "line 1:"),
            (b"", "holds no sample"),
        ];
        for (content, expected) in cases {
            let error = read(content).unwrap_err().to_string();
            assert!(error.contains("rows.jsonl") && error.contains(expected), "{error}");
        }
    }
}
