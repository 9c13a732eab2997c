//! Progress of long commands, shown on standard error if that is a terminal.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// A line with the progress, which disappears when it is dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Starts to show the progress towards a number.
    pub(super) fn towards(total: u64, title: &'static str) -> Self {
        Self::new(
            ProgressBar::new(total),
            "{msg} {bar:30} {pos} of {len}, {eta} left",
            title,
        )
    }

    /// Starts to show that work of unknown length is in progress.
    pub(super) fn unknown(title: &'static str) -> Self {
        Self::new(ProgressBar::no_length(), "{msg} {spinner} {elapsed}", title)
    }

    /// Starts to show a growing number.
    pub(super) fn counting(title: &'static str) -> Self {
        Self::new(ProgressBar::no_length(), "{msg} {pos}, {elapsed}", title)
    }

    fn new(bar: ProgressBar, template: &str, title: &'static str) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template(template);
        // The templates are constant and valid; if they were not, the default would do.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(title);
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Shows a reached number.
    pub(super) fn reach(&self, number: u64) {
        self.0.set_position(number);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The interval between updates.
const TICK: Duration = Duration::from_millis(100);
