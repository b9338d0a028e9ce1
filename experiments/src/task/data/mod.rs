//! Samples from files: rows of JSONL and Parquet, one file's own columns or a published set's.

mod columns;
mod file;
mod infinitebench;
mod jsonl;
mod longbench;
mod longbench_v2;
mod loogle;
mod mathematics;
mod parquet;
mod row;
mod ruler;
mod scbench;
mod source;
#[cfg(test)]
mod tests;
mod zeroscrolls;

pub(super) use file::File;
pub(super) use infinitebench::InfiniteBench;
pub(super) use longbench::{LongBench, LongBenchE};
pub(super) use longbench_v2::LongBenchV2;
pub(super) use loogle::Loogle;
pub(super) use mathematics::{Aime25, Math500};
pub(super) use ruler::Ruler;
pub(super) use scbench::ScBench;
pub(super) use zeroscrolls::ZeroScrolls;

use std::path::Path;

use pressroom::{Error, Result};

use row::Row;

/// The rows of a file in their order, at most `limit` of them; a bad one is an error in its place.
///
/// # Errors
/// The file is missing, of an unknown kind, as a whole unreadable, or holds no row.
fn rows(path: &Path, limit: Option<usize>) -> Result<Vec<Result<Row>>> {
    let limit = limit.unwrap_or(usize::MAX);
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let rows = match extension.to_ascii_lowercase().as_str() {
        "parquet" => parquet::rows(path, limit)?,
        "jsonl" => jsonl::rows(path, limit)?,
        "json" => jsonl::items(path, limit)?,
        _ => {
            return Err(Error::file(
                path,
                "is neither JSONL nor Parquet: its name ends in neither .jsonl nor .parquet",
            ));
        }
    };
    if rows.is_empty() {
        return Err(Error::file(path, "holds no sample"));
    }
    Ok(rows)
}
