//! A client's socket with non-blocking reads and writes, with TLS or without.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// The few bytes that a client sends always fit into the socket's buffer while the server reads.
const NOT_READING: &str = "the server has stopped reading";

/// Tickets of one server that its clients keep.
const TICKETS_MAX: usize = 256;

#[derive(Debug)]
pub(crate) struct ClientSocket {
    pub(crate) tcp: TcpStream,
    /// Shared by the two handles of a publisher.
    tls: Option<Arc<Mutex<ClientConnection>>>,
}

/// A certificate in files for the server, and the configurations of clients that trust it. Dropping it deletes the
/// files.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// The server's flags that name the files.
    pub(crate) flags: [String; 4],
    client: Arc<ClientConfig>,
}

impl ClientSocket {
    pub(crate) fn new(
        tcp: TcpStream,
        config: Option<&Arc<ClientConfig>>,
    ) -> io::Result<ClientSocket> {
        let tls = match config {
            None => None,
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let tls = ClientConnection::new(Arc::clone(config), name);
                Some(Arc::new(Mutex::new(tls.map_err(io::Error::other)?)))
            }
        };
        Ok(ClientSocket { tcp, tls })
    }

    /// Returns a second handle to the same socket.
    pub(crate) fn try_clone(&self) -> io::Result<ClientSocket> {
        Ok(ClientSocket {
            tcp: self.tcp.try_clone()?,
            tls: self.tls.clone(),
        })
    }

    /// Reads available bytes, or returns `AGAIN`. Without TLS, a short read means that the socket is empty.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let Some(tls) = &self.tls else {
            return Ok(recv(&self.tcp, buffer, RecvFlags::DONTWAIT)?.0);
        };
        let mut tls = lock(tls);
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read.map_err(|error| errno(&error)),
            }
            let read = tls.read_tls(&mut Nonblocking(&self.tcp));
            if read.map_err(|error| errno(&error))? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(|_| Errno::PROTO)?;
            self.flush(&mut tls).map_err(|error| errno(&error))?;
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub(crate) fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.tls {
            None => send_plain(&self.tcp, bytes),
            Some(tls) => {
                let mut tls = lock(tls);
                tls.writer().write_all(bytes)?;
                self.flush(&mut tls)
            }
        }
    }

    fn flush(&self, tls: &mut ClientConnection) -> io::Result<()> {
        while tls.wants_write() {
            tls.write_tls(&mut Nonblocking(&self.tcp))?;
        }
        Ok(())
    }
}

impl Certificate {
    pub(crate) fn generate() -> io::Result<Certificate> {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let pair = pair.map_err(io::Error::other)?;
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let write = |name: &str, pem: String| {
            let path = folder.join(format!("bench-{}-{name}.pem", std::process::id()));
            fs::create_dir_all(&folder)?;
            fs::write(&path, pem)?;
            Ok::<_, io::Error>(path.display().to_string())
        };
        let cert = write("cert", pair.cert.pem())?;
        let key = write("key", pair.signing_key.serialize_pem())?;

        let mut roots = RootCertStore::empty();
        roots
            .add(pair.cert.der().clone())
            .map_err(io::Error::other)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(io::Error::other)?;
        let client = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Certificate {
            flags: ["--tls-cert".to_owned(), cert, "--tls-key".to_owned(), key],
            client: Arc::new(client),
        })
    }

    /// Returns the configuration of clients whose handshakes are full ones.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.client_with(Resumption::disabled())
    }

    /// Returns the configuration of clients that resume their sessions with tickets.
    pub(crate) fn resuming_client(&self) -> Arc<ClientConfig> {
        self.client_with(Resumption::in_memory_sessions(TICKETS_MAX))
    }

    fn client_with(&self, resumption: Resumption) -> Arc<ClientConfig> {
        let mut client = ClientConfig::clone(&self.client);
        client.resumption = resumption;
        Arc::new(client)
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        for path in [&self.flags[1], &self.flags[3]] {
            // A file that is left behind does no harm.
            fs::remove_file(path).ok();
        }
    }
}

fn lock(tls: &Mutex<ClientConnection>) -> MutexGuard<'_, ClientConnection> {
    tls.lock().unwrap_or_else(PoisonError::into_inner)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn send_plain(tcp: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    match send(tcp, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(_) | Err(Errno::AGAIN) => Err(io::Error::other(NOT_READING)),
        Err(error) => Err(error.into()),
    }
}

/// Lets rustls read and write a socket without blocking.
struct Nonblocking<'a>(&'a TcpStream);

impl Read for Nonblocking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0, buffer, RecvFlags::DONTWAIT)?.0)
    }
}

impl Write for Nonblocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(
            self.0,
            bytes,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        )?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
