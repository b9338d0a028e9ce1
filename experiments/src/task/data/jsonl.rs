//! Rows of a JSONL file, or of a JSON file that is one list.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use pressroom::{Error, Result};
use serde_json::Value;

use super::row::Row;

/// At most `limit` rows; blank lines are none.
///
/// # Errors
/// The file cannot be opened or read on.
pub(super) fn rows(path: &Path, limit: usize) -> Result<Vec<Result<Row>>> {
    let mut reader = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let file: Arc<Path> = path.into();
    let (mut rows, mut line, mut number) = (Vec::new(), Vec::new(), 0);
    while rows.len() < limit {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(Error::io(path))? == 0 {
            break;
        }
        number += 1;
        let line = unmarked(&line);
        if line.trim_ascii().is_empty() {
            continue;
        }
        rows.push(Row::new(&file, format!("line {number}"), parse(line)));
    }
    Ok(rows)
}

/// At most `limit` objects of a list; a file that is no list is read as [`rows`] does.
///
/// # Errors
/// The file cannot be read, or is no JSON.
pub(super) fn items(path: &Path, limit: usize) -> Result<Vec<Result<Row>>> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let bytes = unmarked(&bytes);
    if !bytes.trim_ascii_start().starts_with(b"[") {
        return rows(path, limit);
    }
    let items: Vec<Value> = serde_json::from_slice(bytes).map_err(|error| Error::file(path, error.to_string()))?;
    let file: Arc<Path> = path.into();
    let item = |(at, item): (usize, Value)| Row::new(&file, format!("item {}", at + 1), Ok(item));
    Ok(items.into_iter().take(limit).enumerate().map(item).collect())
}

/// Without the byte order mark that some programs begin a file with.
fn unmarked(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Bytes of a line shown before and after the place where it is no JSON.
const SHOWN: usize = 20;

fn parse(line: &[u8]) -> Result<Value, String> {
    let text =
        std::str::from_utf8(line).map_err(|error| format!("is no UTF-8 from byte {} on", error.valid_up_to() + 1))?;
    // The library counts lines within the text, and this is one line.
    serde_json::from_str(text).map_err(|error| {
        let said = error.to_string();
        let said = said.split(" at line ").next().unwrap_or(&said);
        let at = error.column();
        let around = &line[at.saturating_sub(SHOWN).min(line.len())..(at + SHOWN).min(line.len())];
        let around = String::from_utf8_lossy(around);
        // A letter may be cut at either end.
        format!("is no JSON at column {at}: {said}, in `{}`", around.trim().trim_matches('\u{fffd}'))
    })
}
