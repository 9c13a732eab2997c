//! `roomcast doctor`: checks whether the server can run here as configured, and what to change.

mod access;
pub(super) mod connect;
mod machine;
mod ports;

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::output::{fail, outln};
use super::settings::Mistake;
use crate::{
    auth::configured,
    config::Settings,
    server::{Trial, try_all},
    store::{Examination, Store},
};

/// Arguments of `doctor`.
#[derive(Clone, Debug, Args)]
pub(super) struct Doctor {
    /// Print the findings as JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// The configuration file.
    #[arg(skip)]
    pub(super) file: Option<PathBuf>,
    /// The file of environment variables.
    #[arg(skip)]
    pub(super) env_file: Option<PathBuf>,
}

/// The result of a check.
#[derive(Debug, Serialize)]
struct Finding {
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

/// Checks everything and prints a line for each finding. `mistakes` are those of the configuration.
pub(super) fn run(
    settings: &Settings,
    mistakes: &[Mistake],
    warnings: &[String],
    doctor: &Doctor,
) -> ExitCode {
    if !mistakes.is_empty() {
        return misconfigured(mistakes, doctor);
    }
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(
                doctor.json,
                format_args!("cannot start the runtime: {error}"),
                1,
            );
        }
    };
    let mut findings = vec![Finding::ok("configuration", "valid")];
    let warnings = warnings.iter().cloned().chain(configured::advice(settings));
    findings.extend(warnings.map(|warning| Finding {
        status: Status::Warning,
        ..Finding::ok("configuration", warning)
    }));
    findings.extend(access::files(
        settings,
        doctor.file.as_deref(),
        doctor.env_file.as_deref(),
    ));
    findings.push(machine::open_files(settings));
    findings.extend(machine::kernel(
        settings,
        std::path::Path::new("/proc/sys/net"),
    ));
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
    let has = |status| findings.iter().any(|finding| finding.status == status);
    if doctor.json {
        let report = json!({"ok": !has(Status::Error), "findings": findings});
        outln!("{report:#}");
    } else {
        for Finding {
            status,
            subject,
            found,
            remedy,
        } in &findings
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
    match has(Status::Error) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

fn misconfigured(mistakes: &[Mistake], doctor: &Doctor) -> ExitCode {
    if doctor.json {
        let report = json!({"ok": false, "mistakes": mistakes});
        outln!("{report:#}");
        return ExitCode::from(super::REFUSED);
    }
    super::refuse(mistakes, false)
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
            let remedy = "check the address and the rights of store.url";
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
