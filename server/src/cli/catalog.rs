//! `roomcast catalog`: the catalogue of events, for people and for programs.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::output::out;
use crate::service::documents::{Catalogue, printed};

#[derive(Clone, Debug, Args)]
pub(super) struct Catalog {
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
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
}

/// Prints the catalogue.
pub(super) fn run(catalog: &Catalog) -> ExitCode {
    let events = Catalogue::new();
    let text = match catalog.format {
        Format::Markdown => events.markdown(),
        Format::Asyncapi => format!("{}\n", printed(&events.asyncapi())),
        Format::Typescript => events.typescript(),
        Format::JsonSchema => format!("{}\n", printed(&events.json_schema())),
    };
    out!("{text}");
    ExitCode::SUCCESS
}
