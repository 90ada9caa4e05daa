//! A client's end of a connection: TCP or a Unix socket, with TLS or without.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::TIMEOUT;

/// A stream socket, with TLS over it or without. The socket below TLS is reached by dereferencing.
pub struct Socket {
    /// A Unix socket is held here as well: the methods that both have work on it.
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Socket {
    pub fn tcp(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).expect("connect");
        tcp.set_nodelay(true).expect("nodelay");
        tcp.into()
    }

    /// Connects with the smallest receive buffer there is, so that the server soon meets a full socket.
    pub fn with_small_buffer(address: SocketAddr) -> Self {
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
        TcpStream::from(socket).into()
    }

    pub fn unix(path: &Path) -> Self {
        let unix = UnixStream::connect(path).expect("connect");
        TcpStream::from(OwnedFd::from(unix)).into()
    }

    /// Uses TLS from now on; the handshake comes with the first bytes.
    pub fn with_tls(mut self, config: &Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(Arc::clone(config), name).expect("configuration");
        self.tls = Some(Box::new(tls));
        self
    }

    /// Performs the TLS handshake now; `Err` if the server or this client refuses.
    pub fn try_handshake(&mut self) -> io::Result<()> {
        let tls = self.tls.as_mut().expect("a TLS socket");
        while tls.is_handshaking() {
            tls.complete_io(&mut self.tcp)?;
        }
        Ok(())
    }

    pub fn tls(&mut self) -> &mut ClientConnection {
        self.tls.as_mut().expect("a TLS socket")
    }

    /// Performs the TLS handshake and returns the server's certificate.
    pub fn peer_certificate(&mut self) -> Vec<u8> {
        self.try_handshake().expect("handshake");
        let certificates = self.tls().peer_certificates();
        certificates.expect("a certificate")[0].to_vec()
    }
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        tcp.set_read_timeout(Some(TIMEOUT)).expect("time-out");
        Self { tcp, tls: None }
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
    /// Retries after EINTR: a stopped and continued process gets it from reads with a time-out (signal(7)).
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
