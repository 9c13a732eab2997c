//! A line on the terminal that shows the progress of a run.

use std::{io::IsTerminal as _, sync::atomic::Ordering, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    clients::RunState,
    load::{Plan, Scenario},
};

/// The progress display, shown on stderr if that is a terminal.
#[derive(Debug)]
pub(super) struct Display {
    bar: ProgressBar,
    clients: u64,
    is_coming: bool,
    /// Arrivals and time at the last update.
    last: (u64, Duration),
}

impl Display {
    pub(super) fn new(plan: &Plan, title: &str) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            let length = plan.warmup + plan.duration;
            let bar = ProgressBar::new(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
            let style = ProgressStyle::with_template("{prefix} {bar:30} {msg}");
            // The template is constant and valid; if it were not, the default would do.
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(title.to_owned());
            bar
        } else {
            ProgressBar::hidden()
        };
        Self {
            bar,
            clients: plan.clients as u64,
            is_coming: plan.scenario != Scenario::Connect,
            last: (0, Duration::ZERO),
        }
    }

    /// Updates the display. `elapsed` is the time since the first message was due.
    pub(super) fn show(&mut self, shared: &RunState, elapsed: Option<Duration>) {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let progress = &shared.progress;
        let (connected, failed) = (count(&progress.connected), count(&progress.failed));
        let trouble = match failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        let Some(elapsed) = elapsed else {
            if self.is_coming {
                let clients = self.clients;
                self.bar
                    .set_message(format!("{connected} of {clients} connected{trouble}"));
            }
            return;
        };
        let arrived = count(&progress.arrived);
        let seconds = elapsed.saturating_sub(self.last.1).as_secs_f64();
        if seconds < 0.5 {
            return;
        }
        let rate = arrived.saturating_sub(self.last.0) as f64 / seconds;
        self.last = (arrived, elapsed);
        self.bar
            .set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        self.bar.set_message(format!(
            "{:.0} s, {rate:.0}/s arrive{trouble}",
            elapsed.as_secs_f64()
        ));
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
