//! Tests of key and variable names: documented names exist, and misspelled ones are reported.

use std::path::PathBuf;

use super::keys::{ALIASES, Kind, OTHERS, PREFIX, is_section};
use super::*;

fn from_env(variables: &[(&str, &str)]) -> Result<Loaded, Mistakes> {
    let variables = variables.iter();
    let variables = variables.map(|(name, value)| ((*name).into(), (*value).into()));
    load(None, variables, Overrides::default())
}

#[test]
fn an_unknown_variable_is_warned_about_with_the_nearest_name() {
    let loaded = from_env(&[("ROOMCAST_SERVER__LISTN", "x"), ("ROOMCAST_CONFIG", "y")]).unwrap();
    assert_eq!(
        loaded.warnings,
        ["unknown variable ROOMCAST_SERVER__LISTN, did you mean ROOMCAST_SERVER__LISTEN?"]
    );
}

#[test]
fn an_unknown_variable_is_an_error_in_production() {
    let production = ("ROOMCAST_PROFILE", "production");
    let error = from_env(&[production, ("ROOMCAST_AUTH__GUEST", "false")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ROOMCAST_AUTH__GUEST: unknown variable ROOMCAST_AUTH__GUEST, did you mean \
         ROOMCAST_AUTH__GUESTS? (value \"false\", expected boolean)"
    );
    // An address that is not loopback implies the production profile.
    let open = ("ROOMCAST_LISTEN", "0.0.0.0:1");
    assert!(from_env(&[open, ("ROOMCAST_GUESTS", "false")]).is_err());
    for of_kubernetes in [
        "ROOMCAST_SERVICE_HOST",
        "ROOMCAST_SERVICE_PORT",
        "ROOMCAST_SERVICE_PORT_HTTP",
        "ROOMCAST_PORT",
        "ROOMCAST_PORT_3000_TCP",
        "ROOMCAST_PORT_3000_TCP_ADDR",
        "ROOMCAST_DB_SERVICE_HOST",
        "ROOMCAST_DB_PORT_5432_TCP_PROTO",
    ] {
        let loaded = from_env(&[production, (of_kubernetes, "tcp://10.0.0.1:3000")]);
        assert!(
            loaded.is_ok_and(|loaded| loaded.warnings.is_empty()),
            "{of_kubernetes}"
        );
    }
    assert!(from_env(&[production, ("ROOMCAST_SERVER__PORT", "1")]).is_err());
}

#[test]
fn redis_variables_without_effect_name_the_one_to_set() {
    let host = ("REDIS_HOST", "cache");
    let port = ("REDIS_PORT", "6380");
    let production = ("ROOMCAST_PROFILE", "production");
    for variables in [&[port, host][..], &[host, port, production]] {
        let warnings = from_env(variables).unwrap().warnings;
        assert_eq!(
            warnings,
            [
                "no effect: REDIS_HOST, REDIS_PORT; to join servers by Redis set \
              ROOMCAST_ADAPTER__URL=redis://HOST:PORT, or ROOMCAST_ADAPTER__URL=none to do without"
            ]
        );
    }
    let secret = from_env(&[("REDIS_URL", "redis://:canary@cache")]).unwrap();
    assert!(secret.warnings[0].starts_with("no effect: REDIS_URL; "));
    assert!(!secret.warnings[0].contains("canary"));
}

#[test]
fn redis_variables_do_not_matter_with_an_adapter_or_from_kubernetes() {
    let host = ("REDIS_HOST", "cache");
    for url in ["redis://cache:6379", "none"] {
        let loaded = from_env(&[host, ("ROOMCAST_ADAPTER__URL", url)]).unwrap();
        assert_eq!(loaded.warnings, Vec::<String>::new());
    }
    for (name, value) in [
        ("REDIS_PORT", "tcp://10.0.0.1:6379"),
        ("REDIS_PORT_6379_TCP_ADDR", "10.0.0.1"),
        ("REDIS_SERVICE_HOST", "10.0.0.1"),
        ("REDIS_HOST", ""),
    ] {
        let loaded = from_env(&[(name, value)]).unwrap();
        assert_eq!(loaded.warnings, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn non_utf8_variables_are_errors_only_if_roomcast_reads_them() {
    use std::os::unix::ffi::OsStringExt as _;

    let load = |name: &str| {
        let variables = [(name.into(), OsString::from_vec(vec![0xff]))];
        load(None, variables.into_iter(), Overrides::default())
    };
    for name in ["ROOMCAST_AUTH__GUESTS", "ALLOWED_ORIGINS"] {
        assert_eq!(
            load(name).unwrap_err().to_string(),
            format!("{name}: not UTF-8")
        );
    }
    assert!(load("LS_COLORS").is_ok());
}

/// Returns texts in backticks that look like a key or a variable.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split('`').skip(1).step_by(2);
    code.filter_map(|code| code.split([' ', '=']).next())
}

#[test]
fn every_key_that_documents_name_exists() {
    let layers = Layers::new();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let folders = ["", "cluster", "reference", "tutorials"].map(|folder| docs.join(folder));
    let mut pages: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|page| page.unwrap().path())
        .filter(|page| page.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"));
    let is_key = |key: &str| {
        let in_it = |(known, _): &(String, Kind)| {
            known
                .strip_prefix(key)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        layers.is_known(key) || layers.known.iter().any(in_it) || key.starts_with("auth.roles.")
    };
    // A field of the `CONNECT` payload, a method of the official server, and an option of the
    // library that the server replaces.
    let others = ["auth.token", "engine.use", "engine.cors"];
    let (mut seen, mut unknown) = (0, Vec::new());
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for name in named(&text) {
            let key = match name.strip_prefix(PREFIX) {
                Some(_) if OTHERS.contains(&name) || name == "ROOMCAST_SECTION__KEY" => {
                    continue;
                }
                Some(_) if ALIASES.iter().any(|(alias, _)| *alias == name) => continue,
                Some(rest) => rest.to_ascii_lowercase().replace("__", "."),
                None => name.trim_end_matches(".…").to_owned(),
            };
            let is_text =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c);
            let section = key.split('.').next().unwrap_or_default();
            let is_file = [
                ".rs", ".js", ".md", ".io", ".mjs", ".db", ".signal", ".html",
            ]
            .iter()
            .any(|end| key.ends_with(end));
            if !key.contains('.') || !is_section(section) || !key.chars().all(is_text) || is_file {
                continue;
            }
            seen += 1;
            if !is_key(&key) && !others.contains(&&*key) {
                unknown.push(format!("{}: `{key}`", page.display()));
            }
        }
    }
    assert_eq!(unknown, Vec::<String>::new(), "there are no such keys");
    assert!(seen > 50, "{seen}");
}

#[test]
fn toml_errors_name_the_line_without_showing_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[auth.jwt]\nsecret = \"canary\nissuer = \"x\"").unwrap();
    let error = load(Some(file.path()), std::iter::empty(), Overrides::default());
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains(": line 2: ") && !text.contains("canary"),
        "{text}"
    );
}
