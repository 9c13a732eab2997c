//! What a run, or a comparison of two servers, is told in: fields for JSON, text for a terminal, and
//! pages of HTML with plots.
//!
//! `play` makes a [`Report`] of each run, and whoever started it reads that. Of the other folders this
//! one imports `load` and `account`. It must not know how a run is played: it opens no connection,
//! reads no clock and writes no file, so the same figures always give the same report.

mod comparison;
mod figures;
mod html;
mod svg;
mod text;

pub use comparison::Comparison;
pub use figures::Report;
pub use html::{comparison as comparison_html, page as report_html};
pub use text::{comparison as comparison_text, summary as report_text};
