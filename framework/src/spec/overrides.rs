//! `--set key=value`: changes to a TOML text before it is read.

use toml_edit::{DocumentMut, Item, Key, Table, Value, value};

use crate::error::{Error, Result};

/// Applies `key=value` changes to an experiment's TOML, comments and layout kept. A key is a path such as
/// `task.samples` or `press.0.compression_ratio`; a value is TOML, or text where it is not (`run.output=runs/x`).
/// A text that is no TOML comes back as it is: reading it reports what is wrong.
///
/// # Errors
/// A change without `=`, or a path that leads nowhere; the message says which part.
pub fn apply_overrides(text: &str, overrides: &[String]) -> Result<String> {
    let Ok(mut document) = text.parse::<DocumentMut>() else { return Ok(text.to_owned()) };
    for change in overrides {
        let fail = |problem: String| Error::input(format!("--set {change}: {problem}"));
        let Some((path, new)) = change.split_once('=') else {
            return Err(fail("write key=value, as in task.samples=5".into()));
        };
        let keys = Key::parse(path).map_err(|_| fail(format!("`{path}` is no path such as task.samples")))?;
        let new = new.trim();
        let new = new.parse::<Value>().unwrap_or_else(|_| new.into());
        put(document.as_item_mut(), &keys, new).map_err(fail)?;
    }
    Ok(document.to_string())
}

/// Follows `keys` from `root`, making the sections that are missing, and puts the value at their end.
fn put(root: &mut Item, keys: &[Key], new: Value) -> Result<(), String> {
    let mut item = root;
    for (depth, key) in keys.iter().enumerate() {
        let here = keys[..depth].iter().map(Key::get).collect::<Vec<_>>().join(".");
        item = step(item, key, depth + 1 == keys.len(), &here)?;
    }
    match item {
        Item::Value(old) => {
            let decor = old.decor().clone();
            *old = new;
            *old.decor_mut() = decor;
        }
        other => *other = value(new),
    }
    Ok(())
}

/// What `key` leads to from `item`, whose own path is `here`.
fn step<'a>(item: &'a mut Item, key: &Key, last: bool, here: &str) -> Result<&'a mut Item, String> {
    let length = match &*item {
        Item::ArrayOfTables(tables) => Some(tables.len()),
        Item::Value(Value::Array(list)) => Some(list.len()),
        _ => None,
    };
    if let Some(length) = length {
        let range = || match length {
            0 => format!("`{here}` is empty"),
            _ => format!("`{here}` has the entries 0 to {}, not `{}`", length - 1, key.get()),
        };
        let index: usize = key.get().parse().map_err(|_| range())?;
        // Entries of a list are values, which only tables can be stepped into by item.
        if let Item::Value(Value::Array(_)) = item {
            return Err(format!("`{here}` is a list; set the whole list"));
        }
        return item.get_mut(index).ok_or_else(range);
    }
    let kind = item.type_name();
    let Some(table) = item.as_table_like_mut() else {
        return Err(format!("`{here}` is a value ({kind}), it has no `{}`", key.get()));
    };
    Ok(table.entry(key.get()).or_insert_with(|| if last { Item::None } else { Item::Table(Table::new()) }))
}
