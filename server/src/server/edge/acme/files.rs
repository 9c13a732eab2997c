//! The files of certificates and of the account. All have mode 0600.

use std::{
    fmt, fs,
    fs::OpenOptions,
    io,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use instant_acme::AccountCredentials;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};

use crate::config::{Settings, private_files};
use roomcast::{internal::certificate_validity, service::Tls};

/// The paths of the files.
#[derive(Clone, Debug)]
pub(super) struct Files {
    cert: PathBuf,
    key: PathBuf,
    account: PathBuf,
}

/// A file that cannot be read or written.
#[derive(Debug)]
pub(crate) struct FileFault {
    path: PathBuf,
    why: String,
}

/// The contents of the account's file.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredAccount {
    /// The names of the certificate that was issued last.
    pub(super) names: Vec<String>,
    /// The account's id and private key, as the ACME library encodes them.
    pub(super) credentials: serde_json::Value,
}

impl StoredAccount {
    pub(super) fn new(credentials: &AccountCredentials) -> Result<Self, instant_acme::Error> {
        Ok(Self {
            names: Vec::new(),
            credentials: serde_json::to_value(credentials)?,
        })
    }

    /// Returns whether the account is one of the authority with this directory.
    pub(super) fn is_of(&self, url: &str) -> bool {
        let directory = self.credentials.get("directory");
        directory.and_then(|directory| directory.as_str()) == Some(url)
    }

    pub(super) fn credentials(&self) -> Result<AccountCredentials, instant_acme::Error> {
        Ok(serde_json::from_value(self.credentials.clone())?)
    }
}

impl Files {
    /// Returns the configured paths, if all are configured.
    pub(super) fn of(settings: &Settings) -> Option<Self> {
        let tls = &settings.server.tls;
        Some(Self {
            cert: tls.cert_file.clone()?,
            key: tls.key_file.clone()?,
            account: settings.server.acme.account_file.clone()?,
        })
    }

    /// Returns whether the server can use certificate and key.
    pub(super) fn are_usable(&self) -> bool {
        Tls::from_files(&self.cert, &self.key).is_ok()
    }

    /// Returns the time until a certificate for these names should be obtained: when two thirds of
    /// its validity are over, or immediately if it is for other names.
    pub(super) fn time_to_renewal(&self, names: &[String]) -> Duration {
        let stored = self.read_account().ok().flatten();
        let is_for_names = stored.is_some_and(|stored| stored.names == names);
        let due = self.renewal_time().filter(|_| is_for_names);
        let left = due.map_or(0, |due| due.saturating_sub(now()));
        Duration::from_secs(u64::try_from(left).unwrap_or_default())
    }

    /// Returns the seconds since 1970 at which two thirds of the certificate's validity are over.
    fn renewal_time(&self) -> Option<i64> {
        let pem = fs::read(&self.cert).ok()?;
        let certificate = CertificateDer::from_pem_slice(&pem).ok()?;
        let (not_before, not_after) = certificate_validity(&certificate)?;
        Some(not_after - (not_after - not_before) / 3)
    }

    /// Writes a certificate that no client trusts, and its key. It ends after a day, so that the
    /// alert about certificates fires if no other replaces it.
    pub(super) fn write_placeholder(&self, names: &[String]) -> Result<(), FileFault> {
        // The account must not state that this certificate is that of the authority.
        if let Ok(Some(stored)) = self.read_account() {
            let names = Vec::new();
            self.write_account(&StoredAccount { names, ..stored })?;
        }
        let fault = |error: rcgen::Error| FileFault::new(&self.cert, error);
        let mut parameters = rcgen::CertificateParams::new(names).map_err(fault)?;
        let seconds = Duration::from_secs(u64::try_from(now()).unwrap_or_default());
        let today = rcgen::date_time_ymd(1970, 1, 1) + seconds;
        parameters.not_before = today - DAY;
        parameters.not_after = today + DAY;
        let key = rcgen::KeyPair::generate().map_err(fault)?;
        let certificate = parameters.self_signed(&key).map_err(fault)?;
        self.replace(&certificate.pem(), &key.serialize_pem())
    }

    /// Replaces certificate and key, after checking that the server can use them.
    ///
    /// # Errors
    ///
    /// If they do not match, or if a file cannot be written. The previous files are then unchanged,
    /// unless the second of them could not be renamed.
    pub(super) fn replace(&self, chain: &str, key: &str) -> Result<(), FileFault> {
        let [new_key, new_cert] = [&self.key, &self.cert].map(|path| beside(path));
        write(&new_key, key.as_bytes())?;
        write(&new_cert, chain.as_bytes())?;
        if let Err(error) = Tls::from_files(&new_cert, &new_key) {
            return Err(FileFault::new(&self.cert, error));
        }
        // The watch of the library may see the new key with the previous certificate. It then keeps
        // the previous pair until the next check.
        rename(&new_key, &self.key)?;
        rename(&new_cert, &self.cert)
    }

    /// Returns `None` if there is no file.
    pub(super) fn read_account(&self) -> Result<Option<StoredAccount>, FileFault> {
        let fault = |why: &dyn fmt::Display| FileFault::new(&self.account, why);
        let text = match fs::read(&self.account) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| fault(&error))?,
        };
        // The parser's message is not included, because it could quote a part of the key.
        let parsed = serde_json::from_slice(&text);
        parsed.map(Some).map_err(|_| {
            fault(&"it has no account: remove the file, and the server creates another account")
        })
    }

    pub(super) fn write_account(&self, account: &StoredAccount) -> Result<(), FileFault> {
        let text =
            serde_json::to_vec(account).map_err(|error| FileFault::new(&self.account, error))?;
        let new = beside(&self.account);
        write(&new, &text)?;
        rename(&new, &self.account)
    }
}

/// Returns the path of the new contents of a file, in the same folder.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// Writes a file that only this user may read.
fn write(path: &Path, content: &[u8]) -> Result<(), FileFault> {
    let writing = || -> io::Result<()> {
        private_files::make_folder(private_files::folder_of(path))?;
        // A file that is left over may be open elsewhere.
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private_files::open(path, OpenOptions::new().write(true).create_new(true))?;
        file.write_all(content)?;
        file.sync_all()
    };
    writing().map_err(|error| FileFault::new(path, error))
}

fn rename(from: &Path, to: &Path) -> Result<(), FileFault> {
    fs::rename(from, to).map_err(|error| FileFault::new(to, error))
}

/// Returns the seconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

const DAY: Duration = Duration::from_secs(86_400);

impl FileFault {
    fn new(path: &Path, why: impl fmt::Display) -> Self {
        Self {
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for FileFault {}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn files(folder: &Path) -> Files {
        Files {
            cert: folder.join("tls/chain.pem"),
            key: folder.join("tls/key.pem"),
            account: folder.join("account.json"),
        }
    }

    #[test]
    fn placeholder_is_usable_private_and_due() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        assert!(!files.are_usable());
        let names = ["chat.example".to_owned()];
        files.write_placeholder(&names).unwrap();
        assert!(files.are_usable());
        assert_eq!(files.time_to_renewal(&names), Duration::ZERO);
        for path in [&files.cert, &files.key] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{path:?}");
            assert!(!beside(path).exists());
        }
    }

    #[test]
    fn renewal_is_due_after_two_thirds_or_for_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let names = ["chat.example".to_owned()];
        files.write_placeholder(&names).unwrap();
        let account = |names: &[String]| StoredAccount {
            names: names.to_vec(),
            credentials: serde_json::Value::Null,
        };
        files.write_account(&account(&names)).unwrap();
        // A placeholder is valid for a day before and a day after it was made: a third of two days
        // before its end, eight hours are left.
        let left = files.time_to_renewal(&names).as_secs();
        assert!((8 * 3600 - 60..=8 * 3600).contains(&left), "{left}");
        let others = ["chat.example".to_owned(), "www.chat.example".to_owned()];
        assert_eq!(files.time_to_renewal(&others), Duration::ZERO);
        files.write_placeholder(&names).unwrap();
        assert_eq!(files.time_to_renewal(&names), Duration::ZERO);
    }

    #[test]
    fn unusable_certificate_or_account_changes_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        files
            .write_placeholder(&["chat.example".to_owned()])
            .unwrap();
        let before = [&files.cert, &files.key].map(|path| fs::read(path).unwrap());
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let chain = String::from_utf8(before[0].clone()).unwrap();
        assert!(files.replace(&chain, &other).is_err());
        assert!(files.replace("", &other).is_err());
        let after = [&files.cert, &files.key].map(|path| fs::read(path).unwrap());
        assert_eq!(before, after);

        assert!(files.read_account().unwrap().is_none());
        fs::write(&files.account, "{\"key\": \"canary\"").unwrap();
        let fault = files.read_account().err().unwrap().to_string();
        assert!(
            fault.contains("account.json") && !fault.contains("canary"),
            "{fault}"
        );
    }
}
