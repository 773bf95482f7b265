//! From the fields of a table to contacts, whatever the table came in.

use std::collections::{BTreeMap, BTreeSet};

use trunkline_model::Callee;
use trunkline_worker::ContactFacts;

use super::ImportError;

/// A line that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Whom to call.
    pub(crate) callee: Callee,
    /// The script's variables.
    pub(crate) variables: BTreeMap<String, String>,
    /// What the gate is to know.
    pub(crate) facts: ContactFacts,
    /// The CRM's reference.
    pub(crate) external_id: Option<String>,
    /// Lower comes first.
    pub(crate) priority: u16,
}

/// What is wrong with a line; holds nothing of what stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LineError {
    /// From 1, the header being the first.
    pub(crate) line: u64,
    /// What is wrong.
    pub(crate) reason: &'static str,
}

/// What a line came to.
pub(crate) type Line = Result<Row, LineError>;

/// The header, once it was read, and the names that columns get.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Option<Vec<String>>,
    map: BTreeMap<String, String>,
}

impl Table {
    /// `map` gives columns other names.
    pub(crate) fn new(map: BTreeMap<String, String>) -> Self {
        Self { columns: None, map }
    }

    /// Says whether the header was read.
    pub(crate) fn is_known(&self) -> bool {
        self.columns.is_some()
    }

    /// Returns how many fields a line has; 0 before the header.
    pub(crate) fn width(&self) -> usize {
        self.columns.as_ref().map_or(0, Vec::len)
    }

    /// Takes the fields of a line; the first is the header and gives nothing.
    pub(crate) fn take(&mut self, line: u64, fields: Vec<String>) -> Result<Option<Line>, ImportError> {
        let fields: Vec<String> = fields.iter().map(|field| plain(field.trim()).to_owned()).collect();
        let Some(columns) = &self.columns else {
            let named: Vec<String> =
                fields.into_iter().map(|name| self.map.get(&name).cloned().unwrap_or(name)).collect();
            if named.iter().collect::<BTreeSet<_>>().len() != named.len() {
                return Err(ImportError::Header);
            }
            if !named.iter().any(|name| name == "callee") {
                return Err(ImportError::NoCallee);
            }
            self.columns = Some(named);
            return Ok(None);
        };
        Ok(Some(row(columns, fields).map_err(|reason| LineError { line, reason })))
    }
}

/// Characters with which a spreadsheet begins a formula.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// Writes a field of CSV so that no spreadsheet takes it for a formula: an apostrophe before what could be
/// one, and quotation marks where RFC 4180 wants them.
pub(crate) fn cell(text: &str) -> String {
    let first = text.trim_start().chars().next();
    let risky = first.is_some_and(|c| FORMULA.contains(&c)) || text.starts_with(['\t', '\r', '\'']);
    let safe = if risky { format!("'{text}") } else { text.to_owned() };
    if safe.contains([',', '"', '\n', '\r']) { format!("\"{}\"", safe.replace('"', "\"\"")) } else { safe }
}

/// Takes off the apostrophe that [`cell`] and spreadsheets put before what is no formula.
fn plain(field: &str) -> &str {
    match field.strip_prefix('\'') {
        Some(rest) if rest.trim_start().starts_with(FORMULA) || rest.starts_with('\'') => rest,
        Some(_) | None => field,
    }
}

fn row(columns: &[String], fields: Vec<String>) -> Result<Row, &'static str> {
    if fields.len() != columns.len() {
        return Err("it has another number of fields than the header");
    }
    if fields.iter().any(|field| field.contains('\u{fffd}')) {
        return Err("it holds bytes that are no text in this encoding");
    }
    let (mut callee, mut external_id, mut priority) = (None, None, 0);
    let mut facts = ContactFacts::default();
    let mut variables = BTreeMap::new();
    for (name, value) in columns.iter().zip(fields) {
        if value.is_empty() {
            continue;
        }
        match name.as_str() {
            "callee" => callee = Some(value.parse().map_err(|_| "its number is not in international form")?),
            "external_id" => external_id = Some(value),
            "priority" => {
                priority = value.parse().map_err(|_| "its priority is not a number from 0 to 65535")?
            }
            "country" => facts.country = Some(value),
            "region" => facts.region = Some(value),
            "zone" => facts.zone = Some(value),
            "debt" => facts.debt = Some(value),
            "consent" => {
                let consent = serde_json::json!({ "basis": value });
                let consent = serde_json::from_value(consent);
                facts.consent =
                    Some(consent.map_err(|_| "its consent is none of contract, express, written")?);
            }
            _ => {
                variables.insert(name.clone(), value);
            }
        }
    }
    let callee = callee.ok_or("it has no number")?;
    Ok(Row { callee, variables, facts, external_id, priority })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_be_a_formula_is_written_so_that_it_is_none() {
        for (text, written) in [
            ("=1+1", "'=1+1"),
            ("+8613800138000", "'+8613800138000"),
            ("-2", "'-2"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("  =1", "'  =1"),
            ("\t=1", "'\t=1"),
            ("＝1", "'＝1"),
            ("=HYPERLINK(\"x\",1)", "\"'=HYPERLINK(\"\"x\"\",1)\""),
            ("王芳", "王芳"),
            ("a,b", "\"a,b\""),
        ] {
            assert_eq!(cell(text), written);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_written_as_a_formula_and_it_reads_back(text in "[=+@'a ,\"-]{0,12}") {
            let written = cell(&text);
            let shown = written.strip_prefix('"').unwrap_or(&written);
            prop_assert!(!shown.trim_start().starts_with(FORMULA), "{}", written);
            let read = match written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
                Some(inner) => inner.replace("\"\"", "\""),
                None => written,
            };
            prop_assert_eq!(plain(&read), text.as_str());
        }
    }
}
