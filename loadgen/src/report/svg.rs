//! Plots as inline SVG, coloured by the page's style sheet.

use std::fmt::Write as _;

use super::text::number;

/// One line of a plot.
#[derive(Debug)]
pub(super) struct Series<'a> {
    /// The label of the line, which the caller has escaped.
    pub(super) name: &'a str,
    pub(super) points: Vec<[f64; 2]>,
}

/// The scale of the x axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// Seconds.
    Time,
    /// Shares from 0 to 1, with the same width for each further nine.
    Nines,
}

/// Returns a plot from zero. The CSS classes of the lines are `a`, `b` and `c`.
pub(super) fn plot(title: &str, unit: &str, scale: Scale, series: &[Series<'_>]) -> String {
    let all = || series.iter().flat_map(|series| &series.points);
    let top = ceiling(all().map(|point| point[1]).fold(0.0, f64::max));
    let finest = all()
        .map(|point| point[0])
        .filter(|&at| at < 1.0)
        .fold(0.0, f64::max);
    let place = |value| scale.place(value, finest);
    let places = || all().map(|point| place(point[0]));
    let (first, last) = (
        places().fold(f64::MAX, f64::min),
        places().fold(f64::MIN, f64::max),
    );
    let width = if last > first { last - first } else { 1.0 };
    let x = |value: f64| LEFT + (place(value) - first) / width * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + (1.0 - value / top) * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<h3>{title}</h3>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">"
    );
    // Writing to a string cannot fail.
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"y\" x=\"{}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y(value) + 4.0,
            number(value),
            y = y(value),
        );
    }
    let _ = write!(
        svg,
        "<text class=\"unit\" x=\"{LEFT}\" y=\"12\">{unit}</text>"
    );
    if all().next().is_some() {
        let last = all().map(|point| point[0]).fold(0.0, f64::max);
        for (value, label) in scale.labels(last, finest) {
            let _ = write!(
                svg,
                "<text class=\"x\" x=\"{:.1}\" y=\"{}\">{label}</text>",
                x(value),
                HEIGHT - 6.0
            );
        }
    }
    for (i, (line, class)) in series.iter().zip(["a", "b", "c"]).enumerate() {
        let mut path = String::new();
        for [at, value] in &line.points {
            let command = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", x(*at), y(*value));
        }
        if line.points.len() == 1 {
            path.push_str("h0"); // A line of no length is drawn as a dot.
        }
        let place = WIDTH - RIGHT - 10.0 - 110.0 * (series.len() - 1 - i) as f64;
        let _ = write!(
            svg,
            "<path class=\"line {class}\" d=\"{path}\"/>\
             <text class=\"legend {class}\" x=\"{place}\" y=\"12\">{name}</text>",
            name = line.name,
        );
    }
    svg.push_str("</svg>");
    svg
}

impl Scale {
    /// Returns the position of a value. For shares, `finest` is the greatest share below 1.
    fn place(self, value: f64, finest: f64) -> f64 {
        let nines = |share: f64| -(1.0 - share).max(1e-6).log10();
        match self {
            Self::Time => value,
            Self::Nines if value < 1.0 => nines(value),
            // The maximum is drawn a little after the finest share.
            Self::Nines => nines(finest) + 0.5,
        }
    }

    fn labels(self, last: f64, finest: f64) -> Vec<(f64, String)> {
        match self {
            Self::Time => (0..=4)
                .map(|step| last * f64::from(step) / 4.0)
                .map(|at| (at, format!("{} s", number(at))))
                .collect(),
            Self::Nines => [
                (0.0, "0"),
                (0.5, "50 %"),
                (0.9, "90 %"),
                (0.99, "99 %"),
                (0.999, "99.9 %"),
                (0.9999, "99.99 %"),
            ]
            .into_iter()
            .filter(|(share, _)| *share <= finest)
            .chain((last >= 1.0).then_some((1.0, "max")))
            .map(|(share, label)| (share, label.to_owned()))
            .collect(),
        }
    }
}

/// Returns the smallest 1, 2 or 5 times a power of ten that is not less.
fn ceiling(value: f64) -> f64 {
    if !value.is_finite() || value <= 0.0 {
        return 1.0;
    }
    let base = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * base)
        .find(|&step| step >= value)
        .unwrap_or(value)
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 28.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_of_a_plot_is_a_round_number() {
        for (value, top) in [
            (0.0, 1.0),
            (0.03, 0.05),
            (1.0, 1.0),
            (7.0, 10.0),
            (120.0, 200.0),
        ] {
            assert!(
                (ceiling(value) - top).abs() < 1e-9,
                "{value}: {}",
                ceiling(value)
            );
        }
        assert_eq!(ceiling(f64::NAN), 1.0);
    }

    #[test]
    fn a_plot_keeps_its_lines_inside() {
        let series = |points: Vec<[f64; 2]>| Series {
            name: "p99",
            points,
        };
        for scale in [Scale::Time, Scale::Nines] {
            for points in [
                vec![],
                vec![[0.5, 3.0]],
                vec![[0.0, 1.0], [0.99, 5.0], [1.0, 9.0]],
            ] {
                let svg = plot("t", "ms", scale, &[series(points)]);
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
                assert!(svg.ends_with("</svg>"));
            }
        }
    }

    #[test]
    fn plot_has_labels_and_shows_a_single_point() {
        let points = vec![[1.0, 9.0]];
        let line = Series {
            name: "p99",
            points,
        };
        let svg = plot("Latency over time", "ms", Scale::Time, &[line]);
        assert!(svg.starts_with("<h3>Latency over time</h3>"), "{svg}");
        assert!(svg.contains("h0\""), "{svg}");
    }

    #[test]
    fn maximum_is_drawn_right_after_the_finest_percentile() {
        let place = |share| Scale::Nines.place(share, 0.99);
        assert!(place(0.9) < place(0.99) && place(0.99) < place(1.0));
        assert!(place(1.0) < 3.0);
        let labels = Scale::Nines.labels(1.0, 0.99);
        let labels: Vec<_> = labels.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["0", "50 %", "90 %", "99 %", "max"]);
    }
}
