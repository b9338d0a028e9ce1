//! `file = "x.jsonl"`: any file with the reference's columns.

use pressroom::press::Range;
use pressroom::{Error, Result};

use super::{columns, rows};
use crate::task::{Metric, Samples, Setting, task};

task! {
    /// Any JSONL or Parquet file with the columns `context`, `question` and `answer`.
    ///
    /// `answer` (or `answers`) is a text or a list of texts; `answer_prefix`, `max_new_tokens` and `task` may follow.
    /// This is the task of a `[task]` with `file` and no `name`.
    "file" File {
        /// The file, its name ending in .jsonl or .parquet.
        file: Option<String> = None, Range::ANY;
        /// Most rows read; absent, all.
        limit: Option<usize> = None, Range::closed(1.0, 1e8);
        /// How answers are scored.
        metric: Metric = Metric::StringMatch, Range::ANY;
    }
}

impl File {
    fn samples(&self, _: Setting<'_>) -> Result<Samples> {
        let file = self.file.as_ref().ok_or_else(|| Error::input("the task `file` has no `file`"))?;
        let rows = rows(file.as_ref(), self.limit)?;
        Ok(rows.into_iter().map(|row| columns::sample(&row?, self.metric.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Turn, all};

    fn read(content: &[u8]) -> Result<Samples> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, content).unwrap();
        let rows = rows(&path, None)?;
        Ok(rows.into_iter().map(|row| columns::sample(&row?, Metric::StringMatch)).collect())
    }

    #[test]
    fn columns_and_defaults() {
        let rows = all(read(
            b"{\"context\": \"c\", \"question\": \"q\", \"answer\": [\"a\", 7]}\n\n{\"context\": \"c\", \"question\": \"\", \"answer\": \"b\", \"answer_prefix\": \"p\", \"max_new_tokens\": 3, \"task\": \"t\", \"extra\": 1}",
        )
        .unwrap())
        .unwrap();
        assert_eq!(rows.len(), 2);
        let turns: Vec<&Turn> = rows.iter().map(|row| &row.turns[0]).collect();
        assert_eq!(turns[0].answers, ["a", "7"]);
        assert_eq!((rows[0].task.as_str(), turns[0].max_new_tokens), ("rows", 50));
        assert_eq!((rows[1].task.as_str(), turns[1].max_new_tokens, turns[1].answer_prefix.as_str()), ("t", 3, "p"));
    }

    #[test]
    fn bad_lines_are_named_and_the_others_read() {
        let good = "{\"context\": \"c\", \"question\": \"q\", \"answer\": \"a\"}\n";
        let long = format!("{{\"context\": \"{}\", \"question\": 3, \"answer\": \"a\"}}", "x".repeat(10 << 20));
        let cases: [(&[u8], &str); 12] = [
            (b"{\"context\": \" \", \"question\": \"q\", \"answer\": \"a\"}", "`context` is empty"),
            (b"{\"context\": \"c\"}", "missing field `question`; there are context"),
            (b"not json", "is no JSON at column 2: expected ident, in `not json`"),
            (b"{\"context\": \"c\"", "is no JSON at column"),
            (b"[1, 2]", "is a list, not an object"),
            (b"{\"context\": 1, \"question\": \"q\", \"answer\": \"a\"}", "`context` is the number 1, text is due"),
            (b"{\"context\": \"c\", \"question\": \"q\", \"answer\": {}}", "`answer` holds an object; text is due"),
            (b"{\"context\": \"c\", \"question\": \"q\", \"answer\": []}", "`answer` is an empty list"),
            (b"{\"context\": \"c\", \"question\": \"q\", \"answer\": null}", "missing field `answer`"),
            (
                b"{\"context\": \"c\", \"question\": \"q\", \"answer\": \"a\", \"max_new_tokens\": 0}",
                "max_new_tokens is 0",
            ),
            (b"{\"context\": \"\xff\", \"question\": \"q\", \"answer\": \"a\"}", "is no UTF-8 from byte 14 on"),
            (long.as_bytes(), "`question` is the number 3"),
        ];
        for (content, expected) in cases {
            let text = [b"\xef\xbb\xbf\n", good.as_bytes(), content, b"\n", good.as_bytes()].concat();
            let read = read(&text).unwrap();
            assert!(read.len() == 3 && read[0].is_ok() && read[2].is_ok());
            let error = read[1].as_ref().unwrap_err().to_string();
            assert!(error.contains("rows.jsonl: line 3: ") && error.contains(expected), "{error}");
            assert!(error.len() < 400, "{}", error.len());
        }
    }

    #[test]
    fn a_whole_file_can_be_bad_and_all_faults_are_told_at_once() {
        let told = |content: &[u8]| read(content).unwrap_err().to_string();
        assert!(told(b"").contains("rows.jsonl: holds no sample"), "{}", told(b""));
        assert!(told(b"\n  \n").contains("holds no sample"));
        let error = all(read("1\n".repeat(25).as_bytes()).unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("25 samples cannot be read:") && error.ends_with("and 5 more"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        for (name, expected) in [("a.csv", "neither JSONL nor Parquet"), ("a.parquet", "cannot be read as Parquet")] {
            std::fs::write(folder.path().join(name), "x").unwrap();
            let error = rows(&folder.path().join(name), None).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(rows(&folder.path().join("none.jsonl"), None).is_err());
    }
}
