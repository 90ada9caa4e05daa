//! The server's certificate and key, and replacing them while clients are connected.

use std::fs;
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

use super::handshake_threads::HandshakeThreads;

/// Tickets that a client gets to resume its TLS session. A WebSocket client reconnects once at a time.
const TICKETS: usize = 1;

/// The certificate and key for handshakes.
#[derive(Debug)]
pub(crate) struct TlsAcceptor {
    files: TlsFiles,
    /// Locked only to copy or replace the pointer. Connected clients keep the configuration they started with.
    current: RwLock<Arc<ServerConfig>>,
    pub(super) threads: HandshakeThreads,
}

impl TlsAcceptor {
    /// Reads certificate and key, and starts the threads for handshakes. An `Err` is one line.
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, String> {
        Ok(Self {
            current: RwLock::new(Arc::new(configure(files)?)),
            files: files.clone(),
            threads: HandshakeThreads::start()
                .map_err(|error| format!("cannot start the threads for TLS: {error}"))?,
        })
    }

    /// Reads certificate and key again, for later handshakes. `Ok` says what was read. On an error the previous
    /// ones stay in use.
    pub(crate) fn reload(&self) -> Result<String, String> {
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
    let certificate = certified_key(files, &provider)?;
    let failed = |error: Error| format!("cannot set up TLS: {error}");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(failed)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certificate)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A client that resumes its session saves both sides a signature. The session is encrypted in the client's
    // ticket, so it costs no memory here. Each certificate has a new ticket key, so that no session outlives
    // the certificate's replacement.
    config.ticketer = ring::Ticketer::new().map_err(failed)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = TICKETS;
    Ok(config)
}

fn certified_key(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let (cert, key) = (&files.cert, &files.key);
    let chain: Vec<CertificateDer<'static>> = read_pem(cert)
        .and_then(|pem| CertificateDer::pem_slice_iter(&pem).collect())
        .and_then(|chain: Vec<_>| {
            if chain.is_empty() {
                return Err(pem::Error::NoItemsFound);
            }
            Ok(chain)
        })
        .map_err(|error| cannot_read("--tls-cert", cert, error, "the certificate and its chain"))?;
    let private_key = read_pem(key)
        .and_then(|pem| PrivateKeyDer::from_pem_slice(&pem))
        .map_err(|error| cannot_read("--tls-key", key, error, "an unencrypted private key"))?;
    CertifiedKey::from_der(chain, private_key, provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            format!("--tls-key {key:?}: does not match the certificate in --tls-cert {cert:?}; name the certificate's own key")
        }
        Error::InvalidCertificate(_) => {
            format!("--tls-cert {cert:?}: holds no usable certificate ({error}); name a PEM file with the certificate and its chain")
        }
        error => {
            format!("--tls-key {key:?}: cannot be used ({error}); name an RSA, ECDSA or Ed25519 key")
        }
    })
}

/// Reads a file, without the byte order mark that editors of Windows write.
fn read_pem(path: &Path) -> Result<Vec<u8>, pem::Error> {
    let mut bytes = fs::read(path).map_err(pem::Error::Io)?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    Ok(bytes)
}

fn cannot_read(setting: &str, path: &Path, error: pem::Error, what: &str) -> String {
    match error {
        pem::Error::Io(error) => {
            format!("{setting} {path:?}: {error}; name a PEM file with {what}")
        }
        _ => format!("{setting} {path:?}: holds no such PEM block; name a file with {what}"),
    }
}
