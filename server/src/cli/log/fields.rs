//! Adds the connection to log lines: its id, user, socket and address, and this server.
//!
//! The formatter passes each line in one piece to its writer, on the thread that logs it. So the
//! fields are read only for lines that are written, and lines of libraries have them as well.
//! Whether a line names one of them already is asked of its metadata, because the text can have
//! colours, and values that a client chose.

use std::io::{self, Write};

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;
use roomcast::internal::{current_log_fields, log_node};

/// The names of the fields, in their order.
const NAMES: [&str; 5] = ["connection", "user", "socket", "address", "node"];

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
            has: [false; NAMES.len()],
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        LineWriter {
            inner: self.inner.make_writer_for(metadata),
            format: self.format,
            has: NAMES.map(|name| metadata.fields().field(name).is_some()),
        }
    }
}

/// Writes one line.
pub(super) struct LineWriter<W> {
    inner: W,
    format: LogFormat,
    /// Which of the fields the line has by itself, such as the user whose event was refused.
    has: [bool; NAMES.len()],
}

impl<W: Write> Write for LineWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match located(line, self.format, self.has) {
            Some(longer) => self.inner.write_all(&longer)?,
            None => self.inner.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Returns the line with the fields of the connection that this thread works for, if there is one,
/// without those that the line has.
fn located(line: &[u8], format: LogFormat, has: [bool; NAMES.len()]) -> Option<Vec<u8>> {
    let fields = current_log_fields()?;
    let text = str::from_utf8(line).ok()?.trim_end_matches('\n');
    let values = [
        Some(fields.connection.to_string()),
        fields.user,
        fields.socket,
        Some(fields.address.to_string()),
        log_node().map(str::to_owned),
    ];
    let mut longer = match format {
        LogFormat::Human => text.to_owned(),
        LogFormat::Json => text.strip_suffix('}')?.to_owned(),
    };
    for ((name, value), has) in NAMES.into_iter().zip(values).zip(has) {
        match (value, format) {
            (None, _) => {}
            (Some(_), _) if has => {}
            // A user's id can contain spaces and quotes.
            (Some(value), LogFormat::Human) => longer.push_str(&format!(" {name}={value:?}")),
            (Some(value), LogFormat::Json) => {
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
