//! The catalogue for people: `docs/events.md`.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Catalogue, Deprecated, Received, Sent, printed, sentence};
use crate::service::rules::event::ArgumentForm;

impl Catalogue {
    /// A table for each direction, then each event with examples, then the types.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from(
            "# Events\n\n\
         Written by a test from the rows in `server/src/service/rules`, which are also what is checked and sent; \
         `roomcast catalog --format markdown` prints the same. The rules that all events have are in [chat.md](chat.md). \
         They are of the namespace `/`, but for those that begin with `admin:`, which are of [`/admin`](admin.md).\n\n\
         ## What clients send\n\n\
         | event | version | does | permission | limit | who else |\n|---|---|---|---|---|---|\n",
        );
        for Received { row, .. } in &self.received {
            let permission = row
                .permission
                .map_or_else(|| "–".to_owned(), |needed| format!("`{}`", needed.as_str()));
            let _ = writeln!(
                text,
                "| [`{}`](#{}-from-clients) | {} | {} | {permission} | {} | {} |",
                row.event,
                anchor(row.event),
                row.version(),
                row.does,
                row.class.as_str(),
                row.who(),
            );
        }
        text.push_str(
            "\n## What the server sends\n\n\
         | event | version | tells | who gets it | rooms | delivery |\n|---|---|---|---|---|---|\n",
        );
        for Sent { row, .. } in &self.sent {
            let rooms = row.room_names().into_iter().map(|name| format!("`{name}`"));
            let rooms = match rooms.collect::<Vec<_>>() {
                none if none.is_empty() => "–".to_owned(),
                rooms => rooms.join(", "),
            };
            let _ = writeln!(
                text,
                "| [`{}`](#{}-from-the-server) | {} | {} | {} | {rooms} | {} |",
                row.event,
                anchor(row.event),
                row.version(),
                row.tells,
                row.to,
                row.delivery,
            );
        }
        text.push_str(
        "\n*Reliable* events wait for a client that is too slow, and one for which too much waits is disconnected. \
         *Conflated* ones give way to the next of the same key, and are dropped where there is no room for them either: they never cost a \
         client its connection. No event is *volatile*, which is never to wait: `typing` is one for the moment, and a client that polls would \
         never hear of it between two polls.\n\n\
         An event goes to the sockets in its *rooms*, or where there is none to one socket. A long id is in the name of a room as a hash: \
         names are for people and for the [HTTP API](http-api.md).\n",
    );
        for event in &self.received {
            event.describe(&mut text);
        }
        for event in &self.sent {
            event.describe(&mut text);
        }
        text.push_str("\n## Types\n");
        for (name, schema) in &self.types.0 {
            let _ = write!(text, "\n### `{name}`\n\n{}", fenced(schema));
        }
        text
    }
}

impl Received {
    fn describe(&self, text: &mut String) {
        let row = self.row;
        let answer = match &self.answer {
            Some(answer) => format!("`success: true` and {}", link(answer)),
            None => "`success: true`".to_owned(),
        };
        let payload = link(&self.payload);
        let argument = match row.argument {
            ArgumentForm::Object => payload,
            ArgumentForm::ObjectOrNone => format!("{payload}, and may be left out"),
            ArgumentForm::IdOrObject => format!("{payload}, or the id of the conversation alone"),
        };
        let _ = write!(
            text,
            "\n## `{}` from clients\n\n{}{} Its argument is {argument}; it is answered by {answer}. Row: {}\n\n{}\n{}",
            row.event,
            notice(self.deprecated),
            sentence(row.does),
            source(row.file),
            fenced(&(row.example)()),
            fenced(&row.acknowledgement()),
        );
    }
}

impl Sent {
    fn describe(&self, text: &mut String) {
        let row = self.row;
        let confirmed = if row.is_confirmed {
            " Where its sender wants to know who has it, it asks for an acknowledgement without arguments."
        } else {
            ""
        };
        let _ = write!(
            text,
            "\n## `{}` from the server\n\n{}{} Its argument is {}.{confirmed} Row: {}\n\n{}",
            row.event,
            notice(self.deprecated),
            sentence(row.tells),
            link(&self.payload),
            source(row.file),
            fenced(&(row.example)()),
        );
    }
}

fn notice(deprecated: Option<Deprecated>) -> String {
    deprecated.map_or_else(String::new, |notice| format!("**{notice}**\n\n"))
}

fn fenced(value: &Value) -> String {
    format!("```json\n{}\n```\n", printed(value))
}

fn link(name: &str) -> String {
    format!("[`{name}`](#{})", name.to_lowercase())
}

fn source(file: &str) -> String {
    format!("[`{file}`](../{file})")
}

/// The name of an event in the anchor of its heading.
fn anchor(event: &str) -> String {
    event.replace(':', "")
}
