//! Reads a recording. It is accepted as a whole or refused with the line and the reason.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use roomcast_protocol::socket::RESERVED_EVENTS;
use serde_json::{Value, value::RawValue};

use crate::metrics::trace::{Answered, Header, Opened, RecordLine, SentEvent, VERSION};

/// A valid recording.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) header: Header,
    pub(super) connections: Vec<Track>,
    /// Lines that found no place in the queue of the server.
    pub(super) dropped: u64,
    /// Events and answers that could not be recorded, such as those with attachments.
    pub(super) skipped: u64,
    /// Why the recording ended, or `None` if the file has no end.
    pub(super) end: Option<String>,
}

/// What one client did in one namespace.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) opened: Opened,
    /// The number of the line about the start.
    pub(super) line: u64,
    pub(super) events: Vec<Sent>,
    /// Each with the number of its line.
    pub(super) steps: Vec<(u64, Step)>,
}

/// An event to send.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) at_ms: f64,
    pub(super) event: String,
    /// A valid list.
    pub(super) args: Box<RawValue>,
    pub(super) requests_answer: bool,
    pub(super) answer: Option<Answer>,
}

/// A recorded answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) latency_ms: f64,
    /// A valid list.
    pub(super) args: Box<RawValue>,
}

/// What a client did, in order. Numbers are indices of [`Track::events`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Send(usize),
    /// The answer to an event arrived.
    Receive(usize),
    /// The connection ended, this many milliseconds after the start.
    Close(f64),
}

/// Reads a file.
///
/// # Errors
///
/// Names the file, the line and the fault.
pub(super) fn read(path: &Path) -> Result<Recording, String> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| format!("{shown}: {error}"))?;
    parse(BufReader::new(file)).map_err(|(line, fault)| format!("{shown}: line {line}: {fault}"))
}

/// The number of a line, and its fault.
type Fault = (u64, String);

fn parse(mut reader: impl BufRead) -> Result<Recording, Fault> {
    let mut parser = Parser::default();
    let mut number = 0;
    let mut size = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        number += 1;
        let limit = MAX_LINE as u64 + 1;
        let read = reader.by_ref().take(limit).read_until(b'\n', &mut line);
        size += read.map_err(|error| (number, error.to_string()))? as u64;
        if line.is_empty() {
            break;
        }
        let taken = if line.len() > MAX_LINE {
            Err(format!("it has more than {MAX_LINE} bytes"))
        } else if size > MAX_FILE {
            Err(format!("the file has more than {MAX_FILE} bytes"))
        } else if line.pop() != Some(b'\n') {
            Err("it has no line end: the file is cut off".to_owned())
        } else {
            let line = serde_json::from_slice(&line);
            line.map_err(|error| error.to_string())
                .and_then(|line| parser.take(number, line))
        };
        taken.map_err(|fault| (number, fault))?;
    }
    let Some(header) = parser.header else {
        return Err((1, "the file is empty".to_owned()));
    };
    Ok(Recording {
        header,
        connections: parser.tracks,
        dropped: parser.dropped,
        skipped: parser.skipped,
        end: parser.end,
    })
}

/// The state after the lines so far.
#[derive(Debug, Default)]
struct Parser {
    /// The number of the present line.
    line: u64,
    header: Option<Header>,
    tracks: Vec<Track>,
    /// Where the connections that were opened are in `tracks`.
    connections: HashMap<u32, Open>,
    dropped: u64,
    skipped: u64,
    end: Option<String>,
}

#[derive(Debug)]
struct Open {
    track: usize,
    is_closed: bool,
    /// The events that are not answered, by the id of their acknowledgement.
    pending: HashMap<u64, usize>,
}

impl Parser {
    fn take(&mut self, number: u64, line: RecordLine) -> Result<(), String> {
        self.line = number;
        if self.end.is_some() {
            return Err("it follows the end of the recording".to_owned());
        }
        if self.header.is_none() != matches!(line, RecordLine::Recording(_)) {
            return Err("the header `recording` must be the first line, and only that".to_owned());
        }
        match line {
            RecordLine::Recording(header) => {
                if header.version != VERSION {
                    let version = header.version;
                    return Err(format!(
                        "version {version} of the format is not supported, only {VERSION}"
                    ));
                }
                if !header.masked && header.consent.is_none() {
                    return Err("`consent` is missing, and the recording is not masked".to_owned());
                }
                self.header = Some(header);
            }
            RecordLine::Open(opened) => self.open(opened)?,
            RecordLine::Event(sent) => self.event(sent)?,
            RecordLine::Answer(answer) => self.answer(answer)?,
            RecordLine::Skipped(skipped) => {
                check_time(skipped.at_ms)?;
                self.connection(skipped.connection)?;
                self.skipped += 1;
            }
            RecordLine::Close(closed) => {
                check_time(closed.at_ms)?;
                let open = self.connection(closed.connection)?;
                open.is_closed = true;
                let track = open.track;
                self.push(track, Step::Close(closed.at_ms));
            }
            RecordLine::Dropped(dropped) => {
                self.dropped = self.dropped.saturating_add(dropped.lines);
            }
            RecordLine::End(end) => {
                check_time(end.at_ms)?;
                self.end = Some(end.reason);
            }
        }
        Ok(())
    }

    fn open(&mut self, opened: Opened) -> Result<(), String> {
        check_time(opened.at_ms)?;
        let number = opened.connection;
        if self.tracks.len() >= MAX_CONNECTIONS {
            return Err(format!("there are more than {MAX_CONNECTIONS} connections"));
        }
        let is_name = |name: &str| {
            name.len() <= MAX_NAME && !name.is_empty() && !name.chars().any(char::is_control)
        };
        if !opened.namespace.starts_with('/') || !is_name(&opened.namespace) {
            return Err("`namespace` is not the name of a namespace".to_owned());
        }
        if !is_name(&opened.user) {
            return Err("`user` is not the id of a user".to_owned());
        }
        if !matches!(&*opened.transport, "polling" | "websocket") {
            return Err("`transport` is neither polling nor websocket".to_owned());
        }
        let open = Open {
            track: self.tracks.len(),
            is_closed: false,
            pending: HashMap::new(),
        };
        if self.connections.insert(number, open).is_some() {
            return Err(format!("connection {number} is opened twice"));
        }
        self.tracks.push(Track {
            opened,
            line: self.line,
            events: Vec::new(),
            steps: Vec::new(),
        });
        Ok(())
    }

    fn event(&mut self, sent: SentEvent) -> Result<(), String> {
        check_time(sent.at_ms)?;
        check_list(&sent.args)?;
        if sent.event.len() > MAX_NAME || RESERVED_EVENTS.contains(&&*sent.event) {
            return Err("`event` is not the name of an event of a client".to_owned());
        }
        let track = self.connection(sent.connection)?.track;
        let events = self.tracks.get_mut(track).map(|track| &mut track.events);
        let events = events.ok_or_else(unknown)?;
        let index = events.len();
        events.push(Sent {
            at_ms: sent.at_ms,
            event: sent.event,
            args: sent.args,
            requests_answer: sent.ack.is_some(),
            answer: None,
        });
        self.push(track, Step::Send(index));
        if let Some(id) = sent.ack {
            let open = self.connection(sent.connection)?;
            open.pending.insert(id, index);
        }
        Ok(())
    }

    fn answer(&mut self, answer: Answered) -> Result<(), String> {
        check_time(answer.at_ms)?;
        check_time(answer.latency_ms)?;
        check_list(&answer.args)?;
        let open = self.connection(answer.connection)?;
        let track = open.track;
        let Some(index) = open.pending.remove(&answer.ack) else {
            let id = answer.ack;
            return Err(format!("no event waits for the answer {id}"));
        };
        let events = self.tracks.get_mut(track).map(|track| &mut track.events);
        let event = events.and_then(|events| events.get_mut(index));
        event.ok_or_else(unknown)?.answer = Some(Answer {
            latency_ms: answer.latency_ms,
            args: answer.args,
        });
        self.push(track, Step::Receive(index));
        Ok(())
    }

    /// Returns an open connection.
    fn connection(&mut self, number: u32) -> Result<&mut Open, String> {
        let open = self.connections.get_mut(&number);
        open.filter(|open| !open.is_closed)
            .ok_or_else(|| format!("connection {number} is not open"))
    }

    fn push(&mut self, track: usize, step: Step) {
        if let Some(track) = self.tracks.get_mut(track) {
            track.steps.push((self.line, step));
        }
    }
}

fn unknown() -> String {
    "the connection is not open".to_owned()
}

fn check_time(ms: f64) -> Result<(), String> {
    if (0.0..=MAX_TIME_MS).contains(&ms) {
        return Ok(());
    }
    Err(format!(
        "a time is not from 0 to {MAX_TIME_MS} milliseconds"
    ))
}

fn check_list(args: &RawValue) -> Result<(), String> {
    let list: Result<Vec<Value>, _> = serde_json::from_str(args.get());
    list.map(drop)
        .map_err(|error| format!("`args` is not a valid list: {error}"))
}

/// Maximum bytes of a line with its end.
const MAX_LINE: usize = 1 << 20;
/// Maximum bytes of a file. A server records at most 256 MiB.
const MAX_FILE: u64 = 300 << 20;
/// Maximum connections.
const MAX_CONNECTIONS: usize = 10_000;
/// Maximum bytes of names of events and namespaces, and of ids of users.
const MAX_NAME: usize = 1024;
/// Maximum time after the start: a recording takes at most an hour.
const MAX_TIME_MS: f64 = 2.0 * 3_600_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"recording":{"version":1,"startedAt":"t","server":"0","node":"n","selection":"everyone","masked":true}}"#;
    const OPEN: &str = r#"{"open":{"atMs":0,"connection":1,"namespace":"/","transport":"websocket","user":"u","before":false}}"#;
    const EVENT: &str =
        r#"{"event":{"atMs":1.5,"connection":1,"event":"e","args":[{"a":1}],"ack":7}}"#;
    const ANSWER: &str =
        r#"{"answer":{"atMs":2,"connection":1,"ack":7,"latencyMs":0.5,"args":[true]}}"#;
    const CLOSE: &str = r#"{"close":{"atMs":3,"connection":1,"reason":"r"}}"#;
    const END: &str = r#"{"end":{"atMs":4,"reason":"the time is over"}}"#;

    fn parsed(lines: &[&str]) -> Result<Recording, Fault> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        parse(text.as_bytes())
    }

    #[test]
    fn lines_become_the_steps_of_connections() {
        let dropped = r#"{"dropped":{"lines":3}}"#;
        let skipped = r#"{"skipped":{"atMs":2,"connection":1,"reason":"binary attachments"}}"#;
        let lines = [HEADER, OPEN, EVENT, dropped, ANSWER, skipped, CLOSE, END];
        let recording = parsed(&lines).unwrap();
        assert_eq!((recording.dropped, recording.skipped), (3, 1));
        assert_eq!(recording.end.as_deref(), Some("the time is over"));
        let track = &recording.connections[0];
        assert_eq!(
            track.events[0].answer.as_ref().unwrap().args.get(),
            "[true]"
        );
        assert!(track.events[0].requests_answer);
        assert!(matches!(
            track.steps[..],
            [(3, Step::Send(0)), (5, Step::Receive(0)), (7, Step::Close(at))] if at == 3.0
        ));
        // A recording whose command was killed has no end.
        assert_eq!(parsed(&[HEADER, OPEN]).unwrap().end, None);
    }

    #[test]
    fn invalid_files_are_refused_with_line_and_reason() {
        let long = format!("{{\"dropped\":{{\"lines\":{}}}}}", " ".repeat(MAX_LINE));
        let deep = EVENT.replace(
            "{\"a\":1}",
            &format!("{}{}", "[".repeat(200), "]".repeat(200)),
        );
        for (lines, line, reason) in [
            (&[][..], 1, "empty"),
            (&[OPEN], 1, "first line"),
            (&[HEADER, HEADER], 2, "first line"),
            (&[&HEADER.replace(":1,", ":2,")], 1, "version 2"),
            (&[&HEADER.replace("true", "false")], 1, "consent"),
            (&[HEADER, "x"], 2, "expected value"),
            (&[HEADER, ""], 2, "EOF"),
            (&[HEADER, r#"{"other":{}}"#], 2, "unknown variant"),
            (
                &[HEADER, &OPEN.replace("before", "more")],
                2,
                "unknown field",
            ),
            (&[HEADER, OPEN, OPEN], 3, "opened twice"),
            (&[HEADER, &OPEN.replace("\"/\"", "\"x\"")], 2, "namespace"),
            (&[HEADER, &OPEN.replace("websocket", "x")], 2, "transport"),
            (&[HEADER, &OPEN.replace("\"u\"", "\"\"")], 2, "user"),
            (&[HEADER, &OPEN.replace(":0,", ":-1,")], 2, "a time"),
            (&[HEADER, EVENT], 2, "not open"),
            (&[HEADER, OPEN, CLOSE, EVENT], 4, "not open"),
            (&[HEADER, OPEN, ANSWER], 3, "no event waits"),
            (&[HEADER, OPEN, EVENT, ANSWER, ANSWER], 5, "no event waits"),
            (
                &[HEADER, OPEN, &EVENT.replace("[{\"a\":1}]", "{}")],
                3,
                "list",
            ),
            (&[HEADER, OPEN, &deep], 3, "recursion limit"),
            (
                &[HEADER, OPEN, &EVENT.replace("\"e\"", "\"connect\"")],
                3,
                "event",
            ),
            (&[HEADER, END, OPEN], 3, "follows the end"),
            (&[HEADER, &long], 2, "more than 1048576 bytes"),
        ] {
            let (number, fault) = parsed(lines).unwrap_err();
            assert!(
                number == line && fault.contains(reason),
                "{number}: {fault}, not {reason}"
            );
        }
        let (line, fault) = parse(format!("{HEADER}\n{OPEN}").as_bytes()).unwrap_err();
        assert!(line == 2 && fault.contains("cut off"), "{fault}");
    }
}
