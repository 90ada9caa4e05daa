//! Certificates of test servers, and which of them a test client trusts.

use std::fs;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};

use super::{TempDir, TestServer};

/// A self-signed certificate for `localhost`, in files.
pub struct Certificate {
    pub dir: TempDir,
    der: CertificateDer<'static>,
}

impl Certificate {
    pub fn new() -> Self {
        let dir = TempDir::new();
        let der = write_certificate(&dir);
        Self { dir, der }
    }

    /// Writes another certificate with another key to the same files.
    pub fn renew(&mut self) {
        self.der = write_certificate(&self.dir);
    }

    /// Returns a private key in PEM that belongs to no certificate here.
    pub fn other_key() -> String {
        let key = rcgen::KeyPair::generate().expect("key");
        key.serialize_pem()
    }

    /// Returns a ClientHello in one record.
    pub fn client_hello() -> Vec<u8> {
        let name = ServerName::try_from("localhost").expect("a name");
        let client = ClientConnection::new(trust_any_certificate(), name);
        let mut hello = Vec::new();
        let written = client.expect("configuration").write_tls(&mut hello);
        written.expect("hello");
        hello
    }

    /// The certificate that clients must see.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The flags of a server with this certificate.
    pub fn flags(&self) -> [String; 4] {
        let file = |name| {
            let path = self.dir.path(name);
            path.to_str().expect("UTF-8").to_owned()
        };
        let (cert, key) = (file("cert.pem"), file("key.pem"));
        ["--tls-cert".to_owned(), cert, "--tls-key".to_owned(), key]
    }

    /// Starts a server with this certificate.
    pub fn serve(&self, args: &[&str]) -> TestServer {
        let flags = self.flags();
        let flags = flags.iter().map(String::as_str);
        TestServer::start(&flags.chain(args.iter().copied()).collect::<Vec<_>>())
    }

    /// A client configuration that trusts this certificate only and offers these TLS versions.
    pub fn trust(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).expect("versions");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

fn write_certificate(dir: &TempDir) -> CertificateDer<'static> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("certificate");
    fs::write(dir.path("cert.pem"), made.cert.pem()).expect("certificate");
    fs::write(dir.path("key.pem"), made.signing_key.serialize_pem()).expect("key");
    made.cert.der().clone()
}

/// A client configuration that accepts any certificate: most scenarios do not check which one it is.
pub fn trust_any_certificate() -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&[&TLS13, &TLS12]);
    let builder = builder.expect("versions").dangerous();
    let builder = builder.with_custom_certificate_verifier(Arc::new(AcceptAny(provider)));
    Arc::new(builder.with_no_client_auth())
}

#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
