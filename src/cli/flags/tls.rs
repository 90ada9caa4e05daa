//! The flags for TLS: the certificate and its key.

use std::path::PathBuf;

use crate::config::{ConfigError, TlsFiles};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct TlsFlags {
    /// Serve https and wss on the port, with the certificate chain in this PEM file; SIGHUP reloads it and the
    /// key
    #[arg(
        long,
        env = "WSCAST_TLS_CERT",
        value_name = "PATH",
        help_heading = "TLS"
    )]
    pub(in crate::cli) tls_cert: Option<PathBuf>,
    /// The certificate's private key, in a PEM file
    #[arg(
        long,
        env = "WSCAST_TLS_KEY",
        value_name = "PATH",
        help_heading = "TLS"
    )]
    tls_key: Option<PathBuf>,
}

impl TlsFlags {
    pub(in crate::cli) fn files(self) -> Result<Option<TlsFiles>, ConfigError> {
        let incomplete = |setting, path: PathBuf, other| {
            Err(ConfigError {
                setting,
                value: path.display().to_string(),
                instead: format!("needs {other}; write both, or neither"),
            })
        };
        match (self.tls_cert, self.tls_key) {
            (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
            (None, None) => Ok(None),
            (Some(cert), None) => incomplete("--tls-cert", cert, "--tls-key"),
            (None, Some(key)) => incomplete("--tls-key", key, "--tls-cert"),
        }
    }
}
