use std::fmt::{self, Display, Formatter};

use super::{Row, histogram::Histogram};

/// Metrics in the Prometheus text format (version 0.0.4).
///
/// The format requires all rows of a family in one group, so rows of several tables that belong to
/// one family are merged. The group has the help of the row that was written first.
#[derive(Debug, Default)]
pub struct Exposition {
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    /// Complete lines.
    rows: String,
}

impl Exposition {
    /// Writes one gauge.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: impl Display) {
        self.row("gauge", &unlabelled(name, help), &value);
    }

    /// Writes one counter.
    pub fn total(&mut self, name: &'static str, help: &'static str, value: impl Display) {
        self.row("counter", &unlabelled(name, help), &value);
    }

    /// Writes one gauge of a family whose rows differ in the value `of` of a label. The caller must
    /// limit the number of rows.
    pub fn labelled(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &str,
        of: &str,
        value: impl Display,
    ) {
        self.labelled_row("gauge", (name, help), &[(label, of)], &value);
    }

    /// Writes one counter of a family whose rows differ in the value `of` of a label. The caller
    /// must limit the number of rows.
    pub fn labelled_total(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &str,
        of: &str,
        value: impl Display,
    ) {
        self.labelled_row("counter", (name, help), &[(label, of)], &value);
    }

    /// Writes a gauge whose value is 1 and whose labels have the information.
    pub fn info(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) {
        self.labelled_row("gauge", (name, help), labels, &1);
    }

    fn labelled_row(
        &mut self,
        kind: &'static str,
        (name, help): (&'static str, &'static str),
        labels: &[(&str, &str)],
        value: &dyn Display,
    ) {
        let labels: Vec<_> = labels
            .iter()
            .map(|(label, of)| format!("{label}=\"{}\"", escape(of)))
            .collect();
        let family = self.family(name, help, kind);
        family.rows += &format!("{name}{{{}}} {value}\n", labels.join(","));
    }

    /// Writes values divided by `unit`.
    pub(super) fn histogram(&mut self, row: &Row, values: &Histogram, unit: f64) {
        let family = self.family(row.family, row.help, "histogram");
        values.render(&mut family.rows, row, unit);
    }

    pub(super) fn row(&mut self, kind: &'static str, row: &Row, value: &dyn Display) {
        let family = self.family(row.family, row.help, kind);
        family.rows += &format!("{}{} {value}\n", row.family, row.labels);
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the position was found or inserted above"
    )]
    fn family(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
    ) -> &mut Family {
        let position = self.families.iter().position(|family| family.name == name);
        let position = position.unwrap_or_else(|| {
            let rows = String::new();
            self.families.push(Family {
                name,
                help,
                kind,
                rows,
            });
            self.families.len() - 1
        });
        &mut self.families[position]
    }
}

/// Escapes the three characters that the text format requires to be escaped in label values.
fn escape(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

fn unlabelled(family: &'static str, help: &'static str) -> Row {
    Row {
        family,
        help,
        labels: "",
    }
}

impl Display for Exposition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for family in &self.families {
            let Family {
                name,
                help,
                kind,
                rows,
            } = family;
            // The text format requires these two characters to be escaped in help texts.
            let help = help.replace('\\', r"\\").replace('\n', r"\n");
            write!(f, "# HELP {name} {help}\n# TYPE {name} {kind}\n{rows}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Registry, *};

    crate::metric_table! {
        enum One {
            "tests_total" => "Tests, by table." { A["of" = "one"] }
            "others_total" => "Others." { B }
        }
    }
    crate::metric_table! {
        enum Two {
            "tests_total" => "Help that is not first." { C["of" = "two"] }
        }
    }

    #[test]
    fn label_values_are_escaped() {
        let mut text = Exposition::default();
        text.labelled("tests", "Tests.", "node", "a\"\\\n", 0.5);
        text.labelled("tests", "Tests.", "node", "b", 2);
        assert_eq!(
            text.to_string(),
            "# HELP tests Tests.\n# TYPE tests gauge\ntests{node=\"a\\\"\\\\\\n\"} 0.5\ntests{node=\"b\"} 2\n"
        );
    }

    #[test]
    fn information_has_all_its_labels_in_one_row() {
        let mut text = Exposition::default();
        text.info("tests_info", "Tests.", &[("a", "1\""), ("b", "")]);
        text.labelled_total("tests_total", "Tests.", "of", "one", 3);
        assert_eq!(
            text.to_string(),
            "# HELP tests_info Tests.\n# TYPE tests_info gauge\ntests_info{a=\"1\\\"\",b=\"\"} 1\n\
             # HELP tests_total Tests.\n# TYPE tests_total counter\ntests_total{of=\"one\"} 3\n"
        );
    }

    #[test]
    fn help_texts_are_escaped() {
        let mut text = Exposition::default();
        text.gauge("tests", "One \\ and\ntwo.", 1);
        text.total("tests_total", "Tests.", 2);
        assert_eq!(
            text.to_string(),
            "# HELP tests One \\\\ and\\ntwo.\n# TYPE tests gauge\ntests 1\n\
             # HELP tests_total Tests.\n# TYPE tests_total counter\ntests_total 2\n"
        );
    }

    #[test]
    fn a_family_of_two_tables_is_one_group() {
        let (one, two) = (Registry::<One>::new(), Registry::<Two>::new());
        one.add(One::A, 1);
        one.add(One::B, 2);
        two.add(Two::C, 3);
        one.extend(move |out| two.expose(out));
        assert_eq!(
            one.render(),
            "# HELP tests_total Tests, by table.\n# TYPE tests_total counter\n\
             tests_total{of=\"one\"} 1\ntests_total{of=\"two\"} 3\n\
             # HELP others_total Others.\n# TYPE others_total counter\nothers_total 2\n"
        );
    }
}
