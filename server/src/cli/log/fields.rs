//! Adds the connection to log lines: its id, user, socket and address, and this server.
//!
//! The formatter passes each line in one piece to its writer, on the thread that logs it. So the
//! fields are read only for lines that are written, and lines of libraries have them as well.

use std::io::{self, Write};

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;
use roomcast::internal::{current_log_fields, log_node};

/// Makes writers that add the fields.
pub(super) struct Located<W> {
    inner: W,
    format: LogFormat,
}

impl<W> Located<W> {
    pub(super) const fn new(inner: W, format: LogFormat) -> Self {
        Self { inner, format }
    }
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Located<W> {
    type Writer = LineWriter<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter {
            inner: self.inner.make_writer(),
            format: self.format,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        LineWriter {
            inner: self.inner.make_writer_for(metadata),
            format: self.format,
        }
    }
}

/// Writes one line.
pub(super) struct LineWriter<W> {
    inner: W,
    format: LogFormat,
}

impl<W: Write> Write for LineWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match located(line, self.format) {
            Some(longer) => self.inner.write_all(&longer)?,
            None => self.inner.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Returns the line with the fields of the connection that this thread works for, if there is one.
fn located(line: &[u8], format: LogFormat) -> Option<Vec<u8>> {
    let fields = current_log_fields()?;
    let text = str::from_utf8(line).ok()?.trim_end_matches('\n');
    let values = [
        ("connection", Some(fields.connection.to_string())),
        ("user", fields.user),
        ("socket", fields.socket),
        ("address", Some(fields.address.to_string())),
        ("node", log_node().map(str::to_owned)),
    ];
    let mut longer = match format {
        LogFormat::Human => text.to_owned(),
        LogFormat::Json => text.strip_suffix('}')?.to_owned(),
    };
    for (name, value) in values {
        let Some(value) = value else { continue };
        match format {
            // The line names it already, such as the user whose event was refused.
            LogFormat::Human if text.contains(&format!(" {name}=")) => {}
            LogFormat::Json if text.contains(&format!("\"{name}\":")) => {}
            // A user's id can contain spaces and quotes.
            LogFormat::Human => longer.push_str(&format!(" {name}={value:?}")),
            LogFormat::Json => {
                let value = serde_json::Value::from(value);
                longer.push_str(&format!(",\"{name}\":{value}"));
            }
        }
    }
    longer.push_str(match format {
        LogFormat::Human => "\n",
        LogFormat::Json => "}\n",
    });
    Some(longer.into_bytes())
}
