//! What breaks clients, and what does not.

mod changes;

use serde_json::{Value, json};

use super::breaks;
use super::schemas::Sender::{self, Client, Server};

/// Returns a catalogue with one event of a sender, whose payload has the schema.
fn catalogue(sender: Sender, schema: &Value) -> Value {
    let (part, other) = match sender {
        Client => ("clientToServer", "serverToClient"),
        Server => ("serverToClient", "clientToServer"),
    };
    let payload = json!({"$ref": "#/$defs/T"});
    let event = json!({"properties": {"payload": payload}, "required": ["payload"]});
    json!({
        "title": "Events of Roomcast",
        "properties": {part: {"properties": {"e": event}}, other: {"properties": {}}},
        "$defs": {"T": schema},
    })
}

/// Returns the breaks between two schemas, without line and event.
fn found(sender: Sender, old: &Value, new: &Value) -> Vec<String> {
    let old = catalogue(sender, old).to_string();
    let found = breaks(&old, &catalogue(sender, new)).unwrap();
    let found = found.iter().map(|found| {
        let (_, found) = found.split_once(".e.payload").unwrap();
        found.strip_prefix(": ").unwrap_or(found).to_owned()
    });
    found.collect()
}

/// Returns a schema with one field.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the rows of tables are shorter"
)]
fn field(schema: Value) -> Value {
    json!({"type": "object", "properties": {"a": schema}})
}

/// A catalogue with a declared kind.
fn kind() -> Value {
    let meta = json!({"type": "object", "properties": {"id": {"type": "string"}}});
    let data = json!({"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}});
    let event = json!({"properties": {"data": data, "meta": meta}});
    let properties = json!({
        "pattern": {"const": "orders:{customer}:{order}"},
        "follow": {"const": ["owner:{customer}", "role:support"]},
        "publish": {"const": ["services"]},
        "history": {"const": {"events": 200, "age": "7days"}},
        "presence": {"const": true},
        "maxBytes": {"const": 100},
        "events": {"properties": {"order": event}, "additionalProperties": false},
    });
    let mut catalogue = catalogue(Client, &json!({}));
    catalogue["properties"]["channels"] =
        json!({"properties": {"orders": {"properties": properties}}});
    catalogue
}

#[test]
fn each_change_of_a_kind_breaks_its_clients_or_not() {
    const ORDERS: &str = "/properties/channels/properties/orders/properties";
    let event = "/events/properties/order/properties";
    for (place, value, expected) in [
        (
            "/pattern/const",
            json!("items:{customer}:{order}"),
            Some(".pattern: is \"items:{customer}:{order}\" instead of"),
        ),
        (
            "/maxBytes/const",
            json!(99),
            Some(".maxBytes: is 99 instead of 100"),
        ),
        ("/maxBytes/const", json!(101), None),
        (
            "/history/const/events",
            json!(1),
            Some(".history.events: is 1 instead of 200"),
        ),
        ("/history/const/events", json!(201), None),
        (
            "/history/const/age",
            json!("1day 23h"),
            Some(".history.age: is \"1day 23h\" instead of \"7days\""),
        ),
        ("/history/const/age", json!("30days"), None),
        (
            "/history/const",
            json!({"none": true}),
            Some(".history: is `none`: no event is stored any longer"),
        ),
        (
            "/history/const",
            json!({"last": true, "age": "366days"}),
            Some(".history: is `last`: a channel has only its newest event"),
        ),
        (
            "/presence/const",
            json!(false),
            Some(".presence: is removed"),
        ),
        (
            "/follow/const",
            json!(["role:support"]),
            Some(".follow: the rule \"owner:{customer}\" is removed"),
        ),
        (
            "/follow/const",
            json!(["owner:{order}", "role:support"]),
            Some("\"owner:{customer}\""),
        ),
        ("/follow/const", json!(["anyone"]), None),
        (
            "/follow/const",
            json!(["users", "role:support", "owner:{customer}"]),
            None,
        ),
        (
            "/publish/const",
            json!(["token"]),
            Some(".publish: the rule \"services\" is removed"),
        ),
        (
            "/events/properties",
            json!({}),
            Some(".events.order: is removed"),
        ),
        ("/events/additionalProperties", json!({}), None),
        (
            &format!("{event}/data/properties/n/maximum"),
            json!(8),
            Some("order.data.n: `maximum` is 8"),
        ),
        (
            &format!("{event}/data/properties/n/maximum"),
            json!(10),
            None,
        ),
        (
            &format!("{event}/data/properties/n/type"),
            json!("number"),
            Some("order.data.n: the type `number` is new"),
        ),
        (
            &format!("{event}/meta/properties"),
            json!({}),
            Some("order.meta.id: the field is removed"),
        ),
    ] {
        let mut new = kind();
        *new.pointer_mut(&format!("{ORDERS}{place}")).unwrap() = value.clone();
        let found = breaks(&kind().to_string(), &new).unwrap();
        match expected {
            None => assert!(found.is_empty(), "{place} {value}: {found:?}"),
            Some(expected) => {
                assert!(
                    found.len() == 1 && found[0].contains(expected),
                    "{place} {value}: {found:?}"
                );
            }
        }
    }
    let mut renamed = kind();
    let text = renamed.to_string().replace("{customer}", "{c}");
    renamed = serde_json::from_str(&text).unwrap();
    assert!(breaks(&kind().to_string(), &renamed).unwrap().is_empty());
    let mut open = kind();
    *open.pointer_mut(&format!("{ORDERS}/events")).unwrap() = json!({"additionalProperties": {}});
    let found = breaks(&open.to_string(), &kind()).unwrap();
    assert_eq!(
        found,
        ["1: channels.orders.events: events without a declaration are refused"]
    );
    let found = breaks(&kind().to_string(), &catalogue(Client, &json!({}))).unwrap();
    assert_eq!(found, ["1: channels.orders: is removed"]);
}

#[test]
fn each_change_of_an_event_breaks_its_clients_or_not() {
    let own = |event: Value| {
        let mut catalogue = catalogue(Client, &json!({"type": "object"}));
        catalogue["properties"]["clientToServer"]["properties"]["e"] = event;
        catalogue["$defs"]["U"] = field(json!({}));
        catalogue
    };
    let event = |required: &[&str], answer: Value, namespace: &str| {
        own(json!({
            "properties": {"payload": {}, "answer": answer, "namespace": {"const": namespace}},
            "required": required,
        }))
    };
    let reference = |name: &str| json!({"$ref": format!("#/$defs/{name}")});
    let old = event(&[], reference("U"), "/").to_string();
    for (new, expected) in [
        (
            event(&["payload"], reference("U"), "/"),
            "e.payload: can no longer be omitted",
        ),
        (
            event(&[], json!({}), "/"),
            "e.answer: has no fields any longer",
        ),
        (
            event(&[], reference("T"), "/"),
            "e.answer.a: the field is removed",
        ),
        (
            event(&[], reference("U"), "/admin"),
            "e: the namespace is \"/admin\" instead of \"/\"",
        ),
    ] {
        assert_eq!(
            breaks(&old, &new).unwrap(),
            [format!("1: clientToServer.{expected}")]
        );
    }
    let without = event(&[], json!({}), "/").to_string();
    assert!(
        breaks(&without, &event(&[], reference("U"), "/"))
            .unwrap()
            .is_empty()
    );
    let mut removed = event(&[], json!({}), "/");
    removed["properties"]["clientToServer"]["properties"] = json!({});
    assert_eq!(
        breaks(&old, &removed).unwrap(),
        ["1: clientToServer.e: is removed"]
    );
}

#[test]
fn breaks_have_the_line_of_the_earlier_declaration() {
    let old = catalogue(Client, &field(json!({"type": "string", "maxLength": 9})));
    let new = catalogue(Client, &field(json!({"type": "string", "maxLength": 8})));
    for text in [
        format!("{old:#}"),
        format!("\n\n {old:#}").replace(": ", "\n:\n"),
    ] {
        let found = breaks(&text, &new).unwrap();
        let [found] = found.as_slice() else {
            panic!("{found:?}");
        };
        let (line, found) = found.split_once(": ").unwrap();
        assert_eq!(
            found,
            "clientToServer.e.payload.a: `maxLength` is 8 instead of 9"
        );
        // The value of the bound is in this line.
        let line = text
            .lines()
            .nth(line.parse::<usize>().unwrap() - 1)
            .unwrap();
        assert!(line.ends_with("9,"), "{line}");
    }
}

#[test]
fn document_that_is_no_catalogue_is_refused() {
    let new = catalogue(Client, &json!({}));
    for (text, expected) in [
        ("# Events", "it is not JSON"),
        (
            "{\"asyncapi\": \"3.0.0\"}",
            "it is not a catalogue of events in the format `json-schema`",
        ),
        ("[]", "it is not a catalogue"),
    ] {
        let fault = breaks(text, &new).unwrap_err();
        assert!(fault.starts_with(expected), "{fault}");
    }
}
