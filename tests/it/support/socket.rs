//! A client's end of a connection: TCP or a Unix socket, with TLS or without.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};

use super::{PATIENCE, Scratch, TestServer};

/// What is below TLS, if that is spoken, is reached by dereferencing.
pub struct Socket {
    /// Or what passes for one: a Unix socket under the same methods, as far as it has them.
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Socket {
    pub fn tcp(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).expect("connect");
        tcp.set_nodelay(true).expect("nodelay");
        Self::over(tcp)
    }

    /// Its kernel takes as little for it as it can, so that a server meets a full socket soon.
    pub fn narrow(address: SocketAddr) -> Self {
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        );
        let socket = socket.expect("socket");
        // The window is fixed by the handshake. The kernel raises this to the least it supports.
        set_socket_recv_buffer_size(&socket, 1).expect("buffer");
        rustix::net::connect(&socket, &address).expect("connect");
        Self::over(socket.into())
    }

    pub fn unix(path: &Path) -> Self {
        let unix = UnixStream::connect(path).expect("connect");
        Self::over(OwnedFd::from(unix).into())
    }

    fn over(tcp: TcpStream) -> Self {
        tcp.set_read_timeout(Some(PATIENCE)).expect("time-out");
        Self { tcp, tls: None }
    }

    /// Speaks TLS from now on; the handshake comes with the first bytes.
    pub fn with_tls(mut self, config: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(Arc::clone(config), name).expect("configuration");
        self.tls = Some(Box::new(tls));
        self
    }

    /// Shakes hands now; `Err` says why the server or this client would not.
    pub fn try_handshake(&mut self) -> io::Result<()> {
        let tls = self.tls.as_mut().expect("TLS");
        while tls.is_handshaking() {
            tls.complete_io(&mut self.tcp)?;
        }
        Ok(())
    }

    /// TLS itself.
    pub fn tls(&mut self) -> &mut ClientConnection {
        self.tls.as_mut().expect("TLS")
    }

    /// The certificate that was shown.
    pub fn shown(&mut self) -> Vec<u8> {
        self.try_handshake().expect("handshake");
        let shown = self.tls().peer_certificates().expect("a certificate");
        shown[0].to_vec()
    }
}

impl Deref for Socket {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.tcp
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

impl Read for Socket {
    /// A read with a time-out ends with EINTR where others go on (signal(7)); that is no event of a scenario.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match &mut self.tls {
                None => self.tcp.read(buffer),
                Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.tcp).read(buffer),
            };
            if !matches!(&read, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
                return read;
            }
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.tcp.write(bytes),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.tcp).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => self.tcp.flush(),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.tcp).flush(),
        }
    }
}

/// A certificate for `localhost` that signs itself, in files.
pub struct Certificate {
    pub scratch: Scratch,
    der: CertificateDer<'static>,
}

impl Certificate {
    pub fn new() -> Self {
        let scratch = Scratch::new();
        let der = write_certificate(&scratch);
        Self { scratch, der }
    }

    /// Another certificate with another key in the same files.
    pub fn renew(&mut self) {
        self.der = write_certificate(&self.scratch);
    }

    /// A private key that belongs to no certificate here, in PEM.
    pub fn other_key() -> String {
        let key = rcgen::KeyPair::generate().expect("key");
        key.serialize_pem()
    }

    /// What a client says first, in one record.
    pub fn client_hello() -> Vec<u8> {
        let name = ServerName::try_from("localhost").expect("a name");
        let client = ClientConnection::new(trust_anyone(), name);
        let mut hello = Vec::new();
        let written = client.expect("configuration").write_tls(&mut hello);
        written.expect("hello");
        hello
    }

    /// As it is shown.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The flags of a server that shows it.
    pub fn flags(&self) -> [String; 4] {
        let file = |name| {
            let path = self.scratch.path(name);
            path.to_str().expect("UTF-8").to_owned()
        };
        let (cert, key) = (file("cert.pem"), file("key.pem"));
        ["--tls-cert".to_owned(), cert, "--tls-key".to_owned(), key]
    }

    /// A server that shows it.
    pub fn serve(&self, args: &[&str]) -> TestServer {
        let flags = self.flags();
        let flags = flags.iter().map(String::as_str);
        TestServer::start(&flags.chain(args.iter().copied()).collect::<Vec<_>>())
    }

    /// A client that trusts it alone and speaks these versions.
    pub fn trust(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(versions).expect("versions");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

fn write_certificate(scratch: &Scratch) -> CertificateDer<'static> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("certificate");
    fs::write(scratch.path("cert.pem"), made.cert.pem()).expect("certificate");
    fs::write(scratch.path("key.pem"), made.signing_key.serialize_pem()).expect("key");
    made.cert.der().clone()
}

/// A client that takes any certificate: which one is shown is not what most scenarios are about.
pub fn trust_anyone() -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(&[&TLS13, &TLS12]);
    let builder = builder.expect("versions").dangerous();
    let builder = builder.with_custom_certificate_verifier(Arc::new(Anyone(provider)));
    Arc::new(builder.with_no_client_auth())
}

#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
