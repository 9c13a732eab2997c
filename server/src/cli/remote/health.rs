//! `roomcast health`: the health check of containers and scripts.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, value_parser};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::super::output::{errln, fail, outln};
use crate::auth::outbound::{Outbound, Target};
use crate::config::{AdminListen, Settings};

/// Arguments of `health`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct HealthArguments {
    /// URL of the server, such as `http://127.0.0.1:3000`. Default: the configured server on this
    /// machine, at `server.listen`, or at `server.admin_listen` if `server.listen` has TLS.
    url: Option<String>,
    /// Maximum duration of the check in seconds.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..=60))]
    timeout: u64,
    /// Print the result as JSON.
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// PEM file with the trusted certificate authorities. Default: those that this machine trusts.
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
}

impl HealthArguments {
    /// Returns whether the check needs no configuration.
    pub(in crate::cli) fn names_server(&self) -> bool {
        self.url.is_some()
    }
}

/// Checks whether a server is ready. The exit code is 0 if it is, otherwise 1.
pub(in crate::cli) fn health(settings: Option<&Settings>, arguments: &HealthArguments) -> ExitCode {
    let checked = match super::super::runtime() {
        Ok(runtime) => runtime.block_on(check(settings, arguments)),
        Err(error) => Err(error.to_string()),
    };
    let (is_ready, report) = match checked {
        Ok((StatusCode::OK, report)) => (true, report),
        Ok((_, report)) => (false, report),
        Err(error) => {
            if !arguments.json {
                return fail(false, error, 1);
            }
            let report = json!({ "error": error });
            outln!(
                "{}",
                json!({ "ready": false, "report": report, "error": error, "exitCode": 1 })
            );
            return ExitCode::FAILURE;
        }
    };
    if arguments.json {
        outln!("{}", json!({ "ready": is_ready, "report": report }));
    } else if is_ready {
        outln!("ready");
    } else {
        errln!("roomcast: not ready: {}", reasons(&report));
    }
    if is_ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Returns the status and the body of the server's readiness report.
async fn check(
    settings: Option<&Settings>,
    arguments: &HealthArguments,
) -> Result<(StatusCode, Value), String> {
    let url = match (&arguments.url, settings) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, Some(settings)) => configured(settings)?,
        (None, None) => return Err("no server is given".to_owned()),
    };
    let target = Target {
        section: "health",
        url: &format!("{url}/health/ready"),
        ca_file: arguments.cacert.as_deref(),
        timeout: Duration::from_secs(arguments.timeout),
        // The operator chooses the server, and the check sends no secret.
        allow_private: true,
    };
    let outbound = Outbound::new(target).map_err(|fault| fault.to_string())?;
    let answer = outbound.get(&HeaderMap::new()).await;
    let (status, body) = answer.map_err(|error| error.to_string())?;
    let report = serde_json::from_str(&body).unwrap_or(Value::Null);
    if status == StatusCode::OK && report.get("status").is_none() {
        return Err("the answer is not a readiness report of a Roomcast server".to_owned());
    }
    if report.is_null() {
        return Err(format!("the server answered {status}"));
    }
    Ok((status, report))
}

/// Returns what the report names as the causes.
fn reasons(report: &Value) -> String {
    let is = |field: &str, value: &Value| report.get(field) == Some(value);
    let mut reasons = Vec::new();
    if is("store", &json!("unavailable")) {
        reasons.push("the store is unavailable".to_owned());
    }
    if is("draining", &json!(true)) {
        reasons.push("the server is draining".to_owned());
    }
    let tasks = report.get("tasks").and_then(Value::as_array);
    for task in tasks.into_iter().flatten() {
        let text = |field| task.get(field).and_then(Value::as_str).unwrap_or("unknown");
        reasons.push(format!("task `{}` {}", text("name"), text("state")));
    }
    if reasons.is_empty() {
        return report.to_string();
    }
    reasons.join(", ")
}

/// Returns the URL of the configured server, as reached from this machine.
fn configured(settings: &Settings) -> Result<String, String> {
    let listen = settings.server.listen;
    let has_tls = settings.server.tls.cert_file.is_some();
    // The certificate of the server does not name the loopback address.
    let url = match settings.server.admin_listen() {
        AdminListen::At(mut address) if has_tls => {
            address.set_ip(super::loopback(address.ip()));
            format!("http://{address}")
        }
        AdminListen::At(_) | AdminListen::Off => super::configured(settings),
    };
    if listen.port() == 0 {
        return Err("server.listen has port 0: give the URL of the server".to_owned());
    }
    Ok(url)
}
