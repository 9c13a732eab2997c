//! Changes of schemas.

use serde_json::{Value, json};

use super::{Client, Server, field, found};

/// Each row has an earlier and a later schema, and what breaks if clients send the values, and if
/// the server sends them.
#[test]
fn each_change_of_a_schema_breaks_senders_receivers_or_neither() {
    let text = || json!({"type": "string"});
    let none: &[&str] = &[];
    let a_or_b = || json!({"enum": ["a", "b"]});
    let either = |schemas: &[Value]| json!({"anyOf": schemas});
    let tagged = |tag: &str, field: &str| json!({"type": "object", "properties": {"t": {"const": tag}, field: {"type": "string"}}, "required": ["t", field]});
    let rows: Vec<(Value, Value, &[&str], &[&str])> = vec![
        // Fields.
        (
            field(text()),
            json!({"type": "object"}),
            &[".a: the field is removed"],
            &[".a: the field is removed"],
        ),
        (json!({"type": "object"}), field(text()), none, none),
        (
            field(text()),
            json!({"type": "object", "properties": {"a": text(), "b": text()}, "required": ["b"]}),
            &[".b: the field is required"],
            none,
        ),
        (
            json!({"properties": {"a": text()}, "required": ["a"]}),
            json!({"properties": {"a": text()}}),
            none,
            &[".a: the field is no longer always there"],
        ),
        (
            json!({"additionalProperties": true}),
            json!({"additionalProperties": false}),
            &["fields without a declaration are refused"],
            none,
        ),
        (
            json!({"additionalProperties": false}),
            json!({}),
            none,
            none,
        ),
        (
            json!({"additionalProperties": {"type": "integer"}}),
            json!({"additionalProperties": {"type": "number"}}),
            none,
            &[".*: the type `number` is new"],
        ),
        (
            json!({}),
            json!({"additionalProperties": {"type": ["array", "boolean", "null", "number", "object"]}}),
            &[".*: the type `string` is no longer accepted"],
            none,
        ),
        (
            json!({"patternProperties": {"^x": text()}}),
            json!({"patternProperties": {"^y": text()}}),
            &["`patternProperties` changed, cannot be compared"],
            &["`patternProperties` changed, cannot be compared"],
        ),
        // Types and values.
        (
            field(text()),
            field(json!({"type": "integer"})),
            &[".a: the type `string` is no longer accepted"],
            &[".a: the type `integer` is new"],
        ),
        (
            field(json!({"type": "number"})),
            field(json!({"type": "integer"})),
            &[".a: the type `number` is no longer accepted"],
            none,
        ),
        (
            field(text()),
            field(json!({"type": ["string", "null"]})),
            none,
            &[".a: the type `null` is new"],
        ),
        (
            field(a_or_b()),
            field(json!({"enum": ["b", "c"]})),
            &[".a: the value `\"a\"` is no longer accepted"],
            &[".a: the value `\"c\"` is new"],
        ),
        (
            field(a_or_b()),
            field(text()),
            none,
            &[".a: other values than the listed ones are new"],
        ),
        (
            field(text()),
            field(a_or_b()),
            &[".a: only listed values are accepted"],
            none,
        ),
        (
            field(a_or_b()),
            field(json!({"oneOf": [{"const": "a", "description": "A."}, {"const": "b"}]})),
            none,
            none,
        ),
        (
            field(json!({"const": 1})),
            field(json!({"const": 2})),
            &[".a: the value `1` is no longer accepted"],
            &[".a: the value `2` is new"],
        ),
        (
            field(json!(true)),
            field(json!(false)),
            &[".a: no value is accepted any longer"],
            none,
        ),
        // Bounds and forms.
        (
            json!({"type": "string", "maxLength": 100}),
            json!({"type": "string", "maxLength": 50}),
            &["`maxLength` is 50 instead of 100"],
            none,
        ),
        (json!({"maximum": 50}), json!({"maximum": 50.5}), none, none),
        (
            json!({"maximum": 9_007_199_254_740_993_u64}),
            json!({"maximum": 9_007_199_254_740_992_u64}),
            &["`maximum` is 9007199254740992 instead of 9007199254740993"],
            none,
        ),
        (
            json!({}),
            json!({"exclusiveMaximum": 5}),
            &["`exclusiveMaximum` is 5, and there was none"],
            none,
        ),
        (
            json!({"minimum": 1}),
            json!({"minimum": 2}),
            &["`minimum` is 2 instead of 1"],
            none,
        ),
        (json!({"minItems": 2}), json!({"minItems": 1}), none, none),
        (json!({}), json!({"minLength": 0}), none, none),
        (
            json!({"pattern": "^a"}),
            json!({"pattern": "^b"}),
            &["`pattern` is \"^b\" instead of \"^a\""],
            none,
        ),
        (json!({"pattern": "^a"}), json!({}), none, none),
        (
            json!({}),
            json!({"format": "uuid"}),
            &["`format` is \"uuid\", and there was none"],
            none,
        ),
        (
            json!({"uniqueItems": false}),
            json!({"uniqueItems": true}),
            &["`uniqueItems` is true instead of false"],
            none,
        ),
        // Items.
        (
            json!({"items": text()}),
            json!({"items": {"type": "integer"}}),
            &["[]: the type `string` is no longer accepted"],
            &["[]: the type `integer` is new"],
        ),
        (
            json!({"prefixItems": [text()]}),
            json!({"prefixItems": [text(), text()]}),
            &["`prefixItems` changed, cannot be compared"],
            &["`prefixItems` changed, cannot be compared"],
        ),
        // Alternatives and combinations.
        (
            field(text()),
            field(either(&[text(), json!({"type": "null"})])),
            none,
            &[".a: the alternative `null` is new"],
        ),
        (
            either(&[tagged("a", "x"), tagged("b", "y")]),
            either(&[tagged("b", "y")]),
            &["the alternative `object` is no longer accepted"],
            none,
        ),
        (
            either(&[tagged("a", "x"), tagged("b", "y")]),
            either(&[
                tagged("b", "y"),
                json!({"type": "object", "properties": {"t": {"const": "a"}}, "required": ["t"]}),
            ]),
            &[".x: the field is removed"],
            &[".x: the field is removed"],
        ),
        (
            json!({"allOf": [{"maximum": 5}, {"maximum": 9}]}),
            json!({"maximum": 4}),
            &["`maximum` is 4 instead of 5"],
            none,
        ),
        // Annotations, and keywords that are not understood.
        (
            json!({"title": "A"}),
            json!({"description": "B", "default": 1}),
            none,
            none,
        ),
        (
            json!({"not": {"$ref": "#/$defs/T/x"}, "x": {"const": 1}}),
            json!({"not": {"$ref": "#/$defs/T/x"}, "x": {"const": 2}}),
            &[
                "`not` changed, cannot be compared",
                "`x` changed, cannot be compared",
            ],
            &[
                "`not` changed, cannot be compared",
                "`x` changed, cannot be compared",
            ],
        ),
        (
            json!({}),
            json!({"dependentRequired": {"a": ["b"]}}),
            &["`dependentRequired` changed, cannot be compared"],
            &["`dependentRequired` changed, cannot be compared"],
        ),
    ];
    for (old, new, for_senders, for_receivers) in rows {
        for schema in [&old, &new] {
            for sender in [Client, Server] {
                assert_eq!(found(sender, schema, schema), none, "{schema}");
            }
        }
        assert_eq!(
            found(Client, &old, &new),
            for_senders,
            "client: {old} {new}"
        );
        assert_eq!(
            found(Server, &old, &new),
            for_receivers,
            "server: {old} {new}"
        );
    }
}

#[test]
fn recursive_schemas_are_compared_once_at_each_place() {
    let tree = |leaf: &str| {
        let inner = json!({"$ref": "#/$defs/T"});
        json!({"type": "object", "properties": {
            "left": inner, "right": {"anyOf": [inner, {"type": "null"}]}, "leaf": {"type": leaf},
        }})
    };
    let expected = [".leaf: the type `string` is no longer accepted"];
    assert_eq!(found(Client, &tree("string"), &tree("number")), expected);
    // References without a value in between, which no compiled schema has.
    let circle =
        json!({"anyOf": [{"$ref": "#/$defs/T"}, {"$ref": "#/$defs/T"}], "$ref": "#/$defs/T"});
    assert!(found(Client, &circle, &circle).is_empty());
}
