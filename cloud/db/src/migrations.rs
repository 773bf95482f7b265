//! The schema's history, built into the program.
//!
//! sqlx has a macro for this, at the price of compiling the database a second time for the compiler's
//! own use.

use std::borrow::Cow;
use std::pin::Pin;

use sqlx::error::BoxDynError;
use sqlx::migrate::{Migration, MigrationSource, MigrationType};

/// Name without its ending (`0001_first`) and content of each file, in the order of their numbers.
const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// The files of `migrations/`.
#[derive(Debug)]
pub(crate) struct BuiltIn;

impl MigrationSource<'static> for BuiltIn {
    fn resolve(self) -> Pin<Box<dyn Future<Output = Result<Vec<Migration>, BoxDynError>> + Send>> {
        Box::pin(async { FILES.iter().map(|(name, sql)| read(name, sql)).collect() })
    }
}

fn read(name: &'static str, sql: &'static str) -> Result<Migration, BoxDynError> {
    let (number, what) =
        name.split_once('_').ok_or_else(|| format!("migration `{name}` is not called NUMBER_what"))?;
    let no_tx = sql.starts_with("-- no-transaction");
    let number = number.parse()?;
    Ok(Migration::new(
        number,
        what.replace('_', " ").into(),
        MigrationType::Simple,
        Cow::Borrowed(sql),
        no_tx,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_number_and_the_numbers_grow() {
        let numbers: Vec<i64> =
            FILES.iter().map(|(name, sql)| read(name, sql).expect("a name with a number").version).collect();
        assert!(!numbers.is_empty() && numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert!(read("nonsense", "").is_err());
    }
}
