//! The certificate that is shown, and its change while clients are connected.

use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{Error, InconsistentKeys, ServerConfig};

use crate::config::TlsFiles;

/// Tickets a client is given to come back with. A WebSocket client comes back once.
const TICKETS: usize = 1;

/// What handshakes are accepted with.
#[derive(Debug)]
pub struct Acceptor {
    files: TlsFiles,
    /// Held only to copy or replace the pointer; who is connected keeps the one it started with.
    current: RwLock<Arc<ServerConfig>>,
}

impl Acceptor {
    /// Reads certificate and key; an `Err` is one line that names the setting.
    pub fn load(files: &TlsFiles) -> Result<Self, String> {
        Ok(Self {
            current: RwLock::new(Arc::new(configure(files)?)),
            files: files.clone(),
        })
    }

    /// Reads them again, for those who come from now on; `Ok` says what was read. After an `Err` all
    /// stays as it was.
    pub fn reload(&self) -> Result<String, String> {
        let fresh = Arc::new(configure(&self.files)?);
        *self.current.write() = fresh;
        Ok(format!("certificate {:?}", self.files.cert))
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        let current = self.current.read();
        Arc::clone(&current)
    }
}

fn configure(files: &TlsFiles) -> Result<ServerConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let shown = certified_key(files, &provider)?;
    let failed = |error: Error| format!("cannot set up TLS: {error}");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(failed)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A client that comes back saves both sides the signature. What that takes is sealed in the
    // client's ticket, so that those who never come back cost no memory here; the key that seals it is
    // drawn anew with each certificate, so that an old one is not resumed past its replacement.
    config.ticketer = ring::Ticketer::new().map_err(failed)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = TICKETS;
    Ok(config)
}

fn certified_key(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let (cert, key) = (&files.cert, &files.key);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .and_then(|chain: Vec<_>| match chain.is_empty() {
            true => Err(pem::Error::NoItemsFound),
            false => Ok(chain),
        })
        .map_err(|error| cannot_read("--tls-cert", cert, error, "the certificate and its chain"))?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| cannot_read("--tls-key", key, error, "an unencrypted private key"))?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            format!("--tls-key {key:?}: is not the key of the certificate in --tls-cert {cert:?}")
        }
        Error::InvalidCertificate(_) => {
            format!("--tls-cert {cert:?}: holds no certificate that can be used ({error})")
        }
        error => {
            format!("--tls-key {key:?}: cannot be used ({error}); RSA, ECDSA and Ed25519 keys can")
        }
    })
}

fn cannot_read(setting: &str, path: &Path, error: pem::Error, what: &str) -> String {
    match error {
        pem::Error::Io(error) => {
            format!("{setting} {path:?}: {error}; name a PEM file with {what}")
        }
        _ => format!("{setting} {path:?}: holds no such thing in PEM; name a file with {what}"),
    }
}
