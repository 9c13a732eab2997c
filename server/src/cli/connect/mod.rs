//! `roomcast check-config --connect`: checks whether the server can run here as configured, and
//! what to change.

mod access;
mod machine;
mod ports;

use std::{io, path::Path};

use serde::Serialize;

use super::output::outln;
use crate::{
    config::Settings,
    server::{Trial, try_all},
    store::{Examination, OpenError, Store},
};

/// The result of a check.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    status: Status,
    /// The checked configuration key, or part of the machine.
    subject: String,
    /// The result of the check.
    found: String,
    /// The remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Error,
}

impl Finding {
    fn ok(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            status: Status::Ok,
            subject: subject.into(),
            found: found.into(),
            remedy: None,
        }
    }

    fn bad(
        status: Status,
        subject: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            status,
            remedy: Some(remedy.into()),
            ..Self::ok(subject, found)
        }
    }
}

/// Checks the machine, the files and all targets of a valid configuration, which was read from
/// these files.
///
/// # Errors
///
/// If the runtime cannot be started.
pub(super) fn examine(
    settings: &Settings,
    file: Option<&Path>,
    env_file: Option<&Path>,
) -> io::Result<Vec<Finding>> {
    let runtime = super::runtime()?;
    let mut findings = access::files(settings, file, env_file);
    findings.push(machine::open_files(settings));
    findings.extend(machine::kernel(settings, Path::new("/proc/sys/net")));
    findings.extend(runtime.block_on(async {
        let mut findings = ports::check(settings).await;
        let trials = try_all(settings).await;
        let is_reached = trials.first().is_some_and(|trial| trial.fault.is_none());
        findings.extend(trials.into_iter().map(tried));
        if is_reached {
            findings.extend(database(settings).await);
        }
        findings
    }));
    Ok(findings)
}

/// Prints a line for each finding.
pub(super) fn print(findings: &[Finding]) {
    for Finding {
        status,
        subject,
        found,
        remedy,
    } in findings
    {
        let status = match status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Error => "error",
        };
        let remedy = remedy.iter().map(|remedy| format!(": {remedy}"));
        outln!("{status:8}{subject}: {found}{}", remedy.collect::<String>());
    }
}

/// Returns whether nothing prevents the server from running. Warnings do not.
pub(super) fn is_fit(findings: &[Finding]) -> bool {
    findings
        .iter()
        .all(|finding| finding.status != Status::Error)
}

fn tried(trial: Trial) -> Finding {
    let Trial { key, target, fault } = trial;
    match fault {
        None => Finding::ok(key, format!("{target} works")),
        // The fault ends with its remedy.
        Some(fault) => Finding {
            remedy: None,
            ..Finding::bad(Status::Error, key, format!("{target}: {fault}"), "")
        },
    }
}

/// Checks the version of the tables, and this machine's clock against the database's.
async fn database(settings: &Settings) -> Vec<Finding> {
    let Examination {
        schema,
        newest,
        clock_ahead,
    } = match Store::examine(&settings.store).await {
        Ok(examination) => examination,
        Err(error) => {
            let remedy = if matches!(error, OpenError::Divergent { .. }) {
                "set store.url to a new database"
            } else {
                "check the address and the rights of store.url"
            };
            return vec![Finding::bad(
                Status::Error,
                "database",
                error.to_string(),
                remedy,
            )];
        }
    };
    let versions = format!("tables of version {schema}, this server has version {newest}");
    let mut findings = vec![if schema < newest && !settings.store.migrate {
        Finding::bad(
            Status::Error,
            "database schema",
            versions,
            "run `roomcast migrate`",
        )
    } else if schema < newest {
        let remedy = "the server migrates at its start: back up the database before";
        Finding::bad(Status::Warning, "database schema", versions, remedy)
    } else if schema > newest && !settings.store.is_postgres() {
        let remedy = "restore the backup from before the upgrade, or run the newer version";
        Finding::bad(Status::Error, "database schema", versions, remedy)
    } else if schema > newest {
        let remedy =
            "compare `oldest` in the table `roomcast_schema` with the version of this server";
        Finding::bad(Status::Warning, "database schema", versions, remedy)
    } else {
        Finding::ok("database schema", versions)
    }];
    findings.extend(clock_ahead.map(machine::clock));
    findings
}
