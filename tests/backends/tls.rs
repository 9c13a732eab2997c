//! TLS to a real PostgreSQL, with a private certificate authority.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use roomcast_server::config;
use roomcast_server::store::{OpenError, Store};
use tempfile::TempDir;

use crate::server::Postgres;

/// A server whose certificate is for these names, and the authority that issued it.
struct Secured {
    server: Postgres,
    folder: TempDir,
}

impl Secured {
    fn start(names: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let authority = authority();
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let mut certificate = CertificateParams::new(names).unwrap();
        certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = certificate.signed_by(&key, &authority).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", &authority.pem());
        write("other.pem", &self::authority().pem());
        write("server.crt", &certificate.pem());
        write("server.key", &key.serialize_pem());
        write("extra.conf", "ssl = on\n");
        write(
            "pg_hba.conf",
            "hostssl all all 127.0.0.1/32 trust\nhostnossl all all 127.0.0.1/32 reject\n",
        );
        let server = Postgres::start_with(folder.path());
        Self { server, folder }
    }

    /// Returns the configuration for a new database at `host` with these parameters.
    fn config(&self, host: &str, parameters: &str) -> config::Store {
        let url = self.server.database();
        let (_, database) = url.rsplit_once('/').unwrap();
        let port = self.server.port();
        impatient(format!(
            "postgres://roomcast@{host}:{port}/{database}?{parameters}"
        ))
    }

    fn file(&self, name: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        path.display().to_string()
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn impatient(url: String) -> config::Store {
    config::Store {
        url,
        retry_timeout: Duration::from_millis(300),
        ..config::Store::default()
    }
}

async fn refused(config: &config::Store) -> String {
    let error = Store::open(config, std::sync::Arc::default())
        .await
        .unwrap_err();
    assert!(matches!(error, OpenError::Database { .. }), "{error}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_encrypted_and_its_certificate_verified() {
    let secured = Secured::start(&["localhost", "127.0.0.1", "db.example"]);
    let root = format!("sslrootcert={}", secured.file("ca.pem"));
    for (host, parameters) in [
        ("localhost", format!("sslmode=verify-full&{root}")),
        ("127.0.0.1", format!("sslmode=require&{root}")),
        // A file of trusted certificates enables TLS by itself.
        ("localhost", root.clone()),
        // A server at another address, verified by its name.
        ("db.example", format!("hostaddr=127.0.0.1&{root}")),
    ] {
        let config = secured.config(host, &parameters);
        let (store, _commits) = Store::open(&config, std::sync::Arc::default())
            .await
            .unwrap_or_else(|error| panic!("{host} {parameters}: {error}"));
        assert!(store.revocations().await.unwrap().is_empty());
        let (plain, encrypted) = connections(&secured);
        assert!(encrypted > 0 && plain == 0, "{host} {parameters}");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_name_or_authority_is_refused() {
    let secured = Secured::start(&["db.example"]);
    let root = format!("sslrootcert={}", secured.file("ca.pem"));
    let config = secured.config("localhost", &format!("sslmode=verify-full&{root}"));
    let error = refused(&config).await;
    assert!(error.contains("not valid for name"), "{error}");

    let other = format!(
        "hostaddr=127.0.0.1&sslrootcert={}",
        secured.file("other.pem")
    );
    let error = refused(&secured.config("db.example", &other)).await;
    assert!(error.contains("certificate"), "{error}");
    // The system does not trust it either.
    let error = refused(&secured.config("db.example", "hostaddr=127.0.0.1")).await;
    assert!(error.contains("certificate"), "{error}");

    let right = format!("hostaddr=127.0.0.1&{root}");
    let config = secured.config("db.example", &right);
    Store::open(&config, std::sync::Arc::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_connection_is_refused_if_either_side_requires_tls() {
    // The client requires TLS, the server has none.
    let plain = Postgres::start();
    let url = plain.database().replace("127.0.0.1", "localhost");
    let error = refused(&impatient(format!("{url}?sslmode=verify-full"))).await;
    assert!(error.contains("TLS"), "{error}");

    // The server requires TLS, the client disables it.
    let secured = Secured::start(&["localhost"]);
    let error = refused(&secured.config("localhost", "sslmode=disable")).await;
    assert!(error.contains("pg_hba.conf"), "{error}");
}

#[tokio::test]
async fn a_file_without_certificates_is_an_error_at_start() {
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "nothing").unwrap();
    for file in [empty.clone(), folder.path().join("missing.pem")] {
        let url = format!("postgres://u@h/d?sslrootcert={}", file.display());
        let error = refused(&impatient(url)).await;
        assert!(error.contains(&file.display().to_string()), "{error}");
    }
}

/// Returns the number of connections without and with TLS.
fn connections(secured: &Secured) -> (u32, u32) {
    let counts = secured.server.sql(
        "postgres",
        "SELECT count(*) FILTER (WHERE NOT ssl) || ' ' || count(*) FILTER (WHERE ssl)
         FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'roomcast'",
    );
    let (plain, encrypted) = counts.split_once(' ').unwrap();
    (plain.parse().unwrap(), encrypted.parse().unwrap())
}
