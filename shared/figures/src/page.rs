//! The page: families of gauges, each with one label or none.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// All figures of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    pub(crate) families: Vec<Family>,
}

/// Figures that differ in the value of one label.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// Empty for a family of one figure without a label.
    pub(crate) label: &'static str,
    pub(crate) values: BTreeMap<String, f64>,
}

impl Family {
    /// Returns the unit as OpenTelemetry writes it (UCUM), which is the name's last word here (Prometheus' custom). None
    /// where things are counted: `1` would have a collector add `_ratio` to the name.
    pub(crate) fn unit(&self) -> &'static str {
        match self.name.rsplit('_').next() {
            Some("seconds") => "s",
            Some("bytes") => "By",
            _ => "",
        }
    }
}

impl Page {
    /// Adds a figure that stands alone; one that is not known now is not on the page.
    pub fn figure(&mut self, name: &'static str, help: &'static str, value: Option<f64>) {
        self.family(name, help, "", [("", value)]);
    }

    /// Adds figures that differ by one label. What has the same value of it is added up; what is not known now is left out.
    pub fn family<K: AsRef<str>>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (K, Option<f64>)>,
    ) {
        let mut known = BTreeMap::new();
        for (value, figure) in values {
            let Some(figure) = figure else { continue };
            let plain = value.as_ref().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            *known.entry(plain).or_insert(0.0) += figure;
        }
        self.families.push(Family { name, help, label, values: known });
    }

    /// Returns it as Prometheus reads it (text format 0.0.4).
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        for family in &self.families {
            let name = family.name;
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} gauge", family.help);
            for (value, figure) in &family.values {
                let _ = match family.label {
                    "" => writeln!(text, "{name} {figure}"),
                    label => writeln!(text, "{name}{{{label}=\"{value}\"}} {figure}"),
                };
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_written_as_prometheus_reads_it() {
        let mut page = Page::default();
        page.family("x_boxes", "Boxes.", "state", [("a", Some(1.0)), ("b", Some(0.0)), ("c", None)]);
        page.figure("x_late_seconds", "Late.", Some(0.0015));
        page.figure("x_unknown", "Unknown.", None);
        assert_eq!(
            page.prometheus(),
            "# HELP x_boxes Boxes.\n# TYPE x_boxes gauge\nx_boxes{state=\"a\"} 1\nx_boxes{state=\"b\"} 0\n\
             # HELP x_late_seconds Late.\n# TYPE x_late_seconds gauge\nx_late_seconds 0.0015\n\
             # HELP x_unknown Unknown.\n# TYPE x_unknown gauge\n"
        );
    }

    #[test]
    fn a_label_cannot_break_out_and_the_same_one_twice_is_one_figure() {
        let mut page = Page::default();
        page.family("x", "X.", "stage", [("a\"} 7\nx{", Some(1.0)), ("a7x", Some(2.0))]);
        assert!(page.prometheus().ends_with("gauge\nx{stage=\"a7x\"} 3\n"), "{}", page.prometheus());
    }
}
