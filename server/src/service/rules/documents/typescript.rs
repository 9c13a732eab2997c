//! The catalogue as types of TypeScript, which the client package and the page compile against.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{Catalogue, Deprecated, sentence};
use crate::service::rules::event::ArgumentForm;

impl Catalogue {
    /// A module with all types, and the events of both directions for Socket.IO's client.
    pub(crate) fn typescript(&self) -> String {
        let mut text = String::from(
            "/**\n * The events of the chat, and what is in them. Written by a test of the server from its catalogue of events, as\n \
         * `roomcast catalog --format typescript` prints it; see docs/architecture.md.\n */\n",
        );
        for (name, schema) in &self.types.0 {
            text.push('\n');
            comment(&mut text, "", schema["description"].as_str());
            let _ = match schema["properties"].as_object() {
                Some(_) => writeln!(text, "export interface {name} {}", object(schema)),
                None => writeln!(text, "export type {name} = {};", type_of(schema)),
            };
        }
        // The module has no imports, so that it compiles wherever the output is stored.
        text.push_str(
            "\n/** What went wrong, as the server reports it in a refused request. */\n\
             export interface Failure {\n  code: string;\n  message: string;\n  \
             /** Milliseconds after which another attempt makes sense. */\n  \
             retryAfter?: number;\n  details?: unknown;\n}\n\
             \n/** The acknowledgement of a request. */\n\
             export type Acknowledgement<Answer> = ({ success: true } & Answer) | { success: false; error: Failure };\n\
             \n/** The arguments of an event before its acknowledgement: none if the payload may be left out. */\n\
             export type EventArguments<Payload> = undefined extends Payload\n  ? [payload: Exclude<Payload, undefined>] | []\n  : [payload: Payload];\n",
        );
        self.events_of(&mut text, "", "/");
        self.events_of(&mut text, "Admin", "/admin");
        text
    }

    /// The events of a namespace, in types whose names begin so.
    fn events_of(&self, text: &mut String, prefix: &str, namespace: &str) {
        let of = match namespace {
            "/" => String::new(),
            other => format!(" in the namespace `{other}`"),
        };
        let _ = write!(
            text,
            "\n/** What clients send{of}, by the name of the event: its argument, and the answer that comes with `success: true`. */\n\
             export interface {prefix}Requests {{\n",
        );
        let received = self.received.iter();
        for event in received.filter(|event| event.row.namespace() == namespace) {
            comment(
                text,
                "  ",
                Some(&described(event.row.does, event.deprecated)),
            );
            let answer = event.answer.as_deref().unwrap_or("object");
            let payload = match event.row.argument {
                ArgumentForm::Object => event.payload.clone(),
                ArgumentForm::ObjectOrNone => format!("{} | undefined", event.payload),
                ArgumentForm::IdOrObject => format!("string | {}", event.payload),
            };
            let _ = writeln!(
                text,
                "  {}: {{ payload: {payload}; answer: {answer} }};",
                key(event.row.event),
            );
        }
        let socket = format!("Socket<{prefix}ServerToClientEvents");
        let _ = write!(
            text,
            "}}\n\n/**\n * What clients send{of}, for `{socket}, {prefix}ClientToServerEvents>` of socket.io-client: with an\n \
             * acknowledgement or without. socket.io-client cannot type the answers of `emitWithAck` then; `{prefix}AcknowledgedEvents` can.\n */\n\
             export type {prefix}ClientToServerEvents = {{\n  [Name in keyof {prefix}Requests]: (\n    \
             ...args:\n      | EventArguments<{prefix}Requests[Name][\"payload\"]>\n      \
             | [...EventArguments<{prefix}Requests[Name][\"payload\"]>, answer: (answer: Acknowledgement<{prefix}Requests[Name][\"answer\"]>) => void]\n  \
             ) => void;\n}};\n\n\
             /**\n * What clients send{of} with an acknowledgement, so that `emitWithAck` has the type of each answer:\n \
             * `{socket}, {prefix}AcknowledgedEvents> & {prefix}UnacknowledgedEmit`.\n */\n\
             export type {prefix}AcknowledgedEvents = {{\n  [Name in keyof {prefix}Requests]: (\n    \
             ...args: [...EventArguments<{prefix}Requests[Name][\"payload\"]>, answer: (answer: Acknowledgement<{prefix}Requests[Name][\"answer\"]>) => void]\n  \
             ) => void;\n}};\n\n\
             /** `emit` without an acknowledgement. */\n\
             export interface {prefix}UnacknowledgedEmit {{\n  \
             emit<Name extends keyof {prefix}Requests>(event: Name, ...args: EventArguments<{prefix}Requests[Name][\"payload\"]>): unknown;\n}}\n\n\
             /** What the server sends{of} without being asked. */\n\
             export interface {prefix}ServerToClientEvents {{\n",
        );
        let sent = self.sent.iter();
        for event in sent.filter(|event| event.row.namespace() == namespace) {
            comment(
                text,
                "  ",
                Some(&described(event.row.tells, event.deprecated)),
            );
            let confirm = if event.row.is_confirmed {
                ", confirm?: () => void"
            } else {
                ""
            };
            let _ = writeln!(
                text,
                "  {}: (payload: {}{confirm}) => void;",
                key(event.row.event),
                event.payload
            );
        }
        text.push_str("}\n");
    }
}

fn described(words: &str, deprecated: Option<Deprecated>) -> String {
    let words = sentence(words);
    match deprecated {
        Some(notice) => format!("{words} @deprecated {notice}"),
        None => words,
    }
}

/// The type of a schema.
fn type_of(schema: &Value) -> String {
    if let Some(target) = schema["$ref"].as_str() {
        return target.rsplit('/').next().unwrap_or(target).to_owned();
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    if let Some(values) = schema["enum"].as_array() {
        return union(values.iter().map(Value::to_string));
    }
    let choice = schema.get("oneOf").or_else(|| schema.get("anyOf"));
    if let Some(schemas) = choice.and_then(Value::as_array) {
        return union(schemas.iter().map(type_of));
    }
    let kind = &schema["type"];
    match kind.as_array() {
        Some(kinds) => union(kinds.iter().map(|kind| named(kind, schema))),
        None => named(kind, schema),
    }
}

/// The type of a schema that is of one kind.
fn named(kind: &Value, schema: &Value) -> String {
    match kind.as_str() {
        Some("integer" | "number") => "number".to_owned(),
        Some("array") => format!("{}[]", type_of(&schema["items"])),
        Some("object") if schema.get("properties").is_some() => object(schema),
        Some("object") => "Record<string, unknown>".to_owned(),
        Some(same @ ("string" | "boolean" | "null")) => same.to_owned(),
        Some(_) | None => "unknown".to_owned(),
    }
}

fn union(types: impl Iterator<Item = String>) -> String {
    types.collect::<Vec<_>>().join(" | ")
}

/// The fields of an object. One that need not be there is left out instead of being `null`.
fn object(schema: &Value) -> String {
    let none = Map::new();
    let mut text = String::from("{\n");
    let fields = schema["properties"].as_object().unwrap_or(&none);
    let required = schema["required"].as_array();
    for (name, field) in fields {
        comment(&mut text, "  ", field["description"].as_str());
        let is_required = required.is_some_and(|names| names.iter().any(|it| it == name));
        let type_of = type_of(field);
        let _ = if is_required {
            writeln!(text, "  {}: {type_of};", key(name))
        } else {
            writeln!(
                text,
                "  {}?: {};",
                key(name),
                type_of.trim_end_matches(" | null")
            )
        };
    }
    if schema["additionalProperties"] == Value::Bool(true) {
        text.push_str("  [name: string]: unknown;\n");
    }
    text.push('}');
    text
}

/// A name that may have colons in it.
fn key(name: &str) -> String {
    if name.contains(':') {
        format!("\"{name}\"")
    } else {
        name.to_owned()
    }
}

fn comment(text: &mut String, indent: &str, words: Option<&str>) {
    if let Some(words) = words {
        let _ = writeln!(text, "{indent}/** {} */", words.replace('\n', " "));
    }
}
