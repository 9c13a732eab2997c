//! Obtains and renews the certificate at an authority (RFC 8555).
//!
//! The authority requests `/.well-known/acme-challenge/TOKEN` at port 80 of each name, which the
//! redirect listener answers. New files replace the configured ones, and the library loads them
//! like files that an operator has replaced. Until the first certificate has arrived, the server
//! has a certificate that no client trusts.

mod client;
mod files;

use std::{fmt, sync::Arc, time::Duration};

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewAccount, NewOrder,
    OrderStatus, RetryPolicy,
};

pub(crate) use self::files::FileFault;
use self::{
    client::HttpClient,
    files::{Files, StoredAccount},
};
use super::challenges::{Challenges, Offer};
use crate::config::{self, Settings};
use crate::metrics::{Counter, Metrics};
use crate::supervisor::Supervisor;

/// Orders certificates until the process ends.
pub(in crate::server) struct Acme {
    config: config::Acme,
    names: Vec<String>,
    url: String,
    files: Files,
    challenges: Challenges,
    metrics: Arc<Metrics>,
}

impl Acme {
    /// The fault of a configured authority in a build that cannot use it.
    pub(in crate::server) const UNAVAILABLE: Option<&'static str> = None;

    /// Returns `None` if no authority is configured. If there is no usable certificate, creates one
    /// that no client trusts, so that the server can start.
    ///
    /// # Errors
    ///
    /// If the files cannot be written.
    pub(in crate::server) fn prepare(
        settings: &Settings,
        challenges: &Challenges,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, FileFault> {
        let config = &settings.server.acme;
        let (Some(url), Some(files)) = (&config.url, Files::of(settings)) else {
            return Ok(None);
        };
        let names = settings.server.tls.names.clone();
        if !files.are_usable() {
            files.write_placeholder(&names)?;
        }
        Ok(Some(Self {
            config: config.clone(),
            names,
            url: url.clone(),
            files,
            challenges: challenges.clone(),
            metrics: Arc::clone(metrics),
        }))
    }

    /// Starts the task that orders certificates.
    pub(in crate::server) fn start(self, supervisor: &Supervisor) {
        let acme = Arc::new(self);
        supervisor.start("certificate orders", move || Arc::clone(&acme).run());
    }

    async fn run(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            let mut pause = self.files.time_to_renewal(&self.names);
            if pause.is_zero() {
                let ordered = tokio::time::timeout(ORDER_TIMEOUT, self.order()).await;
                match ordered.unwrap_or(Err(OrderFault::Late)) {
                    Ok(()) => {
                        failures = 0;
                        self.metrics.count(Counter::CertificateOrders);
                        tracing::info!(names = self.names.join(", "), "certificate obtained");
                        // A certificate that is due already must not cause orders in a row.
                        pause = match self.files.time_to_renewal(&self.names) {
                            Duration::ZERO => MIN_PAUSE,
                            left => left,
                        };
                    }
                    Err(error) => {
                        failures += 1;
                        pause = retry_delay(failures);
                        self.metrics.count(Counter::CertificateOrdersFailed);
                        tracing::error!(
                            %error,
                            authority = self.url,
                            retry_s = pause.as_secs(),
                            "could not obtain a certificate, the previous one stays in use"
                        );
                    }
                }
            }
            // The clock can be set, and files can be restored, so the time is checked repeatedly.
            tokio::time::sleep(pause.min(CHECK_INTERVAL)).await;
        }
    }

    async fn order(&self) -> Result<(), OrderFault> {
        let (account, stored) = self.account().await?;
        let names = self.names.iter();
        let names: Vec<_> = names.map(|name| Identifier::Dns(name.clone())).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        // The answers are offered until the end of this function.
        let mut offers: Vec<Offer> = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Invalid
                | AuthorizationStatus::Revoked
                | AuthorizationStatus::Expired
                | AuthorizationStatus::Deactivated => {
                    return Err(OrderFault::Refused(
                        "an authorization is not pending".into(),
                    ));
                }
            }
            let mut challenge = authorization
                .challenge(ChallengeType::Http01)
                .ok_or_else(|| OrderFault::Refused("it offers no challenge http-01".into()))?;
            let answer = challenge.key_authorization();
            offers.push(self.challenges.offer(&challenge.token, answer.as_str()));
            challenge.set_ready().await?;
        }
        if order.poll_ready(&POLLS).await? != OrderStatus::Ready {
            let reason = Self::refusal(&mut order).await;
            return Err(OrderFault::Refused(reason));
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&POLLS).await?;
        self.files.replace(&chain, &key)?;
        self.files.write_account(&StoredAccount {
            names: self.names.clone(),
            ..stored
        })?;
        Ok(())
    }

    /// Returns why the authority does not issue: the first problem of an authorization.
    async fn refusal(order: &mut instant_acme::Order) -> String {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let Ok(state) = authorization.refresh().await else {
                break;
            };
            let mut challenges = state.challenges.iter();
            if let Some(problem) = challenges.find_map(|challenge| challenge.error.as_ref()) {
                return problem.to_string();
            }
        }
        "the order is not ready".into()
    }

    /// Returns the stored account, or creates one.
    async fn account(&self) -> Result<(Account, StoredAccount), OrderFault> {
        let builder = Account::builder_with_http(Box::new(HttpClient(self.config.clone())));
        if let Some(stored) = self.files.read_account()?
            && stored.is_of(&self.url)
        {
            let credentials = stored.credentials()?;
            return Ok((builder.from_credentials(credentials).await?, stored));
        }
        let contact: Vec<_> = self.config.contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: self.config.agree_to_terms,
            only_return_existing: false,
        };
        let created = builder.create(&new, self.url.clone(), None).await?;
        let (account, credentials) = created;
        let stored = StoredAccount::new(&credentials)?;
        // The account is stored before it is used, so that a failed order does not cause another
        // account.
        self.files.write_account(&stored)?;
        Ok((account, stored))
    }
}

/// Returns the delay after this number of failures in a row.
fn retry_delay(failures: u32) -> Duration {
    let factor = 1 << failures.saturating_sub(1).min(6);
    (MIN_PAUSE * factor).min(CHECK_INTERVAL)
}

/// The reason why there is no new certificate.
#[derive(Debug)]
enum OrderFault {
    /// The authority cannot be reached, or answers with a problem.
    Authority(Error),
    /// The authority does not issue the certificate.
    Refused(String),
    /// The files cannot be read or written.
    Files(FileFault),
    /// The order takes too long.
    Late,
}

impl From<Error> for OrderFault {
    fn from(error: Error) -> Self {
        Self::Authority(error)
    }
}

impl From<FileFault> for OrderFault {
    fn from(fault: FileFault) -> Self {
        Self::Files(fault)
    }
}

impl fmt::Display for OrderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(error) => write!(f, "the authority failed: {error}"),
            Self::Refused(why) => write!(f, "the authority does not issue: {why}"),
            Self::Files(fault) => fault.fmt(f),
            Self::Late => f.write_str("the order takes too long"),
        }
    }
}

/// Intervals and timeout of polls for an order.
const POLLS: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(90));
/// The maximum duration of an order, with all its requests.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// The delay after an order of a certificate that is due already, and the delay after the first
/// failure. It doubles with each failure.
const MIN_PAUSE: Duration = Duration::from_secs(60);
/// The maximum delay between checks of the certificate.
const CHECK_INTERVAL: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_with_each_failure_up_to_an_hour() {
        let delays = [1, 2, 3, 6, 7, 1000].map(|failures| retry_delay(failures).as_secs() / 60);
        assert_eq!(delays, [1, 2, 4, 32, 60, 60]);
    }
}
