use std::io::Write as _;

use toml::Table;

use super::keys::{Kind, is_section};
use super::*;
use crate::config::Durability;

fn env(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

fn from_env(variables: &[(&str, &str)]) -> Result<Loaded, Mistakes> {
    load(None, env(variables).into_iter(), Overrides::default())
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn defaults_hold_without_file_and_environment() {
    let settings = from_env(&[]).unwrap().settings;
    assert_eq!(settings.server.listen.to_string(), "127.0.0.1:3000");
    assert_eq!(settings.engine.session.ping_timeout.as_secs(), 60);
    assert!(settings.guests());
}

#[test]
fn keys_without_a_default_can_be_set() {
    let file = file("[store]\nretention = \"30days\"\n[chat]\ncontent = \"html\"");
    let settings = load(Some(file.path()), std::iter::empty(), Overrides::default());
    let settings = settings.unwrap().settings;
    assert_eq!(settings.store.retention.unwrap().as_secs(), 30 * 86_400);
    assert_eq!(settings.chat.content, crate::config::Content::Html);
    let settings = from_env(&[("ROOMCAST_STORE__RETENTION", "1h")]).unwrap();
    assert_eq!(settings.settings.store.retention.unwrap().as_secs(), 3600);
    assert!(from_env(&[("ROOMCAST_CHAT__CONTENT", "markdown")]).is_err());
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let file = file(
        "[server]\nlisten = \"127.0.0.1:1\"\n[store]\nurl = \"memory:\"\n[log]\nlevel = \"debug\"",
    );
    let variables = env(&[
        ("ROOMCAST_LISTEN", "127.0.0.1:2"),
        ("ROOMCAST_STORE", "sqlite:a.db"),
    ]);
    let overrides = Overrides {
        listen: Some("127.0.0.1:3".parse().unwrap()),
        ..Overrides::default()
    };
    let settings = load(Some(file.path()), variables.into_iter(), overrides)
        .unwrap()
        .settings;
    assert_eq!(settings.server.listen.port(), 3);
    assert_eq!(settings.store.url, "sqlite:a.db");
    assert_eq!(settings.log.level, "debug");
}

#[test]
fn port_is_used_only_if_nothing_else_sets_the_address() {
    let listen = |variables: &[(&str, &str)]| from_env(variables).unwrap().settings.server.listen;
    let port = ("PORT", "8080");
    assert_eq!(listen(&[port]).to_string(), "0.0.0.0:8080");
    assert_eq!(listen(&[("PORT", "")]).to_string(), "127.0.0.1:3000");
    for address in ["ROOMCAST_LISTEN", "ROOMCAST_SERVER__LISTEN"] {
        let own = (address, "127.0.0.1:2");
        for variables in [[port, own], [own, ("PORT", "not a number")]] {
            assert_eq!(listen(&variables).port(), 2, "{variables:?}");
        }
    }
    let file = file("[server]\nlisten = \"127.0.0.1:1\"");
    let loaded = load(
        Some(file.path()),
        env(&[port]).into_iter(),
        Overrides::default(),
    );
    assert_eq!(loaded.unwrap().settings.server.listen.port(), 1);
    let overrides = Overrides {
        listen: Some("127.0.0.1:3".parse().unwrap()),
        ..Overrides::default()
    };
    let loaded = load(None, env(&[port]).into_iter(), overrides);
    assert_eq!(loaded.unwrap().settings.server.listen.port(), 3);
    for wrong in ["0", "65536", "-1", "tcp://10.0.0.1:3000", "8080 "] {
        let error = from_env(&[("PORT", wrong)]).unwrap_err().to_string();
        let details = format!("value {wrong:?}, expected a port from 1 to 65535");
        let expected = format!("PORT: `server.listen`: not a port ({details})");
        assert_eq!(error, expected, "{wrong}");
    }
}

#[test]
fn prefixed_variable_overrides_its_alias_in_any_order() {
    for variables in [
        [
            ("ROOMCAST_LISTEN", "127.0.0.1:2"),
            ("ROOMCAST_SERVER__LISTEN", "127.0.0.1:4"),
        ],
        [
            ("ROOMCAST_SERVER__LISTEN", "127.0.0.1:4"),
            ("ROOMCAST_LISTEN", "127.0.0.1:2"),
        ],
    ] {
        assert_eq!(
            from_env(&variables).unwrap().settings.server.listen.port(),
            4
        );
    }
}

#[test]
fn lists_are_separated_by_commas() {
    let settings = from_env(&[("ALLOWED_ORIGINS", "http://a.example, http://b.example")])
        .unwrap()
        .settings;
    assert_eq!(
        settings.server.allowed_origins,
        ["http://a.example", "http://b.example"]
    );
}

#[test]
fn list_of_tables_is_toml_in_variables_as_in_files() {
    let text = r#"[{channel = "gold", follow = ["role:premium"]}, {channel = "*"}]"#;
    let signals = |settings: Settings| {
        let signals = settings.market.signals.into_iter();
        signals
            .map(|one| (one.channel, one.follow))
            .collect::<Vec<_>>()
    };
    let by_variable = from_env(&[("ROOMCAST_MARKET__SIGNALS", text)]).unwrap();
    let expected = [
        ("gold".to_owned(), vec!["role:premium".to_owned()]),
        ("*".to_owned(), vec![]),
    ];
    assert_eq!(signals(by_variable.settings.clone()), expected);
    // What `print-config` prints has the same value.
    let printed = file(&toml::to_string(&by_variable.settings).unwrap());
    let by_file = load(
        Some(printed.path()),
        std::iter::empty(),
        Overrides::default(),
    );
    assert_eq!(signals(by_file.unwrap().settings), expected);
    for (text, fault) in [
        ("gold=role:premium", "`market.signals`: invalid type"),
        (r#"[{chanel = "gold"}]"#, "unknown field `chanel`"),
    ] {
        let error = from_env(&[("ROOMCAST_MARKET__SIGNALS", text)]).unwrap_err();
        assert!(error.to_string().contains(fault), "{error}");
    }
}

#[test]
fn values_are_parsed_by_the_type_of_their_key() {
    let settings = from_env(&[
        ("ROOMCAST_AUTH__GUESTS", "false"),
        ("ROOMCAST_ENGINE__MAX_PAYLOAD", "2000"),
        ("ROOMCAST_ENGINE__PARSER", "messagepack"),
        ("ROOMCAST_ENGINE__PING_INTERVAL", "250ms"),
        ("ROOMCAST_STORE__DURABILITY", "full"),
        ("ROOMCAST_LOG__LEVEL", "7"),
    ])
    .unwrap()
    .settings;
    assert!(!settings.guests());
    assert_eq!(settings.engine.session.max_payload, 2000);
    assert_eq!(
        settings.engine.sockets.parser,
        roomcast_protocol::socket::Parser::MessagePack
    );
    assert_eq!(settings.engine.session.ping_interval.as_millis(), 250);
    assert_eq!(settings.store.durability, Durability::Full);
    assert_eq!(settings.log.level, "7");
}

#[test]
fn an_unknown_key_in_the_file_is_an_error_with_the_nearest_name() {
    let file = file("[engine]\nping_intervall = \"1s\"");
    let error = load(Some(file.path()), std::iter::empty(), Overrides::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("unknown key `engine.ping_intervall`, did you mean `engine.ping_interval`?"),
        "{text}"
    );
}

#[test]
fn empty_role_or_kind_is_an_entry_and_its_unknown_keys_keep_its_name() {
    let roles = |text: &str| {
        let file = file(text);
        let loaded = load(Some(file.path()), std::iter::empty(), Overrides::default());
        loaded.unwrap().settings.auth.roles
    };
    let default = Settings::default().auth.roles;
    let own = roles("[auth.roles.clerk]\n[auth.roles.user]\n");
    assert!(own["clerk"].permissions.is_empty() && own["clerk"].inherits.is_empty());
    // The header of a role of the server changes nothing.
    assert_eq!(own["user"], default["user"]);
    for (text, report) in [
        (
            "[auth.roles.clerk]\npermission = []",
            "line 2: unknown key `auth.roles.clerk.permission`, did you mean \
             `auth.roles.clerk.permissions`?",
        ),
        (
            "[channels.orders]\npatern = \"a\"",
            "line 2: unknown key `channels.orders.patern`, did you mean `channels.orders.pattern`?",
        ),
        (
            "auth.roles.clerk = 5",
            "line 1: `auth.roles.clerk`: invalid type: integer `5`",
        ),
    ] {
        let file = file(text);
        let error = load(Some(file.path()), std::iter::empty(), Overrides::default());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(report), "{error}");
    }
}

#[test]
fn fault_about_a_part_of_a_table_has_no_expected_type() {
    let file = file("[channels.orders]\nevents = { a = \"x\" }");
    let mut configuration = read(
        Some(file.path()),
        environment(None, std::iter::empty()),
        Overrides::default(),
    );
    configuration.check(|settings| match settings.channels.is_empty() {
        true => Ok(()),
        false => Err("channels.orders.events has `a`: a fault".to_owned()),
    });
    let shown = Mistakes(configuration.mistakes).to_string();
    let expected = "line 2: channels.orders.events has `a`: a fault (value { a = \"x\" })";
    assert!(shown.ends_with(expected), "{shown}");
}

#[test]
fn durations_of_auth_need_a_unit() {
    let settings = from_env(&[
        ("ROOMCAST_AUTH__GRACE", "1500ms"),
        ("ROOMCAST_AUTH__JWT__MAX_LIFETIME", "12h"),
    ]);
    let auth = settings.unwrap().settings.auth;
    assert_eq!(auth.grace.as_millis(), 1500);
    assert_eq!(auth.jwt.max_lifetime.unwrap().as_secs(), 12 * 3600);
    for name in ["ROOMCAST_AUTH__GRACE", "ROOMCAST_AUTH__JWT__MAX_LIFETIME"] {
        assert!(from_env(&[(name, "60")]).is_err(), "{name}");
    }
}

#[test]
fn an_unknown_section_is_an_error_even_when_it_is_empty() {
    for (text, is_valid) in [
        ("[serverr]", false),
        ("[server]\n[auth]", true),
        ("[server.tls]\n[node]", true),
        ("[engine.cookie]", false),
    ] {
        let file = file(text);
        let loaded = load(Some(file.path()), std::iter::empty(), Overrides::default());
        assert_eq!(loaded.is_ok(), is_valid, "{text}");
    }
}

#[test]
fn invalid_values_are_named_by_their_key() {
    let settings = from_env(&[("ROOMCAST_CHAT__PAGE", "0")]).unwrap().settings;
    assert_eq!(settings.check(), Err("chat.page is zero"));
    assert_eq!(Settings::default().check(), Ok(()));
}

/// Environment variables with their values.
type Variables = &'static [(&'static str, &'static str)];

/// A file with mistakes, variables, and the reported mistakes, in which `FILE` is the file's path.
const MISTAKEN: &[(&str, Variables, &[&str])] = &[
    (
        "[server]\nlisten = 3000\n\n[limits]\nconnect = 5\nconnects_window = \"5\"\n",
        &[("ROOMCAST_AUTH__GUESTS", "maybe")],
        &[
            "FILE: line 5: unknown key `limits.connect`, did you mean `limits.connects`? (value 5, \
             expected integer)",
            "FILE: line 2: `server.listen`: ",
            "(value 3000, expected address)",
            "FILE: line 6: `limits.connects_window`: ",
            "(value \"5\", expected duration (ms, s, m, h or days, such as 30s))",
            "ROOMCAST_AUTH__GUESTS: `auth.guests`: ",
            "(value \"maybe\", expected boolean)",
        ],
    ),
    (
        "chat = { page = 0, content_chars = 0 }\nauth.grace_s = 5\n[presence]\nlease = \"0s\"\n",
        &[("ROOMCAST_LIMITS__BLOCK_TIME", "2000years")],
        &[
            "FILE: line 2: unknown key `auth.grace_s`, did you mean `auth.grace`?",
            "FILE: line 1: chat.page is zero (value 0, expected integer)",
            "FILE: line 1: chat.content_chars is zero (value 0, expected integer (characters))",
            "FILE: line 4: presence.lease is zero (value \"0s\"",
            "ROOMCAST_LIMITS__BLOCK_TIME: limits.block_time is over a year (value \"2000years\"",
        ],
    ),
    (
        "[auth]\nat_handshake = true\nguests = true\n[auth.jwt]\nsecrt = \"canary\"\nsecret = 5\n\
         [store]\nurl = [\"postgres://u:canary@h/d\"]\n[webhooks]\nsecret = [\"canary\"]\n",
        &[("ROOMCAST_SERVER__METRICS_TOKEN", "canary canary")],
        &[
            "FILE: line 5: unknown key `auth.jwt.secrt`, did you mean `auth.jwt.secret`? (value \
             (hidden), expected secret text)",
            "FILE: line 6: `auth.jwt.secret`: wrong type (value (hidden), expected secret text)",
            "FILE: line 8: `store.url`: wrong type (value (hidden), expected text)",
            "FILE: line 10: `webhooks.secret`: wrong type (value (hidden), expected secret text)",
            "ROOMCAST_SERVER__METRICS_TOKEN: server.metrics_token must have",
            "auth.at_handshake excludes guests: set auth.guests to false (FILE: line 2: \
             `auth.at_handshake`: value true, expected boolean; FILE: line 3: `auth.guests`: value \
             true, expected boolean)",
        ],
    ),
    (
        "[chat]\npage = = 1\n[node]\nid = \"x\n",
        &[("ROOMCAST_AUTH__GUESTS", "maybe")],
        &[
            "FILE: line 2: ",
            "FILE: line 4: ",
            "ROOMCAST_AUTH__GUESTS: `auth.guests`: ",
        ],
    ),
    (
        "[auth.backend]\nurl = \"http://127.0.0.1:1/\"\nsecrets = [\"\"]\n",
        &[],
        &["FILE: line 3: auth.backend.secrets has an empty entry"],
    ),
];

#[test]
fn all_mistakes_are_reported_with_place_value_and_type() {
    for (text, variables, reports) in MISTAKEN {
        let file = file(text);
        let variables = env(variables).into_iter();
        let mut configuration = read(
            Some(file.path()),
            environment(None, variables),
            Overrides::default(),
        );
        configuration.check(|settings| settings.check().map_err(str::to_owned));
        let mistakes = configuration.mistakes;
        let shown = Mistakes(mistakes.clone()).to_string();
        let shown = shown.replace(&file.path().display().to_string(), "FILE");
        for report in *reports {
            assert!(shown.contains(report), "{report}\nin\n{shown}");
        }
        // Each report names a mistake, or its value and type.
        let expected = reports
            .iter()
            .filter(|report| !report.starts_with("(value"));
        assert_eq!(mistakes.len(), expected.count(), "{shown}");
        let json = serde_json::to_string(&mistakes).unwrap();
        assert!(
            !shown.contains("canary") && !json.contains("canary"),
            "{shown} {json}"
        );
    }
}

#[test]
fn every_section_is_known() {
    let table = Table::try_from(Settings::default().in_force()).unwrap();
    assert!(table.keys().all(|name| is_section(name)));
    assert!(!is_section("tls"));
}

#[test]
fn a_bad_value_names_its_key_and_its_source() {
    let error = from_env(&[("ROOMCAST_LISTEN", "nowhere")])
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("ROOMCAST_LISTEN: `server.listen`: "),
        "{error}"
    );
}

#[test]
fn every_unset_key_is_known() {
    let file = file(
        "[server]\nprofile = \"production\"\n[auth]\nguests = true\n[log]\nfile = \"x.log\"\n\
         [engine.cookie]\nname = \"node\"\npath = \"/x\"\nhttp_only = false\nsame_site = \"strict\"\n\
         max_age = \"1m\"\ndomain = \"x\"\nsecure = true\npartitioned = true",
    );
    let settings = load(Some(file.path()), std::iter::empty(), Overrides::default())
        .unwrap()
        .settings;
    assert_eq!(settings.profile(), Profile::Production);
    assert!(settings.guests());
    let cookie = settings.engine.http.cookie.unwrap();
    assert_eq!((&*cookie.name, cookie.secure), ("node", true));
}

#[test]
fn key_table_matches_the_fields_and_types_of_the_settings() {
    let layers = Layers::new();
    let kind = |key: &str| {
        let known = layers.known.iter().find(|(known, _)| known == key);
        known.map(|(_, kind)| *kind)
    };
    for (key, expected) in [
        ("server.tls.cert_file", Some(Kind::Text)),
        ("auth.jwt.secret", Some(Kind::Text)),
        ("auth.guests", Some(Kind::Scalar)),
        ("limits.connects", Some(Kind::Scalar)),
        ("server.allowed_origins", Some(Kind::List)),
        ("market.signals", Some(Kind::Tables)),
        ("engine.cookie.name", Some(Kind::Text)),
        ("engine.cookie.expires", Some(Kind::Text)),
        ("engine.cookie.secure", Some(Kind::Scalar)),
        ("engine.send_buffer_bytes", Some(Kind::Scalar)),
        ("engine.cors", None),
        ("engine.cors.origins", None),
        ("engine.recovery", None),
        // The official server's names are accepted only where the library reads options.
        ("engine.pingInterval", None),
    ] {
        assert_eq!(kind(key), expected, "{key}");
    }
}
