//! Unix sockets: their files, and connecting to one (contract, section 13).

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::{BACKLOG, SHORTEST};

/// How long a start waits for another one in the same directory.
const ALONE_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks at whether that is over.
const LOOK: Duration = Duration::from_millis(5);

/// The file of a socket that is listened on. Dropping it removes it, if it is still that one.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode: as long as the socket is open no other file can have both.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // Where that is not allowed, the next start finds it and replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`, with a file of this mode, whatever the umask. Nobody can connect before the
/// mode is set, since a socket that is bound and does not listen refuses.
///
/// For the same reason two that start at once at a path where a socket file was left over would each
/// take the other's new file for such a one, so they lock the file's directory meanwhile (flock(2),
/// which leaves nothing behind). What remains: where the directory cannot be locked, somebody else
/// keeps it locked, or who starts there is no gateway, the one that bound first may end up listening
/// on a file that is gone.
pub(super) fn listen(path: &Path, mode: u32) -> io::Result<(Socket, SocketFile)> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    let _alone = lock_directory(path);
    if let Err(error) = socket.bind(&address) {
        if error.kind() != ErrorKind::AddrInUse || !is_left_over(path) {
            return Err(error);
        }
        fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    let file = SocketFile::of(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok((socket, file))
}

fn lock_directory(path: &Path) -> Option<File> {
    let directory = File::open(path.parent()?).ok()?;
    let begun = Instant::now();
    loop {
        match directory.try_lock() {
            Ok(()) => return Some(directory),
            Err(TryLockError::WouldBlock) if begun.elapsed() < ALONE_WITHIN => thread::sleep(LOOK),
            Err(_) => return None,
        }
    }
}

/// Whether a path is that of a socket on which nobody listens. What refuses may also be no socket.
fn is_left_over(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refuses = |error: io::Error| error.kind() == ErrorKind::ConnectionRefused;
    is_socket && connect(path, SHORTEST).is_err_and(refuses)
}

/// Connects to the socket at `path`, within a limit: where the queue of those who wait to be accepted
/// is full, connecting blocks for as long as a write would (unix(7), `SO_SNDTIMEO`). The write
/// time-out stays set.
///
/// # Errors
/// `TimedOut` when the limit is over; `ConnectionRefused` when nobody listens, or it is no socket.
pub fn connect(path: &Path, limit: Duration) -> io::Result<Socket> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let begun = Instant::now();
    loop {
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_write_timeout(Some(left.max(SHORTEST)))?;
        match socket.connect(&address) {
            Ok(()) => return Ok(socket),
            // The time is over, or the process was stopped meanwhile.
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}
