//! An endpoint: a TCP port, or a Unix socket and its file.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::process::umask;

use crate::socket::{Peer, Socket};

/// Send buffer of a client's socket, in bytes; the kernel counts its own overhead on top. The kernel's
/// default grows to 4 MiB: a few hundred clients that do not read would fill a small host's memory, and
/// freeing it all at once would delay everyone else.
const SOCKET_SEND_BYTES: usize = 128 * 1024;

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Endpoint {
    Tcp(TcpListener),
    /// For processes of this machine.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket; removed when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that a file that another server created at this path is not removed.
    identity: (u64, u64),
}

impl Endpoint {
    /// Listens on an address and returns it with the real port, because port 0 means any free one.
    pub(crate) fn tcp(address: SocketAddr) -> io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(address)?;
        // Accepted sockets inherit the size, which saves a system call for each.
        set_socket_send_buffer_size(&listener, SOCKET_SEND_BYTES)?;
        let address = listener.local_addr()?;
        Ok((Self::Tcp(listener), address))
    }

    /// Listens on a path, where a killed server may have left its file. The umask keeps out users without bits in
    /// `mode` from the first moment.
    pub(crate) fn unix(path: &Path, mode: u32) -> io::Result<Self> {
        remove_stale(path)?;
        // The umask is that of the whole process, but no other thread that creates files runs yet.
        let before = umask(Mode::from_raw_mode(!mode & 0o777));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener?;
        // The send buffer keeps the system's default, which is not larger than the one set for TCP.
        let identity = identity(&fs::symlink_metadata(path)?);
        let path = path.to_owned();
        Ok(Self::Unix(listener, SocketFile { path, identity }))
    }

    pub(super) fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept()?;
                // Small frames must not wait for each other (RFC 896). If this fails, they are only slower.
                socket.set_nodelay(true).ok();
                Ok((Socket::new(socket), Peer::Tcp(peer)))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = listener.accept()?;
                Ok((Socket::new(socket), Peer::Unix))
            }
        }
    }

    /// Stops accepting. On Linux this wakes a blocked accept. The path is free at once, the port when the endpoint
    /// is dropped.
    pub(crate) fn close(&self) {
        // Fails only if it is closed already.
        rustix::net::shutdown(self.fd(), rustix::net::Shutdown::Read).ok();
        if let Self::Unix(_, file) = self {
            file.remove();
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl SocketFile {
    fn remove(&self) {
        let now = fs::symlink_metadata(&self.path);
        if now.is_ok_and(|now| identity(&now) == self.identity) {
            // The file may be gone by now.
            fs::remove_file(&self.path).ok();
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Removes the file of a socket without a listener, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        let why = "the file exists and is not a socket; choose another path";
        return Err(io::Error::new(ErrorKind::AlreadyExists, why));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            "in use; stop the server that listens there or choose another path",
        )),
    }
}
