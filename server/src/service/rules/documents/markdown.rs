//! The catalogue as Markdown for people: the page of events of the documentation site.

use std::fmt::Write as _;

use serde_json::Value;

use super::declared::Kind;
use super::{Catalogue, Deprecated, Received, Sent, printed, sentence};
use crate::service::rules::event::ArgumentForm;

impl Catalogue {
    /// Returns a table for each direction, then each event with examples, then the types.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from(
            "# Events\n\n\
         `roomcast catalog` prints this page from the rows in `server/src/service/rules`, which the server also uses to \
         check and send events. Rules for all events are in \
         [chat.md](chat.md). Events whose names begin with `admin:` belong to the namespace [`/admin`](admin.md), all others to `/`.\n\n\
         ## Events from clients\n\n\
         | event | version | does | permission | limit | senders |\n|---|---|---|---|---|---|\n",
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
            "\n## Events from the server\n\n\
         | event | version | reports | receivers | rooms | delivery |\n|---|---|---|---|---|---|\n",
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
                row.summary,
                row.to,
                row.delivery,
            );
        }
        text.push_str(
        "\n*Reliable* events wait for a slow client. A client with too many waiting events is disconnected. A *conflated* \
         event replaces a waiting event with the same key, and is dropped if the queue is full: it never disconnects a \
         client. No event is *volatile*: a volatile event never waits, so that a polling client would miss every \
         `typing` event that is sent between two polls.\n\n\
         An event goes to the sockets in its *rooms*, or to one socket if it has no room. The name of a room contains a long id \
         as a hash: names are for people and for the [HTTP API](http-api.md).\n",
    );
        for event in &self.received {
            event.describe(&mut text);
        }
        for event in &self.sent {
            event.describe(&mut text);
        }
        self.describe_kinds(&mut text);
        text.push_str("\n## Types\n");
        for (name, schema) in &self.types.0 {
            let _ = write!(text, "\n### `{name}`\n\n{}", fenced(schema));
        }
        text
    }

    /// Writes the declared kinds of channels, if there are any.
    fn describe_kinds(&self, text: &mut String) {
        if self.kinds.is_empty() {
            return;
        }
        text.push_str(
            "\n## Channels\n\nThe kinds of [channels](channels.md) that the configuration declares.\n\n\
             | kind | pattern | followers | publishers | history | presence | bounds |\n|---|---|---|---|---|---|---|\n",
        );
        for kind in &self.kinds {
            let _ = writeln!(
                text,
                "| `{}` | `{}` | {} | {} | {} | {} | {} |",
                kind.name,
                kind.declared.pattern,
                Kind::rules(&kind.declared.follow),
                Kind::rules(&kind.declared.publish),
                kind.shown_history(),
                if kind.declared.presence { "yes" } else { "no" },
                kind.shown_bounds(),
            );
        }
        text.push_str("\n| kind | event | first argument | second argument |\n|---|---|---|---|\n");
        let meta = link("EventMeta");
        for kind in &self.kinds {
            for (event, data) in &kind.events {
                let event = event.replace('|', "\\|");
                let _ = writeln!(
                    text,
                    "| `{}` | `{event}` | {} | {meta} |",
                    kind.name,
                    link(data)
                );
            }
            if kind.events.is_empty() {
                let _ = writeln!(text, "| `{}` | any event | any JSON | {meta} |", kind.name);
            }
        }
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
            ArgumentForm::ObjectOrNone => format!("{payload}, and can be omitted"),
            ArgumentForm::IdOrObject => format!("{payload}, or only the id of the conversation"),
        };
        let _ = write!(
            text,
            "\n## `{}` from clients\n\n{}{} Its argument is {argument}; its acknowledgement is {answer}. Row: {}\n\n{}\n{}",
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
            " If its sender requested confirmation, it asks for an acknowledgement without arguments."
        } else {
            ""
        };
        let _ = write!(
            text,
            "\n## `{}` from the server\n\n{}{} Its argument is {}.{confirmed} Row: {}\n\n{}",
            row.event,
            notice(self.deprecated),
            sentence(row.summary),
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

/// Returns the name of an event as it appears in the anchor of its heading.
fn anchor(event: &str) -> String {
    event.replace(':', "")
}
