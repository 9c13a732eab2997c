//! `roomcast catalog`: the catalogue of events, for people and for programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::REFUSED;
use super::output::{fail, out, outln};
use crate::config::Settings;
use crate::service::documents::{Catalogue, compatibility, printed};
use crate::service::schemas_of;

#[derive(Clone, Debug, Args)]
pub(super) struct Catalog {
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Compare with a catalogue that an earlier `--format json-schema` has written, and print each
    /// change that breaks clients, with the line of the earlier declaration. The exit code is 1 if
    /// there is one.
    #[arg(long, value_name = "OLD", conflicts_with = "format")]
    check: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// Tables, examples and types, for people.
    #[default]
    Markdown,
    /// An AsyncAPI 3.0 document, as JSON.
    Asyncapi,
    /// Types for `Socket<ServerToClientEvents, ClientToServerEvents>` of socket.io-client.
    Typescript,
    /// JSON Schema 2020-12.
    JsonSchema,
    /// An OpenAPI 3.1 document with the types as components, as JSON.
    Openapi,
}

/// Prints the catalogue with the declared kinds of channels, or compares it.
pub(super) fn run(settings: &Settings, catalog: &Catalog) -> ExitCode {
    let mut events = Catalogue::new();
    for (name, kind) in &settings.channels {
        let schemas = schemas_of(name, kind).map_err(|fault| fault.to_string());
        let added = schemas.and_then(|schemas| events.add_kind(name, kind, &schemas));
        if let Err(fault) = added {
            return fail(false, fault, REFUSED);
        }
    }
    if let Some(earlier) = &catalog.check {
        return check(&events, earlier);
    }
    let text = match catalog.format {
        Format::Markdown => events.markdown(),
        Format::Asyncapi => format!("{}\n", printed(&events.asyncapi())),
        Format::Typescript => events.typescript(),
        Format::JsonSchema => format!("{}\n", printed(&events.json_schema())),
        Format::Openapi => format!("{}\n", printed(&events.openapi())),
    };
    out!("{text}");
    ExitCode::SUCCESS
}

/// Prints the changes since an earlier catalogue that break clients.
fn check(events: &Catalogue, earlier: &Path) -> ExitCode {
    let shown = earlier.display();
    let text = match fs::read_to_string(earlier) {
        Ok(text) => text,
        Err(error) => {
            return fail(
                false,
                format_args!("{shown} cannot be read: {error}"),
                REFUSED,
            );
        }
    };
    let breaks = match compatibility::breaks(&text, &events.json_schema()) {
        Ok(breaks) => breaks,
        Err(fault) => {
            let remedy = "write it with `roomcast catalog --format json-schema`";
            let fault = format_args!("{shown} cannot be compared: {fault}: {remedy}");
            return fail(false, fault, REFUSED);
        }
    };
    for found in &breaks {
        outln!("{shown}:{found}");
    }
    match breaks.as_slice() {
        [] => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
