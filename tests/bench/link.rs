//! A client's connection, with TLS or without, that never waits.

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

/// The few bytes a client sends always fit its socket's buffer, unless the server has stopped reading.
const STUCK: &str = "the server has stopped reading";

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) socket: TcpStream,
    /// Shared by the publisher's two handles; all on one thread.
    tls: Option<Arc<Mutex<ClientConnection>>>,
}

/// A certificate, in files for a server and as what clients trust.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) flags: [String; 4],
    trust: Arc<ClientConfig>,
}

impl Link {
    pub(crate) fn new(socket: TcpStream, certificate: Option<&Certificate>) -> io::Result<Link> {
        let tls = match certificate {
            None => None,
            Some(certificate) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let tls = ClientConnection::new(Arc::clone(&certificate.trust), name);
                Some(Arc::new(Mutex::new(tls.map_err(io::Error::other)?)))
            }
        };
        Ok(Link { socket, tls })
    }

    /// A second handle, to write to.
    pub(crate) fn share(&self) -> io::Result<Link> {
        Ok(Link {
            socket: self.socket.try_clone()?,
            tls: self.tls.clone(),
        })
    }

    /// Reads what is there; `AGAIN` when nothing is. Without TLS, a short read emptied the socket.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let Some(tls) = &self.tls else {
            return Ok(recv(&self.socket, buffer, RecvFlags::DONTWAIT)?.0);
        };
        let mut tls = lock(tls);
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read.map_err(|error| errno(&error)),
            }
            let read = tls.read_tls(&mut Nonblocking(&self.socket));
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
            None => send_plain(&self.socket, bytes),
            Some(tls) => {
                let mut tls = lock(tls);
                tls.writer().write_all(bytes)?;
                self.flush(&mut tls)
            }
        }
    }

    fn flush(&self, tls: &mut ClientConnection) -> io::Result<()> {
        while tls.wants_write() {
            tls.write_tls(&mut Nonblocking(&self.socket))?;
        }
        Ok(())
    }
}

impl Certificate {
    pub(crate) fn make() -> io::Result<Certificate> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.map_err(io::Error::other)?;
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let write = |name: &str, pem: String| {
            let path = folder.join(format!("bench-{}-{name}.pem", std::process::id()));
            fs::create_dir_all(&folder)?;
            fs::write(&path, pem)?;
            Ok::<_, io::Error>(path.display().to_string())
        };
        let cert = write("cert", made.cert.pem())?;
        let key = write("key", made.signing_key.serialize_pem())?;

        let mut roots = RootCertStore::empty();
        roots
            .add(made.cert.der().clone())
            .map_err(io::Error::other)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(io::Error::other)?;
        let mut trust = builder.with_root_certificates(roots).with_no_client_auth();
        // Every handshake is to be a whole one.
        trust.resumption = Resumption::disabled();
        Ok(Certificate {
            flags: ["--tls-cert".to_owned(), cert, "--tls-key".to_owned(), key],
            trust: Arc::new(trust),
        })
    }

    /// The files are gone when the benchmark is; servers have read them at start.
    pub(crate) fn remove(&self) {
        for path in [&self.flags[1], &self.flags[3]] {
            let _ = fs::remove_file(path);
        }
    }
}

fn lock(tls: &Mutex<ClientConnection>) -> MutexGuard<'_, ClientConnection> {
    tls.lock().unwrap_or_else(PoisonError::into_inner)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

pub(crate) fn send_plain(socket: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(_) | Err(Errno::AGAIN) => Err(io::Error::other(STUCK)),
        Err(error) => Err(error.into()),
    }
}

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
