//! Tests that the documents are current and their examples valid.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, iter};

use roomcast_protocol::socket::{Decoder, Limits};
use serde_json::{Value, json};

use super::Catalogue;
use crate::service::rules::event::ArgumentForm;
use crate::service::rules::examples::CONVERSATION;
use crate::service::rules::policy;
use crate::service::rules::versions::sample;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares the generated files with the catalogue. `tests/generate` writes them instead.
#[test]
fn generated_files_match_the_catalogue() {
    let catalogue = Catalogue::new();
    let documents = [
        ("web/packages/client/src/types.ts", catalogue.typescript()),
        ("web/packages/client/test/events.ts", sample()),
    ];
    let is_writing = std::env::var_os("WRITE_GENERATED_FILES").is_some();
    for (file, text) in documents {
        let path = root().join(file);
        if is_writing {
            fs::write(&path, &text).unwrap();
        }
        let is_current = fs::read_to_string(&path).unwrap_or_default() == text;
        assert!(is_current, "{file} is out of date: run tests/generate");
    }
}

/// Returns a socket.io-client program that uses every event with the examples of the rows.
fn sample() -> String {
    let mut text = String::from(
        "// A client that uses every event, compiled strictly by `package.test.ts` against the packed package. Written by\n\
         // `tests/generate`, with the examples of the catalogue of events.\n\
         import type {\n  AdminAcknowledgedEvents,\n  AdminClientToServerEvents,\n  AdminServerToClientEvents,\n  \
         AdminUnacknowledgedEmit,\n  AcknowledgedEvents,\n  ClientToServerEvents,\n  \
         ServerToClientEvents,\n  UnacknowledgedEmit,\n} from \"@roomcast/client\";\n\
         import { type Socket, io } from \"socket.io-client\";\n\n\
         const socket: Socket<ServerToClientEvents, AcknowledgedEvents> & UnacknowledgedEmit = io();\n\
         const admin: Socket<AdminServerToClientEvents, AdminAcknowledgedEvents> & AdminUnacknowledgedEmit = io(\"/admin\");\n\
         const plain: Socket<ServerToClientEvents, ClientToServerEvents> = io();\n\
         const plainAdmin: Socket<AdminServerToClientEvents, AdminClientToServerEvents> = io(\"/admin\");\n",
    );
    for (namespace, prefix, name) in [("/", "", "heard"), ("/admin", "Admin", "heardByAdmins")] {
        let _ = write!(
            text,
            "\n/** Every event that the server sends. */\n\
             export const {name}: {{ [Name in keyof {prefix}ServerToClientEvents]: Parameters<{prefix}ServerToClientEvents[Name]>[0] }} = {{\n",
        );
        for event in policy::emissions().filter(|event| event.namespace() == namespace) {
            let _ = writeln!(text, "  // To {}.", event.to);
            let _ = writeln!(text, "  {:?}: {},", event.event, (event.example)());
        }
        text.push_str("};\n");
    }
    text.push_str("\n/** Sends every event that clients send. */\nexport async function talk(): Promise<void> {\n");
    let socket = |namespace| match namespace {
        "/admin" => "admin",
        _ => "socket",
    };
    for event in policy::emissions() {
        let confirm = if event.is_confirmed { ", confirm" } else { "" };
        let used = |name: &String| format!("payload.{name}");
        let example = (event.example)();
        let mut used: Vec<_> = example.as_object().unwrap().keys().map(used).collect();
        used.extend(event.is_confirmed.then(|| "confirm?.()".to_owned()));
        let _ = writeln!(
            text,
            "  {}.on({:?}, (payload{confirm}) => console.log({}));",
            socket(event.namespace()),
            event.event,
            used.join(", "),
        );
    }
    for (number, event) in policy::events().enumerate() {
        let _ = writeln!(
            text,
            "  const answer{number} = await {}.emitWithAck({:?}, {});",
            socket(event.namespace()),
            event.event,
            (event.example)(),
        );
        let mut forms = vec![format!(", {}", (event.example)())];
        match event.argument {
            ArgumentForm::Object => {}
            ArgumentForm::ObjectOrNone => forms.push(String::new()),
            ArgumentForm::IdOrObject => forms.push(format!(", {:?}", CONVERSATION.to_string())),
        }
        let of = match event.namespace() {
            "/admin" => ["admin", "plainAdmin"],
            _ => ["socket", "plain"],
        };
        for form in forms {
            for socket in of {
                let _ = writeln!(text, "  {socket}.emit({:?}{form});", event.event);
                let _ = writeln!(
                    text,
                    "  {socket}.emit({:?}{form}, (answer) => console.log(answer.success));",
                    event.event
                );
                let _ = writeln!(
                    text,
                    "  await {socket}.emitWithAck({:?}{form});",
                    event.event
                );
            }
        }
        let _ = writeln!(
            text,
            "  if (!answer{number}.success) throw new Error(answer{number}.error.code);"
        );
        for field in (event.answered)().as_object().into_iter().flatten() {
            let _ = writeln!(text, "  console.log(answer{number}.{});", field.0);
        }
    }
    text.push_str("}\n");
    text
}

#[test]
fn every_example_matches_its_schema() {
    let catalogue = Catalogue::new();
    assert!(!catalogue.received.is_empty() && !catalogue.sent.is_empty());
    let types = &catalogue.types.0;
    let check = |event: &str, name: &str, value: &Value| {
        let wrong = fits(value, &types[name], types, name);
        assert_eq!(wrong, Ok(()), "{event}: {value}");
    };
    for event in &catalogue.received {
        let row = event.row;
        let example = (row.example)();
        let packet = Decoder::new(Limits::default()).text(format!("2[\"event\",{example}]").into());
        let args = packet.unwrap().unwrap().args;
        assert_eq!((row.refuses)(&args), None, "{}: {example}", row.event);
        check(row.event, &event.payload, &example);
        match &event.answer {
            Some(answer) => check(row.event, answer, &(row.answered)()),
            None => assert_eq!((row.answered)(), Value::Null, "{}", row.event),
        }
    }
    for event in &catalogue.sent {
        check(event.row.event, &event.payload, &(event.row.example)());
    }
}

/// Checks a value against a schema, as far as these schemas use JSON Schema. Returns the path of
/// the first mismatch.
fn fits(
    value: &Value,
    schema: &Value,
    types: &serde_json::Map<String, Value>,
    path: &str,
) -> Result<(), String> {
    if let Some(target) = schema["$ref"].as_str() {
        return fits(
            value,
            &types[target.strip_prefix("#/$defs/").unwrap()],
            types,
            path,
        );
    }
    if let Some(schemas) = schema
        .get("anyOf")
        .or_else(|| schema.get("oneOf"))
        .and_then(Value::as_array)
    {
        let any = schemas
            .iter()
            .any(|schema| fits(value, schema, types, path).is_ok());
        return any.then_some(()).ok_or_else(|| path.to_owned());
    }
    let is_one = |values: &Value| {
        values
            .as_array()
            .is_none_or(|values| values.contains(value))
    };
    if !is_one(&schema["enum"]) || schema.get("const").is_some_and(|only| only != value) {
        return Err(path.to_owned());
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = &schema["type"];
    // The schema allows any value.
    if kinds.is_null() && schema.get("properties").is_none() {
        return Ok(());
    }
    // Every integer is a number, and an amount may have a fraction.
    let is_of = |kinds: &Value| {
        let may_break = value.is_number() && kinds == "number";
        (kinds == kind && !value.is_f64()) || may_break
    };
    let is_kind = match kinds.as_array() {
        Some(kinds) => kinds.iter().any(is_of),
        None => is_of(kinds) || kinds.is_null(),
    };
    if !is_kind {
        return Err(path.to_owned());
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap();
        if value.is_object() && value.get(name).is_none() {
            return Err(format!("{path}.{name}"));
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        // A field that the schema does not define is a mistake in the example.
        let known = schema["properties"].get(name);
        if known.is_none() && schema["additionalProperties"] != json!(true) {
            return Err(format!("{path}.{name}"));
        }
        fits(
            field,
            known.unwrap_or(&Value::Null),
            types,
            &format!("{path}.{name}"),
        )?;
    }
    let items = value.as_array().into_iter().flatten();
    for (item, schema) in items.zip(iter::repeat(&schema["items"])) {
        fits(item, schema, types, &format!("{path}[]"))?;
    }
    Ok(())
}

#[test]
fn every_row_names_its_source_file() {
    let received = policy::events().map(|row| (row.event, row.file));
    let sent = policy::emissions().map(|row| (row.event, row.file));
    for (event, file) in received.chain(sent) {
        let source = fs::read_to_string(root().join(file)).unwrap();
        assert!(
            source.contains(&format!("\"{event}\"")),
            "{event} is not in {file}"
        );
    }
}

#[test]
fn document_references_resolve_and_contain_no_rust_paths() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let catalogue = Catalogue::new();
    for document in [catalogue.asyncapi(), catalogue.json_schema()] {
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 40, "{found:?}");
        for reference in found {
            let target = document.pointer(reference.strip_prefix('#').unwrap());
            assert!(target.is_some(), "{reference}");
        }
        assert!(!document.to_string().contains("[`"), "{document}");
    }
}

#[test]
fn asyncapi_has_the_same_schemas_as_json_schema() {
    let catalogue = Catalogue::new();
    let json = catalogue.json_schema();
    let asyncapi = catalogue.asyncapi().to_string();
    let asyncapi = asyncapi.replace("#/components/schemas/", "#/$defs/");
    let asyncapi: Value = serde_json::from_str(&asyncapi).unwrap();
    assert_eq!(asyncapi["components"]["schemas"], json["$defs"]);
    for bound in ["maxLength", "maxItems", "pattern", "minimum", "maximum"] {
        let bound = format!("\"{bound}\":");
        assert!(json["$defs"].to_string().contains(&bound), "{bound}");
    }
    let messages = &asyncapi["components"]["messages"];
    let mut compared = 0;
    for (direction, sender) in [("clientToServer", "client"), ("serverToClient", "server")] {
        let events = &json["properties"][direction]["properties"];
        for (event, schema) in events.as_object().unwrap() {
            let id = event.replace(':', ".");
            let (message, parts) = (&messages[format!("{sender}.{id}")], &schema["properties"]);
            assert!(parts["payload"].is_object(), "{event}: {parts}");
            assert_eq!(message["payload"], parts["payload"], "{event}");
            let accepted = &messages[format!("answer.{id}")]["payload"]["oneOf"][0];
            match parts.get("answer") {
                // Events of the server have no answer.
                None => assert_eq!(sender, "server", "{event}"),
                Some(answer) if *answer == json!({}) => {
                    assert_eq!(accepted["properties"]["success"]["const"], true, "{event}");
                }
                Some(answer) => assert_eq!(accepted["allOf"][1], *answer, "{event}"),
            }
            compared += 1;
        }
    }
    assert_eq!(compared, catalogue.received.len() + catalogue.sent.len());
}

#[test]
fn replaced_event_has_a_deprecation_notice_in_every_document() {
    let catalogue = Catalogue::of(sample::EVENTS, sample::EMISSIONS);
    let notice = |name: &str| {
        format!(
            "Deprecated since 2025-01-31, when `{name}` replaced it; served for `server.deprecated_events` after that."
        )
    };
    let (ask, update) = (notice("price:ask:v2"), notice("price:update:v2"));
    let markdown = catalogue.markdown();
    for (name, notice) in [
        ("price:ask` from clients", &ask),
        ("price:update` from the server", &update),
    ] {
        let start = format!("\n## `{name}\n\n**{notice}**\n\n");
        assert_eq!(markdown.matches(&start).count(), 1, "{markdown}");
    }
    let typescript = catalogue.typescript();
    for line in [
        format!("  /** Reads a price. @deprecated {ask} */\n  \"price:ask\": "),
        "  /** Reads a price. */\n  \"price:ask:v2\": ".to_owned(),
        format!("  /** A price has changed. @deprecated {update} */\n  \"price:update\": "),
        "  /** A price has changed. */\n  \"price:update:v2\": ".to_owned(),
    ] {
        assert_eq!(typescript.matches(&line).count(), 1, "{typescript}");
    }
    let json = catalogue.json_schema();
    let deprecated = json!({"since": "2025-01-31", "replacedBy": "price:ask:v2"});
    let received = &json["properties"]["clientToServer"]["properties"];
    assert_eq!(received["price:ask"]["deprecated"], true);
    assert_eq!(
        received["price:ask"]["description"],
        format!("Reads a price. {ask}")
    );
    let successor = &received["price:ask:v2"];
    assert_eq!(
        (
            &successor["deprecated"],
            &successor["properties"]["version"]["const"]
        ),
        (&json!(false), &json!(2))
    );
    let messages = &catalogue.asyncapi()["components"]["messages"];
    assert_eq!(messages["client.price.ask"]["x-deprecated"], deprecated);
    let summary = |message: &str| messages[message]["summary"].clone();
    assert_eq!(summary("client.price.ask"), format!("Reads a price. {ask}"));
    assert_eq!(
        summary("server.price.update"),
        format!("A price has changed. {update}")
    );
    assert_eq!(summary("server.price.update.v2"), "A price has changed.");
}

#[test]
fn documents_name_event_rooms_and_required_permissions() {
    let catalogue = Catalogue::new();
    let messages = &catalogue.asyncapi()["components"]["messages"];
    for (message, rooms) in [
        ("server.trade.update", json!(["trades:<userId>"])),
        (
            "server.signal.new",
            json!(["signals", "signals:<channelId>"]),
        ),
        (
            "server.status",
            json!(["conversation:<conversationId>", "user:<userId>"]),
        ),
        ("server.session", json!([])),
    ] {
        assert_eq!(messages[message]["x-room"], rooms, "{message}");
    }
    for (message, who) in [
        ("client.execute.trade", "all users with the permission"),
        ("client.admin.stats", "all users with the permission"),
        ("client.subscribe.prices", "all clients"),
        ("client.message", "members of the conversation"),
    ] {
        assert_eq!(messages[message]["x-who"], who, "{message}");
        assert_eq!(messages[message]["x-room"], Value::Null, "{message}");
    }
    let markdown = catalogue.markdown();
    let row = "| a signal was published | sockets that follow all signals or the signals of its channel | \
               `signals`, `signals:<channelId>` | reliable |";
    assert!(markdown.contains(row), "{markdown}");
}
