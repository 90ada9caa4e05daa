//! The certificate authorities that a client of another server trusts.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};

/// The TLS configuration of a client.
#[derive(Clone, Debug)]
pub(crate) struct TlsConnector(Arc<ClientConfig>);

impl TlsConnector {
    /// Reads the authorities: those in `ca_file`, or the system's. An `Err` is one line.
    ///
    /// The system's are read at run time, because an authority of an intranet is never among those compiled in.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let found = match ca_file {
            Some(path) => read(path)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        let (trusted, _) = roots.add_parsable_certificates(found);
        if trusted == 0 {
            return Err(match ca_file {
                Some(path) => format!("--ca-file {path:?}: holds no certificate; name a PEM file"),
                None => "this system has no certificate authorities; install the package ca-certificates, or write \
                         --ca-file"
                    .to_owned(),
            });
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| format!("cannot set up TLS: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(path).map_err(|why| format!("--ca-file {path:?}: {why}"))?;
    CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| format!("--ca-file {path:?}: cannot be read; name a PEM file"))
}
