//! What headquarters says of the calls, as the keeper keeps it on the disk, laid over `edge.toml`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// Reads the file that the keeper writes; without one, or with `null` in it, nothing is laid over anything.
///
/// # Errors
/// When there is one that cannot be read.
pub fn read_overlay(path: Option<&Path>) -> Result<Map<String, Value>> {
    let Some(path) = path.filter(|path| path.exists()) else { return Ok(Map::new()) };
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value: Value = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not what the keeper writes", path.display()))?;
    if value == Value::Null {
        return Ok(Map::new());
    }
    let Value::Object(map) = value else { bail!("{} is not what the keeper writes", path.display()) };
    Ok(map)
}

/// Lays one over the other: sections key by key, everything else as a whole; `null` takes a key away (RFC 7396).
///
/// # Errors
/// When something in it cannot be said in TOML.
pub fn lay_over(table: &mut toml::Table, over: &Map<String, Value>) -> Result<()> {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (_, Value::Null) => {
                table.remove(key);
            }
            (Some(toml::Value::Table(below)), Value::Object(above)) if key != "trunk" => {
                lay_over(below, above)?
            }
            _ => {
                let value = toml::Value::try_from(value)
                    .with_context(|| format!("`{key}` cannot be said in TOML"))?;
                table.insert(key.clone(), value);
            }
        }
    }
    Ok(())
}
