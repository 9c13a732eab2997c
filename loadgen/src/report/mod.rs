//! Reports of a run, or of a comparison of two servers: JSON fields, text for a terminal, and HTML
//! pages with plots.
//!
//! `play` creates a [`Report`] for each run and returns it to the caller. Of the other folders,
//! this one imports `load` and `account`. It must not know how a run is played. It opens no
//! connection, reads no clock and writes no file, so the same figures always give the same report.

mod comparison;
mod figures;
mod html;
mod svg;
mod text;

pub use comparison::Comparison;
pub use figures::Report;
pub use html::{comparison as comparison_html, page as report_html};
pub use text::{comparison as comparison_text, summary as report_text};
