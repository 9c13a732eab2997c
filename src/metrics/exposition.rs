use std::fmt::{self, Display, Formatter};

use super::{Counters, Gauges, Histogram, Row};

/// Metrics in the Prometheus text format (version 0.0.4).
///
/// The format requires all rows of a family in one group, so rows of several tables that belong to
/// one family are merged.
#[derive(Debug, Default)]
pub struct Exposition {
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    kind: &'static str,
    /// Complete lines.
    rows: String,
}

impl Exposition {
    /// Writes counters.
    pub fn counters<const N: usize>(&mut self, rows: &'static [Row], counters: &Counters<N>) {
        for (position, row) in rows.iter().enumerate() {
            self.row("counter", row, &counters.value(position));
        }
    }

    /// Writes gauges.
    pub fn gauges<const N: usize>(&mut self, rows: &'static [Row], gauges: &Gauges<N>) {
        for (position, row) in rows.iter().enumerate() {
            self.row("gauge", row, &gauges.value(position));
        }
    }

    /// Writes durations, which are recorded in microseconds and rendered in seconds.
    pub fn seconds<const N: usize>(&mut self, name: &'static str, times: &Histogram<N>) {
        let family = self.family(name, "histogram");
        times.render(&mut family.rows, name, 1e6);
    }

    /// Writes sizes in bytes.
    pub fn bytes<const N: usize>(&mut self, name: &'static str, sizes: &Histogram<N>) {
        let family = self.family(name, "histogram");
        sizes.render(&mut family.rows, name, 1.0);
    }

    /// Writes one gauge.
    pub fn gauge(&mut self, name: &'static str, value: impl Display) {
        self.row("gauge", &(name, ""), &value);
    }

    /// Writes one counter.
    pub fn total(&mut self, name: &'static str, value: impl Display) {
        self.row("counter", &(name, ""), &value);
    }

    /// Writes one row of a family whose rows differ in a label. The caller must limit the number of
    /// rows.
    pub fn labelled(&mut self, name: &'static str, label: &str, of: &str, value: impl Display) {
        // The text format requires these three characters to be escaped in label values.
        let of = of
            .replace('\\', r"\\")
            .replace('"', "\\\"")
            .replace('\n', r"\n");
        let family = self.family(name, "gauge");
        family.rows += &format!("{name}{{{label}=\"{of}\"}} {value}\n");
    }

    fn row(&mut self, kind: &'static str, (name, labels): &Row, value: &dyn Display) {
        let family = self.family(name, kind);
        family.rows += &format!("{name}{labels} {value}\n");
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the position was found or made here"
    )]
    fn family(&mut self, name: &'static str, kind: &'static str) -> &mut Family {
        let position = self.families.iter().position(|family| family.name == name);
        let position = position.unwrap_or_else(|| {
            let rows = String::new();
            self.families.push(Family { name, kind, rows });
            self.families.len() - 1
        });
        &mut self.families[position]
    }
}

impl Display for Exposition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for Family { name, kind, rows } in &self.families {
            write!(f, "# TYPE {name} {kind}\n{rows}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::metric_table! {
        enum One { A => "tests_total"["of" = "one"], B => "others_total" }
    }
    crate::metric_table! {
        enum Two { C => "tests_total"["of" = "two"] }
    }

    #[test]
    fn label_values_are_escaped() {
        let mut text = Exposition::default();
        text.labelled("tests", "node", "a\"\\\n", 0.5);
        text.labelled("tests", "node", "b", 2);
        assert_eq!(
            text.to_string(),
            "# TYPE tests gauge\ntests{node=\"a\\\"\\\\\\n\"} 0.5\ntests{node=\"b\"} 2\n"
        );
    }

    #[test]
    fn a_family_of_two_tables_is_one_group() {
        let (one, two) = (Counters::<2>::new(), Counters::<1>::new());
        one.add(One::A as usize, 1);
        one.add(One::B as usize, 2);
        two.add(Two::C as usize, 3);
        let mut text = Exposition::default();
        text.counters(One::ROWS, &one);
        text.counters(Two::ROWS, &two);
        assert_eq!(
            text.to_string(),
            "# TYPE tests_total counter\ntests_total{of=\"one\"} 1\ntests_total{of=\"two\"} 3\n\
             # TYPE others_total counter\nothers_total 2\n"
        );
    }
}
