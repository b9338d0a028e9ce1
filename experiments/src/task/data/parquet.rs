//! Rows of a Parquet file.

use std::path::Path;
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use pressroom::panics::caught;
use pressroom::{Error, Result};

use super::row::Row;

/// At most `limit` rows.
///
/// # Errors
/// The file cannot be opened, or is no Parquet.
pub(super) fn rows(path: &Path, limit: usize) -> Result<Vec<Result<Row>>> {
    // The library panics on some files that contradict themselves.
    let read = caught(|| read(path, limit)).map_err(|panic| Error::file(path, format!("is damaged Parquet: {panic}")));
    read?
}

fn read(path: &Path, limit: usize) -> Result<Vec<Result<Row>>> {
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    let bad = |error: ParquetError| Error::file(path, format!("cannot be read as Parquet: {error}"));
    let reader = SerializedFileReader::new(file).map_err(bad)?;
    let place: Arc<Path> = path.into();
    let mut rows = Vec::new();
    for (at, row) in reader.get_row_iter(None).map_err(bad)?.take(limit).enumerate() {
        // The library does not get past a row that it cannot decode: it says so again for ever.
        let last = row.is_err();
        let parsed = row.map(|row| row.to_json_value()).map_err(|error| error.to_string());
        rows.push(Row::new(&place, format!("row {}", at + 1), parsed));
        if last {
            break;
        }
    }
    Ok(rows)
}
